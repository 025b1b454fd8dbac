"""Driving the `valuetrain` command as a user does: a scratch repository, real processes, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.integration.warm import POSSIBLE, warm

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)


@dataclass
class Train:
    """A user's repository with a backlog and a home."""

    repo: Path
    settings: dict[str, str] = field(default_factory=dict)
    """Settings for every command, as environment variables: `VALUETRAIN_…`."""

    @property
    def home(self) -> Path:
        """The home directory the commands use by default."""
        return self.repo / ".valuetrain"

    def environment(self) -> dict[str, str]:
        """As the tests run, without anything that would change the program's answers."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("VALUETRAIN_", "GIT_"))}
        return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"} | self.settings

    def start(self, *words: str, cold: bool = True) -> subprocess.Popen[str]:
        """Start a command and leave it running, in a session of its own so that it can be killed as a whole.

        Not `cold`: forked from a process that has imported everything, for a test that is about what comes later.
        """
        if POSSIBLE and not cold and "PYTHONPATH" not in self.settings:  # which a process reads as it starts
            return warm().start(words, self.repo, self.environment())
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words],
            cwd=self.repo,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, timeout: float = 240) -> Ran:
        """Run a command to its end; a traceback on either stream fails the test, whatever the exit code."""
        if POSSIBLE and "PYTHONPATH" not in self.settings:  # which a process reads as it starts
            ran = Ran(*warm().run(words, self.repo, self.environment(), timeout))
        else:
            process = self.start(*words)
            out, err = process.communicate(timeout=timeout)
            ran = Ran(process.returncode, out, err)
        assert "Traceback" not in ran.out + ran.err, f"{ran.out}\n{ran.err}"
        return ran

    def git(self, *words: str) -> str:
        """Run git in the repository."""
        return subprocess.run(["git", *words], cwd=self.repo, check=True, capture_output=True, text=True).stdout

    def bytes_of(self, commit: str, path: str) -> bytes:
        """A file as a commit holds it."""
        return subprocess.run(
            ["git", "show", f"{commit}:{path}"], cwd=self.repo, check=True, capture_output=True
        ).stdout

    def folder(self, commit: str, ticket: int) -> dict[str, bytes]:
        """The ticket's folder at `commit`: each file's bytes by its path below the repository."""
        names = self.git("ls-tree", "-r", "--name-only", commit, f"tickets/delivery_{ticket}/").splitlines()
        return {name: self.bytes_of(commit, name) for name in names}

    def policy(self, text: str) -> None:
        """Write policy.yaml."""
        (self.home / "policy.yaml").write_text(text, "utf-8")

    def ticket(self, number: int, title: str, body: str = "A test ticket.", **fields: Any) -> Path:
        """Write a ticket; `fields` go into the front matter as JSON, which is YAML."""
        head = {"id": number, "title": title, "labels": ["Task", "auto", "now"], "requester": "alice", **fields}
        lines = [f"{name}: {json.dumps(value)}" for name, value in head.items()]
        path = self.repo / "backlog" / f"{number}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("---\n" + "\n".join(lines) + f"\n---\n{body}\n", "utf-8")
        return path

    def light(self) -> str:
        """Write a pipeline that ends before anything is trained, for a test of what happens around the work; its name.

        Its phases are the first of the shipped delivery; a person decides about the last where the risk is not low.
        """
        shipped = yaml.safe_load((ROOT / "pipelines" / "ml-delivery.yaml").read_text("utf-8"))
        phases = shipped["phases"][:5]
        phases[-1]["gate"] = {"human": "when", "when": 'ticket.risk != "low"'}
        folder = self.home / "pipelines"
        folder.mkdir(exist_ok=True)
        (folder / "light.yaml").write_text(
            yaml.safe_dump({"name": "light", "description": "Rows, read and looked at.", "phases": phases}), "utf-8"
        )
        return "light"

    def data(self, name: str) -> str:
        """Copy a test data set beside the tickets and return the path to name it by."""
        target = self.repo / "backlog" / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((DATA / name).read_bytes())
        return f"data/{name}"


def make(directory: Path) -> Train:
    """A repository with one commit, set up by `valuetrain init`, with an empty backlog and dana as approver."""
    train = Train(directory)
    directory.mkdir(parents=True, exist_ok=True)
    train.git("init", "--quiet", "--initial-branch=main")
    train.git("config", "user.name", "Test")
    train.git("config", "user.email", "test@localhost")
    (directory / "README.md").write_text("# A repository\n", "utf-8")
    train.git("add", ".")
    train.git("commit", "--quiet", "-m", "Start")
    ran = train.run("init")
    assert ran.code == 0, ran.err
    (directory / "backlog" / "1-first-ticket.md").unlink()
    train.policy("approvers:\n  - name: dana\nwip: 2\n")
    return train
