"""Running a repository's own code scanner in the sandbox, before and after a change, and what the change adds."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from agents.skill import InputError
from agents.skills.change.junit import ReportError
from agents.skills.change.sarif import Scanned, read_sarif
from agents.skills.change.shapes import CodeScan, Finding, ScanFinding
from agents.skills.change.workplace import SCAN_PLACE
from workspace.changes import Changed
from workspace.checkout import CleanCheckout
from workspace.sandbox.port import NO_NETWORK, Limits, Network, Result, Sandbox, SandboxUnavailable

RULE = "code-scan"
MOST_NAMED = 20
"""How many new findings of one level are named one by one."""


def scan(
    sandbox: Sandbox, command: tuple[str, ...], base: CleanCheckout, changed: CleanCheckout, scratch: Path,
    seconds: float, *, network: Network = NO_NETWORK,
) -> CodeScan:  # fmt: skip
    """Scan the base tree and the changed one, which the scanner can only read; at most `seconds` each.

    Whatever keeps a scan from being one stands in `error`. Raises InputError where it cannot be contained.
    """
    found, errors, results = [], [], []
    for which, checkout in (("without", base), ("with", changed)):
        scanned, result, error = _run(sandbox, command, checkout.tree, scratch, seconds, network)
        found.append(scanned)
        results.append(result)
        errors += [f"{which} the change: {error}"] if error else []
    before, after = found
    return CodeScan(
        command=command,
        tools=tuple(dict.fromkeys((*before.tools, *after.tools))),
        before=_counts(before.findings),
        after=_counts(after.findings),
        new=() if errors else new_findings(before.findings, after.findings),
        gone=0 if errors else len(new_findings(after.findings, before.findings)),
        seconds=round(sum(result.seconds for result in results), 2),
        contained=all(result.contained for result in results),
        error="; ".join(errors),
        contacts=tuple(str(contact) for result in results for contact in result.contacts),
    )


def _run(
    sandbox: Sandbox, command: Sequence[str], tree: Path, scratch: Path, seconds: float, network: Network
) -> tuple[Scanned, Result, str]:  # fmt: skip
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    report = scratch / "scan.sarif"
    words = [word.replace(SCAN_PLACE, str(report)) for word in command]
    try:
        result = sandbox.run(
            words, cwd=tree, writable=(scratch,), limits=Limits(seconds=seconds), network=network
        )  # fmt: skip
    except SandboxUnavailable as problem:
        raise InputError(problem.problem, problem.remedy) from problem
    ending = f"{' '.join(command)}: {result.summary}"
    if result.stopped or result.refused:
        return Scanned((), ()), result, ending
    try:
        return read_sarif(report, tree.resolve()), result, ""
    except ReportError as problem:
        said = " ".join(result.output.split())[-300:] or "it printed nothing"
        return Scanned((), ()), result, f"{ending}, and {problem}: {said}"


def new_findings(before: Iterable[ScanFinding], after: Iterable[ScanFinding]) -> tuple[ScanFinding, ...]:
    """What `after` has and `before` has not, or not as often. Lines do not count: they move with what stands above. A
    finding that was suppressed and no longer is, or the other way round, is another one."""
    old = Counter(map(_same, before))
    new = []
    for each in after:
        if old[_same(each)] > 0:
            old[_same(each)] -= 1
        else:
            new.append(each)
    return tuple(new)


def _same(finding: ScanFinding) -> tuple[str, str, str, bool]:
    return finding.rule, finding.path, finding.what, finding.suppressed


def _counts(findings: Iterable[ScanFinding]) -> dict[str, int]:
    return dict(sorted(Counter("suppressed" if each.suppressed else each.level for each in findings).items()))


def judge_scan(found: CodeScan) -> list[Finding]:
    """For the person at the gate: each new finding; against the change: a scan that was none."""
    if found.error:
        return [Finding(level="blocking", rule=RULE, what=f"the code was not scanned {found.error}"[:600])]
    judged = []
    for level in ("error", "warning", "note", "suppressed"):
        new = [each for each in found.new if ("suppressed" if each.suppressed else each.level) == level]
        judged += [
            Finding(level="attention", rule=RULE, what=f"{level}: {each.rule}: {each.what}",
                    where=f"{each.path}:{each.line}" if each.line else each.path)
            for each in new[:MOST_NAMED]
        ]  # fmt: skip
        if len(new) > MOST_NAMED:
            more = f"{level}: {len(new) - MOST_NAMED} more like these"
            judged.append(Finding(level="attention", rule=RULE, what=more))
    return judged


def scanner_changed(command: Sequence[str], base: CleanCheckout, changes: Sequence[Changed]) -> list[Finding]:
    """Against a change that alters a file that the scan command names: it would be scanned by what it says itself."""
    touched = {each.path for each in changes}
    named = {
        path for word in command for part in (word, word.partition("=")[2])
        if (path := PurePosixPath(part).as_posix()) in touched and (base.tree / path).is_file()
    }  # fmt: skip
    return [
        Finding(level="blocking", rule=RULE, what="the scan command names this file, so no change may bring another",
                where=path)
        for path in sorted(named)
    ]  # fmt: skip


def scan_words(found: CodeScan | None) -> list[str]:
    """The part of the review about the scan."""
    lines = ["## Code scan", ""]
    if found is None:
        return [*lines, "The repository names none (`scan_command`): only Python files were searched.", ""]
    if found.error:
        return [*lines, "Not done; see the reasons above.", ""]
    where = "in the sandbox" if found.contained else "**in no sandbox**"
    return [
        *lines,
        f"{', '.join(found.tools)} ran {where} on both trees ({found.seconds:.1f} s): "
        f"{_told(found.before)} before, {_told(found.after)} after; {len(found.new)} new, {found.gone} gone.",
        "",
    ]


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {level}" for level, count in counts.items()) or "nothing"
