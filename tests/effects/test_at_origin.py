"""Each effect at the forge against a server that speaks GitHub's HTTP and git: done once, however often it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from autopilot.at_origin import DONE, WORKING
from forge.errors import NotAllowed, Refused
from schemas.values import Posted
from tests.effects.conftest import BOT, Ground, clone, git, row_of
from workspace.git import GitError, claim_branch


def published(ground: Ground) -> Posted:
    ground.do("claim")
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a plan\n"}, "e1")
    return ground.do("publish", target=tip)


def test_a_claim_takes_the_ticket_and_says_so(ground: Ground) -> None:
    done = ground.do("claim")
    assert ground.heads()[claim_branch(1)] == done.claim
    assert [a.login for a in ground.issue.assignees] == [BOT]
    assert ground.issue.labels == ["Task", "auto", WORKING]
    assert "Ticket 1 is taken by session s1-abcde of drive d-1" in ground.repository.git("log", "-1", done.claim)
    assert "If that Auto-Pilot is gone for good" in ground.repository.git("show", f"{done.claim}:README.md")
    again = ground.do("claim")
    assert again == done
    assert [e.kind for e in ground.issue.events].count("assigned") == 1


def test_a_second_auto_pilot_is_told_who_has_the_ticket(ground: Ground, tmp_path: Path) -> None:
    ground.do("claim")
    ground.issue.assignees.clear()
    theirs = row_of(1, "zzzzz", clone(ground.repository, tmp_path / "other"), ground.row.base_commit)
    other = ground.effects_of("other-bot", (theirs,))
    lost = other.carry_out(ground.requested("claim"), theirs)
    assert lost.claim == ""
    assert "Ticket 1 is taken by session s1-abcde" in lost.taken_by
    assert ground.issue.assignees == []
    other.carry_out(ground.requested("release"), theirs)
    assert claim_branch(1) in ground.heads(), "only its holder gives a claim back"
    assert WORKING in ground.issue.labels
    other.close()


def test_what_another_finished_meanwhile_is_not_done_again(ground: Ground, tmp_path: Path) -> None:
    published(ground)
    ground.do("finish")
    theirs = row_of(1, "zzzzz", clone(ground.repository, tmp_path / "other"), ground.row.base_commit)
    other = ground.effects_of("other-bot", (theirs,))
    lost = other.carry_out(ground.requested("claim"), theirs)
    assert lost.taken_by == f"branch {ground.row.branch} serves the ticket already"
    assert claim_branch(1) not in ground.heads()
    other.close()


def test_an_issue_of_somebody_else_is_left_alone(ground: Ground) -> None:
    ground.issue.assignees.append(ground.server.state.account("dana"))
    assert ground.do("claim").taken_by == "issue 1 is assigned to dana"
    ground.issue.assignees.clear()
    ground.server.state.close(ground.issue, "dana")
    assert ground.do("claim").taken_by == "issue 1 was closed meanwhile"
    assert claim_branch(1) not in ground.heads()


def test_an_edited_ticket_takes_over_the_claim_of_its_own_past(ground: Ground) -> None:
    first = ground.do("claim")
    ground.row.status = "blocked"
    newer = row_of(1, "bbbbb", ground.clone, ground.row.base_commit)
    effects = ground.effects_of(rows=(ground.row, newer))
    second = effects.carry_out(ground.requested("claim"), newer)
    assert second.claim not in ("", first.claim)
    assert ground.heads()[claim_branch(1)] == second.claim
    assert "not ours" in ground.do("release").note, "the old session does not give back what the new one has"
    assert claim_branch(1) in ground.heads()
    effects.close()


def test_what_is_not_at_the_forge_yet_is_not_pushed_by_a_claim(ground: Ground) -> None:
    (ground.clone / "private.txt").write_text("not for others\n")
    git(ground.clone, "add", ".")
    git(ground.clone, "commit", "-qm", "private")
    ground.row.base_commit = git(ground.clone, "rev-parse", "HEAD")
    with pytest.raises(GitError, match="is not on main of octo/train, and a push would send it; push it"):
        ground.do("claim")
    assert list(ground.heads()) == ["main"]


def test_the_main_branch_may_be_ahead_of_the_clone(ground: Ground) -> None:
    ground.repository.commit({"more.txt": "more\n"})
    assert ground.do("claim").claim


def test_the_branch_and_a_draft_pull_request(ground: Ground) -> None:
    done = published(ground)
    pull = ground.repository.issues[done.pull]
    assert pull.pull is not None
    assert (pull.pull.draft, pull.pull.head_ref, pull.pull.base_ref) == (True, ground.row.branch, "main")
    assert (pull.body or "").startswith("<!-- valuetrain:pull:s1-abcde.0 -->\nCloses #1\n")
    assert done.url.endswith(f"/pull/{done.pull}")
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a better plan\n"}, "e2")
    again = ground.do("publish", Posted(pull=done.pull), tip)
    assert (again.pull, ground.heads()[ground.row.branch]) == (done.pull, tip)
    assert len(ground.repository.issues) == 2


def test_an_older_commit_does_not_take_the_branch_back(ground: Ground) -> None:
    ground.do("claim")
    first = ground.commit({"tickets/delivery_1/a": b"a"}, "e1")
    second = ground.commit({"tickets/delivery_1/a": b"b"}, "e2")
    ground.do("publish", target=second)
    ground.do("publish", target=first)
    assert ground.heads()[ground.row.branch] == second


def test_commits_of_people_are_never_overwritten(ground: Ground, tmp_path: Path) -> None:
    done = published(ground)
    theirs = clone(ground.repository, tmp_path / "theirs")
    git(theirs, "checkout", "-q", ground.row.branch)
    git(theirs, "commit", "-q", "--allow-empty", "-m", "a person's")
    git(theirs, "push", "-q", "origin", "HEAD")
    head = ground.heads()[ground.row.branch]
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a better plan\n"}, "e2")
    with pytest.raises(GitError, match="which is not ours: somebody pushed to it"):
        ground.do("publish", Posted(pull=done.pull), tip)
    note = ground.do("withdraw", Posted(pull=done.pull)).note
    assert note == f"{ground.row.branch} stays: {head[:12]} on it is not ours"
    assert ground.heads()[ground.row.branch] == head
    assert ground.repository.issues[done.pull].state == "closed"


def test_a_marker_counts_only_from_us(ground: Ground) -> None:
    ground.server.state.comment(ground.issue, "<!-- valuetrain:status:s1-abcde -->\nmine", "dana")
    done = ground.do("announce")
    assert ground.bodies()[0].endswith("mine")
    assert done.comment == ground.issue.comments[1].id
    assert ground.do("announce", Posted(comment=ground.issue.comments[0].id)).comment == done.comment
    assert ground.bodies()[0].endswith("mine")


def test_the_status_comment_is_edited_in_place(ground: Ground) -> None:
    done = ground.do("announce")
    ground.row.status, ground.row.reason = "blocked", "the token `x` @dana closes #1\n/approve"
    assert ground.do("announce", Posted(comment=done.comment)).comment == done.comment
    ground.do("announce")
    (body,) = ground.bodies()
    assert "`the token 'x' @dana closes #1 /approve`" in body
    ground.issue.comments.clear()
    ground.do("announce", Posted(comment=done.comment))
    assert len(ground.bodies()) == 1, "somebody deleted it: it is written anew"


def test_ready_ends_the_draft(ground: Ground) -> None:
    done = published(ground)
    pull = ground.repository.issues[done.pull]
    for _ in range(2):
        assert ground.do("ready", Posted(pull=done.pull)).pull == done.pull
    assert pull.pull is not None
    assert not pull.pull.draft
    ground.server.state.close(pull, "dana")
    with pytest.raises(Refused, match="is closed: reopen it"):
        ground.do("ready", Posted(pull=done.pull))


def test_a_pull_request_that_a_person_closed_is_their_no(ground: Ground) -> None:
    done = published(ground)
    ground.server.state.close(ground.repository.issues[done.pull], "dana")
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a better plan\n"}, "e2")
    with pytest.raises(Refused, match=f"somebody has closed pull request {done.pull} of octo/train"):
        ground.do("publish", Posted(pull=done.pull), tip)


def test_for_an_issue_that_a_person_closed_nothing_more_is_pushed(ground: Ground) -> None:
    done = published(ground)
    before = ground.heads()
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a better plan\n"}, "e2")
    ground.server.state.close(ground.issue, "alice")
    with pytest.raises(Refused, match="somebody has closed issue 1 of octo/train: reopen it, or abort the session"):
        ground.do("publish", Posted(pull=done.pull), tip)
    assert ground.heads() == before
    ground.issue.state = "open"
    assert ground.do("publish", Posted(pull=done.pull), tip).pull == done.pull
    assert ground.heads()[ground.row.branch] == tip


def test_finish_and_release_give_the_ticket_back(ground: Ground) -> None:
    ground.do("claim")
    for _ in range(2):
        ground.do("release")
        assert (ground.issue.labels, ground.issue.assignees) == (["Task", "auto"], [])
        assert list(ground.heads()) == ["main"]
    ground.do("claim")
    for _ in range(2):
        ground.do("finish")
        assert (ground.issue.labels, ground.issue.assignees) == (["Task", "auto", DONE], [])
        assert list(ground.heads()) == ["main"]
    assert ground.issue.state == "open", "merging closes it, nothing else"
    ground.do("claim")
    assert ground.issue.labels == ["Task", "auto", WORKING]


def test_withdraw_takes_everything_back_and_the_next_pull_request_is_another(ground: Ground) -> None:
    done = published(ground)
    for _ in range(2):
        assert ground.do("withdraw", Posted(round=0)).note == "", "found by its marker"
    assert ground.repository.issues[done.pull].state == "closed"
    assert ground.row.branch not in ground.heads()
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a better plan\n"}, "e2")
    assert ground.do("publish", Posted(round=1), tip).pull == done.pull + 1


def test_what_is_merged_stays(ground: Ground) -> None:
    done = published(ground)
    ground.do("ready", Posted(pull=done.pull))
    dana = ground.connect("dana")
    dana.send("PUT", f"pulls/{done.pull}/merge", {})
    assert ground.issue.state == "closed"
    assert ground.do("withdraw", Posted(pull=done.pull)).note == f"pull request {done.pull} is merged and stays so"


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".valuetrain/policy.yaml", "docs/AGENTS.md"])
def test_what_decides_how_the_repository_is_run_is_not_pushed(ground: Ground, path: str) -> None:
    """Also when a later commit takes it out again: the branch's history would hold it."""
    ground.do("claim")
    ground.commit({path: b"x"}, "e1")
    tip = ground.worktree.restore(ground.row.base_commit, "back", ground.row.started, {"Value-Train-Effect": "e2"})  # type: ignore[arg-type]
    with pytest.raises(GitError, match="is protected: it decides how the repository itself is run"):
        ground.do("publish", target=tip)
    assert ground.row.branch not in ground.heads()


def test_a_large_file_is_not_pushed(ground: Ground) -> None:
    ground.do("claim")
    ground.commit({"tickets/delivery_1/model.bin": bytes(1_000_001)}, "e1")
    tip = ground.worktree.restore(ground.row.base_commit, "back", ground.row.started, {"Value-Train-Effect": "e2"})  # type: ignore[arg-type]
    with pytest.raises(GitError, match=r"model.bin' on the branch has 1,000,001 bytes, more than 1,000,000; keep it"):
        ground.do("publish", target=tip)
    assert ground.row.branch not in ground.heads()


def test_a_token_that_may_not_write_is_told_so(ground: Ground) -> None:
    ground.repository.roles[BOT] = "read"
    with pytest.raises(GitError, match="the token needs to read and write contents of this repository"):
        ground.do("claim")
    with pytest.raises(NotAllowed):
        ground.effects.github("octo/train").send("POST", "issues/1/labels", {"labels": ["x"]})
