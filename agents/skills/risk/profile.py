"""Skill `risk.profile`: what could go wrong with this model, scored from the record, and advice to the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell
from agents.skills.lead.history import read_history
from agents.skills.risk.model_rules import model_risks
from agents.skills.risk.over_sessions import over_sessions, past_document
from agents.skills.risk.record import Record, read_record
from agents.skills.risk.register import TIERS, Risk
from agents.skills.risk.system_rules import UNSCORED, system_risks
from schemas.values import Measurement, Mode, Role, TickedItem

ADVICE = ("approve", "ask a person", "veto")


class RiskProfile(Skill[Parameters, SkillOutput]):
    """Score the risks of this session's model and advise the gate: approve, ask a person, or veto."""

    name = "risk.profile"
    role = Role.RISK
    modes = frozenset({Mode.EVALUATE})
    needs = ("data-source.json", "split.json", "metrics.json", "experiment-log.json")
    optional = ("leakage.json", "data-quality.json")
    produces = ("risk-profile.json", "risk-profile.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the profile. `risk.tier` is the ticket's own risk or the worst found, whichever is higher."""
        record = read_record(context)
        risks = sorted(system_risks(record) + model_risks(record), key=lambda risk: (-risk.score, risk.id))
        vetoes = [risk.veto for risk in risks if risk.veto]
        tier = max(record.ticket.risk.rank, *(risk.tier for risk in risks))
        advice = ADVICE[2] if vetoes else ADVICE[1] if tier else ADVICE[0]
        reasons = vetoes or _reasons(record, risks)
        history, digest = read_history(context)
        past = over_sessions(history, context.session, context.now) | {"history_sha256": digest or None}
        profile = _profile(record, risks, vetoes, tier, advice, reasons) | {"over_sessions": past}
        context.write_json("risk-profile.json", profile)
        context.write_text("risk-profile.md", _document(record, risks, tier, advice, reasons) + past_document(past))
        return SkillOutput(
            summary=f"advice: {advice}; tier {TIERS[tier]}, worst {risks[0].title} ({risks[0].score} of 25)",
            ticked=_ticked(risks, advice),
            measurements=(
                Measurement(scope="risk", name="tier", value=float(tier)),
                Measurement(scope="risk", name="score", value=float(risks[0].score)),
                Measurement(scope="risk", name="veto", value=1.0 if vetoes else 0.0),
            ),
            warnings=tuple(f"risk veto: {reason}" for reason in vetoes),
        )


def _reasons(record: Record, risks: Sequence[Risk]) -> list[str]:
    """Why the advice is not a veto: every risk of tier medium or above, and the ticket's own level."""
    found = [f"{risk.title}: {risk.evidence}" for risk in risks if risk.tier]
    if record.ticket.risk.rank:
        found.insert(0, f"the ticket's author set its risk to {record.ticket.risk.value}")
    return found or ["no risk is above tier low"]


def _ticked(risks: Sequence[Risk], advice: str) -> tuple[TickedItem, ...]:
    raised = [risk for risk in risks if risk.tier]
    linked = "all with a mitigation" if raised else "none needs one beyond those in force"
    return (
        TickedItem(item="risks-scored", evidence=f"risk-profile.json: {len(risks)} risks, likelihood x impact"),
        TickedItem(
            item="mitigations-linked",
            evidence=f"risk-profile.md: {len(raised)} risks of tier medium or above, {linked}",
        ),
        TickedItem(item="advice-given", evidence=f"risk-profile.md: {advice}"),
    )


def _profile(
    record: Record, risks: Sequence[Risk], vetoes: list[str], tier: int, advice: str, reasons: list[str]
) -> dict[str, Any]:
    return {
        "advice": advice,
        "reasons": reasons,
        "veto": bool(vetoes),
        "veto_reasons": vetoes,
        "tier": tier,
        "tier_name": TIERS[tier],
        "ticket_risk": record.ticket.risk.value,
        "score": risks[0].score,
        "synthetic": record.source.synthetic,
        "risks": [risk.as_dict() for risk in risks],
        "not_scored": UNSCORED,
    }


def _document(record: Record, risks: Sequence[Risk], tier: int, advice: str, reasons: Sequence[str]) -> str:
    lines = [f"# Risk profile: {cell(record.ticket.title, 300)}", ""]
    if record.source.synthetic:
        lines += ["> **Synthetic data.** The model was trained and measured on rows a program generated.", ""]
    lines += [
        f"**Advice to the gate: {advice}.** Tier {TIERS[tier]} (the ticket's own level: {record.ticket.risk.value}).",
        "",
        *(f"- {cell(reason, 300)}" for reason in reasons),
        "",
        "| risk | kind | likelihood | impact | score | tier | evidence |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {risk.title} | {risk.kind} | {risk.likelihood} | {risk.impact} | **{risk.score}** "
            f"| {TIERS[risk.tier]} | {cell(risk.evidence, 200)} |"
            for risk in risks
        ),
        "",
        "Likelihood and impact from 1 to 5; a product up to 5 is low, up to 12 medium, above it high.",
        "",
        "## Causes, first signs, mitigations",
        "",
    ]
    for risk in risks:
        lines += [
            f"- **{risk.title}** ({risk.status}; owner: {risk.owner}).",
            f"  {_sentence(risk.cause)} {_sentence(risk.effect)}",
            f"  First sign: {risk.signal}. Mitigation: {risk.mitigation}.",
        ]
    lines += ["", "## Not scored here", "", *(f"- {name}: {reason}." for name, reason in UNSCORED.items())]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
