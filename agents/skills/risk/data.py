"""Skill `risk.data`: what could go wrong with a data set, and whether a person must decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note
from agents.skills.risk.data_rules import DataRecord, data_risks
from agents.skills.risk.profile import ADVICE
from agents.skills.risk.register import TIERS, Risk
from agents.skills.shapes import SourceSpec
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem


class RiskData(Skill[Parameters, SkillOutput]):
    """Score the risks of a data set (personal data, licence, age, quality) and advise the gate."""

    name = "risk.data"
    role = Role.RISK
    modes = frozenset({Mode.EVALUATE})
    needs = ("data-source.json", "data-profile.json", "data-quality.json")
    produces = ("risk-profile.json", "risk-profile.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the profile. `risk.tier` is the ticket's own risk or the worst found, whichever is higher."""
        record = DataRecord(
            SourceSpec.model_validate(context.read_json("data-source.json")),
            context.read_json("data-profile.json"),
            context.read_json("data-quality.json"),
            context.now,
        )
        risks = sorted(data_risks(record), key=lambda risk: (-risk.score, risk.id))
        ticket = context.ticket
        vetoes = [risk.veto for risk in risks if risk.veto]
        tier = max(ticket.risk.rank, *(risk.tier for risk in risks))
        advice = ADVICE[2] if vetoes else ADVICE[1] if tier else ADVICE[0]
        reasons = vetoes or _reasons(ticket, risks)
        profile = _profile(record, risks, vetoes, tier) | {"advice": advice, "reasons": reasons}
        context.write_json("risk-profile.json", profile | {"ticket_risk": ticket.risk.value})
        context.write_text("risk-profile.md", _document(ticket, profile, risks))
        raised = [risk for risk in risks if risk.tier]
        return SkillOutput(
            summary=f"advice: {advice}; tier {TIERS[tier]}, worst {risks[0].title} ({risks[0].score} of 25)",
            ticked=(
                TickedItem(item="risks-scored", evidence=f"risk-profile.json: {len(risks)} risks, likelihood x impact"),
                TickedItem(
                    item="mitigations-linked",
                    evidence=f"risk-profile.md: {len(raised)} risks of tier medium or above, each with a mitigation",
                ),
                TickedItem(item="advice-given", evidence=f"risk-profile.md: {advice}"),
            ),
            measurements=(
                Measurement(scope="risk", name="tier", value=float(tier)),
                Measurement(scope="risk", name="score", value=float(risks[0].score)),
                Measurement(scope="risk", name="veto", value=1.0 if vetoes else 0.0),
            ),
            warnings=tuple(f"risk veto: {reason}" for reason in vetoes),
        )


def _reasons(ticket: Ticket, risks: Sequence[Risk]) -> list[str]:
    found = [f"{risk.title}: {risk.evidence}" for risk in risks if risk.tier]
    if ticket.risk.rank:
        found.insert(0, f"the ticket's author set its risk to {ticket.risk.value}")
    return found or ["no risk is above tier low"]


def _profile(record: DataRecord, risks: Sequence[Risk], vetoes: list[str], tier: int) -> dict[str, Any]:
    return {
        "veto": bool(vetoes),
        "veto_reasons": vetoes,
        "tier": tier,
        "tier_name": TIERS[tier],
        "score": risks[0].score,
        "synthetic": record.source.synthetic,
        "risks": [risk.as_dict() for risk in risks],
        "personal_columns": record.tagged(),
        "age_days": record.age_days,
    }


def _document(ticket: Ticket, profile: dict[str, Any], risks: Sequence[Risk]) -> str:
    lines = [
        f"# Risk profile of a data set: {cell(ticket.title, 300)}",
        "",
        *origin_note(ticket),
        f"**Advice to the gate: {profile['advice']}.** Tier {profile['tier_name']} "
        f"(the ticket's own level: {ticket.risk.value}).",
        "",
        *(f"- {cell(reason, 300)}" for reason in profile["reasons"]),
        "",
        "| risk | likelihood | impact | score | tier | evidence | mitigation |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {risk.title} | {risk.likelihood} | {risk.impact} | **{risk.score}** | {TIERS[risk.tier]} "
            f"| {cell(risk.evidence, 200)} | {risk.mitigation} |"
            for risk in risks
        ),
        "",
        "Likelihood and impact from 1 to 5; a product up to 5 is low, up to 12 medium, above it high.",
        "What no rule can see (purpose, legal basis, consent) a person must weigh.",
    ]
    return "\n".join(lines)
