"""What the session used against its plan, and what a prediction costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.skills.lead.effort import usd_per_cpu_hour


def cost_report(
    usage: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
    budget_usd: float,
    budget_minutes: float,
    one_ms: tuple[float, str],
    cases_per_year: float | None,
) -> dict[str, Any]:
    """The content of `cost-report.json`.

    `usage` is the session's so far (seconds, dollars), `one_ms` the measured time of one prediction on one core and how
    it was measured; a price of cores and hours makes dollars of both.
    """
    milliseconds, measured_how = one_ms
    price, price_from = usd_per_cpu_hour(dict(usage))
    cpu, wall = float(usage.get("cpu_seconds") or 0.0), float(usage.get("wall_seconds") or 0.0)
    usd = float(usage.get("usd") or 0.0) or cpu / 3600 * price
    compute = (plan or {}).get("compute") or {}
    # 1,000 predictions take as many seconds as one takes milliseconds
    per_1000 = milliseconds / 3600 * price
    planned_seconds, planned_usd = compute.get("expected_seconds"), compute.get("expected_usd")
    return {
        "usd_per_cpu_hour": price,
        "price_from": price_from,
        "used": {"cpu_seconds": round(cpu, 3), "wall_seconds": round(wall, 3), "usd": round(usd, 6)},
        "planned": {"wall_seconds": planned_seconds, "usd": planned_usd},
        "budget": {"usd": budget_usd, "minutes": budget_minutes},
        "share_of_budget": {"usd": round(usd / budget_usd, 6), "minutes": round(wall / 60 / budget_minutes, 6)},
        "seconds_over_plan": None if planned_seconds is None else round(wall - float(planned_seconds), 3),
        "prediction": {
            "milliseconds": round(milliseconds, 3),
            "measured": measured_how,
            "usd_per_1000": per_1000,
            "formula": "milliseconds of one prediction on one core / 3,600 s x price of a core's hour",
            "usd_per_year": None if cases_per_year is None else per_1000 * cases_per_year / 1000,
        },
        "not_counted": ["people's time", "servers that wait for requests", "storage and transfer"],
    }
