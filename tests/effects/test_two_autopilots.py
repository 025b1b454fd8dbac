"""Two Auto-Pilots with homes of their own on one backlog: a ticket is taken once, whoever is faster."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from schemas.session import EffectRequested
from schemas.values import Posted
from tests.effects.conftest import NAME, WHEN, Ground, clone, row_of
from workspace.git import Repository, claim_branch
from workspace.pushing import Remote, lone_commit

TICKETS = 4


def test_each_ticket_is_taken_once(ground: Ground, tmp_path: Path) -> None:
    """Both start from the same snapshot, in which nobody is assigned; the branch's creation decides."""
    for _ in range(TICKETS - 1):
        ground.server.state.issue(ground.repository, "Another ticket", labels=("Task", "auto"))
    base = ground.row.base_commit
    homes = [("train-bot", "aaaaa", ground.clone), ("other-bot", "bbbbb", clone(ground.repository, tmp_path / "other"))]
    together = threading.Barrier(len(homes))
    taken: dict[tuple[str, int], Posted] = {}

    def drive(login: str, token: str, where: Path) -> None:
        rows = [row_of(number, token, where, base) for number in range(1, TICKETS + 1)]
        effects = ground.effects_of(login, tuple(rows))
        for row in rows:
            together.wait()
            effect = EffectRequested(effect=f"{row.id}.claim.2", kind="claim", phase="plan-it", attempt=0)
            taken[login, row.ticket.id] = effects.carry_out(effect, row)
        effects.close()

    threads = [threading.Thread(target=drive, args=home) for home in homes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 2 * TICKETS
    for number in range(1, TICKETS + 1):
        winners = [login for login, ticket in taken if ticket == number and taken[login, ticket].claim]
        (winner,) = winners
        (loser,) = {"train-bot", "other-bot"} - {winner}
        assert taken[loser, number].taken_by
        assert ground.heads()[claim_branch(number)] == taken[winner, number].claim
        assert [a.login for a in ground.repository.issues[number].assignees] == [winner]


@pytest.mark.parametrize("past", [False, True])
def test_who_looked_before_the_other_created_does_not_push_over_it(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past: bool
) -> None:
    """The other's push lies between our look and ours: on a busy machine it may. With a claim of our own past there,
    too, which the other has given back meanwhile."""
    other = clone(ground.repository, tmp_path / "other")
    branch, url = claim_branch(1), f"{ground.server.url}/{NAME}.git"
    remotes = {
        ground.clone: Remote(url, lambda: "token-of-train-bot"),
        other: Remote(url, lambda: "token-of-other-bot"),
    }
    commits = {where: lone_commit(Repository(where), str(where), "mine", WHEN) for where in remotes}
    before = lone_commit(Repository(ground.clone), "past", "mine, of the past", WHEN) if past else ""
    if past:
        assert remotes[ground.clone].create(Repository(ground.clone), before, branch) == before
    looked = Remote.heads

    def heads(self: Remote, where: Repository, pattern: str) -> dict[str, str]:
        found = looked(self, where, pattern)
        monkeypatch.setattr(Remote, "heads", looked)
        assert remotes[other].create(Repository(other), commits[other], branch, before) == commits[other]
        return found

    monkeypatch.setattr(Remote, "heads", heads)
    holder = remotes[ground.clone].create(Repository(ground.clone), commits[ground.clone], branch, before)
    assert holder == commits[other]
    assert ground.heads()[branch] == commits[other]
