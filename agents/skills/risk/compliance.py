"""Skill `risk.compliance`: what the record proves to whom: Annex IV, NIST AI RMF, SR 26-2, and the ML Test Score."""

from __future__ import annotations

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note
from agents.skills.risk.dossier import Dossier, Statement, as_json, left, read_dossier, table
from agents.skills.risk.frameworks import annex_iv, nist_rmf, sr_26_2, subject
from agents.skills.risk.testscore import SECTIONS, Item, items, meaning, totals
from agents.skills.words import counted
from schemas.values import Measurement, Mode, Role

FRAMEWORKS = (
    ("annex_iv", "EU AI Act, Annex IV", "technical documentation of an AI system, Regulation (EU) 2024/1689", annex_iv),
    ("nist_ai_rmf", "NIST AI RMF 1.0", "the AI Risk Management Framework of the US standards institute", nist_rmf),
    (
        "sr_26_2",
        "SR 26-2",
        "the US Federal Reserve's guidance on model risk management; about the trained model, not what planned the "
        "work",
        sr_26_2,
    ),
)


class RiskCompliance(Skill[Parameters, SkillOutput]):
    """Put the evidence of the session into the order of Annex IV, NIST AI RMF and SR 26-2; score the ML Test Score."""

    name = "risk.compliance"
    role = Role.RISK
    modes = frozenset({Mode.EVALUATE})
    needs = (
        "scope.json", "data-source.json", "split.json", "feature-map.json", "experiment-log.json", "metrics.json",
        "risk-profile.json",
    )  # fmt: skip
    optional = (
        "data-contract.yaml", "data-quality.json", "leakage.json", "robustness.json", "fairness.json",
        "experiment-plan.json", "evaluation-report.md",
    )  # fmt: skip
    produces = ("compliance.json", "compliance.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the bundle. Raises SkillError when `metrics.json` is not what the harness writes."""
        dossier = read_dossier(context)
        parts = {key: make(dossier) for key, _, _, make in FRAMEWORKS}
        tests = items(dossier)
        score, sums = totals(tests)
        everything = [each for statements in parts.values() for each in statements]
        people = sum(each.by == "person" for each in everything)
        drafts = sum(each.by == "draft" for each in everything)
        context.write_json(
            "compliance.json",
            {
                "session": dossier.session,
                "frameworks": {key: as_json(statements, dossier) for key, statements in parts.items()},
                "ml_test_score": {"score": score, "sections": sums, "tests": [vars(test) for test in tests]},
                "left_to_people": people,
                "drafts": drafts,
                "evidence": dict(dossier.digests),
            },
        )
        context.write_text("compliance.md", _document(context, dossier, parts, tests, people, drafts))
        return SkillOutput(
            summary=f"{counted(len(everything), 'statement')}, {people} left to people; ML Test Score {score:g}",
            measurements=(Measurement(scope="compliance", name="ml_test_score", value=score),),
        )


def _document(
    context: SkillContext,
    dossier: Dossier,
    parts: dict[str, list[Statement]],
    tests: list[Item],
    people: int,
    drafts: int,
) -> str:
    lines = [f"# Compliance: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket)]
    lines += [
        "## In short",
        "",
        f"- **What this is:** what the record of session `{dossier.session}` proves, in the order in which three "
        "frameworks ask. It states what was done; whether that fulfils a duty is for people to judge.",
        f"- **The model:** {subject(dossier)}",
        f"- **Risk:** tier {dossier.risk['tier_name']}; advice to the gate: {dossier.risk['advice']}.",
        f"- **What people must still do:** write {counted(people, 'statement')} and confirm "
        f"{counted(drafts, 'draft')}, listed below.",
        "- **What comes after this page:** package, bill of materials, model card, signatures and the decision at "
        "this phase's gate. They are in the folder of the delivery and in the record (`valuetrain audit export`).",
        "",
        "## Left to people",
        "",
        *left([(title, parts[key]) for key, title, _, _ in FRAMEWORKS]),
        "",
    ]
    first = 1
    for key, title, words, _ in FRAMEWORKS:
        lines += [f"## {title}", "", f"{words[:1].upper()}{words[1:]}.", "", *table(parts[key], dossier, first), ""]
        first += sum(each.by != "record" for each in parts[key])
    score, sums = totals(tests)
    lines += [
        "## ML Test Score",
        "",
        "How ready for production the work is by 28 tests (Breck et al. 2017, "
        "https://doi.org/10.1109/BigData.2017.8258038); not a framework of law.",
        "",
        f"**{score:g}: {meaning(score)}.** The score is the least of the sections: "
        + ", ".join(f"{section} {sums[section]:g}" for section in SECTIONS)
        + ", of 7 each. A test gives 1 when automated, ½ when done once and written down, 0 without evidence here.",
        "",
        "| section | test | points | evidence |",
        "|---|---|---|---|",
        *(f"| {test.section} | {test.text} | {test.points:g} | {test.evidence} |" for test in tests),
        "",
        "## Evidence",
        "",
        "Each artifact is in the session's record under its digest; `valuetrain audit verify` checks them all. A proof "
        "above is named with the first eight digits. The session's [overview](../../ACTIVE_SESSION.md) links those "
        "that lie in the ticket's folder.",
        "",
        "| artifact | SHA-256 |",
        "|---|---|",
        *(f"| {name} | `{digest}` |" for name, digest in dossier.digests.items()),
    ]
    return "\n".join(lines)
