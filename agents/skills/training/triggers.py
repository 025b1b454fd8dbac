"""The rules of a retraining, each with its figures and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import ceil, sqrt
from typing import Any

from agents.skills.data.drift import DISTANCE_LIMIT, PSI_LIMIT
from agents.skills.shapes import ScopeSpec, SplitSpec
from schemas.ticket import Ticket

NO_TIME_DAYS = 90
"""Days between retrainings when no time column says how fast the rows age."""
LONGEST_DAYS, SHORTEST_DAYS = 365, 7
_D_1_PERCENT = 1.63
_BINS = 10
NARROWER = 0.9
"""New rows are enough when they would narrow an interval to nine tenths: its width goes with the root of the rows."""


@dataclass(frozen=True)
class Figures:
    """What the rules are derived from. `span_days` is from the oldest to the newest row, None without a time column."""

    ticket: Ticket
    scope: ScopeSpec
    split: SplitSpec
    metrics: Mapping[str, Any]
    costs: Mapping[str, Any]
    span_days: float | None
    newest: str | None
    watched: tuple[str, ...]
    seconds: float
    usd: float
    days_to_limit: float | None = None
    """Days until the metric may reach its limit at the earliest, where a decay over time was measured."""


def rules(figures: Figures) -> list[dict[str, Any]]:
    """The triggers: each starts a retraining when it holds, whatever the others say, within the limits."""
    return [_schedule(figures), _performance(figures), _drift(figures), _new_rows(figures), _cost(figures)]


def days_between(figures: Figures) -> tuple[int, str]:
    """Days between scheduled retrainings, and the derivation."""
    days, why = _by_span(figures)
    if figures.days_to_limit is not None and figures.days_to_limit < days:
        earliest = max(SHORTEST_DAYS, int(figures.days_to_limit))
        return earliest, (
            f"the measured decay may reach the limit in {figures.days_to_limit:.0f} days (lower end of 95 %), at least "
            f"{SHORTEST_DAYS}; else {days}: {why}"
        )
    return days, why


def _by_span(figures: Figures) -> tuple[int, str]:
    if figures.span_days is None:
        return NO_TIME_DAYS, "no time column is named: a quarter of a year, to be corrected by whoever knows the field"
    days = int(min(LONGEST_DAYS, max(SHORTEST_DAYS, figures.span_days / 10)))
    return (
        days,
        f"a tenth of the {figures.span_days:.0f} days the rows span, between {SHORTEST_DAYS} and {LONGEST_DAYS}",
    )


def _schedule(figures: Figures) -> dict[str, Any]:
    days, why = days_between(figures)
    return {
        "id": "schedule",
        "when": f"{days} days have passed since the last training",
        "days": days,
        "from": why,
    }


def _performance(figures: Figures) -> dict[str, Any]:
    metric = figures.scope.metric
    promised = figures.metrics["metrics"][metric]
    better = figures.scope.higher_is_better
    limit = promised["lower" if better else "upper"]
    return {
        "id": "performance",
        "when": f"{metric} over the window is {'below' if better else 'above'} the limit",
        "metric": metric,
        "limit": round(float(limit), 6),
        "window_rows": figures.split.holdout_rows,
        "from": f"the bad end of the promised 95 % interval ({promised['value']:.6g} on {figures.split.holdout_rows} "
        "hold-out rows); a window of as many outcomes has the same spread",
    }


def _drift(figures: Figures) -> dict[str, Any]:
    """Limits that chance does not reach: 3 times the expected index of equal distributions, the 1 % point of D."""
    few = 1 / figures.split.train_rows + 1 / max(1, figures.split.holdout_rows)
    psi, distance = max(PSI_LIMIT, 3 * (_BINS - 1) * few), max(DISTANCE_LIMIT, _D_1_PERCENT * sqrt(few))
    return {
        "id": "drift",
        "when": "an important column is beyond its limit in two windows in a row",
        "columns": list(figures.watched),
        "psi_limit": round(psi, 4),
        "distance_limit": round(distance, 4),
        "window_rows": figures.split.holdout_rows,
        "from": f"customary 0.2, or what chance gives {figures.split.train_rows:,} training rows and a window of "
        f"{figures.split.holdout_rows:,}",
    }


def _new_rows(figures: Figures) -> dict[str, Any]:
    rows = ceil((1 / NARROWER**2 - 1) * figures.split.train_rows)
    return {
        "id": "new-data",
        "when": "so many new rows with a known outcome are there",
        "rows": rows,
        "from": f"they narrow an interval to {NARROWER:.0%}: (1 / {NARROWER}^2 - 1) x {figures.split.train_rows:,} "
        "training rows",
    }


def _cost(figures: Figures) -> dict[str, Any]:
    prediction = figures.costs["prediction"]
    return {
        "id": "cost",
        "when": "1,000 predictions cost more than the limit",
        "usd_per_1000_limit": float(f"{3 * prediction['usd_per_1000']:.3g}"),
        "from": f"three times the measured {prediction['usd_per_1000']:.3g} USD; the retraining then looks for a "
        "cheaper model",
    }


def data_window(figures: Figures) -> dict[str, Any]:
    """Which rows a retraining takes."""
    if figures.split.strategy == "time" and figures.span_days is not None:
        return {
            "rows": "the newest",
            "days": ceil(figures.span_days),
            "newest_so_far": figures.newest,
            "holdout": f"the newest {_share(figures.split):.0%} of the window",
            "from": "as long a window as this model was trained and measured on, moved to today",
        }
    kept = f"; rows of one {figures.split.group_by} stay together" if figures.split.group_by else ""
    return {
        "rows": "all, old and new",
        "days": None,
        "newest_so_far": figures.newest,
        "holdout": f"{_share(figures.split):.0%}, drawn anew ({figures.split.strategy}){kept}",
        "from": "nothing shows that old rows mislead; more rows narrow the intervals",
    }


def _share(split: SplitSpec) -> float:
    return split.holdout_rows / (split.holdout_rows + split.train_rows)


def promotion(scope: ScopeSpec) -> dict[str, Any]:
    """When the new model takes the old one's place: all of these hold on rows that neither was trained on."""
    wanted = (*scope.acceptance, f"metrics.{scope.metric}_gain_lower > 0.0", "champion.gain_lower > 0.0")
    return {
        "criteria": list(dict.fromkeys(wanted)),
        "otherwise": "the model in use stays",
        "from": "the scope's acceptance, and paired gains over the baseline and the model in use surely above zero",
    }


def limits(figures: Figures) -> dict[str, Any]:
    """How often, how long and for how much: whatever the triggers say."""
    days, _ = days_between(figures)
    each_minutes = min(figures.scope.budget_minutes, max(1.0, round(3 * figures.seconds / 60, 1)))
    each_usd = min(figures.scope.budget_usd, max(0.01, float(f"{3 * figures.usd:.2g}")))
    most = max(1, round(30 / days) + 1)
    return {
        "minutes_each": each_minutes,
        "usd_each": each_usd,
        "days_between_at_least": max(1, min(days, 30) // 4),
        "per_30_days": most,
        "usd_per_30_days": round(each_usd * most, 4),
        "failures_in_a_row": 2,
        "from": f"three times what this session used ({figures.seconds:.0f} s, {figures.usd:.4g} USD), never more than "
        "the ticket's budget",
    }


def days_of(first: str | None, last: str | None) -> float | None:
    """Days between two ISO dates; None if either is missing."""
    if not first or not last:
        return None
    return float((date.fromisoformat(last[:10]) - date.fromisoformat(first[:10])).days)
