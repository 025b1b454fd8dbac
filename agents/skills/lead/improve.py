"""Skill `lead.improve`: what to do next, in the order of what it can bring, and whether to go on at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.lead.options import PEOPLE_DAYS, Option, draft, end_verdict, options
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

PROPOSED = 3
"""How many of the first options are written out as tickets."""


class LeadImprove(Skill[Parameters, SkillOutput]):
    """Rank what could be done next by the most it can bring, draft the first as tickets, and consider the end.

    Order: options whose gain is certain (its lower bound is above zero) before possible ones, larger gains first;
    what nothing measures comes last.
    """

    name = "lead.improve"
    role = Role.LEAD
    modes = frozenset({Mode.IMPROVE})
    needs = ("performance-analysis.json", "cost-report.json", "impact-report.json")
    optional = ("opportunity-brief.json",)
    produces = ("improvement-roadmap.json", "improvement-roadmap.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the roadmap."""
        ticket = context.ticket
        analysis, costs = context.read_json("performance-analysis.json"), context.read_json("cost-report.json")
        impact = context.read_json("impact-report.json")
        brief = context.read_json("opportunity-brief.json") if "opportunity-brief.json" in context.inputs else None
        listed = options(analysis, costs, impact, brief)
        stop, reasons = end_verdict(impact, brief)
        drafts = [draft(ticket, option, analysis["unit"]) for option in listed[:PROPOSED]]
        kpi = impact["kpi"]
        numbers = (kpi["cases_per_year"], kpi["cost_of_an_error"])
        worth = None if None in numbers else numbers[0] * numbers[1]
        roadmap = {
            "unit": analysis["unit"],
            "loss": analysis["loss"],
            "usd_per_year_and_unit": worth,
            "options": [each.as_dict(worth, float(costs["used"]["usd"])) for each in listed],
            "order": "certain gains first, then the larger gain; options that nothing measures last",
            "end": {"advice": "stop" if stop else "go on", "reasons": reasons},
            "tickets": drafts,
            "assumptions": {"people_days": PEOPLE_DAYS, "gain": "the most an option can bring, not what it will"},
        }
        context.write_json("improvement-roadmap.json", roadmap)
        context.write_text("improvement-roadmap.md", _document(ticket, listed, roadmap))
        return _output(listed, stop, reasons, len(drafts))


def _gain(option: Mapping[str, Any], loss: float) -> str:
    if option["gain"] is None:
        return "not measured"
    share = f" ({option['gain'] / loss:.0%} of all)" if loss else ""
    return f"{option['gain']:.4g}{share}{'' if option['certain'] else ', not certain'}"


def _document(ticket: Ticket, listed: Sequence[Option], roadmap: Mapping[str, Any]) -> str:
    end = roadmap["end"]
    lines = [f"# What to do next: {cell(ticket.title, 300)}", "", *origin_note(ticket)]
    lines += [
        f"**Advice: {end['advice']}.** A person decides at the gate.",
        "",
        "## Options, in order",
        "",
        *_options(roadmap),
        "",
        f"Order: {roadmap['order']}. Gains are errors per case ({roadmap['unit']}; now {roadmap['loss']:.4g}) and the "
        "most an option can bring. Days of people's work are assumed, for whoever decides to correct.",
        "",
        "## The rule behind each",
        "",
        *(f"- **{cell(each.id)}**: {cell(each.rule, 300)}. {cell(each.evidence, 400)}." for each in listed),
        "",
        "## Whether to stop using the model",
        "",
        *(f"- {cell(reason, 300)}" for reason in end["reasons"]),
        "",
        "It is to be stopped when it does no better than before, when the simple rule does as well, or when the "
        f"promise is not kept: **{end['advice']}**.",
        "",
        "## The first as tickets",
        "",
    ]
    for each in roadmap["tickets"]:
        lines += [*_ticket(each), ""]
    if not roadmap["tickets"]:
        lines += ["No rule found anything to do.", ""]
    lines.append(f"- {PERSON} number, acceptance and budget of each; nothing enters the backlog by itself.")
    return "\n".join(lines)


def _options(roadmap: Mapping[str, Any]) -> list[str]:
    if not roadmap["options"]:
        return ["No rule found anything to do: no group errs more, no label is doubtful, no column moved."]
    return table(
        ("", "what", "gain", "USD a year", "people's days", "risk"),
        [
            (
                index, each["title"], _gain(each, roadmap["loss"]),
                "–" if each["usd_per_year"] is None else figure(round(each["usd_per_year"])),
                f"{each['cost']['people_days']:g}", each["risk"],
            )
            for index, each in enumerate(roadmap["options"], 1)
        ],
        160,
    )  # fmt: skip


def _ticket(written: Mapping[str, Any]) -> list[str]:
    """A draft as an indented block: nothing in it is markup."""
    import yaml

    head = yaml.safe_dump(written["head"], sort_keys=False, allow_unicode=True, width=110).splitlines()
    return [f"    {line}" for line in ("---", *head, "---", *str(written["body"]).splitlines())]


def _output(listed: Sequence[Option], stop: bool, reasons: Sequence[str], drafts: int) -> SkillOutput:
    first = listed[0].title if listed else "nothing"
    advice = "stop" if stop else "go on"
    return SkillOutput(
        summary=f"advice: {advice}; {len(listed)} options, the first: {first}",
        ticked=(
            TickedItem(
                item="options-listed", evidence=f"improvement-roadmap.json: {len(listed)}, each with gain, cost, risk"
            ),
            TickedItem(
                item="options-ordered", evidence=f"improvement-roadmap.json: certain gains first; {cell(first, 100)}"
            ),
            TickedItem(item="tickets-proposed", evidence=f"improvement-roadmap.md: {drafts} drafts"),
            TickedItem(item="end-considered", evidence=f"improvement-roadmap.md: {advice}, {cell(reasons[0], 120)}"),
        ),
        warnings=tuple(f"advice: stop using the model: {reason}" for reason in reasons) if stop else (),
    )
