"""YAML that people write by hand, read without surprises: text stays text, and every value knows its line.

Only mappings, lists and scalars. Scalars come out as the text that stands there (None if nothing does) and get their
type from the field they are for; so `requester: no` is a person called no, and `id: 012` is not ten. Anchors, aliases,
tags, duplicate keys, deep nesting and large files are refused: they are errors or attacks, never needed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

MAX_BYTES = 256_000
_MAX_DEPTH = 8
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file. `line` counts from 1; None where there is none."""

    field: str
    reason: str
    remedy: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}`{self.field}` {self.reason}; {self.remedy}"


class Unreadable(ValueError):
    """Text that is not the YAML we take."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(slots=True)
class Document:
    """A mapping as plain data, and the line of each value by its path (`("budget", "usd")`)."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Iterable[str | int]) -> int | None:
        """The line of the value at `path`, or of the nearest one around it that is written down."""
        steps = tuple(path)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps)


def read(text: str, first_line: int = 1) -> Document:
    """Parse a YAML mapping; `first_line` is the number of its first line in the file.

    Raises Unreadable with line, reason and remedy.
    """
    document = Document()
    try:
        _refuse_tricks(text, first_line)
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return document
        if not isinstance(node, yaml.MappingNode):
            raise Unreadable(
                Problem("file", "is no list of `field: value` lines", "write one field a line", first_line)
            )
        document.data = _plain(node, (), document.lines, first_line)
    except yaml.YAMLError as problem:
        raise Unreadable(_broken(problem, text, first_line)) from problem
    return document


def _refuse_tricks(text: str, first_line: int) -> None:
    """Look at the bare events, which takes no memory whatever the text expands to."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + first_line if event.start_mark else first_line
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            remedy = "write the value out; a `*` or `&` at its start needs quotes around it"
            raise Unreadable(Problem("file", "uses a YAML anchor or alias, which is not allowed", remedy, line))
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            remedy = "remove it; a `!` at the start of a text needs quotes around it"
            raise Unreadable(Problem("file", f"uses the YAML tag {event.tag!r}, which is not allowed", remedy, line))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise Unreadable(Problem("file", "is nested too deeply", "write plain values and simple lists", line))


def _plain(node: Any, path: Path, lines: dict[Path, int], first_line: int) -> Any:
    lines.setdefault(path, node.start_mark.line + first_line)
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + first_line
            if not isinstance(key, yaml.ScalarNode):
                raise Unreadable(Problem("file", "has a field name that is no text", "write `name: value`", line))
            name = key.value
            if name in found:
                before = lines[(*path, name)]
                remedy = "keep one of the two"
                raise Unreadable(
                    Problem(_dotted((*path, name)), f"is written twice (first in line {before})", remedy, line)
                )
            lines[(*path, name)] = line
            found[name] = _plain(value, (*path, name), lines, first_line)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, number), lines, first_line) for number, item in enumerate(node.value)]
    empty = not node.style and node.value in ("", "~", "null", "Null", "NULL")
    return None if empty else node.value


def _broken(problem: yaml.YAMLError, text: str, first_line: int) -> Problem:
    mark = getattr(problem, "problem_mark", None) or getattr(problem, "context_mark", None)
    reason = getattr(problem, "problem", None) or getattr(problem, "reason", None) or str(problem)
    line = mark.line + first_line if mark else None
    remedy = "write `field: value`, with quotes around a value that contains `: ` or begins with a special character"
    if "\t" in text:
        remedy = "use spaces instead of tabs"
    elif "mapping values" in str(reason):
        remedy = "put quotes around the value: it contains a colon"
    return Problem("file", f"is not valid YAML ({' '.join(str(reason).split())})", remedy, line)


def problems_of(
    error: ValidationError, document: Document, model: type[BaseModel], remedies: Mapping[str, str]
) -> list[Problem]:
    """What pydantic found, in our words: `remedies` says for each top-level field how it is written."""
    found = []
    for item in error.errors():
        path = tuple(item["loc"])
        top = str(path[0]) if path else _named_in(item["msg"], model)
        name = _dotted(path) or top
        line = document.line(path or (top,))
        remedy = remedies.get(top, "see the documentation of this field")
        if item["type"] == "extra_forbidden":
            known = _siblings(model, path[:-1])
            found.append(Problem(name, "is no known field", did_you_mean(str(path[-1]), known), line))
        elif item["type"] == "missing":
            found.append(Problem(name, "is missing", remedy))
        else:
            found.append(Problem(name, _reason(item), remedy, line))
    return found


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name: the closest known one, or all of them."""
    choices = sorted(known)
    close = difflib.get_close_matches(name.lower().replace("-", "_"), choices, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else f"known fields are {', '.join(choices)}"


def _named_in(message: str, model: type[BaseModel]) -> str:
    """The field a rule over several fields speaks of."""
    words = re.findall(r"[a-z_]+", message.replace("blocked by", "blocked_by"))
    return next((name for name in model.model_fields if name in words), "file")


def _siblings(model: type[BaseModel], path: Path) -> Iterable[str]:
    """The fields of the model that `path` leads to."""
    current: Any = model
    for step in path:
        if isinstance(step, int):
            continue
        annotation = current.model_fields[step].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        current = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), model)
    return set(current.model_fields)


def _reason(item: Any) -> str:
    said = re.sub(r"^(Value error, |Input )", "", item["msg"])
    value = item["input"]
    if isinstance(value, str | int | float) and item["type"] != "value_error":
        return f"is {str(value)[:80]!r}, but {said}"
    return f"is wrong: {said}" if not said.startswith("should") else f"{said}"


def _dotted(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
