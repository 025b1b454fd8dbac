"""A ticket at GitHub whose gate is decided in a comment on its pull request, by the command line and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.github_server.server import GitHubServer
from tests.integration.train import DATA, Train

BODY = "---\ndata: data/votes.csv\ntarget: vote\nmetric: roc_auc\nrisk: medium\n---\nWhom to send a letter.\n"


@pytest.mark.slow
def test_an_approval_on_the_pull_request_lets_the_drive_go_on(tmp_path: Path) -> None:
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

        first = train.run("drive", "--backlog", "github:octo/train", "--no-wait", "--json")

        assert first.code == 3, first.out + first.err
        (waiting,) = first.json["waiting"]
        (pull,) = [it for it in repository.issues.values() if it.pull]
        by_the_requester = server.state.comment(ticket, "/approve", "alice")
        approval = server.state.comment(pull, "Numbers checked.\n\n/approve", "dana")

        again = train.run("drive", "--backlog", "github:octo/train", "--json")

        assert again.code == 0, again.out + again.err
        assert [row["ticket"] for row in again.json["completed"]] == [1]
        assert [(who.login, what) for _, who, what in approval.reactions] == [("train-bot", "+1")]
        assert [what for _, _, what in by_the_requester.reactions] == ["-1"]
        assert pull.pull is not None
        assert not pull.pull.draft
        record = train.run("tail", "--session", waiting["session"], "--type", "approval_given", "--json").json
        (given,) = record
        assert (given["actor"]["channel"], given["actor"]["verified_as"]) == ("github", f"github:{dana.id}")
        assert train.run("session", "replay", waiting["session"], "--verify", "--json").json["difference"] is None
