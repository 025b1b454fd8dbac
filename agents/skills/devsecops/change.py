"""Skill `devsecops.change`: the change applied to a clean checkout, the project's tests before and after."""

from __future__ import annotations

import hashlib

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.change.applying import patched, refuse_secrets
from agents.skills.change.shapes import ChangeBrief, TestReport
from agents.skills.change.testing import contacts_of, run_tests
from agents.skills.change.workplace import (
    LARGEST_PATCH,
    clean_checkout,
    network_of,
    sandbox_of,
    test_command,
    ticket_file,
)
from schemas.values import Measurement, Mode, Role, TickedItem


class ChangeParameters(Parameters):
    """`patch`: a unified diff that a planner wrote, in place of the ticket's."""

    patch: str = ""


class DevsecopsChange(Skill[ChangeParameters, SkillOutput]):
    """Apply a change to a clean checkout in the sandbox and run the project's own tests before and after it."""

    name = "devsecops.change"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.BUILD})
    needs = ("change-brief.json",)
    produces = ("change.patch", "test-report.json")
    seconds = 1500.0
    parameters = ChangeParameters

    def run(self, parameters: ChangeParameters, context: SkillContext) -> SkillOutput:
        """Write the patch as git has it and what the tests came to. Raises InputError for a patch that does not apply
        or may not be applied, for tests that cannot be run at the base, and without a sandbox."""
        brief = ChangeBrief.model_validate(context.read_json("change-brief.json"))
        sandbox, warnings = sandbox_of(context)
        network = network_of(context)
        given = self._patch(parameters, brief, context)
        refuse_secrets(given)
        base, changed = clean_checkout(context, "before"), patched(context, given, "after")
        patch = changed.diff()
        command, origin = test_command(base)
        seconds, scratch = context.seconds / 2.5, context.out.parent / "results"
        context.progress(f"the project's tests before the change: {' '.join(command)}")
        before = run_tests(sandbox, command, base.tree, scratch, seconds, network=network)
        if before.error:
            raise InputError(
                f"the project's tests cannot be run at {brief.base_commit[:12]}: {before.error}",
                f"correct `test_command` ({origin}) in the repository, or name its environment in the setting "
                "`sandbox_environments`",
            )
        context.progress("and after it")
        after = run_tests(sandbox, command, changed.tree, scratch, seconds, network=network)
        digest = hashlib.sha256(patch).hexdigest()
        report = TestReport(patch_sha256=digest, base_commit=brief.base_commit, before=before, after=after)
        (context.out / "change.patch").write_bytes(patch)
        context.write_json("test-report.json", report.model_dump(mode="json"))
        failed = len(after.names("failed")) + bool(after.error)
        passed, skipped = len(after.names("passed")), len(after.names("skipped"))
        reach = f"with the network of {', '.join(network.hosts)}" if network.hosts else "without network"
        ticked = (
            TickedItem(item="built-as-designed", evidence=f"change.patch: SHA-256 {digest[:12]}"),
            TickedItem(item="reproducible", evidence=f"change.patch: on {brief.base_commit[:12]}, {reach}"),
            TickedItem(
                item="inputs-unchanged",
                evidence="test-report.json: a checkout of its own, the repository was only read",
            ),
            TickedItem(item="tests-run", evidence=f"test-report.json: {passed} passed, {failed} failed"),
        )
        return SkillOutput(
            summary=_summary(report, failed),
            ticked=ticked,
            measurements=(
                Measurement(scope="tests", name="failed", value=float(failed)),
                Measurement(scope="tests", name="passed", value=float(passed)),
                Measurement(scope="tests", name="skipped", value=float(skipped)),
                Measurement(scope="tests", name="new", value=float(len(report.new))),
                Measurement(scope="tests", name="fixed", value=float(len(report.fixed))),
                Measurement(scope="tests", name="removed", value=float(len(report.removed))),
            ),
            warnings=(
                *warnings,
                *([after.error] if after.error else []),
                *_doubts(report),
                *contacts_of(before, "before the change"),
                *contacts_of(after, "after the change"),
            ),
        )

    def _patch(self, parameters: ChangeParameters, brief: ChangeBrief, context: SkillContext) -> bytes:
        if parameters.patch:
            return parameters.patch.encode()
        if brief.change is None:
            raise InputError("there is no change to apply", "name one in the ticket, or drive with a planner")
        file, patch = ticket_file(brief.change.name, "change", context.roots, LARGEST_PATCH)
        if file.sha256 != brief.change.sha256:
            raise InputError(
                f"{file.name} is no longer what the brief names ({brief.change.sha256[:12]})",
                "edit the ticket, so that it is taken anew, or put the file back",
            )
        return patch


def _summary(report: TestReport, failed: int) -> str:
    before, after = report.before.names("passed"), report.after.names("passed")
    parts = [f"{len(after)} tests pass ({len(before)} before)", f"{failed} fail"]
    parts += [f"{len(names)} {word}" for word, names in (("new", report.new), ("fixed", report.fixed)) if names]
    return ", ".join(parts)


def _doubts(report: TestReport) -> list[str]:
    kinds = (("broken", report.broken), ("no longer there", report.removed), ("skipped now", report.silenced))
    return [f"{len(names)} tests {word}: {', '.join(sorted(names)[:5])}" for word, names in kinds if names]
