"""A ticket at GitHub from its issue to the merge and back, by comments and the command line and nothing else: its gate
is decided on its pull request, a person closes the issue, merges, and takes the session back."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.github_server.faults import Fault
from tests.github_server.server import GitHubServer
from tests.integration.train import DATA, Train

BODY = "---\ndata: data/votes.csv\ntarget: vote\nmetric: roc_auc\nrisk: medium\n---\nWhom to send a letter.\n"


@pytest.mark.slow
def test_from_an_issue_over_an_approval_by_comment_to_the_merge_and_back(tmp_path: Path) -> None:
    with GitHubServer(tmp_path / "github") as server:
        bot, dana = server.state.account("train-bot"), server.state.account("dana")
        roles = {"train-bot": "write", "alice": "triage", "dana": "write"}
        repository = server.state.repository("octo/train", **roles)
        policy = f"approvers:\n  - {{name: dana, github: {dana.id}}}\n"
        votes = (DATA / "votes.csv").read_text("utf-8")
        repository.commit({"data/votes.csv": votes, ".valuetrain/policy.yaml": policy}, "Data and policy")
        ticket = server.state.issue(repository, "Predict a vote", BODY, labels=("Task", "auto", "now"))
        train = Train(tmp_path / "work", {"VALUETRAIN_GITHUB_URL": server.url, "VALUETRAIN_GITHUB_TOKEN": bot.token})
        train.repo.mkdir()

        limit = server.fail(Fault("primary", "POST", r"/pulls$", seconds=1.0))

        first = train.run("drive", "--backlog", "github:octo/train", "--no-wait", "--json")

        assert first.code == 3, first.out + first.err
        assert limit.happened == 1, "the hourly limit was used up in the middle, and waited for"
        (waiting,) = first.json["waiting"]
        (pull,) = [it for it in repository.issues.values() if it.pull]
        server.state.close(ticket, "alice")
        server.state.close(pull, "alice")

        closed = train.run("drive", "--backlog", "github:octo/train", "--no-wait", "--json")

        assert closed.code == 3, closed.out + closed.err
        (note,) = [row["note"] for row in closed.json["waiting"]]
        assert note.startswith("its issue and pull request are closed: reopen, or end the session (valuetrain session ")
        for each in (ticket, pull):
            each.state = "open"
            server.state.event(each, "reopened", server.state.account("alice"))
        by_the_requester = server.state.comment(ticket, "/approve", "alice")
        approval = server.state.comment(pull, "Numbers checked.\n\n/approve", "dana")

        lost = server.fail(Fault("drop_after", "POST", r"/reactions$"))  # done, and nobody heard of it

        again = train.run("drive", "--backlog", "github:octo/train", "--json")

        assert again.code == 0, again.out + again.err
        assert lost.happened == 1
        assert [row["ticket"] for row in again.json["completed"]] == [1]
        assert [(who.login, what) for _, who, what in approval.reactions] == [("train-bot", "+1")]
        assert [what for _, _, what in by_the_requester.reactions] == ["-1"]
        assert pull.pull is not None
        assert not pull.pull.draft
        record = train.run("tail", "--session", waiting["session"], "--type", "approval_given", "--json").json
        (given,) = record
        assert (given["actor"]["channel"], given["actor"]["verified_as"]) == ("github", f"github:{dana.id}")

        merged = httpx.put(
            f"{server.url}/repos/octo/train/pulls/{pull.number}/merge",
            headers={"authorization": f"Bearer {dana.token}"},
        )

        assert merged.status_code == 200, merged.text
        assert ticket.state == "closed"
        later = train.run("drive", "--backlog", "github:octo/train", "--no-wait", "--json")
        assert later.code == 0, later.out + later.err
        assert (later.json["completed"], later.json["waiting"], later.json["blocked"]) == ([], [], [])

        undo = server.state.comment(pull, "/rollback deployment The wrong year was asked for.", "dana")
        back = train.run("drive", "--backlog", "github:octo/train", "--no-wait", "--json")

        assert back.code == 4, back.out + back.err
        assert [what for _, _, what in undo.reactions] == ["+1"]
        assert [row["session"] for row in back.json["blocked"]] == [waiting["session"]]
        assert pull.pull.merged_at is not None, "what is merged stays so"
        assert repository.git("log", "-1", "--format=%s", "main") == f"Merge pull request #{pull.number}"
        (status,) = [each.body for each in ticket.comments if "valuetrain:status:" in each.body]
        assert "rolled back" in status
        assert (
            f"pull request {pull.number} is merged and stays so"
            in train.run("tail", "--session", waiting["session"], "--type", "effect_recorded", "--json").out
        )
        assert train.run("session", "replay", waiting["session"], "--verify", "--json").json["difference"] is None
