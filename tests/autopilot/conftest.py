"""A stand-in for GitHub with one repository, and its issues as a backlog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autopilot.sources.github import GitHubBacklog
from forge.client import GitHub
from forge.credentials import Token
from tests.github_server.server import GitHubServer
from tests.github_server.state import Repository

BOT = "valuetrain[bot]"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    with GitHubServer(tmp_path / "github") as running:
        yield running


@pytest.fixture
def repository(server: GitHubServer) -> Repository:
    server.state.account(BOT, kind="Bot")
    return server.state.repository("acme/wine", **{BOT: "write", "alice": "triage", "bob": "read", "max": "maintain"})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(server: GitHubServer, repository: Repository, clock: Clock) -> Iterator[GitHubBacklog]:
    token = server.state.account(BOT).token
    github = GitHub("acme/wine", base_url=server.url, credentials=Token(token), delays=(0.01, 0.02))
    yield GitHubBacklog(github, clock=clock)
    github.close()
