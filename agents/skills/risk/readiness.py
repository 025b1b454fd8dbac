"""Skill `risk.readiness`: whether data, people and rules allow the work, and the first risks of the register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.lead.statement import FROM_TICKET, Statement, need_statement
from agents.skills.risk.readiness_items import AREAS, Item, answer_all
from agents.skills.risk.register import TIERS
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem


class RiskReadiness(Skill[Parameters, SkillOutput]):
    """Score whether data, people and rules allow the work, each answer with its evidence, and open the risk register.

    Each question scores 1, 0.5 or 0; an area scores the mean of its questions; the whole scores its weakest area
    (the minimum of the three means), and 0 when the answer to a blocking question is no.
    """

    name = "risk.readiness"
    role = Role.RISK
    modes = frozenset({Mode.DISCOVER})
    needs = ("discovery-report.json",)
    produces = ("readiness-score.json", "readiness-report.md", "risk-register.json")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write score, report and register."""
        ticket = context.ticket
        statement = need_statement(ticket)
        report = context.read_json("discovery-report.json")
        items = answer_all(ticket, statement, report, date.fromisoformat(context.now[:10]))
        areas = {area: _mean([item.score for item in items if item.area == area]) for area in AREAS}
        blocking = [item for item in items if item.blocks]
        score = 0.0 if blocking else min(areas.values())
        weakest = min(areas, key=lambda area: areas[area])
        context.write_json("readiness-score.json", _json(items, areas, score, weakest, blocking))
        context.write_json("risk-register.json", _register(ticket, items))
        context.write_text("readiness-report.md", _document(ticket, statement, report, items, areas, score, weakest))
        return _output(statement, items, areas, score, weakest, blocking)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def _json(
    items: Sequence[Item], areas: Mapping[str, float], score: float, weakest: str, blocking: Sequence[Item]
) -> dict[str, Any]:
    return {
        "score": score,
        "areas": areas,
        "weakest": weakest,
        "blocking": [item.id for item in blocking],
        "formula": "minimum over the areas of the mean of their answers; 0 if a blocking answer is no",
        "items": [
            {"area": i.area, "id": i.id, "question": i.question, "score": i.score, "evidence": i.evidence}
            for i in items
        ],
    }


def _register(ticket: Ticket, items: Sequence[Item]) -> dict[str, Any]:
    risks = sorted((item.risk() for item in items), key=lambda risk: (-risk.score, risk.id))
    return {"ticket": ticket.id, "opened_by": RiskReadiness.name, "risks": [risk.as_dict() for risk in risks]}


def _document(
    ticket: Ticket, statement: Statement, report: Mapping[str, Any], items: Sequence[Item],
    areas: Mapping[str, float], score: float, weakest: str,
) -> str:  # fmt: skip
    lines = [f"# Readiness: {cell(ticket.title, 300)}", "", *origin_note(ticket)]
    lines += [f"**{score:.2f} of 1**, the score of the weakest area, {weakest}.", ""]
    if blocking := [item for item in items if item.blocks]:
        lines += [*(f"- **Nothing may begin: {cell(item.evidence, 300)}.**" for item in blocking), ""]
    for area in AREAS:
        lines += [
            f"## {area.capitalize()}: {areas[area]:.2f}",
            "",
            *table(
                ("question", "score", "evidence"),
                [(item.question, f"{item.score:g}", item.evidence) for item in items if item.area == area],
                300,
            ),
            "",
        ]
    lines += [f"## Rules that apply ({FROM_TICKET})", "", *_rules(statement), "", "## Personal data", ""]
    lines += [*_personal(statement, report), "", "## First risks", ""]
    risks = sorted((item.risk() for item in items if item.score < 1.0), key=lambda risk: (-risk.score, risk.id))
    lines += table(
        ("risk", "likelihood x impact", "tier", "owner", "mitigation"),
        [(r.title, f"{r.likelihood} x {r.impact} = {r.score}", TIERS[r.tier], r.owner, r.mitigation) for r in risks],
        200,
    )
    lines += ["", "All of them, the quiet ones too, are in `risk-register.json`."]
    return "\n".join(lines)


def _rules(statement: Statement) -> list[str]:
    return [
        *(f"- {cell(line, 400)}" for line in statement.text("rules").replace(";", "\n").splitlines() if line.strip()),
        f"- {PERSON} whether this list is complete.",
    ]


def _personal(statement: Statement, report: Mapping[str, Any]) -> list[str]:
    found = report["personal"]
    seen = ", ".join(cell(name) for name in found) or "none"
    said = statement.text("personal data")
    lines = [f"- Columns that rules over names and values found: {seen}."]
    if said:
        lines.append(f"- The ground ({FROM_TICKET}): {cell(said, 400)}.")
    elif found:
        lines.append(f"- {PERSON} on what ground these columns may be used.")
    return [*lines, "- Rules see patterns, not meaning; what they miss only a person can add."]


def _output(
    statement: Statement, items: Sequence[Item], areas: Mapping[str, float], score: float, weakest: str,
    blocking: Sequence[Item],
) -> SkillOutput:  # fmt: skip
    answers = {item.id: item for item in items}
    raised = [item for item in items if item.score < 1.0]
    warnings = [f"readiness: {item.evidence}" for item in blocking]
    return SkillOutput(
        summary=f"readiness {score:.2f} (data {areas['data']:.2f}, people {areas['people']:.2f}, rules "
        f"{areas['rules']:.2f}); {len(raised)} of {len(items)} answers are not a plain yes",
        ticked=(
            TickedItem(item="data-readiness-scored", evidence=f"readiness-score.json: data {areas['data']:.2f} of 1"),
            TickedItem(
                item="team-readiness-scored", evidence=f"readiness-score.json: people {areas['people']:.2f} of 1"
            ),
            TickedItem(item="rules-known", evidence=f"readiness-report.md: {cell(statement.text('rules'), 100)}"),
            *(
                [
                    TickedItem(
                        item="personal-data-known",
                        evidence=f"readiness-report.md: {cell(answers['personal-data-without-ground'].evidence, 120)}",
                    )
                ]
                if not answers["personal-data-without-ground"].blocks
                else []
            ),
            TickedItem(
                item="first-risks-listed", evidence=f"risk-register.json: {len(items)} risks, each with an owner"
            ),
        ),
        measurements=(
            Measurement(scope="readiness", name="score", value=score),
            Measurement(scope="readiness", name="data", value=areas["data"]),
            Measurement(scope="readiness", name="people", value=areas["people"]),
            Measurement(scope="readiness", name="rules", value=areas["rules"]),
        ),
        warnings=tuple(warnings),
    )
