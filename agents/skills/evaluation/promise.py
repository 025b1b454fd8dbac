"""Promised against delivered: each metric, the KPI and its value, the groups of people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.data.personal import scan
from agents.skills.evaluation.bootstrap import Interval, intervals, resample, resample_count
from agents.skills.evaluation.scores import ClassOutcome, Outcome, losses, statistics
from agents.skills.evaluation.slices import SliceReport, measure_slices
from agents.skills.shapes import ScopeSpec
from schemas.ticket import LOWER_IS_BETTER

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.scores import Integers


@dataclass(frozen=True)
class Promise:
    """One metric: what `metrics.json` promised, and what was delivered, each with its 95 % interval.

    `kept`: the delivered value is not worse than the bad end of the promised interval.
    """

    metric: str
    promised: Mapping[str, float]
    delivered: Interval

    @property
    def difference(self) -> float:
        """Delivered less promised; positive is better whatever the metric."""
        sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        return sign * (self.delivered.value - self.promised["value"]) + 0.0  # no minus before a zero

    @property
    def kept(self) -> bool:
        """See the class."""
        if self.metric in LOWER_IS_BETTER:
            return self.delivered.value <= self.promised["upper"] + 1e-9
        return self.delivered.value >= self.promised["lower"] - 1e-9

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metric": self.metric,
            "promised": dict(self.promised),
            "delivered": self.delivered.as_dict(),
            "difference": self.difference,
            "kept": self.kept,
        }


def compare(
    promised: Mapping[str, Mapping[str, float]], outcome: Outcome, groups: Integers, seed: int, seconds: float
) -> list[Promise]:
    """Every promised metric beside the delivered one, which gets an interval of its own from whole `groups` (rows,)."""
    parts = dict(statistics(outcome))
    drawn = resample(parts, len(outcome.truth), resample_count(len(outcome.truth)), seed, seconds, groups)
    delivered = intervals(outcome, drawn, groups)
    return [Promise(name, promised[name], delivered[name]) for name in delivered if name in promised]


def kpi(outcome: Outcome, floor: Outcome, brief: Mapping[str, Any] | None) -> dict[str, Any]:
    """Errors per case before and now, and the money that follows where the ticket gave the numbers.

    `before` is what the ticket says of today; without it the loss of one constant answer on the same rows.
    """
    value = (brief or {}).get("value") or {}
    said = value.get("errors_today")
    stated = said is not None and bool(value.get("errors_today_stated"))
    before = float(losses(floor).mean()) if said is None or not stated else float(said)
    now = float(losses(outcome).mean())
    unit = "share of wrong answers" if isinstance(outcome, ClassOutcome) else "mean absolute error"
    cases, cost = value.get("cases_per_year"), value.get("cost_of_an_error")
    avoided = before - now
    return {
        "unit": unit,
        "before": before,
        "before_from": "the ticket, not verified" if stated else "one constant answer on the same rows: nobody said",
        "now": now,
        "avoided_per_case": avoided,
        "cases_per_year": cases,
        "cost_of_an_error": cost,
        "usd_per_year": None if cases is None or cost is None else avoided * cases * cost,
        "promised_usd_per_year": [value.get("usd_low"), value.get("usd_high")],
    }


def people_columns(features: pd.DataFrame) -> list[str]:
    """The columns that tell of people without naming one: age, sex, origin, belief, income and the like."""
    return [name for name, found in scan(features).items() if not any(each.direct for each in found)]


def compare_groups(
    outcome: Outcome, floor: Outcome, features: pd.DataFrame, groups: Integers, scope: ScopeSpec, seed: int
) -> tuple[list[str], SliceReport | None]:
    """The columns that tell of people, and the slices by them; None when there is no such column."""
    columns = people_columns(features)
    if not columns:
        return [], None
    return columns, measure_slices(outcome, floor, features[columns], scope.metric, seed, groups=groups)
