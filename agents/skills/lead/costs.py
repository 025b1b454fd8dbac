"""The plan of costs: the known money, divided by the mix of the engagement's stage and over the phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.skill import InputError
from agents.skills.lead.effort import FORMULA, expected_seconds, usd_per_cpu_hour
from agents.skills.lead.phases import AHEAD
from agents.skills.lead.statement import FROM_TICKET, Statement
from agents.skills.shapes import ScopeSpec

MIX: Mapping[str, tuple[float, float, float]] = {
    "pilot": (0.80, 0.15, 0.05),
    "repeatable": (0.65, 0.25, 0.10),
    "automated": (0.55, 0.30, 0.15),
    "scale": (0.45, 0.35, 0.20),
}
"""Shares of labour, cloud and tooling by stage."""
KINDS = ("labour", "cloud", "tooling")


def cost_plan(
    scope: ScopeSpec, statement: Statement, counts: Mapping[str, Any], usage: dict[str, float]
) -> dict[str, Any]:
    """The content of `cost-plan.json`.

    The whole is the money the ticket states; without it, the compute budget is taken for the cloud's share and the
    whole follows from the mix (`whole_from` says which). Raises InputError for a stage that is none.
    """
    stage = statement.text("stage").lower().rstrip(".") or "pilot"
    if stage not in MIX:
        raise InputError(f"the ticket's text says the stage is {stage[:40]!r}", f"write one of {', '.join(MIX)}")
    shares = dict(zip(KINDS, MIX[stage], strict=True))
    stated = statement.number("money")
    whole = stated if stated is not None else scope.budget_usd / shares["cloud"]
    price, price_from = usd_per_cpu_hour(usage)
    seconds = expected_seconds(counts["rows"], counts["columns"])
    done = float(usage.get("wall_seconds") or 0.0)
    expected_usd = seconds / 3600 * price
    return {
        "stage": stage,
        "stage_from": FROM_TICKET if statement.text("stage") else "taken for a pilot: the ticket names no stage",
        "mix": shares,
        "usd": round(whole, 2),
        "usd_from": f"money, {FROM_TICKET}" if stated is not None else (
            f"compute budget of {scope.budget_usd:g} USD divided by the cloud's share of {shares['cloud']:.0%}: nobody "
            "stated the money for people"
        ),
        "usd_by_kind": {kind: round(whole * share, 2) for kind, share in shares.items()},
        "compute": {
            "budget_usd": scope.budget_usd,
            "budget_minutes": scope.budget_minutes,
            "usd_per_cpu_hour": price,
            "price_from": price_from,
            "expected_seconds": round(seconds, 1),
            "expected_usd": round(expected_usd, 6),
            "used_seconds_so_far": round(done, 1),
            "formula": FORMULA,
        },
        "phases": [
            {
                "phase": phase.name,
                "agent": phase.agent.value,
                "share": phase.weight,
                "expected_seconds": round(phase.weight * seconds, 1),
                "expected_usd": round(phase.weight * expected_usd, 6),
                "limit_usd": round(phase.weight * scope.budget_usd, 4),
                "planned_usd": round(phase.weight * whole, 2),
            }
            for phase in AHEAD
        ],
    }  # fmt: skip
