"""Findings from a SARIF 2.1.0 report. A scanner nobody vouches for wrote it: bounded, and what is not understood is
an error, never "nothing found".

Read are the parts of the published schema that say what was found, how grave and where; the rest is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.skills.change.junit import ReportError
from agents.skills.change.shapes import ScanFinding, ScanLevel

LARGEST = 20_000_000
"""Bytes of a report."""
MOST = 20_000
"""Results of a report."""
_LONGEST = 300
_SEEN = frozenset({"fail", "open", "review"})
"""Kinds of results that are findings; the others say that something is in order, or does not apply."""


class _Part(BaseModel):
    """A part of a report; what it holds besides is nobody's error."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


def _named(name: str, default: Any = None) -> Any:
    return Field(default=default, alias=name)


_Level = Literal["none", "note", "warning", "error"]


class _Message(_Part):
    text: str | None = None
    id: str | None = None
    arguments: tuple[str, ...] = ()


class _Artifact(_Part):
    uri: str | None = None
    index: int = -1


class _Region(_Part):
    start_line: Annotated[int, Field(ge=1)] | None = _named("startLine")


class _Physical(_Part):
    artifact: _Artifact = _named("artifactLocation", _Artifact())
    region: _Region = _Region()


class _Location(_Part):
    physical: _Physical = _named("physicalLocation", _Physical())


class _Configuration(_Part):
    level: _Level = "warning"


class _Rule(_Part):
    id: str
    configuration: _Configuration = _named("defaultConfiguration", _Configuration())
    messages: dict[str, _Message] = _named("messageStrings", {})


class _Driver(_Part):
    name: str
    rules: tuple[_Rule, ...] = ()


class _Tool(_Part):
    driver: _Driver
    extensions: tuple[_Driver, ...] = ()


class _RuleReference(_Part):
    id: str | None = None
    index: int = -1


class _Suppression(_Part):
    kind: Literal["inSource", "external"]
    status: Literal["accepted", "underReview", "rejected"] = "accepted"


class _Result(_Part):
    message: _Message
    rule_id: str | None = _named("ruleId")
    rule_index: int = _named("ruleIndex", -1)
    rule: _RuleReference = _RuleReference()
    kind: Literal["notApplicable", "pass", "fail", "review", "open", "informational"] = "fail"
    level: _Level | None = None
    state: Literal["new", "unchanged", "updated", "absent"] | None = _named("baselineState")
    locations: tuple[_Location, ...] = ()
    suppressions: tuple[_Suppression, ...] | None = None


class _Notification(_Part):
    level: _Level = "warning"
    message: _Message


class _Invocation(_Part):
    successful: bool = _named("executionSuccessful", ...)
    notifications: tuple[_Notification, ...] = _named("toolExecutionNotifications", ())


class _ArtifactListed(_Part):
    location: _Artifact = _Artifact()


class _Run(_Part):
    tool: _Tool
    results: tuple[_Result, ...] | None = None
    invocations: tuple[_Invocation, ...] = ()
    artifacts: tuple[_ArtifactListed, ...] = ()


class _Report(_Part):
    version: Literal["2.1.0"]
    runs: tuple[_Run, ...]


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a report says: the tools by name, and their findings."""

    tools: tuple[str, ...]
    findings: tuple[ScanFinding, ...]


def read_sarif(path: Path, tree: Path) -> Scanned:
    """The findings in the report at `path` of a scan of `tree`, with paths relative to it. Raises ReportError when
    there is no report, when it is none, when it is too large, and when a scanner says in it that it failed."""
    if path.is_symlink() or not path.is_file():
        raise ReportError("it wrote no SARIF report")
    if path.stat().st_size > LARGEST:
        raise ReportError(f"its SARIF report has more than {LARGEST:,} bytes")
    try:
        report = _Report.model_validate(json.loads(path.read_bytes().decode("utf-8-sig")))
    except (ValueError, RecursionError) as problem:
        raise ReportError(f"its report is no SARIF 2.1.0: {_why(problem)}") from problem
    if not report.runs:
        raise ReportError("its SARIF report holds no run")
    if sum(len(run.results or ()) for run in report.runs) > MOST:
        raise ReportError(f"its SARIF report holds more than {MOST:,} results")
    findings: list[ScanFinding] = []
    for run in report.runs:
        _check(run)
        findings += _findings(run, tree)
    return Scanned(tuple(run.tool.driver.name[:100] for run in report.runs), tuple(findings))


def _why(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:_LONGEST]
    return f"{type(problem).__name__}: {problem}"[:_LONGEST]


def _check(run: _Run) -> None:
    """A scanner that failed, or that says of no results, found nothing because it looked at nothing."""
    name = run.tool.driver.name[:100]
    if run.results is None:
        raise ReportError(f"the report of {name} has no `results`: it did not scan")
    for invocation in run.invocations:
        if not invocation.successful:
            told = next((n.message.text for n in invocation.notifications if n.level == "error"), None) or "no reason"
            raise ReportError(f"{name} says that it failed: {' '.join(told.split())[:_LONGEST]}")


def _findings(run: _Run, tree: Path) -> Iterator[ScanFinding]:
    listed = run.tool.driver.rules + tuple(rule for tool in run.tool.extensions for rule in tool.rules)
    rules = {rule.id: rule for rule in listed}
    for result in run.results or ():
        rule_id = result.rule_id or result.rule.id or ""
        index = result.rule_index if result.rule_index >= 0 else result.rule.index
        rule = rules.get(rule_id)
        if rule is None and 0 <= index < len(run.tool.driver.rules):
            rule = run.tool.driver.rules[index]
        level = _level(result, rule)
        if level is None or result.state == "absent":
            continue
        path, line = _place(result, run, tree)
        yield ScanFinding(
            rule=(rule_id or (rule.id if rule else "") or "unnamed")[:100], level=level,
            what=_text(result.message, rule).replace(f"{tree}/", "")[:_LONGEST], path=path, line=line,
            suppressed=_suppressed(result),
        )  # fmt: skip


def _level(result: _Result, rule: _Rule | None) -> ScanLevel | None:
    """As the standard says: the result's own, else the rule's, else a warning; one without a level is no finding."""
    if result.kind not in _SEEN:
        return None
    if result.kind != "fail":
        return "note"
    level = result.level or (rule.configuration.level if rule else "warning")
    return None if level == "none" else level


def _suppressed(result: _Result) -> bool:
    return bool(result.suppressions) and all(each.status == "accepted" for each in result.suppressions or ())


def _place(result: _Result, run: _Run, tree: Path) -> tuple[str, int]:
    """Path and line (0: none) of the first place."""
    if not result.locations:
        return "", 0
    physical = result.locations[0].physical
    uri = physical.artifact.uri
    if uri is None and 0 <= physical.artifact.index < len(run.artifacts):
        uri = run.artifacts[physical.artifact.index].location.uri
    path = unquote(urlsplit(uri).path if (uri or "").startswith("file:") else uri or "")
    return path.removeprefix(f"{tree}/").removeprefix("./")[:_LONGEST], physical.region.start_line or 0


def _text(message: _Message, rule: _Rule | None) -> str:
    text = message.text
    if text is None and message.id and rule and message.id in rule.messages:
        text = rule.messages[message.id].text
    for number, argument in enumerate(message.arguments):
        text = (text or "").replace(f"{{{number}}}", argument)
    return " ".join((text or message.id or "no message").split())
