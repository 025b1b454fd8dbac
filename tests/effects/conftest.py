"""A clone of a repository at the stand-in, a session's row, and effects that speak real HTTP and real git to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autopilot.at_origin import OriginEffects
from autopilot.board import PhaseRow, SessionRow
from forge.client import GitHub
from forge.credentials import Token
from schemas.session import EffectRequested
from schemas.ticket import Ticket
from schemas.values import EffectKind, Posted
from tests.conductor.rig import PIPELINE
from tests.github_server.server import GitHubServer
from tests.github_server.state import Issue, Repository
from workspace.git import EFFECT, branch_name
from workspace.git import Repository as Clone
from workspace.worktree import Worktree

NAME = "octo/train"
BOT = "train-bot"
WHEN = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@dataclass
class Ground:
    """Everything around one session."""

    server: GitHubServer
    repository: Repository
    issue: Issue
    clone: Path
    row: SessionRow
    worktree: Worktree
    effects: OriginEffects

    def effects_of(self, login: str = BOT, rows: tuple[SessionRow, ...] = ()) -> OriginEffects:
        """Effects with a home of its own."""
        known = rows or (self.row,)
        return OriginEffects(lambda name: self.connect(login, name), lambda: known)

    def connect(self, login: str, name: str = NAME) -> GitHub:
        token = self.server.state.account(login).token
        return GitHub(name, base_url=self.server.url, credentials=Token(token), delays=(0.01, 0.02))

    def requested(self, kind: EffectKind, posted: Posted | None = None, target: str = "") -> EffectRequested:
        return EffectRequested(
            effect=f"{self.row.id}.{kind}.1", kind=kind, phase="plan-it", attempt=1, target=target,
            posted=posted or Posted(),
        )  # fmt: skip

    def do(self, kind: EffectKind, posted: Posted | None = None, target: str = "") -> Posted:
        return self.effects.carry_out(self.requested(kind, posted, target), self.row)

    def commit(self, files: dict[str, bytes], effect: str) -> str:
        """A commit of the train on the session's branch."""
        return self.worktree.commit(files, "plan-it: a commit", WHEN, {EFFECT: effect})

    def heads(self) -> dict[str, str]:
        """The branches at the stand-in."""
        return {name.removeprefix("refs/heads/"): sha for name, sha in self.repository.refs("refs/heads/").items()}

    def bodies(self) -> list[str]:
        """The comments on the issue."""
        return [comment.body for comment in self.issue.comments]


def git(where: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=where, check=True, capture_output=True, text=True).stdout.strip()


def clone(repository: Repository, where: Path) -> Path:
    """A user's clone, with a name to commit under."""
    subprocess.run(["git", "clone", "--quiet", str(repository.path), str(where)], check=True)
    git(where, "config", "user.name", "Dana")
    git(where, "config", "user.email", "dana@example.org")
    return where


def row_of(number: int, token: str, clone: Path, base: str) -> SessionRow:
    ticket = Ticket(id=number, title="Tell the cultivar `of` a wine", origin=f"github:{NAME}", labels=("Task", "auto"))
    return SessionRow(
        id=f"s{number}-{token}",
        ticket=ticket,
        digest="a" * 64,
        pipeline=PIPELINE,
        branch=branch_name(number, token),
        repository=str(clone),
        base_commit=base,
        drive="d-1",
        max_pushed_bytes=1_000_000,
        commit=base,
        started=WHEN,
        phases={p.name: PhaseRow(p.name, p.agent.value) for p in PIPELINE.phases},
    )


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with GitHubServer(tmp_path / "github") as server:
        repository = server.state.repository(NAME, **{BOT: "write", "other-bot": "write", "dana": "write"})
        issue = server.state.issue(repository, "Tell the cultivar of a wine", labels=("Task", "auto"))
        where = clone(repository, tmp_path / "clone")
        row = row_of(issue.number, "abcde", where, git(where, "rev-parse", "HEAD"))
        worktree = Worktree.create(Clone(where), tmp_path / "trees" / row.id, row.branch, row.base_commit)
        made = Ground(server, repository, issue, where, row, worktree, None)  # type: ignore[arg-type]
        made.effects = made.effects_of()
        yield made
        made.effects.close()
