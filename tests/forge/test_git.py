"""Real git against the stand-in, by smart HTTP; and what the API then tells of it."""

from __future__ import annotations

import os
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from forge import reading
from tests.forge.conftest import Client
from tests.github_server.faults import Fault
from tests.github_server.server import GitHubServer
from tests.github_server.state import Repository


def git(folder: Path, *arguments: str, token: str) -> subprocess.CompletedProcess[str]:
    """git with the token in its environment."""
    basic = b64encode(f"x-access-token:{token}".encode()).decode()
    environment = os.environ | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        "GIT_CONFIG_KEY_1": "user.name",
        "GIT_CONFIG_VALUE_1": "Ann",
        "GIT_CONFIG_KEY_2": "user.email",
        "GIT_CONFIG_VALUE_2": "ann@example.org",
    }
    return subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_clone_push_and_read_back(server: GitHubServer, repository: Repository, client: Client, tmp_path: Path) -> None:
    url, work, token = f"{server.url}/acme/wine.git", tmp_path / "work", "token-of-valuetrain[bot]"
    assert git(tmp_path, "clone", "--quiet", url, str(work), token=token).returncode == 0
    (work / "data.csv").write_text("a,b\n1,2\n" * 100_000)
    assert git(work, "checkout", "-q", "-b", "phase/delivery_7", token=token).returncode == 0
    git(work, "add", "data.csv", token=token)
    git(work, "commit", "-q", "-m", "Data", token=token)
    pushed = git(work, "push", "-q", "origin", "phase/delivery_7", token=token)
    assert pushed.returncode == 0, pushed.stderr
    sha = git(work, "rev-parse", "HEAD", token=token).stdout.strip()
    github = client()
    assert reading.branches(github, "phase/") == {"phase/delivery_7": sha}
    assert reading.branches(github, "phase/") == {"phase/delivery_7": sha}
    assert server.log.count("get", "/matching-refs/", 304) == 1
    assert reading.file_at(github, "README.md", "main") == b"# wine\n"
    assert github.get(f"commits/{sha}").body["commit"]["message"] == "Data"
    assert [row["name"] for row in github.rows("branches")] == ["main", "phase/delivery_7"]


@pytest.mark.parametrize(("login", "may"), [("bob", False), ("valuetrain[bot]", True)])
def test_who_may_push(login: str, may: bool, server: GitHubServer, repository: Repository, tmp_path: Path) -> None:
    token, work = f"token-of-{login}", tmp_path / "work"
    assert git(tmp_path, "clone", "--quiet", f"{server.url}/acme/wine.git", str(work), token=token).returncode == 0
    assert (git(work, "push", "-q", "origin", "HEAD:refs/heads/new", token=token).returncode == 0) is may
    assert ("refs/heads/new" in repository.refs()) is may


def test_a_push_that_was_done_though_the_connection_broke(
    server: GitHubServer, repository: Repository, tmp_path: Path
) -> None:
    token, work = "token-of-valuetrain[bot]", tmp_path / "work"
    git(tmp_path, "clone", "--quiet", f"{server.url}/acme/wine.git", str(work), token=token)
    server.fail(Fault("drop_after", path="git-receive-pack$", verb="POST"))
    assert git(work, "push", "-q", "origin", "HEAD:refs/heads/new", token=token).returncode != 0
    assert "refs/heads/new" in repository.refs()
