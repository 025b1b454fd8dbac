"""Two Auto-Pilots with homes of their own on one backlog: a ticket is taken once, whoever is faster."""

from __future__ import annotations

import threading
from pathlib import Path

from schemas.session import EffectRequested
from schemas.values import Posted
from tests.effects.conftest import Ground, clone, row_of
from workspace.git import claim_branch

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
