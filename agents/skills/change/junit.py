"""Outcomes of tests from a JUnit XML report. It was written by code nobody vouches for: bounded, and no DTD."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from agents.skills.change.shapes import Outcome

LARGEST = 50_000_000
"""Bytes of a report."""


class ReportError(ValueError):
    """There is no report, or it is none."""


def read_junit(path: Path) -> dict[str, Outcome]:
    """What each test came to, by `class::name`. A name that occurs twice fails if one of them does. Raises
    ReportError."""
    if path.is_symlink() or not path.is_file():
        raise ReportError("it wrote no JUnit report")
    if path.stat().st_size > LARGEST:
        raise ReportError(f"its JUnit report has more than {LARGEST:,} bytes")
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ReportError("its JUnit report has a document type, which none needs")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  # without a document type there are no entities to expand
    except ElementTree.ParseError as problem:
        raise ReportError(f"its JUnit report is no XML: {problem}") from problem
    found: dict[str, Outcome] = {}
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        outcome = _outcome(case)
        if found.get(name) != "failed":
            found[name] = outcome
    return found


def _outcome(case: ElementTree.Element) -> Outcome:
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"
