"""Skill `lead.change_design`: which files a change touches, which tests look at them, and the way back."""

from __future__ import annotations

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.change.applying import patched
from agents.skills.change.coverage import covering, is_configuration, is_test
from agents.skills.change.shapes import ChangeBrief
from agents.skills.change.workplace import LARGEST_PATCH, clean_checkout, ticket_file
from agents.skills.data.markdown import cell, table
from schemas.values import Mode, Role, TickedItem
from workspace.changes import Changed
from workspace.checkout import CleanCheckout

WORDS = {"A": "added", "M": "changed", "D": "removed", "T": "changed in kind"}


class LeadChangeDesign(Skill[Parameters, SkillOutput]):
    """Design a code change and plan its tests from the brief and the repository: files, covering tests, way back."""

    name = "lead.change_design"
    role = Role.LEAD
    modes = frozenset({Mode.DESIGN})
    needs = ("change-brief.json",)
    produces = ("change-design.md", "test-plan.md")
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write design and test plan. Raises InputError for a patch that does not apply or may not be applied."""
        brief = ChangeBrief.model_validate(context.read_json("change-brief.json"))
        changes: tuple[Changed, ...] = ()
        if brief.change is None:
            checkout = clean_checkout(context, "base")
        else:
            _, patch = ticket_file(brief.change.name, "change", context.roots, LARGEST_PATCH)
            checkout = patched(context, patch, "design")
            changes = checkout.changes()
        covered = covering([each.path for each in changes], checkout.files(), checkout.read)
        bare = sorted(path for path, tests in covered.items() if not tests)
        context.write_text("change-design.md", _design(brief, changes, bare))
        context.write_text("test-plan.md", _plan(brief, changes, covered, checkout))
        files = f"{len(changes)} files" if brief.change else "files still open"
        return SkillOutput(
            summary=f"{files}, {sum(map(bool, covered.values()))} of {len(covered)} modules with tests",
            ticked=(
                TickedItem(item="files-named", evidence=f"change-design.md: {files}"),
                TickedItem(item="alternative-weighed", evidence="change-design.md: against leaving it as it is"),
                TickedItem(item="tests-planned", evidence="test-plan.md: before and after, by the same command"),
                TickedItem(item="way-back-planned", evidence="change-design.md: one commit, reverted"),
            ),
            warnings=tuple(f"no test imports {path}, which the change touches" for path in bare[:10]),
        )


def _design(brief: ChangeBrief, changes: tuple[Changed, ...], bare: list[str]) -> str:
    rows = [(e.path, WORDS.get(e.status, e.status), f"+{e.added} −{e.removed}") for e in changes]
    gone = [each.path for each in changes if each.status == "D"]
    lines = [
        f"# Design of the change for ticket {brief.ticket}", "",
        "## Approach", "",
        "The patch the ticket brings is applied as it is." if brief.change else "A planner writes the change.",
        "Against it stands leaving the code as it is: then the ticket's acceptance does not hold. The patch is taken",
        "only if the project's own tests and the ticket's pass on it, measured by somebody else than its builder.", "",
        "## Files", "",
        *(table(("file", "what happens", "lines"), rows) if rows else ["Not known before the change is written."]), "",
        "## What depends on it", "",
        *([f"- nothing tests {cell(path)} by importing it" for path in bare] or ["Every touched module has a test."]),
        "",
        "## The way back", "",
        f"The change is one commit on top of {brief.base_commit[:12]}; `git revert` of it restores every file.",
        *([f"It brings back {', '.join(map(cell, gone))}."] if gone else []),
        "Data that the changed code wrote meanwhile is not brought back by that.",
    ]  # fmt: skip
    return "\n".join(lines)


def _plan(
    brief: ChangeBrief, changes: tuple[Changed, ...], covered: dict[str, list[str]], checkout: CleanCheckout
) -> str:
    rows = [(path, ", ".join(tests) or "none") for path, tests in sorted(covered.items())]
    own = [each.path for each in changes if is_test(each.path)]
    steering = [each.path for each in changes if is_configuration(each.path)]
    lines = [
        f"# Test plan of the change for ticket {brief.ticket}", "",
        f"1. The project's tests at the base commit, by `{' '.join(brief.test_command)}`: what passes must stay so.",
        "2. The same after the change, on a clean checkout, without network.",
        "3. Both once more by Evaluation, which does not look at the results of the first time.",
        *(["4. The ticket's own tests, which whoever builds does not see."] if brief.acceptance_tests else []), "",
        f"The project has {sum(map(is_test, checkout.files()))} test files.", "",
        "## Tests by the modules they import", "",
        *(table(("module", "tests"), rows) if rows else ["No module is touched, or none is known yet."]), "",
        "## Tests the change brings or alters", "",
        *([f"- {cell(path)}" for path in own] or ["None."]),
    ]  # fmt: skip
    if steering:
        lines += ["", f"It also alters how tests run ({', '.join(map(cell, steering))}): read that with care."]
    return "\n".join(lines)
