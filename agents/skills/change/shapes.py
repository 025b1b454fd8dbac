"""The shapes of the JSON artifacts that the skills of a code change hand to each other."""

from __future__ import annotations

from typing import Literal

from schemas.values import Sha256, Value


class TicketFile(Value):
    """A file the ticket names: its path below the backlog, and the digest of the bytes that were read."""

    name: str
    sha256: Sha256


class ChangeBrief(Value):
    """`change-brief.json`: what is to be changed, from where on, and what must hold afterwards."""

    ticket: int
    title: str
    repository: str
    """The repository's name: the last part of its path."""
    base_commit: str
    change: TicketFile | None
    """The patch the ticket brings; None when a planner writes the change."""
    test_command: tuple[str, ...]
    test_command_from: str
    scan_command: tuple[str, ...] = ()
    """The repository's own code scanner; empty where it names none."""
    acceptance_tests: tuple[TicketFile, ...]
    acceptance: tuple[str, ...]
    budget_minutes: float
    budget_usd: float


Outcome = Literal["passed", "failed", "skipped"]


class TestRun(Value):
    """One run of a project's tests: what each came to, by name. `error` says why there are none, else empty. `contacts`
    are the hosts they reached or were refused, a line each."""

    __test__ = False

    command: tuple[str, ...]
    outcomes: dict[str, Outcome]
    seconds: float
    exit_code: int | None
    contained: bool
    error: str = ""
    contacts: tuple[str, ...] = ()

    def names(self, outcome: Outcome) -> frozenset[str]:
        """The tests with this outcome."""
        return frozenset(name for name, each in self.outcomes.items() if each == outcome)


class TestReport(Value):
    """`test-report.json`: the project's tests before and after the change."""

    __test__ = False

    patch_sha256: Sha256
    base_commit: str
    before: TestRun
    after: TestRun

    @property
    def new(self) -> frozenset[str]:
        """Tests that were not there before."""
        return frozenset(self.after.outcomes) - frozenset(self.before.outcomes)

    @property
    def removed(self) -> frozenset[str]:
        """Tests that are no longer there."""
        return frozenset(self.before.outcomes) - frozenset(self.after.outcomes)

    @property
    def fixed(self) -> frozenset[str]:
        """Tests that failed before and pass now."""
        return self.before.names("failed") & self.after.names("passed")

    @property
    def broken(self) -> frozenset[str]:
        """Tests that passed before and fail now."""
        return self.before.names("passed") & self.after.names("failed")

    @property
    def silenced(self) -> frozenset[str]:
        """Tests that ran before and are skipped now."""
        return (self.before.names("passed") | self.before.names("failed")) & self.after.names("skipped")


class Finding(Value):
    """Something a review found. `blocking` ends it; `attention` is for the person at the gate."""

    level: Literal["blocking", "attention"]
    rule: str
    what: str
    where: str = ""


ScanLevel = Literal["error", "warning", "note"]


class ScanFinding(Value):
    """Something the repository's own scanner found, as its report has it. `line` is 0 where it names none."""

    rule: str
    level: ScanLevel
    what: str
    path: str
    line: int
    suppressed: bool = False
    """Whether a comment in the code, or a list, says that it is no finding."""


class CodeScan(Value):
    """The scanner's findings on the base and on the changed tree: counts by level (`suppressed` ones apart), those that
    are new, and how many are gone. `error` says why there was no scan, else empty. Seconds are of both runs."""

    command: tuple[str, ...]
    tools: tuple[str, ...]
    before: dict[str, int]
    after: dict[str, int]
    new: tuple[ScanFinding, ...]
    gone: int
    seconds: float
    contained: bool
    error: str = ""
    contacts: tuple[str, ...] = ()

    def added(self, level: ScanLevel) -> int:
        """How many new findings have this level and are not suppressed."""
        return sum(each.level == level and not each.suppressed for each in self.new)

    @property
    def silenced(self) -> int:
        """How many new findings are suppressed."""
        return sum(each.suppressed for each in self.new)


class ReviewReport(Value):
    """`review-report.json`: the harness's own look at the change."""

    patch_sha256: Sha256
    base_commit: str
    findings: tuple[Finding, ...]
    files: dict[str, str]
    """Path to what happened to it: `added`, `changed` or `removed`, with its lines."""
    tests: TestReport | None
    acceptance: TestRun | None
    scan: CodeScan | None = None
    """What the repository's own scanner found; None where it names none."""

    def of(self, level: Literal["blocking", "attention"]) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level == level)
