"""Skill `lead.kickoff`: whether people, access, dates and money are in place to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.lead.costs import KINDS, cost_plan
from agents.skills.lead.phases import AHEAD, BEHIND, MILESTONES
from agents.skills.lead.statement import FROM_TICKET, Statement, need_statement
from agents.skills.shapes import ScopeSpec
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

DAYS_PER_GATE = 2
"""Working days a gate waits for its person. Machine time is minutes: people's time is the plan."""


class LeadKickoff(Skill[Parameters, SkillOutput]):
    """Plan the engagement: a person for every agent, access that was tried, milestones, approvers, costs by phase.

    Dates: each gate that waits for a person takes two working days; the rest, minutes, happens on the same day.
    """

    name = "lead.kickoff"
    role = Role.LEAD
    modes = frozenset({Mode.SCOPE})
    needs = ("scope.json", "readiness-score.json")
    optional = ("discovery-report.json",)
    produces = ("kickoff-plan.json", "kickoff-plan.md", "cost-plan.json")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the plans. Raises InputError when the ticket's stage, team or deadline cannot be read."""
        ticket = context.ticket
        statement = need_statement(ticket)
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        readiness = context.read_json("readiness-score.json")
        report = context.read_json("discovery-report.json") if "discovery-report.json" in context.inputs else {}
        counts = report.get("counts") or {"rows": 0, "columns": 0}
        costs = cost_plan(scope, statement, counts, dict(context.facts.get("usage") or {}))
        plan = _plan(ticket, statement, scope, readiness, report, context)
        warnings = _warnings(plan, costs)
        context.write_json("kickoff-plan.json", plan)
        context.write_json("cost-plan.json", costs)
        context.write_text("kickoff-plan.md", _document(ticket, plan, costs, warnings))
        return _output(plan, costs, warnings)


def _plan(
    ticket: Ticket, statement: Statement, scope: ScopeSpec, readiness: Mapping[str, Any], report: Mapping[str, Any],
    context: SkillContext,
) -> dict[str, Any]:  # fmt: skip
    today = date.fromisoformat(context.now[:10])
    dates = _dates(today)
    team = statement.team()
    asked = {role.value: team.get(role.value) or statement.sponsor for role in Role}
    data = (report.get("data") or [{}])[0]
    reach = next((i for i in readiness["items"] if i["id"] == "data-out-of-reach"), None)
    platform = next((i for i in readiness["items"] if i["id"] == "too-little-compute"), None)
    return {
        "ticket": ticket.id,
        "goal": f"{scope.task.value} of {scope.target} by {scope.metric}, accepted if {'; '.join(scope.acceptance)}",
        "readiness": readiness["score"],
        "people": [
            {
                "phase": phase.name,
                "agent": phase.agent.value,
                "person": asked[phase.agent.value],
                "from": FROM_TICKET if phase.agent.value in team else f"nobody is named: the sponsor; {FROM_TICKET}",
            }
            for phase in (*BEHIND, *AHEAD)
        ],
        "access": [
            {"to": "data", "tried": bool(reach and reach["score"] == 1.0),
             "evidence": data.get("access") or (reach or {}).get("evidence", "")},
            {"to": "platform", "tried": True,
             "evidence": f"{len(context.inputs)} artifacts of earlier phases were staged for this plan; "
             + str((platform or {}).get("evidence", ""))},
        ],
        "milestones": [
            {"name": name, "phase": phase, "date": dates[phase].isoformat(), "criterion": criterion}
            for name, phase, criterion in MILESTONES
        ],
        "ends": dates[AHEAD[-1].name].isoformat(),
        "deadline": _deadline(statement),
        "days_per_gate": DAYS_PER_GATE,
        "approvers": {
            "named": list(statement.names("approvers")),
            "from": FROM_TICKET,
            "gates": [{"phase": phase.name, "rule": phase.gate} for phase in (*BEHIND, *AHEAD) if phase.gate],
            "passed": [str(line) for line in context.facts.get("approvals") or ()],
        },
    }  # fmt: skip


def _dates(today: date) -> dict[str, date]:
    """The day each phase ends."""
    found, day = {}, today
    for phase in AHEAD:
        if phase.gate:
            day = _later(day, DAYS_PER_GATE)
        found[phase.name] = day
    return found


def _later(day: date, working_days: int) -> date:
    while working_days:
        day += timedelta(days=1)
        working_days -= day.weekday() < 5
    return day


def _deadline(statement: Statement) -> str | None:
    said = statement.text("deadline")
    if not said:
        return None
    try:
        return date.fromisoformat(said.strip().rstrip(".")).isoformat()
    except ValueError as problem:
        raise InputError(f"the ticket's deadline {said[:40]!r} is no date", "write it as 2026-12-24") from problem


def _warnings(plan: Mapping[str, Any], costs: Mapping[str, Any]) -> list[str]:
    found = []
    if plan["deadline"] and plan["deadline"] < plan["ends"]:
        found.append(f"the plan ends on {plan['ends']}, after the deadline {plan['deadline']}")
    compute = costs["compute"]
    if compute["expected_seconds"] + compute["used_seconds_so_far"] > 60 * compute["budget_minutes"]:
        found.append(
            f"about {compute['expected_seconds']:.0f} s of skill time are expected and "
            f"{60 * compute['budget_minutes'] - compute['used_seconds_so_far']:.0f} s are left"
        )
    if costs["usd_by_kind"]["cloud"] < compute["budget_usd"]:
        found.append(
            f"the ticket allows {compute['budget_usd']:g} USD of compute, more than the cloud's share of "
            f"{costs['usd_by_kind']['cloud']:g} USD"
        )
    if not plan["approvers"]["named"] and not plan["approvers"]["passed"]:
        found.append("the ticket names no approver: the installation's policy decides alone who may")
    return found


def _document(ticket: Ticket, plan: Mapping[str, Any], costs: Mapping[str, Any], warnings: Sequence[str]) -> str:
    approvers = plan["approvers"]
    lines = [f"# Kick-off: {cell(ticket.title, 300)}", "", *origin_note(ticket), cell(plan["goal"], 400) + "."]
    lines += ["", f"Readiness {plan['readiness']:.2f} of 1.", *(f"\n**{cell(each, 300)}.**" for each in warnings), ""]
    lines += ["## Who", ""]
    lines += table(
        ("phase", "agent", "person to ask", "named by"),
        [(each["phase"], each["agent"], each["person"], each["from"]) for each in plan["people"]],
        120,
    )
    lines += ["", "## Access", ""]
    lines += table(
        ("to", "tried", "evidence"),
        [(each["to"], "yes" if each["tried"] else "no", each["evidence"]) for each in plan["access"]],
        250,
    )
    lines += ["", "## When", ""]
    lines += table(
        ("milestone", "date", "reached when", "phase"),
        [(each["name"], each["date"], each["criterion"], each["phase"]) for each in plan["milestones"]],
        200,
    )
    lines += [
        "",
        f"Assumed: a gate waits {plan['days_per_gate']} working days for its person; machine time is minutes.",
        f"Deadline: {plan['deadline'] or PERSON + ' `Deadline:`'}.",
        "",
        "## Who decides",
        "",
        *table(("gate after", "rule"), [(each["phase"], each["rule"]) for each in approvers["gates"]]),
        "",
        f"Named ({FROM_TICKET}): {cell(', '.join(approvers['named']) or 'nobody', 200)}. Only people whom the policy "
        "lists can decide; the requester's approval does not count.",
        *([] if approvers["named"] else ["", f"{PERSON} `Approvers:`."]),
        *(f"- Passed so far: {cell(line, 200)}" for line in approvers["passed"]),
        "",
        *_cost_lines(costs),
    ]
    return "\n".join(lines)


def _cost_lines(costs: Mapping[str, Any]) -> list[str]:
    compute = costs["compute"]
    return [
        "## What it costs",
        "",
        f"**{figure(costs['usd'])} USD** ({cell(costs['usd_from'], 200)}). Stage {costs['stage']} "
        f"({cell(costs['stage_from'], 100)}): "
        + ", ".join(f"{kind} {figure(costs['usd_by_kind'][kind])} USD ({costs['mix'][kind]:.0%})" for kind in KINDS)
        + ".",
        "",
        f"Machine time: about {compute['expected_seconds']:.0f} s ({compute['formula']}), "
        f"{compute['expected_usd']:.4f} USD at {compute['usd_per_cpu_hour']:.3g} USD a core and hour "
        f"({compute['price_from']}); allowed are {compute['budget_usd']:g} USD and {compute['budget_minutes']:g} min.",
        "",
        *table(
            ("phase", "agent", "share", "expected seconds", "planned USD"),
            [
                (each["phase"], each["agent"], f"{each['share']:.0%}", figure(each["expected_seconds"]),
                 f"{each['planned_usd']:,.2f}")
                for each in costs["phases"]
            ],
        ),
    ]  # fmt: skip


def _output(plan: Mapping[str, Any], costs: Mapping[str, Any], warnings: Sequence[str]) -> SkillOutput:
    named = plan["approvers"]["named"]
    rule = f"{len(plan['approvers']['gates'])} gates with their rules; "
    access = all(each["tried"] for each in plan["access"])
    ticked = [
        TickedItem(
            item="people-assigned", evidence=f"kickoff-plan.md: {len(plan['people'])} phases, each with a person"
        ),
        TickedItem(
            item="milestones-set",
            evidence=f"kickoff-plan.json: {len(plan['milestones'])} milestones, the last on "
            f"{plan['milestones'][-1]['date']}",
        ),
        TickedItem(
            item="approvers-named",
            evidence=f"kickoff-plan.json: {rule}"
            + (f"named: {cell(', '.join(named))}" if named else "the ticket names nobody, the policy decides alone"),
        ),
        TickedItem(
            item="costs-planned",
            evidence=f"cost-plan.json: {figure(costs['usd'])} USD over {len(costs['phases'])} phases",
        ),
    ]
    if access:
        ticked.insert(1, TickedItem(item="access-granted", evidence="kickoff-plan.json: data and platform, both tried"))
    return SkillOutput(
        summary=f"{len(plan['milestones'])} milestones until {plan['ends']}; {figure(costs['usd'])} USD, "
        f"{costs['compute']['expected_seconds']:.0f} s of machine time expected",
        ticked=tuple(ticked),
        warnings=tuple(warnings),
    )
