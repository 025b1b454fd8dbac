"""Skill `devsecops.release`: the text of the pull request, the components, and where the change comes from."""

from __future__ import annotations

import hashlib
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillError, SkillOutput
from agents.skills.change.applying import patched
from agents.skills.change.judging import run_words
from agents.skills.change.shapes import ChangeBrief, ReviewReport
from agents.skills.data.markdown import cell, quoted, table
from agents.skills.devsecops.components import Materials, build_components, read_materials
from agents.skills.devsecops.provenance import PREDICATE, STATEMENT
from schemas.values import Mode, Role, TickedItem

BUILD_TYPE = "urn:value-train:software-change:1"


class DevsecopsRelease(Skill[Parameters, SkillOutput]):
    """Describe a reviewed change for its pull request, list the project's components, state where it comes from."""

    name = "devsecops.release"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    needs = ("change-brief.json", "change.patch", "review-report.json")
    produces = ("pull-request.md", "sbom.cdx.json", "provenance.json")
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the three documents. Raises SkillError when the patch is not the one that was reviewed."""
        brief = ChangeBrief.model_validate(context.read_json("change-brief.json"))
        review = ReviewReport.model_validate(context.read_json("review-report.json"))
        patch = context.path("change.patch").read_bytes()
        digest = hashlib.sha256(patch).hexdigest()
        if digest != review.patch_sha256 or review.of("blocking"):
            raise SkillError(
                f"change.patch is {digest[:12]} and the review is of {review.patch_sha256[:12]} with "
                f"{len(review.of('blocking'))} reasons against it",
                "run build and evaluate again; what was not reviewed is not released",
            )
        materials = read_materials(patched(context, patch, "released"), brief.repository)
        sbom = build_components(materials, digest, context.now)
        context.write_text("sbom.cdx.json", sbom)
        context.write_json("provenance.json", _provenance(brief, digest, sbom, context))
        context.write_text("pull-request.md", _pull_request(brief, review, materials, context))
        return SkillOutput(
            summary=f"patch {digest[:12]} on {brief.base_commit[:12]}, {len(materials.components)} components",
            ticked=(
                TickedItem(item="approved-only", evidence=f"provenance.json: change.patch {digest[:12]}"),
                TickedItem(item="described", evidence=f"pull-request.md: {len(review.files)} files"),
                TickedItem(item="components-listed", evidence=f"sbom.cdx.json: {len(materials.components)} components"),
                TickedItem(item="way-back-ready", evidence="pull-request.md: one commit to revert"),
            ),
            warnings=materials.unknown,
        )


def _provenance(brief: ChangeBrief, digest: str, sbom: str, context: SkillContext) -> dict[str, Any]:
    """An in-toto statement in the shape of SLSA provenance v1, signed later by whoever holds the key."""
    recorded: dict[str, str] = dict(context.facts.get("artifacts") or {})
    return {
        "_type": STATEMENT,
        "subject": [{"name": "change.patch", "digest": {"sha256": digest}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "ticket": brief.ticket,
                    "title": brief.title,
                    "repository": brief.repository,
                    "acceptance": list(brief.acceptance),
                    "acceptanceTests": [test.model_dump(mode="json") for test in brief.acceptance_tests],
                },
                "internalParameters": {"testCommand": list(brief.test_command), "from": brief.test_command_from},
                "resolvedDependencies": [
                    {"name": brief.repository, "digest": {"gitCommit": brief.base_commit}},
                    *({"name": name, "digest": {"sha256": sha}} for name, sha in sorted(recorded.items())),
                ],
            },
            "runDetails": {
                "builder": {"id": "urn:value-train:skill:devsecops.release"},
                "metadata": {"invocationId": context.session, "startedOn": context.now},
                "byproducts": [
                    {"name": "sbom.cdx.json", "digest": {"sha256": hashlib.sha256(sbom.encode()).hexdigest()}}
                ],
            },
        },
    }


def _pull_request(brief: ChangeBrief, review: ReviewReport, materials: Materials, context: SkillContext) -> str:
    tests = review.tests
    results = [("the project's", run_words(tests.before), run_words(tests.after))] if tests else []
    if review.acceptance:
        results.append(("the ticket's own", "not run", run_words(review.acceptance)))
    notes = [(each.rule, each.where, each.what) for each in review.of("attention")]
    approvals = [str(line) for line in context.facts.get("approvals") or ()]
    lines = [
        f"# {cell(brief.title, 300)}", "",
        f"Ticket {brief.ticket}. One change on {brief.base_commit[:12]}, patch SHA-256 {review.patch_sha256[:12]}.", "",
        "## Why (the ticket's text, quoted as data)", "", *quoted(context.ticket.body), "",
        "## What changes", "", *table(("file", "what happens"), review.files.items()), "",
        "## How it was checked", "",
        "By an agent that did not build it, on clean checkouts, without network.", "",
        *table(("tests", "before", "after"), results), "",
        *(f"- `{criterion}` holds" for criterion in brief.acceptance), "",
        "## To look at", "",
        *(table(("rule", "where", "what"), notes) if notes else ["The review found nothing to look at."]), "",
        "## Approvals", "", *([f"- {cell(line, 300)}" for line in approvals] or ["None on record."]), "",
        "## Components", "",
        f"{len(materials.components)} in sbom.cdx.json. Not known:", "",
        *(f"- {cell(why, 300)}" for why in materials.unknown), "",
        "## The way back", "",
        "Revert the one commit that holds the change; the ticket's folder is documentation.",
    ]  # fmt: skip
    return "\n".join(lines)
