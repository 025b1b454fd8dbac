"""The demo: four real tickets through the whole train, in a scratch repository below `.demo/`.

Everything is done by the `valuetrain` command, as a user would; this script only types the commands and checks what
comes out. It needs no account, no key and no network.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRATCH = HERE.parent / ".demo"
REPOSITORY = SCRATCH / "repository"
TRACKING = SCRATCH / "mlflow.db"
APPROVER = "dana"

POLICY = f"""\
approvers:
  - name: {APPROVER}
operators: [{APPROVER}]
separation_of_duties: true
wip: 2
"""


def title(text: str) -> None:
    """A heading between the steps."""
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def note(text: str) -> None:
    """A remark of the demo itself, not of the program."""
    print(f"   ({text})", flush=True)


def run(*words: str, expect: tuple[int, ...] = (0,), show: bool = True) -> subprocess.CompletedProcess[str]:
    """Type a `valuetrain` command in the scratch repository; an unexpected exit code ends the demo."""
    if show:
        print(f"\n$ valuetrain {shlex.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        cwd=REPOSITORY,
        text=True,
        stdout=None if show else subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "VALUETRAIN_TRACKING_URI": f"sqlite:///{TRACKING}"},
        check=False,
    )
    if show:
        print(f"   → exit {done.returncode}", flush=True)
    if done.returncode not in expect:
        wanted = " or ".join(map(str, expect))
        sys.exit(f"demo: `valuetrain {' '.join(words)}` ended with {done.returncode} instead of {wanted}")
    return done


def ask(*words: str) -> Any:
    """The JSON answer of a `valuetrain` command, not shown."""
    return json.loads(run(*words, "--json", show=False).stdout)


def git(*words: str) -> str:
    """Run git in the scratch repository."""
    return subprocess.run(["git", *words], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout


def make_repository() -> None:
    """A fresh repository with the example backlog and a policy that names one approver."""
    if SCRATCH.exists():
        shutil.rmtree(SCRATCH)
    REPOSITORY.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "Demo")
    git("config", "user.email", "demo@localhost")
    shutil.copytree(HERE / "backlog", REPOSITORY / "backlog")
    (REPOSITORY / "README.md").write_text("# Scratch repository of the demo\n", "utf-8")
    run("init", show=False)
    (REPOSITORY / ".valuetrain" / "policy.yaml").write_text(POLICY, "utf-8")
    (REPOSITORY / "backlog" / "1-first-ticket.md").unlink()
    git("add", ".")
    git("commit", "--quiet", "-m", "A backlog of four tickets")


def check(condition: bool, what: str) -> None:
    """The demo's own assertions: it fails loudly rather than show something that is not so."""
    if not condition:
        sys.exit(f"demo: {what}")


def main() -> None:
    """Run the demo."""
    began = time.monotonic()
    title("1. A scratch git repository with four tickets")
    make_repository()
    note(f"made in {REPOSITORY.relative_to(HERE.parent)}")
    run("ticket", "list")

    title("2. Auto-Pilot drives until only people are missing")
    run("drive", "--no-wait", expect=(3,))

    title("3. One ticket waits for a person")
    run("gate", "list")
    gates = [g for g in ask("gate", "list") if g["status"] == "open"]
    check(len(gates) == 1, f"one gate should wait, not {len(gates)}")
    gate = gates[0]["gate"]
    note("somebody whom the policy does not name tries first, and is refused")
    run("gate", "approve", gate, "--as", "mallory", expect=(5,))
    note(f"now the demo itself plays the approver {APPROVER}, whom the policy names; in your repository that is you")
    run("gate", "approve", gate, "--as", APPROVER, "--reason", "numbers and risk profile read")

    title("4. The drive goes on where it waited")
    run("drive", "--no-wait", expect=(4,))
    rows = {row["ticket"]: row for row in ask("session", "list")}
    done = sorted(t for t, row in rows.items() if row["status"] == "completed")
    check(done == [1, 2, 3], f"tickets 1, 2 and 3 should be completed, not {done}")
    check(rows[4]["status"] == "blocked", "ticket 4 asks for more than its data can give and should be blocked")
    note("ticket 4 asks for AUC 0.85 on data whose best possible AUC is 0.778: blocked is the right answer")

    title("5. Replay: today's rules decide the recorded commands as they did")
    session = rows[3]["session"]
    run("session", "replay", session, "--verify")

    title("6. Rollback: nothing is deleted")
    first = rows[1]["session"]
    run("session", "rollback", first, "--to", "training", "--as", APPROVER, "--reason", "demo")
    run("session", "replay", first, "--verify")

    title("7. The record is intact")
    run("audit", "verify")
    run("audit", "export", session, "-o", "../evidence.zip")

    title("8. Where everything lies")
    where(rows)
    print(f"\nThe demo took {time.monotonic() - began:.0f} s.", flush=True)


def where(rows: dict[int, dict[str, Any]]) -> None:
    """What the tickets came to, and where to look."""
    for ticket, row in sorted(rows.items()):
        metrics, baseline = row["measured"].get("metrics", {}), row["measured"].get("baseline", {})
        shown = [
            f"{name} {metrics[name]:.3f} [{metrics[name + '_lower']:.3f}, {metrics[name + '_upper']:.3f}]"
            f" (baseline {baseline[name]:.3f})"
            for name in ("roc_auc", "mae")
            if name in metrics
        ]
        print(f"   ticket {ticket}: {row['status']:<12} {'; '.join(shown)}")
        print(f"             branch {row['branch']}")
    base = REPOSITORY.relative_to(HERE.parent)
    print(f"\n   repository and branches   git -C {base} branch")
    print(f"   record, bus, artifacts    {base / '.valuetrain'}")
    print(f"   training runs (MLflow)    {TRACKING.relative_to(HERE.parent)}")
    print(f"   evidence bundle           {(SCRATCH / 'evidence.zip').relative_to(HERE.parent)}")
    card = git("ls-tree", "-r", "--name-only", rows[3]["branch"]).splitlines()
    for path in card:
        if path.endswith(("model-card.md", "evaluation-report.md", "pull-request.md")):
            print(f"   {Path(path).name:<25} git -C {base} show {rows[3]['branch']}:{path}")


if __name__ == "__main__":
    main()
