"""The rules of `valuetrain check` on real repositories: what each finds, and that it finds nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from workspace.checking import MARK, Finding, Tree, branch_of, check, install_hooks, since, staged
from workspace.git import GitError, Repository
from workspace.reviews import approvers

FOLDER = "tickets/delivery_12"
CHECKLIST = """\
# Checklist of ticket 12

## scope (lead)

- [x] `target-named` The target is named: scope.json
- [ ] `liked` Somebody likes it (optional)

## training (training)

- [ ] `trained` It is trained
"""
REPORT = b"# Report\n\nIt is good.\n"


def folder(status: str = "active", checklist: str = CHECKLIST, report: bytes = REPORT) -> dict[str, bytes]:
    entry = {"path": "scope/report.md", "sha256": hashlib.sha256(report).hexdigest(), "committed": True}
    kept = {"name": "rows.parquet", "sha256": "0" * 64, "committed": False, "reason": "rows of data"}
    return {
        f"{FOLDER}/ACTIVE_SESSION.md": f"---\nsession: s12-abcde\nstatus: {status}\n---\n\n# Ticket 12\n".encode(),
        f"{FOLDER}/checklist.md": checklist.encode(),
        f"{FOLDER}/ticket.yml": b"id: 12\n",
        f"{FOLDER}/artifacts/manifest.json": json.dumps({"artifacts": [entry, kept]}).encode(),
        f"{FOLDER}/artifacts/scope/report.md": report,
    }


class Work:
    """A repository whose `main` holds `before`; `change` puts files on a branch."""

    def __init__(self, path: Path, before: dict[str, bytes]) -> None:
        self.repository = Repository(path)
        path.mkdir()
        self.run("init", "-q", "-b", "main")
        self.run("config", "user.email", "a@example.org")
        self.run("config", "user.name", "A")
        self.write({"README.md": b"# It\n"} | before)
        self.run("add", "-A")
        self.run("commit", "-q", "-m", "before")

    def run(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.repository.path, capture_output=True, text=True, check=True
        ).stdout

    def write(self, files: dict[str, bytes | None]) -> None:  # type: ignore[type-arg,unused-ignore]
        for name, content in files.items():
            path = self.repository.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def change(self, files: dict[str, Any], branch: str = "phase/delivery_12-k7m2p") -> list[Finding]:
        self.run("checkout", "-q", "-b", branch)
        self.write(files)
        self.run("add", "-A")
        found = self.found(staged(self.repository), "HEAD")
        self.run("commit", "-q", "--allow-empty", "-m", "change")
        assert self.found("HEAD", since(self.repository, "main")) == found, "staged or committed, it is the same"
        return found

    def found(self, after: str, before: str) -> list[Finding]:
        trees = Tree(self.repository, before), Tree(self.repository, after)
        return check(*trees, branch_of(self.repository), largest=1000)


TICKED = CHECKLIST.replace("- [ ] `trained`", "- [x] `trained`")


@pytest.mark.parametrize(
    ("before", "files"),
    [
        ({}, folder()),
        (folder(), folder(checklist=TICKED)),
        (folder(), folder("completed", TICKED)),
        (folder("completed", TICKED), {"model.py": b"x = 1\n"}),
        ({}, {"data.bin": b"x" * 1000}),
        ({"data.bin": b"x" * 2000}, {"model.py": b"x = 1\n"}),
        ({"data.bin": b"x" * 2000}, {"data.bin": None}),
        ({}, {"tickets/README.md": b"what lies here\n"}),
    ],
)
def test_what_is_right(tmp_path: Path, before: dict[str, bytes], files: dict[str, Any]) -> None:
    assert Work(tmp_path / "r", before).change(files) == []


@pytest.mark.parametrize(
    ("before", "files", "rule", "why"),
    [
        ({}, {"data.bin": b"x" * 1001}, "size", "data.bin: has 1,001 bytes, and at most 1,000"),
        (folder(), {f"{FOLDER}/checklist.md": CHECKLIST.replace("[x]", "[ ]").encode()}, "ticket",
         "scope/target-named was ticked and no longer is"),
        (folder(), {f"{FOLDER}/checklist.md": CHECKLIST.replace("`target-named`", "`target-gone`").encode()}, "ticket",
         "scope/target-named was ticked and no longer is"),
        (folder(), {f"{FOLDER}/checklist.md": CHECKLIST.replace("## scope", "## other").encode()}, "ticket",
         "scope/target-named was ticked"),
        (folder(), dict.fromkeys(folder()), "ticket", "scope/target-named was ticked"),
        (folder("completed", TICKED), {f"{FOLDER}/ticket.yml": b"id: 13\n"}, "ticket", "its session is completed"),
        (folder("completed", TICKED), {f"{FOLDER}/new.md": b"one more thing\n"}, "ticket", "its session is completed"),
        (folder("completed", TICKED), dict.fromkeys(folder()), "ticket", "its session is completed"),
        ({}, folder("completed"), "ticket", "the required item training/trained is not ticked"),
        (folder(), {f"{FOLDER}/artifacts/scope/report.md": None}, "ticket", "is named in the manifest and missing"),
        (folder(), {f"{FOLDER}/artifacts/scope/report.md": REPORT + b"\n"}, "ticket", "is not what the manifest names"),
        (folder(), {f"{FOLDER}/artifacts/scope/report.md": REPORT[:-1]}, "ticket", "is not what the manifest names"),
        (folder(), {f"{FOLDER}/artifacts/manifest.json": b"[]"}, "ticket", "manifest.json: cannot be read"),
        (folder(), {f"{FOLDER}/ticket.yml": None}, "ticket", "ticket.yml is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong(tmp_path: Path, before: dict[str, bytes], files: dict[str, Any], rule: str, why: str) -> None:
    (finding, *others) = Work(tmp_path / "r", before).change(files)
    assert finding.rule == rule
    assert why in str(finding)
    assert others == []


@pytest.mark.parametrize(
    ("branch", "wrong"),
    [
        ("phase/delivery_12-k7m2p", 0),
        ("fix/typo", 0),
        ("phase/delivery_13-k7m2p", 1),
        ("phase/delivery_12", 1),
        ("phase/my-work", 1),
    ],
)
def test_names_of_branches(tmp_path: Path, branch: str, wrong: int) -> None:
    found = Work(tmp_path / "r", {}).change(folder(), branch)
    assert [finding.rule for finding in found] == ["branch"] * wrong


def test_hooks_hold_commits_to_the_rules(tmp_path: Path) -> None:
    work = Work(tmp_path / "r", folder())
    made = install_hooks(work.repository)
    assert [path.name for path in made] == ["pre-commit", "pre-push"]
    assert install_hooks(work.repository) == made, "again changes nothing"
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    root = Path(__file__).parents[2]
    (bin_ / "valuetrain").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n', "utf-8")
    (bin_ / "valuetrain").chmod(0o755)
    environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(root)}
    work.write({f"{FOLDER}/checklist.md": CHECKLIST.replace("[x]", "[ ]").encode()})
    refused = subprocess.run(
        ["git", "commit", "-qam", "untick"], cwd=work.repository.path, capture_output=True, text=True, env=environment
    )
    assert refused.returncode == 1
    assert "scope/target-named was ticked and no longer is" in refused.stdout + refused.stderr
    work.write({f"{FOLDER}/checklist.md": CHECKLIST.encode(), "model.py": b"x = 1\n"})
    work.run("add", "-A")
    subprocess.run(["git", "commit", "-qm", "good"], cwd=work.repository.path, check=True, env=environment)


def test_hooks_of_others_are_left_alone(tmp_path: Path) -> None:
    work = Work(tmp_path / "r", {})
    own = work.repository.path / ".git" / "hooks" / "pre-push"
    own.parent.mkdir(exist_ok=True)
    own.write_text("#!/bin/sh\nexit 0\n", "utf-8")
    with pytest.raises(GitError, match="is there and is not ours"):
        install_hooks(work.repository)
    assert not (own.parent / "pre-commit").exists()
    assert MARK not in own.read_text("utf-8")


def test_a_base_that_is_no_revision(tmp_path: Path) -> None:
    work = Work(tmp_path / "r", {})
    with pytest.raises(GitError, match="no revision"):
        since(work.repository, "--output=x")
    with pytest.raises(GitError, match="nowhere"):
        since(work.repository, "nowhere")


def review(who: int, state: str = "APPROVED", commit: str = "head", kind: str = "User") -> dict[str, Any]:
    return {"user": {"id": who, "login": f"u{who}", "type": kind}, "state": state, "commit_id": commit}


@pytest.mark.parametrize(
    ("reviews", "who"),
    [
        ([], ()),
        ([review(2)], ("u2",)),
        ([review(1)], ()),  # the author
        ([review(3, kind="Bot")], ()),
        ([review(1, kind="Bot")], ()),  # the bot of its own work
        ([review(2, commit="older")], ()),
        ([review(2, "COMMENTED")], ()),
        ([review(2), review(2, "CHANGES_REQUESTED")], ()),
        ([review(2), review(2, "DISMISSED")], ()),
        ([review(2), review(2, "COMMENTED")], ("u2",)),
        ([review(2, "CHANGES_REQUESTED"), review(2)], ("u2",)),
        ([review(2), review(4)], ("u2", "u4")),
        ([review(2) | {"user": None}], ()),
    ],
)
def test_whose_review_counts(reviews: list[dict[str, Any]], who: tuple[str, ...]) -> None:
    assert approvers(reviews, {"number": 7, "head": {"sha": "head"}, "user": {"id": 1}}) == who


def test_the_workflow_runs_no_code_of_the_change_and_puts_no_text_of_others_into_a_script() -> None:
    template = Path(__file__).parents[2] / "examples" / "github-actions-check.yml"
    workflow = yaml.safe_load(template.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "read"}
    assert "pull_request_target" not in workflow[True]
    steps = workflow["jobs"]["check"]["steps"]
    assert all("${{" not in step.get("run", "") for step in steps)
    assert steps[0]["with"]["persist-credentials"] is False
    checks = [step["run"] for step in steps if "valuetrain check" in step.get("run", "")]
    assert len(checks) == 2
