"""An issue's text as a ticket: YAML front matter, or the headings that a GitHub issue form writes. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from autopilot.frontmatter import NOT_WRITTEN, OWN_REMEDY, build, parse_ticket
from autopilot.plainyaml import Document, Problem
from schemas.ticket import Ticket

_HEADING = re.compile(r"^###[ \t]+(?P<name>\S.*?)[ \t]*#*[ \t]*$")
_CODE = re.compile(r"^[ \t]*(```|~~~)")
_ITEM = re.compile(r"^[ \t]*[-*+][ \t]+(\[[ xX]\][ \t]+)?")
EMPTY = "_No response_"
"""What GitHub writes for a field of a form that was left empty."""
LISTS = ("acceptance", "acceptance_tests", "blocked_by")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "pipeline": ("pipeline",), "data": ("data",), "data file": ("data",), "data set": ("data",), "target": ("target",),
    "target column": ("target",), "task": ("task",), "metric": ("metric",), "groups": ("groups",), "time": ("time",),
    "acceptance": ("acceptance",), "acceptance criteria": ("acceptance",), "risk": ("risk",),
    "blocked by": ("blocked_by",), "budget usd": ("budget", "usd"), "budget minutes": ("budget", "minutes"),
    "model": ("model",), "package": ("package",), "change": ("change",), "repository": ("repository",),
    "acceptance tests": ("acceptance_tests",),
}  # fmt: skip
"""Headings that are fields, in lower case with words parted by one blank."""
_NOT_TAKEN = frozenset(
    {"id", "title", "labels", "assignee", "state", "locked", "created", "requester"}
    | {n.replace("_", " ") for n in NOT_WRITTEN}
)


def parse_issue(text: str, source: str, own: Mapping[str, Any]) -> Ticket:
    """The ticket in an issue's text. `own` is what the issue itself says (number, title, labels, author …) and its text
    may not. A text with neither front matter nor a field's heading is free text, all of it. Raises TicketError."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((line.rstrip() for line in lines if line.strip()), "")
    if first == "---":
        return parse_ticket(text.lstrip("\ufeff \t\r\n"), source, own)
    document, problems = _form(lines)
    return build(document, text.strip("\r\n"), source, problems, own)


def _form(lines: list[str]) -> tuple[Document, list[Problem]]:
    """The fields that headings name, with the line of each."""
    document, problems = Document(), list[Problem]()
    for name, number, content in _sections(lines):
        key = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
        path = _NAMES.get(key)
        if path is None:
            if key in _NOT_TAKEN:
                problems.append(Problem(key, "is not a field to write here", OWN_REMEDY, number))
            elif near := difflib.get_close_matches(key, _NAMES, n=1, cutoff=0.8):
                remedy = f"did you mean `### {near[0].capitalize()}`?"
                problems.append(Problem(name, "is no known field", remedy, number))
            continue
        if path in document.lines:
            problems.append(Problem(".".join(path), "is there twice", "keep one of the headings", number))
            continue
        document.lines[path] = number
        value = _value(path[0], content)
        if isinstance(value, list) and path[0] not in LISTS:
            problems.append(Problem(".".join(path), "has more than one line", "write one value", number))
        elif len(path) == 1:
            document.data[path[0]] = value
        elif value is not None:
            document.lines.setdefault(path[:1], number)
            document.data.setdefault(path[0], {})[path[1]] = value
    return document, problems


def _sections(lines: list[str]) -> list[tuple[str, int, list[str]]]:
    """Heading, its line from 1, and the lines below it. Headings in code are none."""
    found: list[tuple[str, int, list[str]]] = []
    fence = ""
    for number, line in enumerate(lines, 1):
        code = _CODE.match(line)
        if code and not fence:
            fence = code[1]
        elif code and code[1] == fence:
            fence = ""
        heading = None if fence or code else _HEADING.match(line)
        if heading:
            found.append((heading["name"], number, []))
        elif found:
            found[-1][2].append(line)
    return found


def _value(field: str, content: list[str]) -> Any:
    """The text of a field: None when left out, a list where there are several lines or items."""
    kept = [line.strip() for line in content if line.strip() and not _CODE.match(line)]
    if not kept or kept == [EMPTY]:
        return None
    if field in LISTS:
        return [_ITEM.sub("", line) for line in kept] if len(kept) > 1 or field != "blocked_by" else kept[0]
    return kept[0] if len(kept) == 1 else kept
