"""The commands over a GitHub backlog: settings, the kept clone, whose policy counts, list and explain."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autopilot.policyfile import PolicyError
from cli.app import app
from cli.driving import ground
from cli.errors import CliError
from cli.forging import clone_url, credentials, prepared, repository_of
from cli.home import Home
from cli.settings import Settings, load
from cli.supervising import environment_of
from forge.credentials import App, Token
from tests.autopilot.conftest import BOT
from tests.autopilot.test_github import task
from tests.github_server.server import GitHubServer
from tests.github_server.state import Repository
from workspace.git import GitError

BACKLOG = "github:acme/wine"


@pytest.fixture
def home(
    tmp_path: Path, server: GitHubServer, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Home]:
    before = logging.getLogger().handlers[:]
    monkeypatch.setenv("VALUETRAIN_GITHUB_URL", server.url)
    monkeypatch.setenv("VALUETRAIN_GITHUB_TOKEN", server.state.account(BOT).token)
    home = Home(tmp_path / "home")
    home.prepare()
    yield home
    for handler in logging.getLogger().handlers:
        if handler not in before:
            handler.close()
    logging.getLogger().handlers[:] = before


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_clone_is_kept_and_follows_the_base_branch(server: GitHubServer, repository: Repository, home: Home) -> None:
    first = repository.commit({"data/wine.csv": "a,b\n1,2\n"})
    on = prepared(home, BACKLOG, load(home.config), None)
    assert on.repository.head_commit() == first
    assert (on.repository.path / "data" / "wine.csv").read_text() == "a,b\n1,2\n"
    (on.repository.path / "left.txt").write_text("by somebody")
    (on.repository.path / "data" / "wine.csv").write_text("changed")
    second = repository.commit({"data/wine.csv": "a,b\n3,4\n"})
    on = prepared(home, BACKLOG, load(home.config), None)
    assert on.repository.head_commit() == second
    assert (on.repository.path / "data" / "wine.csv").read_text() == "a,b\n3,4\n"
    assert not (on.repository.path / "left.txt").exists()
    assert files_with(home.path, "token-of") == []
    assert on.repository.git("remote") == ""


def test_a_private_repository_needs_the_token_and_errors_do_not_hold_it(
    server: GitHubServer, repository: Repository, home: Home
) -> None:
    repository.private = True
    assert prepared(home, BACKLOG, load(home.config), None).repository.head_commit()
    subprocess.run(["rm", "-rf", str(repository.path)], check=True)
    with pytest.raises((GitError, CliError)) as caught:
        prepared(home, BACKLOG, load(home.config), None)
    assert "token-of" not in str(caught.value)


def test_a_drive_works_on_the_clone_with_the_base_branchs_policy(
    server: GitHubServer, repository: Repository, home: Home
) -> None:
    repository.commit({".valuetrain/policy.yaml": "approvers: [max]\nwip: 3\n"})
    home.policy.write_text("approvers: [mallory]\ndata_roots: [/srv/data]\n")
    on = ground(home.path, BACKLOG, None)
    assert [each.name for each in on.policy.approvers] == ["max"]
    assert on.drive.wip == 3
    assert on.drive.roots == (str(on.repository.path), "/srv/data")
    assert on.drive.backlog == BACKLOG
    repository.commit({".valuetrain/policy.yaml": "approvers: [max, ann]\n"})
    assert on.renew is not None
    assert [each.name for each in on.renew().policy.approvers] == ["max", "ann"]


def test_the_working_trees_policy_does_not_count(
    server: GitHubServer, repository: Repository, home: Home, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "-q", str(repository.path), str(work)], check=True)
    (work / ".valuetrain").mkdir()
    (work / ".valuetrain" / "policy.yaml").write_text("approvers: [mallory]\n")
    on = ground(home.path, BACKLOG, work)
    assert on.repository.path == work
    assert on.policy.approvers == ()


@pytest.mark.parametrize(
    "line",
    ["data_roots: [/etc]", "repository_roots: [../other]", "signing_key: key.pem", "sandbox_hosts: [10.0.0.1:80]"],
)
def test_a_repository_cannot_open_up_the_machine(
    line: str, server: GitHubServer, repository: Repository, home: Home
) -> None:
    repository.commit({".valuetrain/policy.yaml": line + "\n"})
    with pytest.raises(PolicyError, match=r"names something outside of the repository; name it in policy\.yaml"):
        prepared(home, BACKLOG, load(home.config), None)


def test_list_and_explain(server: GitHubServer, repository: Repository, home: Home) -> None:
    task(server, repository, "First")
    task(server, repository, "Urgent", labels=("Task", "auto", "now"))
    task(server, repository, "Sneaky", labeller="bob")
    task(server, repository, "Broken", body="---\nrisk: huge\n---\n")
    repository.commit({"x": "1"}, branch="1-first")
    at = ["--backlog", BACKLOG, "--home", str(home.path)]
    listed = CliRunner().invoke(app, ["ticket", "list", *at, "--json"])
    assert listed.exit_code == 0, listed.output
    rows = json.loads(listed.output)
    assert [(row["ticket"], row["order"]) for row in rows] == [(2, 1), (1, None), (3, None), ("#4", None)]
    explained = CliRunner().invoke(app, ["ticket", "explain", "1", *at])
    assert "passed over: the branch 1-first already serves it" in explained.output
    explained = CliRunner().invoke(app, ["ticket", "explain", "3", *at])
    assert "its label `Task` was set by bob, who may only read" in explained.output
    explained = CliRunner().invoke(app, ["ticket", "explain", "4", *at])
    assert explained.exit_code == 1
    assert "#4 cannot be read: line 2: `risk` is 'huge'" in explained.output


@pytest.mark.parametrize(
    "name", ["github:", "github:acme", "github:a/b/c", "github:acme/..", "github:acme/wine.git", "github:-a/b"]
)
def test_names_that_are_no_repository(name: str) -> None:
    with pytest.raises(CliError, match="names no repository; write github:OWNER/REPO"):
        repository_of(name)


def test_where_git_finds_it() -> None:
    assert clone_url("https://api.github.com", "a/b") == "https://github.com/a/b.git"
    assert clone_url("https://ghe.example.org/api/v3", "a/b") == "https://ghe.example.org/a/b.git"


def test_credentials_come_from_the_environment_or_private_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    file.chmod(0o644)
    with pytest.raises(CliError, match=r"can be read by others; run: chmod 600"):
        credentials(Settings(github_token_file=file), read_only=True)
    file.chmod(0o600)
    assert credentials(Settings(github_token_file=file), read_only=True) == Token("from-file")
    monkeypatch.setenv("VALUETRAIN_GITHUB_READ_TOKEN", "reads")
    assert credentials(Settings(github_token_file=file), read_only=True) == Token("reads")
    assert credentials(Settings(github_token_file=file), read_only=False) == Token("from-file")
    app_settings = Settings(github_app_id=1, github_app_installation=2, github_app_key_file=file)
    assert credentials(app_settings, read_only=False) == App(1, 2, "from-file")
    with pytest.raises(CliError, match="needs github_app_installation and github_app_key_file"):
        credentials(Settings(github_app_id=1), read_only=False)
    with pytest.raises(CliError, match="no credentials for GitHub: set VALUETRAIN_GITHUB_TOKEN"):
        credentials(Settings(), read_only=False)
    config = tmp_path / "config.yaml"
    config.write_text("github_token: abc\n")
    with pytest.raises(CliError, match="github_token belongs into the environment, or into a file") as caught:
        load(config)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://ghe.example.org/api/v3", "https://user:pw@host", "ftp://host", "https://"])
def test_addresses_that_would_show_the_token(url: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"github_url: {url}\n")
    with pytest.raises(CliError, match="github_url"):
        load(config)


def test_agents_and_conductors_get_no_credentials(home: Home) -> None:
    assert "VALUETRAIN_GITHUB_TOKEN" in environment_of("effects")
    for kind in ("agent", "conductor"):
        assert not [name for name in environment_of(kind) if "GITHUB" in name]
