"""A review in the making, what test results say against a change, and the review for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.skills.change.scanning import scan_words
from agents.skills.change.shapes import ChangeBrief, CodeScan, Finding, ReviewReport, TestReport, TestRun
from agents.skills.data.markdown import cell, table
from workspace.changes import Changed
from workspace.sandbox.port import Network

MOST_NAMED = 20
"""How many tests of one kind are named one by one."""
_DONE = {"A": "added", "M": "changed", "D": "removed", "T": "changed in kind"}


@dataclass(slots=True)
class Judgement:
    """What is known so far."""

    findings: list[Finding] = field(default_factory=list)
    changes: tuple[Changed, ...] = ()
    tests: TestReport | None = None
    acceptance: TestRun | None = None
    scan: CodeScan | None = None

    def block(self, rule: str, what: str, where: str = "") -> None:
        """One more reason against the change."""
        self.findings.append(Finding(level="blocking", rule=rule, what=what, where=where))


def judge_tests(tests: TestReport) -> list[Finding]:
    """What the project's own tests say against the change."""
    found = Judgement()
    if tests.before.error:
        found.block("tests", f"they do not run without the change: {tests.before.error}")
    if tests.after.error:
        found.block("tests", f"they do not run with the change: {tests.after.error}")
        return found.findings
    if not tests.after.names("passed"):
        found.block("tests", "no test passes with the change")
    failing = tests.after.names("failed")
    kinds = (
        ("failing-test", "fails, and passed before", tests.broken),
        ("failing-test", "fails", failing - tests.broken),
        ("removed-test", "is no longer there", tests.removed),
        ("silenced-test", "is skipped now", tests.silenced),
    )
    for rule, what, names in kinds:
        for name in sorted(names)[:MOST_NAMED]:
            found.block(rule, what, name)
        if len(names) > MOST_NAMED:
            found.block(rule, f"{len(names) - MOST_NAMED} more like these")
    return found.findings


def words(each: Changed) -> str:
    """What happens to one file."""
    lines = "no text" if each.binary else f"+{each.added} −{each.removed}"
    return f"{_DONE.get(each.status, each.status)}, {lines}"


def document(report: ReviewReport, brief: ChangeBrief, network: Network, *, contained: bool) -> str:
    """`review-report.md`."""
    rows = [(each.rule, each.where, each.what) for each in report.of("blocking")]
    more = [(each.rule, each.where, each.what) for each in report.of("attention")]
    tests = [("the project's", run_words(report.tests.before), run_words(report.tests.after))] if report.tests else []
    if report.acceptance:
        tests.append(("the ticket's own", "not run", run_words(report.acceptance)))
    reach = f"that may reach {', '.join(network.hosts)}" if network.hosts else "without network"
    where = f"a sandbox {reach}" if contained else "**no sandbox**: they could reach everything"
    used = [f"- {run}: {cell(line, 300)}" for run, each in _runs(report) for line in each.contacts]
    used += [f"- code scan: {cell(line, 300)}" for line in (report.scan.contacts if report.scan else ())]
    lines = [
        f"# Review of the change for ticket {brief.ticket}: {cell(brief.title, 200)}", "",
        f"Patch {report.patch_sha256[:12]} on commit {report.base_commit[:12]} of {cell(brief.repository)}, applied to",
        f"clean checkouts; tests ran in {where}. The builder's results were not used.", "",
        f"## {len(rows)} reasons against it", "",
        *(table(("rule", "where", "what"), rows) if rows else ["None."]), "",
        f"## {len(more)} points for whoever decides", "",
        *(table(("rule", "where", "what"), more) if more else ["None."]), "",
        "## Tests", "",
        *(table(("tests", "before", "after"), tests) if tests else ["Not run."]), "",
        *scan_words(report.scan),
        *(["## Hosts that tests and scan asked for", "", *used, ""] if used else []),
        "## Files", "",
        *table(("file", "what happens"), report.files.items()), "",
        "## What this review cannot see", "",
        "Whether the change is a good idea; behaviour no test looks at; code that lies to the tests that run in the",
        "same process (read changes of test configuration with that in mind); flaws of dependencies (the skill",
        "devsecops.advisories looks those up); credentials and unsafe calls of a form that is not listed.",
    ]  # fmt: skip
    return "\n".join(lines)


def _runs(report: ReviewReport) -> list[tuple[str, TestRun]]:
    return [("before", report.tests.before), ("after", report.tests.after)] if report.tests else []


def run_words(run: TestRun) -> str:
    """One test run in short."""
    if run.error:
        return run.error
    parts = [f"{len(run.names(kind))} {kind}" for kind in ("passed", "failed", "skipped")]
    return f"{', '.join(parts)} in {run.seconds:.1f} s"
