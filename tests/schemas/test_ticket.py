"""Tickets: what an author may write, and what is answered with the field and the reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.ticket import CLASSIFICATION_METRICS, LOWER_IS_BETTER, REGRESSION_METRICS, Budget, Ticket
from schemas.values import RiskLevel, Task


def ticket(**fields: Any) -> Ticket:
    return Ticket.model_validate({"id": 12, "title": "Flag malignant tumours"} | fields)


def test_a_ticket_needs_an_id_and_a_title() -> None:
    made = ticket()
    assert (made.pipeline, made.risk, made.state, made.locked) == ("ml-delivery", RiskLevel.LOW, "open", False)
    assert made.budget == Budget(usd=5.0, minutes=10.0)


def test_a_ticket_without_its_own_search_is_written_as_before() -> None:
    assert ticket().model_dump(mode="json")["budget"] == {"usd": 5.0, "minutes": 10.0}
    searched = ticket(budget={"search_seconds": 30})
    assert Ticket.model_validate_json(searched.model_dump_json()) == searched
    assert searched.budget.search_seconds == 30


def test_all_fields() -> None:
    made = ticket(
        labels=["Task", "auto"], data="data/cells.csv", target="malignant", task="classification", metric="roc_auc",
        acceptance=["metrics.recall >= 0.9"], risk="high", blocked_by=[11], budget={"usd": 1, "minutes": 2},
        requester="alice", created="2026-11-01T09:00:00Z", body="Why.",
    )  # fmt: skip
    assert (made.task, made.risk, made.blocked_by) == (Task.CLASSIFICATION, RiskLevel.HIGH, (11,))
    assert made.created == datetime(2026, 11, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id": 0}, "id\n  Input should be greater than or equal to 1"),
        ({"id": 2**53}, "id\n  Input should be less than"),
        ({"id": None}, "id\n"),
        ({"title": ""}, "title\n  String should have at least 1 character"),
        ({"title": "x" * 301}, "title\n  String should have at most 300 characters"),
        ({"pipeline": "../etc"}, "pipeline\n  String should match pattern"),
        ({"metric": "goodness"}, "unknown metric 'goodness'; one of roc_auc, average_precision"),
        ({"metric": "mae", "task": "classification"}, "metric 'mae' is not for classification; one of roc_auc"),
        ({"metric": "recall", "task": "regression"}, "metric 'recall' is not for regression; one of mae, rmse, r2"),
        ({"task": "clustering"}, "task\n  Input should be 'classification' or 'regression'"),
        ({"risk": "none"}, "risk\n  Input should be 'low', 'medium' or 'high'"),
        ({"blocked_by": [11, 12]}, "ticket 12 is blocked by itself"),
        ({"created": "2026-11-01T09:00:00"}, "needs a time zone, for example 2026-11-01T09:00:00Z"),
        ({"created": "lately"}, "created\n  Input should be a valid datetime"),
        ({"state": "merged"}, "state\n  Input should be 'open' or 'closed'"),
        ({"budget": {"usd": 0}}, "budget.usd\n  Input should be greater than 0"),
        ({"budget": {"minutes": -1}}, "budget.minutes\n  Input should be greater than 0"),
        ({"budget": {"minutes": 1e300}}, "budget.minutes\n  Input should be less than or equal to 1000000"),
        ({"budget": {"search_seconds": 0}}, "budget.search_seconds\n  Input should be greater than 0"),
        (
            {"budget": {"minutes": 2, "search_seconds": 31}},
            "a quarter of the 2 minutes: allow at least 2.06667",
        ),
        ({"budget": {"usd": float("inf")}}, "budget.usd\n  Input should be"),
        ({"prioritty": "high"}, "prioritty\n  Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ticket(**fields)
    assert said in str(caught.value)


@pytest.mark.parametrize("task", Task)
def test_every_metric_is_known_and_fits_one_task(task: Task) -> None:
    mine = CLASSIFICATION_METRICS if task is Task.CLASSIFICATION else REGRESSION_METRICS
    for metric in mine:
        assert ticket(metric=metric, task=task).metric == metric
        assert ticket(metric=metric).task is None
    assert set(REGRESSION_METRICS) >= LOWER_IS_BETTER


@pytest.mark.parametrize(
    ("data", "scheme"),
    [
        (None, "file"), ("data/cells.csv", "file"), ("./a:b.csv", "file"), ("sklearn:breast_cancer", "sklearn"),
        ("statsmodels:randhie", "statsmodels"), ("sql:warehouse", "sql"), ("synthetic:", "file"), (":x", "file"),
    ],
)  # fmt: skip
def test_where_data_comes_from(data: str | None, scheme: str) -> None:
    assert ticket(data=data).data_scheme == scheme


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Flag malignant tumours", "flag-malignant-tumours"),
        ("  --Über: 100 % ?! ", "ber-100"),
        ("漢字", "ticket"),
        ("a" * 39 + " b", "a" * 39),
        ("../../etc/passwd", "etc-passwd"),
    ],
)
def test_a_title_becomes_a_file_name(title: str, slug: str) -> None:
    assert ticket(title=title).slug == slug
    assert len(slug) <= 40
