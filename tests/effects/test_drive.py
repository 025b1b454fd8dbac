"""One real ticket from an issue to a pull request, driven by the command line against a server that speaks GitHub."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from autopilot.at_origin import DONE, WORKING
from tests.github_server.faults import Fault
from tests.github_server.server import GitHubServer
from tests.github_server.state import Issue, Repository
from tests.integration.train import DATA, Ran, Train
from workspace.git import claim_branch

TOKEN = "ghp_0123456789abcdefNOBODYMAYSEETHIS"
BODY = """---
data: data/votes.csv
target: vote
metric: roc_auc
risk: medium
---
Whom to send a letter. Closes #2, says a stranger.
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    with GitHubServer(tmp_path / "github") as running:
        yield running


def repository_of(server: GitHubServer) -> Repository:
    server.state.account("train-bot").token = TOKEN
    repository = server.state.repository("octo/train", **{"train-bot": "write", "alice": "triage", "dana": "write"})
    files = {
        "data/votes.csv": (DATA / "votes.csv").read_text("utf-8"),
        ".valuetrain/policy.yaml": "approvers:\n  - name: dana\n",
    }
    repository.commit(files, "Data and policy")
    return repository


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    found: list[int] = []
    for task in listed(Path(f"/proc/{pid}/task")):
        try:
            children = [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def listed(folder: Path) -> list[Path]:
    """What is in a folder; nothing when its process has just ended."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def watched(train: Train, *words: str) -> tuple[Ran, set[str]]:
    """Run a command, and name the programs among its descendants that had the token in their environment."""
    process = train.start(*words)
    holders: set[str] = set()
    told: list[tuple[str, str]] = []
    reader = threading.Thread(target=lambda: told.append(process.communicate()))
    reader.start()
    own = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    while reader.is_alive():
        reader.join(0.1)
        for child in descendants(process.pid):
            try:
                # In this order: a fork that becomes another program in between had its parent's environment before.
                program = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                environment = Path(f"/proc/{child}/environ").read_bytes()
            except OSError:
                continue
            assert TOKEN.encode() not in b" ".join(program), "the token is in the arguments of a process"
            if TOKEN.encode() in environment and program not in (own, [b""]):  # those were forked and do not run yet
                holders.add(Path(program[0].decode()).name)
    out, err = told[0]
    assert "Traceback" not in out + err, f"{out}\n{err}"
    return Ran(process.returncode, out, err), holders


def seen_anywhere(secret: str, *places: Path) -> list[str]:
    """The files below these places that hold the secret."""
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.slow
def test_an_issue_becomes_a_pull_request(server: GitHubServer, tmp_path: Path) -> None:
    repository = repository_of(server)
    ticket = server.state.issue(repository, "Predict a vote", BODY, labels=("Task", "auto", "now"))
    broken = server.state.issue(repository, "Odd", "---\ndata: [\n---\n", labels=("Task", "auto", "now"))
    train = Train(tmp_path / "work", {"VALUETRAIN_GITHUB_URL": server.url, "VALUETRAIN_GITHUB_TOKEN": TOKEN})
    train.repo.mkdir()
    lost = server.fail(Fault("drop_after", "POST", r"/pulls$"))  # it was opened, and nobody heard of it
    limit = server.fail(Fault("secondary", "POST", r"/issues/1/comments$", seconds=1.0))

    ran, holders = watched(train, "drive", "--backlog", "github:octo/train", "--no-wait", "--json")

    assert ran.code == 3, ran.out + ran.err
    assert (lost.happened, limit.happened) == (1, 1)
    (waiting,) = ran.json["waiting"]
    pulls = [it for it in repository.issues.values() if it.pull]
    (pull,) = pulls
    assert pull.pull is not None
    branch = pull.pull.head_ref
    assert pull.pull.draft
    assert set(repository.refs("refs/heads/")) == {
        "refs/heads/main", f"refs/heads/{branch}", f"refs/heads/{claim_branch(1)}"
    }  # fmt: skip
    assert (ticket.labels[-1], [a.login for a in ticket.assignees]) == (WORKING, ["train-bot"])
    (status,) = ticket.comments
    assert "waits for a person to decide" in status.body
    assert waiting["gate"] in status.body
    _told_once(broken)
    assert holders <= {"git", "git-remote-http", "git-remote-https"}, "only git gets the token, for one call"

    assert train.run("gate", "approve", waiting["gate"], "--as", "dana").code == 0
    again = train.run("drive", "--backlog", "github:octo/train", "--json")

    assert again.code == 0, again.out + again.err
    assert [row["ticket"] for row in again.json["completed"]] == [1]
    assert not pull.pull.draft
    assert (pull.body or "").count("Closes #") == 1
    assert ticket.labels == ["Task", "auto", "now", DONE]
    assert not ticket.assignees
    assert ticket.state == "open", "merging closes it"
    assert len(ticket.comments) == 1
    assert "done, every gate has passed" in status.body
    assert set(repository.refs("refs/heads/")) == {"refs/heads/main", f"refs/heads/{branch}"}
    _told_once(broken)

    back = train.run("session", "rollback", waiting["session"], "--to", "deployment", "--as", "dana")
    assert back.code == 0, back.out + back.err
    assert f"pull request {pull.number} is closed" in back.out
    assert pull.state == "closed"
    assert set(repository.refs("refs/heads/")) == {"refs/heads/main"}
    assert "rolled back" in status.body
    replayed = train.run("session", "replay", waiting["session"], "--verify", "--json").json
    assert replayed["difference"] is None
    assert train.run("audit", "verify", "--json").json["findings"] == []

    texts = [it.body or "" for it in repository.issues.values()]
    texts += [comment.body for it in repository.issues.values() for comment in it.comments]
    history = subprocess.run(["git", "log", "-p", "--all"], cwd=train.home / "github" / "octo" / "train",
                             capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert TOKEN not in "\n".join([*texts, history, ran.out, ran.err, again.out, again.err, back.out, back.err])
    assert seen_anywhere(TOKEN, train.repo, tmp_path / "github") == []


def _told_once(broken: Issue) -> None:
    (comment,) = broken.comments
    assert comment.author.login == "train-bot"
    assert "cannot be taken as a ticket" in comment.body
