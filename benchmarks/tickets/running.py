"""One run over the tickets, by the real command in a scratch repository, and what several runs come to."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.tickets.loading import CodeTicket
from cli.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
_TOLD = (
    "model_base_url", "model_name", "model_key_file", "model_output_limit", "model_class", "sandbox",
    "sandbox_environments",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Which tickets were solved, why the others were not, and what it cost."""

    solved: frozenset[str]
    reasons: dict[str, str]
    usd: float

    def document(self) -> dict[str, Any]:
        """For the JSON file."""
        return {"solved": sorted(self.solved), "reasons": self.reasons, "usd": self.usd}


def drive(chosen: Sequence[CodeTicket], folder: Path, settings: Settings, models: dict[str, Any]) -> Run:
    """Take the tickets through `software-change`, each in a repository of its own. Raises RuntimeError with what the
    command said when it could not run."""
    repo = folder / "repository"
    repo.mkdir()
    (repo / "README.md").write_text("# Evaluation\n")
    _commit(repo)
    _valuetrain(repo, "init")
    (repo / "backlog" / "1-first-ticket.md").unlink()
    home = repo / ".valuetrain"
    told = {name: value for name in _TOLD if (value := settings.model_dump(mode="json")[name])}
    if "model_key_file" in told:
        told["model_key_file"] = os.path.abspath(told["model_key_file"])
    (home / "config.yaml").write_text(yaml.safe_dump(told), "utf-8")
    policy = {"approvers": [{"name": "nobody"}], "repository_roots": ["../projects"], "models": models, "wip": 1}
    (home / "policy.yaml").write_text(yaml.safe_dump(policy), "utf-8")
    for number, ticket in enumerate(chosen, 1):
        ticket.write(folder / "projects" / ticket.name)
        _commit(folder / "projects" / ticket.name)
        _write_ticket(repo / "backlog", number, ticket)
    said = json.loads(_valuetrain(repo, "drive", "--planner", "llm", "--no-wait", "--json", accept=(0, 3, 4)))
    names = dict(enumerate((ticket.name for ticket in chosen), 1))
    reasons = {names[row["ticket"]]: row["reason"] for row in said["blocked"]}
    reasons |= {str(names.get(row["ticket"], row["ticket"])): row["reason"] for row in said["skipped"]}
    return Run(frozenset(names[row["ticket"]] for row in said["waiting"]), reasons, said["cost_usd"])


def summary(chosen: Sequence[CodeTicket], runs: Sequence[Run]) -> list[str]:
    """How often each was solved, and the share of solved tickets: mean over the runs ± standard error of the mean."""
    lines = [f"{ticket.name:<20} {sum(ticket.name in run.solved for run in runs)} of {len(runs)}" for ticket in chosen]
    shares = [len(run.solved) / len(chosen) for run in runs]
    mean = statistics.fmean(shares)
    if len(shares) < 2:
        return [*lines, "", f"solved: {mean:.1%} (one run: no standard error)"]
    error = statistics.stdev(shares) / math.sqrt(len(shares))
    return [*lines, "", f"solved: {mean:.1%} ± {error:.1%} (mean ± SEM over {len(shares)} runs)"]


def _write_ticket(backlog: Path, number: int, ticket: CodeTicket) -> None:
    (backlog / "acceptance").mkdir(parents=True, exist_ok=True)
    hidden = f"acceptance/{ticket.name}.py"
    (backlog / hidden).write_text(ticket.hidden, "utf-8")
    head = {
        "id": number, "title": ticket.title, "labels": ["Task", "auto", "now"], "pipeline": "software-change",
        "repository": ticket.name, "acceptance_tests": [hidden], "budget": {"usd": 5, "minutes": 30},
    }  # fmt: skip
    lines = [f"{name}: {json.dumps(value)}" for name, value in head.items()]
    text = "\n".join(["---", *lines, "---", ticket.body])
    (backlog / f"{number}-{ticket.name}.md").write_text(text, "utf-8")


def _commit(directory: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("config", "user.name", "Evaluation"),
        ("config", "user.email", "evaluation@localhost"),
        ("add", "."),
        ("commit", "--quiet", "-m", "Start"),
    ):
        subprocess.run(["git", *words], cwd=directory, env=environment, check=True, capture_output=True)


def _valuetrain(repo: Path, *words: str, accept: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        cwd=repo,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in accept:
        raise RuntimeError(f"valuetrain {' '.join(words)}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
