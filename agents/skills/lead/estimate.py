"""Skill `lead.estimate`: what a ticket like this has cost before, and whether its budget fits that."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.lead.history import FEW, capacity, estimate, read_history
from schemas.values import Measurement, Mode, Role, TickedItem

UNITS = {"usd": "USD", "minutes": "minutes of skills", "days": "days from start to end"}


class LeadEstimate(Skill[Parameters, SkillOutput]):
    """Estimate cost, time and lead time of the ticket from past sessions of its pipeline, beside its budget."""

    name = "lead.estimate"
    role = Role.LEAD
    modes = frozenset({Mode.INTAKE, Mode.DISCOVER, Mode.SCOPE})
    produces = ("estimate.json", "estimate.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the estimate. `estimate.usd`, `.minutes`, `.days` (what eight in ten stay below) are measured only from
        at least five completed sessions; `estimate.sessions` always. Raises InputError for a history that is none."""
        history, digest = read_history(context)
        now = datetime.fromisoformat(context.now)
        past = [each for each in history.sessions if each.session != context.session] if history else []
        found = estimate(past, context.ticket.pipeline)
        room = capacity(past, now, sum(each.ending in ("open", "blocked") for each in past) + 1)
        figures = found["figures"] if found["enough"] else {}
        budget = {"usd": context.ticket.budget.usd, "minutes": context.ticket.budget.minutes}
        tight = [name for name, most in budget.items() if name in figures and figures[name]["most"] > most]
        report = found | {
            "budget": budget, "budget_too_small_for": tight, "capacity": room,
            "history": {"sha256": digest, "made": history.made.isoformat() if history else None, "sessions": len(past)},
        }  # fmt: skip
        context.write_json("estimate.json", report)
        context.write_text("estimate.md", _document(context, report))
        warnings = [
            f"the budget of {budget[name]:g} {UNITS[name]} is below what eight in ten such tickets needed "
            f"({figures[name]['most']:.3g})"
            for name in tight
        ]
        if history is None:
            warnings.append("no history was at hand: this agent runs where the record's history.json is not")
        measured = [Measurement(scope="estimate", name="sessions", value=float(found["completed"]))]
        if figures:
            measured += [
                Measurement(scope="estimate", name="usd", value=figures["usd"]["most"]),
                Measurement(scope="estimate", name="minutes", value=figures["minutes"]["most"]),
                Measurement(scope="estimate", name="days", value=figures["days"]["most"]),
            ]
        said = ", ".join(f"{figures[name]['most']:.3g} {unit}" for name, unit in UNITS.items() if name in figures)
        return SkillOutput(
            summary=f"from {found['completed']} completed sessions: "
            + (f"eight in ten stay below {said}" if said else f"too few for an estimate (at least {FEW})"),
            ticked=(
                TickedItem(item="estimated", evidence=f"estimate.json: {found['completed']} sessions, as they went"),
            ),
            measurements=tuple(measured),
            warnings=tuple(warnings),
        )


def _document(context: SkillContext, report: dict[str, Any]) -> str:
    rows = [
        (UNITS[name], *(f"{each[key]:.3g}" for key in ("least", "half", "most", "largest")),
         "–" if each["held"] is None else f"{each['held']:.0%}")
        for name, each in report["figures"].items()
    ]  # fmt: skip
    room = report["capacity"]
    lines = [
        f"# Estimate: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket),
        f"From {report['completed']} completed sessions of `{cell(report['pipeline'])}`"
        + ("." if report["enough"] else f": **too few for an estimate** (at least {FEW}); what there is, as it was:"),
        "", *(table(("what", "least", "half below", "8 in 10 below", "most", "held"), rows) if rows else ["None."]),
        "", "`held` is how often the eight-in-ten mark kept when each session was estimated from those before it.", "",
        f"- Not completed: {report['not_completed']} of {report['sessions']}",
        f"- Decisions by people for each: {figure(report['decisions'])}; failed attempts: {figure(report['retries'])}",
        f"- Days of waiting for people for each: {figure(report['waited_days'])}",
        f"- Budget of this ticket: {report['budget']['usd']:g} USD, {report['budget']['minutes']:g} minutes"
        + (f" — **too small for {', '.join(report['budget_too_small_for'])}**"
           if report["budget_too_small_for"] else ""),
        "", "## Capacity", "",
        f"{room['a_week']:.2g} sessions were completed a week over the last {len(room['weeks'])} weeks, "
        f"{room['open']} are open. " + (
            "Nothing was completed in them, so no forecast is made." if room["most"] is None else
            f"With this one, those would be done within {room['half']} weeks in half of the cases, within "
            f"{room['most']} in nine of ten."),
    ]  # fmt: skip
    return "\n".join(lines)
