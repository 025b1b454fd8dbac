"""The shipped tickets are what they say: readable, eligible, and of the four kinds the demo shows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from autopilot.select import select
from autopilot.sources.folder import FolderBacklog
from schemas.policy import Policy

BACKLOG = Path(__file__).parents[2] / "examples" / "backlog"


def test_all_four_are_readable_and_would_be_taken() -> None:
    snapshot = FolderBacklog(BACKLOG).read()
    assert snapshot.unreadable == {}
    selection = select(snapshot, Policy(), {}, datetime(2026, 11, 21, tzinfo=UTC))
    assert selection.order == (1, 2, 3, 4)
    assert [(t.data, t.target, t.risk.value) for t in snapshot.tickets.values()] == [
        ("sklearn:breast_cancer", "malignant", "low"),
        ("sklearn:diabetes", "progression", "low"),
        ("statsmodels:randhie", "frequent_visitor", "medium"),
        ("synthetic:refills", "late_by_more_than_7_days", "low"),
    ]
    assert snapshot.tickets[4].acceptance == ("metrics.roc_auc >= 0.85",)
    assert "synthetic" in snapshot.tickets[4].body


def test_every_one_says_why_and_for_whom() -> None:
    for ticket in FolderBacklog(BACKLOG).read().tickets.values():
        assert len(ticket.body.split()) > 60
        assert ticket.requester
        assert ticket.created is not None
        assert ticket.acceptance
