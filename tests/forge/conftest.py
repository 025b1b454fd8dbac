"""A stand-in for GitHub with one repository, and a client that speaks to it as a maintainer's bot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge.client import GitHub
from forge.credentials import Token
from tests.github_server.server import GitHubServer
from tests.github_server.state import Repository

Client = Callable[..., GitHub]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    with GitHubServer(tmp_path / "github") as running:
        yield running


@pytest.fixture
def repository(server: GitHubServer) -> Repository:
    server.state.account("valuetrain[bot]", kind="Bot")
    return server.state.repository("acme/wine", **{"valuetrain[bot]": "write", "alice": "triage", "bob": "read"})


@pytest.fixture
def client(server: GitHubServer, repository: Repository) -> Iterator[Client]:
    made: list[GitHub] = []

    def make(login: str = "valuetrain[bot]", **options: object) -> GitHub:
        token = server.state.account(login).token
        settings = {"base_url": server.url, "credentials": Token(token), "delays": (0.01, 0.02)} | options
        made.append(GitHub(repository.full_name, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()
