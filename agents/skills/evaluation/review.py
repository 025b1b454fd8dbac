"""Skill `evaluation.review`: the change, judged by somebody who did not build it and believes nobody's results."""

from __future__ import annotations

import hashlib

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.change.inspecting import UNSAFE, inspect
from agents.skills.change.judging import Judgement, document, judge_tests, words
from agents.skills.change.scanning import judge_scan, scan, scanner_changed
from agents.skills.change.secrets import find_secrets
from agents.skills.change.shapes import ChangeBrief, CodeScan, Finding, ReviewReport, TestReport, TestRun
from agents.skills.change.testing import contacts_of, run_tests
from agents.skills.change.workplace import (
    LARGEST_TEST,
    clean_checkout,
    network_of,
    sandbox_of,
    scan_command,
    test_command,
    ticket_file,
)
from schemas.values import Measurement, Mode, Role, TickedItem
from workspace.changes import refusals
from workspace.git import GitError, ticket_folder
from workspace.sandbox.port import Sandbox


class EvaluationReview(Skill[Parameters, SkillOutput]):
    """Review a change: apply it anew, run the project's and the ticket's tests, look for what must not be in it."""

    name = "evaluation.review"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = ("change.patch", "test-report.json", "change-brief.json")
    produces = ("review-report.json", "review-report.md")
    harness = True
    seconds = 1500.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the review; what speaks against the change is a finding. Raises InputError without a sandbox."""
        brief = ChangeBrief.model_validate(context.read_json("change-brief.json"))
        claimed = TestReport.model_validate(context.read_json("test-report.json"))
        patch = context.path("change.patch").read_bytes()
        sandbox, warnings = sandbox_of(context)
        found = self._review(brief, patch, sandbox, context)
        if found.tests is not None and claimed.after.outcomes != found.tests.after.outcomes:
            what = "the builder's test report has other outcomes than were measured here"
            found.findings.append(Finding(level="attention", rule="other-outcomes", what=what))
        report = ReviewReport(
            patch_sha256=hashlib.sha256(patch).hexdigest(),
            base_commit=brief.base_commit,
            findings=tuple(sorted(found.findings, key=lambda each: (each.level != "blocking", each.rule, each.where))),
            files={each.path: words(each) for each in found.changes},
            tests=found.tests,
            acceptance=found.acceptance,
            scan=found.scan,
        )
        context.write_json("review-report.json", report.model_dump(mode="json"))
        context.write_text(
            "review-report.md", document(report, brief, network_of(context), contained=sandbox.contained)
        )
        return self._output(report, found, warnings)

    def _review(self, brief: ChangeBrief, patch: bytes, sandbox: Sandbox, context: SkillContext) -> Judgement:
        found = Judgement()
        base, changed = clean_checkout(context, "before"), clean_checkout(context, "after")
        try:
            changed.apply(patch)
        except GitError as problem:
            found.block("does-not-apply", problem.problem)
            return found
        found.changes = changed.changes()
        for why in refusals(found.changes, ticket_folder(context.ticket.id)):
            found.block("refused", why)
        for each in find_secrets(patch):
            found.block("credential", f"looks like a {each.kind}", f"{each.path}:{each.line}")
        found.findings += inspect(changed, found.changes)
        if any(finding.rule == "refused" for finding in found.findings):
            return found  # it would not reach the branch: nothing of it is run
        command, _ = test_command(base)
        network = network_of(context)
        seconds, scratch = context.seconds / 4.5, context.out.parent / "results"
        if scanner := scan_command(base):
            context.progress("the repository's own code scan, before and after the change")
            found.findings += scanner_changed(scanner, base, found.changes)
            found.scan = scan(sandbox, scanner, base, changed, scratch, context.seconds / 10, network=network)
            found.findings += judge_scan(found.scan)
        context.progress("the project's tests, on a clean checkout before and after the change")
        found.tests = TestReport(
            patch_sha256=hashlib.sha256(patch).hexdigest(),
            base_commit=brief.base_commit,
            before=run_tests(sandbox, command, base.tree, scratch, seconds, network=network),
            after=run_tests(sandbox, command, changed.tree, scratch, seconds, network=network),
        )
        found.findings += judge_tests(found.tests)
        found.acceptance = self._accept(brief, patch, command, seconds, sandbox, context, found)
        return found

    def _accept(
        self, brief: ChangeBrief, patch: bytes, command: tuple[str, ...], seconds: float, sandbox: Sandbox,
        context: SkillContext, found: Judgement,
    ) -> TestRun | None:  # fmt: skip
        """The ticket's own tests, on a tree that no other test has run in and without network: what is hidden from a
        model is not given to code of its either."""
        names = context.ticket.acceptance_tests
        if not names:
            return None
        context.progress("the ticket's own tests")
        checkout = clean_checkout(context, "accepted")
        checkout.apply(patch)
        folder = checkout.tree / f"acceptance_of_ticket_{context.ticket.id}"
        folder.mkdir()
        only = []
        for number, name in enumerate(names):
            file, text = ticket_file(name, "acceptance_tests", context.roots, LARGEST_TEST)
            if file not in brief.acceptance_tests:
                found.block("acceptance", "is no longer what the brief names", file.name)
            place = folder / f"test_acceptance_{number}.py"
            place.write_bytes(text)
            only.append(place.relative_to(checkout.tree).as_posix())
        scratch = context.out.parent / "accepted-results"
        run = run_tests(sandbox, command, checkout.tree, scratch, seconds, only=tuple(only))
        if run.error:
            found.block("acceptance", f"the ticket's own tests did not run: {run.error}")
        elif not run.names("passed") | run.names("failed"):
            found.block("acceptance", "none of the ticket's own tests ran")
        for test in sorted(run.names("failed")):
            found.block("acceptance", "the ticket's own test fails", test)
        return run

    def _output(self, report: ReviewReport, found: Judgement, warnings: tuple[str, ...]) -> SkillOutput:
        blocking, attention = report.of("blocking"), report.of("attention")
        tests, accepted = report.tests, report.acceptance
        after = tests.after.names("passed") if tests else frozenset()
        new, fixed, removed = (
            (tests.new, tests.fixed, tests.removed) if tests else (frozenset(), frozenset(), frozenset())
        )
        failed = len(tests.after.names("failed")) + bool(tests.after.error) if tests else 1
        unaccepted = len(accepted.names("failed")) + bool(accepted.error) if accepted else 0
        passed = accepted.names("passed") if accepted else frozenset()
        held = "no acceptance test" if accepted is None else f"{len(passed)} acceptance tests passed"
        verdict = "; ".join(f"{each.rule}: {each.where or each.what}" for each in blocking[:3]) or "nothing blocks"
        scanned = report.scan if report.scan is not None and not report.scan.error else None
        looked = "credentials, unsafe calls, tests, dependencies, licences, size"
        return SkillOutput(
            summary=f"{verdict}; {len(attention)} points for attention; {held}",
            ticked=(
                TickedItem(item="measured-independently", evidence=f"review-report.json: {failed} failed"),
                TickedItem(item="acceptance-tested", evidence=f"review-report.json: {held}"),
                TickedItem(item="contents-searched", evidence=f"review-report.json: {looked}"),
                TickedItem(item="limits-named", evidence="review-report.md: what it cannot see"),
            ),
            measurements=(
                Measurement(scope="review", name="blocking", value=float(len(blocking))),
                Measurement(scope="review", name="attention", value=float(len(attention))),
                Measurement(scope="review", name="unsafe", value=float(sum(e.rule == UNSAFE for e in attention))),
                Measurement(scope="review", name="failed", value=float(failed)),
                Measurement(scope="review", name="passed", value=float(len(after))),
                Measurement(scope="review", name="new", value=float(len(new))),
                Measurement(scope="review", name="fixed", value=float(len(fixed))),
                Measurement(scope="review", name="removed", value=float(len(removed))),
                Measurement(scope="review", name="acceptance_failed", value=float(unaccepted)),
                Measurement(scope="review", name="acceptance_passed", value=float(len(passed))),
                Measurement(scope="review", name="files", value=float(len(found.changes))),
                Measurement(scope="review", name="lines", value=float(sum(e.added + e.removed for e in found.changes))),
                *(_scanned(scanned) if scanned else ()),
            ),
            paths={"review-report.json": tuple(report.files)},
            warnings=(
                *warnings,
                *(f"{each.rule}: {each.where} {each.what}" for each in (*blocking, *attention)[:10]),
                *(contacts_of(tests.before, "before the change") if tests else ()),
                *(contacts_of(tests.after, "after the change") if tests else ()),
            ),
        )


def _scanned(scan: CodeScan) -> tuple[Measurement, ...]:
    """Figures of a scan that was one: without it they are not measured, and a criterion that reads them fails."""
    return (
        Measurement(scope="review", name="scan_error", value=float(scan.added("error"))),
        Measurement(scope="review", name="scan_warning", value=float(scan.added("warning"))),
        Measurement(scope="review", name="scan_note", value=float(scan.added("note"))),
        Measurement(scope="review", name="scan_suppressed", value=float(scan.silenced)),
    )
