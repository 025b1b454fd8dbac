"""Reports over the record: costs by whom, what was paid for and what it brings, estimates, and models' lives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from agents.skills.lead.history import capacity, estimate
from agents.skills.lead.people import people
from cli.errors import CliError, Exit
from schemas.history import PastSession, Spent

Key = Callable[[PastSession, Spent], str]
BY: dict[str, Key] = {
    "ticket": lambda past, spent: f"{past.ticket} {past.title}",
    "requester": lambda past, spent: past.requester or "nobody named",
    "month": lambda past, spent: f"{spent.time:%Y-%m}",
    "pipeline": lambda past, spent: past.pipeline,
    "phase": lambda past, spent: spent.phase,
    "agent": lambda past, spent: spent.agent,
    "session": lambda past, spent: past.session,
}
"""What costs can be divided by."""


def costs(sessions: Sequence[PastSession], by: str, month: str | None = None) -> list[dict[str, Any]]:
    """What was used, divided by `by`, dearest first; of `month` (`2026-11`, in UTC) only, if it is given. Every report
    of an attempt counts once, in the month it was made. Raises CliError for an unknown division or month."""
    if by not in BY:
        raise CliError(f"costs cannot be divided by {by!r}; use one of {', '.join(BY)}", Exit.USAGE)
    if month is not None:
        _check_month(month)
    sums: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"usd": 0.0, "wall_seconds": 0.0, "cpu_seconds": 0.0, "tokens": 0, "sessions": set()}
    )
    for past in sessions:
        for spent in past.spent:
            if month is not None and f"{spent.time:%Y-%m}" != month:
                continue
            row = sums[BY[by](past, spent)]
            row["usd"] += spent.usd
            row["wall_seconds"] += spent.wall_seconds
            row["cpu_seconds"] += spent.cpu_seconds
            row["tokens"] += spent.tokens
            row["sessions"].add(past.session)
    rows = [
        {by: key, **row, "sessions": len(row["sessions"]), "usd": round(row["usd"], 6),
         "wall_seconds": round(row["wall_seconds"], 3), "cpu_seconds": round(row["cpu_seconds"], 3)}
        for key, row in sums.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row["usd"], -row["cpu_seconds"], str(row[by])))


def _check_month(month: str) -> None:
    try:
        datetime.strptime(month, "%Y-%m")  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise CliError(f"{month!r} is no month; write it like 2026-11", Exit.USAGE) from None


def portfolio(sessions: Sequence[PastSession]) -> dict[str, Any]:
    """Each ticket with what it cost and what it was said to bring a year; the sum of those. The value is what the
    ticket states (`opportunity.usd_per_year`), not verified; `kept` is whether the delivered model kept its promise."""
    rows: dict[int, dict[str, Any]] = {}
    for past in sessions:
        row = rows.setdefault(
            past.ticket,
            {"ticket": past.ticket, "title": past.title, "requester": past.requester, "sessions": 0, "completed": False,
             "usd": 0.0, "usd_per_year": None, "kept": None, "decisions": 0},
        )  # fmt: skip
        row["sessions"] += 1
        row["title"], row["requester"] = past.title, past.requester
        row["completed"] = row["completed"] or past.ending == "completed"
        row["usd"] += past.usd
        row["decisions"] += past.decisions
        row["usd_per_year"] = past.measured.get("opportunity.usd_per_year", row["usd_per_year"])
        if "impact.kept" in past.measured:
            row["kept"] = past.measured["impact.kept"] == 1.0
    listed = sorted(rows.values(), key=lambda row: row["ticket"])
    for row in listed:
        value = row["usd_per_year"]
        row["usd"] = round(row["usd"], 6)
        row["return"] = None if value is None or not row["usd"] else round((value - row["usd"]) / row["usd"], 3)
    stated = [row for row in listed if row["usd_per_year"] is not None]
    delivered = [row for row in stated if row["completed"] and row["kept"] is not False]
    return {
        "tickets": listed,
        "usd": round(sum(row["usd"] for row in listed), 6),
        "stated_usd_per_year": sum(row["usd_per_year"] for row in stated),
        "delivered_usd_per_year": sum(row["usd_per_year"] for row in delivered),
        "without_a_value": len(listed) - len(stated),
    }


def estimates(
    sessions: Sequence[PastSession], now: datetime, tickets: int, pipeline: str | None,
    minutes_per_decision: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Estimates for each pipeline (or one), how many weeks `tickets` would take, and what they ask of people. Raises
    CliError for a pipeline that no session went through."""
    names = sorted({each.pipeline for each in sessions})
    if pipeline is not None and pipeline not in names:
        raise CliError(f"no session went through pipeline {pipeline!r}; there are {', '.join(names) or 'none yet'}")
    wanted = [pipeline] if pipeline else names
    return {
        "pipelines": [estimate(sessions, name) for name in wanted],
        "capacity": capacity([each for each in sessions if each.pipeline in wanted], now, tickets),
        "people": people([each for each in sessions if each.pipeline in wanted], tickets, minutes_per_decision),
    }


_CARD = ("metrics.", "champion.gain", "impact.kept", "impact.skew", "drift.score", "drift.breaks", "risk.tier",
         "compliance.ml_test_score", "fairness.clear_differences", "robustness.worst_loss", "release.")  # fmt: skip


def scorecards(sessions: Sequence[PastSession]) -> list[dict[str, Any]]:
    """The life of each model: its sessions in order (tickets of one title, of pipelines that measure a model), what
    each measured, and how the optimised figures moved from one to the next."""
    lives: dict[str, list[PastSession]] = defaultdict(list)
    for past in sessions:
        if any(name.startswith(("metrics.", "release.", "impact.")) for name in past.measured):
            lives[past.title].append(past)
    found = []
    for title, life in sorted(lives.items()):
        rows = [
            {
                "session": past.session, "ticket": past.ticket, "pipeline": past.pipeline, "ending": past.ending,
                "started": past.started.isoformat(), "usd": round(past.usd, 6),
                "figures": {n: v for n, v in sorted(past.measured.items()) if n.startswith(_CARD)},
            }
            for past in life
        ]  # fmt: skip
        found.append(
            {
                "model": title, "sessions": rows, "completed": sum(past.ending == "completed" for past in life),
                "moved": _moved(rows), "missing": _missing(life),
            }
        )  # fmt: skip
    return found


def _moved(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The last value of each main figure less the first, where two sessions measured it."""
    moved = {}
    names = {name for row in rows for name in row["figures"] if name.startswith("metrics.")}
    for name in sorted(names):
        if name.endswith(("_lower", "_upper", "_se", "_gain", ".rows")):
            continue
        values = [row["figures"][name] for row in rows if name in row["figures"]]
        if len(values) > 1:
            moved[name] = values[-1] - values[0]
    return moved


def _missing(life: Sequence[PastSession]) -> list[str]:
    """What of a model's life nobody measured yet."""
    known = {name for past in life for name in past.measured}
    stages = {
        "measured on hold-out rows": "metrics.rows", "robustness": "robustness.worst_loss",
        "groups of people": "fairness.columns", "compliance": "compliance.ml_test_score",
        "watched in service": "monitoring.requests", "promise against outcome": "impact.kept",
        "drift against newer rows": "drift.score", "released": "release.production_breach",
    }  # fmt: skip
    return [stage for stage, name in stages.items() if name not in known]
