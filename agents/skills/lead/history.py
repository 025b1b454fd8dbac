"""What past sessions say about the next ones: cost, time, and how many get done. Needs no library and no model.

Estimates are quantiles of what happened; a forecast of a number of tickets draws whole weeks from the past (Monte Carlo
of throughput), so that idle and busy weeks weigh as they did. Nothing is fitted.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agents.skill import InputError, SkillContext
from schemas.history import History, PastSession

FEW = 5
"""Below so many finished sessions there are figures, but no estimate."""
WEEKS = 12
_DRAWS = 1000
_LONGEST = 520


def read_history(context: SkillContext) -> tuple[History | None, str]:
    """The history that the fact `history` points to, and its SHA-256; None where there is none, as on a machine apart
    from the record. Raises InputError when the file is no history."""
    path = Path(str(context.facts.get("history") or ""))
    if not path.is_file():
        return None, ""
    try:
        content = path.read_bytes()
        return History.model_validate_json(content), hashlib.sha256(content).hexdigest()
    except (OSError, ValidationError) as problem:
        reason = type(problem).__name__
        raise InputError(f"{path.name} cannot be read: {reason}", "delete it: it is made again") from problem


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def estimate(sessions: Sequence[PastSession], pipeline: str) -> dict[str, Any]:
    """Cost (USD), skill time (minutes) and lead time (days) of a session of `pipeline`.

    Half of the completed ones stay below `half`, eight in ten below `most`. `enough` says whether that may be called an
    estimate; `held` is how often the second kept, when each finished session was estimated from those before it.
    """
    alike = [each for each in sessions if each.pipeline == pipeline]
    done = sorted((each for each in alike if each.ending == "completed"), key=lambda each: each.updated)
    over = [each for each in alike if each.ending != "open"]
    figures = {
        "usd": [each.usd for each in done],
        "minutes": [each.minutes for each in done],
        "days": [each.days or 0.0 for each in done],
    }
    return {
        "pipeline": pipeline,
        "sessions": len(alike),
        "completed": len(done),
        "not_completed": len(over) - len(done),
        "enough": len(done) >= FEW,
        "figures": {
            name: {
                "half": quantile(values, 0.5), "most": quantile(values, 0.8),
                "least": min(values), "largest": max(values), "held": _held(values),
            }
            for name, values in figures.items()
            if values
        },
        "waited_days": sum(each.waited_seconds for each in done) / 86400.0 / len(done) if done else None,
        "decisions": sum(each.decisions for each in done) / len(done) if done else None,
        "retries": sum(each.failed for each in done) / len(done) if done else None,
    }  # fmt: skip


def _held(values: Sequence[float]) -> float | None:
    """Of the sessions with at least FEW before them: the share not above the 80 % mark of those."""
    kept = [value <= quantile(values[:number], 0.8) for number, value in enumerate(values) if number >= FEW]
    return sum(kept) / len(kept) if kept else None


def capacity(sessions: Sequence[PastSession], now: datetime, tickets: int, seed: int = 7) -> dict[str, Any]:
    """How many sessions were completed a week in the last WEEKS, and how many weeks `tickets` more would take: half of
    the draws stay below `half`, nine in ten below `most`; None where nothing was completed."""
    done = [each.ended for each in sessions if each.ending == "completed" and each.ended]
    first = min((each.started for each in sessions), default=now)
    known = max(1, min(WEEKS, ceil((now - first) / timedelta(weeks=1))))
    weeks = [0] * known
    for ended in done:
        back = int((now - ended) / timedelta(weeks=1))
        if 0 <= back < known:
            weeks[known - 1 - back] += 1
    running = sum(each.ending in ("open", "blocked") for each in sessions)
    found: dict[str, Any] = {"weeks": weeks, "a_week": sum(weeks) / known, "open": running, "tickets": tickets}
    found |= {"half": None, "most": None}
    if tickets and sum(weeks):
        draw = random.Random(seed)
        needed = sorted(_weeks_for(tickets, weeks, draw) for _ in range(_DRAWS))
        found |= {"half": quantile(needed, 0.5), "most": quantile(needed, 0.9)}
    return found


def _weeks_for(tickets: int, weeks: Sequence[int], draw: random.Random) -> int:
    left, passed = tickets, 0
    while left > 0 and passed < _LONGEST:
        left -= draw.choice(weeks)
        passed += 1
    return passed
