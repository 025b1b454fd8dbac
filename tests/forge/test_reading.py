"""What is read and turned into values of our own, where no backlog's test does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from forge import reading
from forge.errors import ForgeError, NotFound
from tests.forge.conftest import Client
from tests.github_server.server import GitHubServer
from tests.github_server.state import Repository


def test_comments_since_a_time_and_on_one_issue(server: GitHubServer, repository: Repository, client: Client) -> None:
    first, second = server.state.issue(repository), server.state.issue(repository)
    old = server.state.comment(first, "old", "alice")
    server.state.late += 60
    new = server.state.comment(second, "new", "bob")
    github = client()
    found = list(reading.comments(github))
    assert [(each.issue, each.body, each.author and each.author.login) for each in found] == [
        (1, "old", "alice"),
        (2, "new", "bob"),
    ]
    assert found[0].id == old.id
    assert found[0].created == old.created
    assert [each.id for each in reading.comments(github, old.created + timedelta(seconds=1))] == [new.id]
    assert [each.body for each in reading.comments_on(github, 1)] == ["old"]


@pytest.mark.parametrize(
    ("login", "role"), [("acme", "admin"), ("valuetrain[bot]", "write"), ("alice", "triage"), ("nobody", "none")]
)
def test_what_somebody_may_do(login: str, role: str, client: Client) -> None:
    assert reading.role(client(), login) == role


def test_who_edited(server: GitHubServer, repository: Repository, client: Client) -> None:
    issue = server.state.issue(repository)
    github = client()
    assert reading.edits(github, 1) == ()
    for _ in range(103):
        server.state.edit(issue, "x", "alice")
    found = reading.edits(github, 1)
    assert len(found) == 101
    assert found[0].by is not None
    assert (found[0].by.login, found[0].by.id) == ("alice", server.state.account("alice").id)
    assert found[-1].by is None  # nobody knows who made the others
    with pytest.raises(ForgeError, match="Could not resolve"):
        reading.edits(github, 9)


def test_files_and_branches(server: GitHubServer, repository: Repository, client: Client) -> None:
    commit = repository.commit({"a/b.txt": "text"})
    github = client()
    assert reading.file_at(github, "a/b.txt", commit) == b"text"
    assert reading.default_branch(github) == "main"
    with pytest.raises(NotFound):
        reading.file_at(github, "a/c.txt", commit)
