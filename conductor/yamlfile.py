"""Reading the YAML of definitions: plain data, the line of every value, and everything that is wrong with it at once.

No tags, no merge keys, no doubled fields; dates stay text. Nothing here raises for what stands in a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

MAX_BYTES = 256_000
MAX_DEPTH = 12
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Path = tuple[str | int, ...]

_PLAIN = "tag:yaml.org,2002:"
_TEXT = frozenset({_PLAIN + kind for kind in ("str", "timestamp", "value")})
_scalars = yaml.constructor.SafeConstructor()
_TYPED = {
    _PLAIN + "int": _scalars.construct_yaml_int,
    _PLAIN + "float": _scalars.construct_yaml_float,
    _PLAIN + "bool": _scalars.construct_yaml_bool,
    _PLAIN + "null": _scalars.construct_yaml_null,
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file: `line` counts from 1, `field` is where (`phases.2.agent`), `reason` also says what to
    do. As text it is one line, whatever the file holds."""

    file: str
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        text = f"{self.file}:{self.line}: {where}{self.reason}"
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@dataclass(slots=True)
class Document:
    """What a file holds. `problems` grows while it is read and checked.

    `names` keeps what stood at a path before it was replaced by what it refers to.
    """

    file: str
    tree: Any = None
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)

    def add(self, path: Sequence[str | int], reason: str) -> None:
        """Note a problem with the value at `path`."""
        self.problems.append(Problem(self.file, self.line(path), dotted(path), reason))

    def line(self, path: Iterable[str | int]) -> int:
        """The line of the deepest value on `path` that is written down; 1 if none is."""
        line, node = 1, self.tree
        for part in path:
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if k.value == part), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def at(self, *path: str | int) -> Any:
        """The value at `path`, or None."""
        value = self.data
        for part in path:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def items(self, *path: str | int) -> Iterator[tuple[int, Any]]:
        """The numbered entries of the list at `path`; none if there is no list."""
        value = self.at(*path)
        return enumerate(value) if isinstance(value, list) else enumerate(())


def dotted(path: Iterable[str | int]) -> str:
    """`phases.2.agent`."""
    return ".".join(str(part) for part in path)


def read(text: str, file: str) -> Document:
    """The document in `text`; what is wrong with it is in its `problems`, and then `data` may lack parts."""
    document = Document(file)
    if len(text) > MAX_BYTES:
        document.add((), f"is longer than {MAX_BYTES} characters: a definition is a page or two; write a shorter file")
        return document
    if (deep := _too_deep(text)) is not None:
        document.problems.append(Problem(file, deep, "", "is nested too deeply; write plain fields and lists"))
        return document
    try:
        document.tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if document.tree is None:
            document.add((), "the file is empty; docs/pipelines.md shows what to write")
        else:
            document.data = _Reader(document).value(document.tree, ())
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None) or getattr(problem, "context_mark", None)
        line = mark.line + 1 if mark else text.count("\n", 0, getattr(problem, "position", 0)) + 1
        said = " ".join(str(getattr(problem, "problem", None) or getattr(problem, "reason", problem)).split())
        document.problems.append(Problem(file, line, "", f"not YAML: {said}; {_remedy(said, text)}"))
    return document


def _too_deep(text: str) -> int | None:
    """The line where the nesting passes what anybody writes; looking at bare events takes no memory."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_FAST):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH and event.start_mark is not None:
                return event.start_mark.line + 1
    except yaml.YAMLError:
        return None  # composing it says why
    return None


def _remedy(said: str, text: str) -> str:
    if "\\t" in said or "\t" in text:
        return "use spaces, not tabs"
    if "mapping values" in said:
        return "put quotes around a value with a colon in it"
    return "check quotes, brackets and the spaces before each line up to here"


class _Reader:
    """Makes plain data of nodes; an anchor used twice is made once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()

    def value(self, node: Any, path: Path) -> Any:
        if id(node) in self._made:
            return self._made[id(node)]
        if id(node) in self._open:
            self._say(node, path, "is an anchor that holds itself; write the value out")
            return None
        self._open.add(id(node))
        made: Any
        if isinstance(node, yaml.ScalarNode):
            made = self._scalar(node, path)
        elif isinstance(node, yaml.SequenceNode):
            self._untagged(node, path, "seq")
            made = [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        else:
            self._untagged(node, path, "map")
            made = self._mapping(node, path)
        self._open.discard(id(node))
        self._made[id(node)] = made
        return made

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._say(key, path, "has a field name that is no text; write `name: value`")
            elif key.tag == _PLAIN + "merge":
                self._say(key, path, "`<<` is not taken; write the fields out")
            elif key.value in made:
                self._say(key, (*path, key.value), f"{key.value!r} is given twice; keep one of the two")
            else:
                made[key.value] = self.value(value, (*path, key.value))
        return made

    def _scalar(self, node: Any, path: Path) -> Any:
        make = _TYPED.get(node.tag)
        if make is None:
            if node.tag not in _TEXT:
                self._say(node, path, f"uses the tag {node.tag.removeprefix(_PLAIN)!r}; remove it, or quote the text")
            return node.value
        try:
            return make(node)
        except (ValueError, KeyError, IndexError):
            self._say(node, path, f"{node.value[:40]!r} is no {node.tag.removeprefix(_PLAIN)}; put quotes around text")
            return None

    def _untagged(self, node: Any, path: Path, kind: str) -> None:
        if node.tag != _PLAIN + kind:
            self._say(node, path, f"uses the tag {node.tag.removeprefix(_PLAIN)!r}; remove it")

    def _say(self, node: Any, path: Path, reason: str) -> None:
        line = node.start_mark.line + 1
        self._document.problems.append(Problem(self._document.file, line, dotted(path), reason))


def misspelt(name: str, known: Iterable[str]) -> str:
    """What to write instead of `name`: the closest known one first, then all."""
    choices = sorted(known)
    close = difflib.get_close_matches(name.lower(), choices, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known are {', '.join(choices) or 'none'}"


PATTERNS = {
    r"^[a-z][a-z0-9-]{1,40}$": "2 to 41 lower-case letters, digits and hyphens, a letter first",
    r"^[a-z][a-z0-9-]{1,60}$": "2 to 61 lower-case letters, digits and hyphens, a letter first",
    r"^[a-z][a-z0-9-]{0,62}$": "1 to 63 lower-case letters, digits and hyphens, a letter first",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "one file name of letters, digits, `.`, `_` and `-`, without a folder",
    r"^[a-z][a-z0-9_]*\.(\*|[a-z][a-z0-9_]*)$": "`area.skill`, or `area.*` for all skills of an area",
    r"^[a-z][a-z0-9_]{0,31}\.([a-z][a-z0-9_]{0,63}\*?|\*)$": "`scope.figure`, or `scope.*` for all of a scope",
}


def explain(document: Document, error: ValidationError, model: type[BaseModel], told: frozenset[str]) -> None:
    """Note what pydantic found, in words that say what to do. Errors of the types in `told` are noted elsewhere."""
    for item in error.errors(include_url=False):
        path = tuple(item["loc"])
        short = item["type"] == "too_short" and len(document.at(*path) or ()) >= item["ctx"]["min_length"]
        if item["type"] not in told and not short:  # pydantic does not count entries that are wrong themselves
            document.add(path, _said(item, path, model))


def _said(item: Mapping[str, Any], path: Path, model: type[BaseModel]) -> str:
    kind, value, details = item["type"], item["input"], item.get("ctx", {})
    shown = f"is {str(value)[:60]!r}, but " if isinstance(value, str | int | float) else ""
    if kind == "missing":
        return f"is missing; add `{path[-1]}: …`"
    if kind == "extra_forbidden":
        return f"is no known field; {misspelt(str(path[-1]), _fields(model, path[:-1]))}"
    if kind in ("enum", "literal_error"):
        expected = re.findall(r"'([^']+)'", str(details.get("expected", "")))
        return f"is {str(value)[:60]!r}; {misspelt(str(value), expected)}"
    if kind == "string_pattern_mismatch":
        pattern = str(details["pattern"])
        return f"{shown}it must be {PATTERNS.get(pattern, pattern)}"
    if kind == "string_type":
        return f"{shown}must be text; put quotes around it"
    if kind == "tuple_type":
        return f"{shown}must be a list, such as `[a, b]`"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{shown}must be `field: value` lines"
    if kind == "too_short":
        return f"must have at least {details['min_length']} entry"
    if kind == "value_error":
        return str(details["error"])
    said = str(item["msg"])
    return f"{shown}{said[0].lower()}{said[1:]}" if said else f"{shown}is wrong"


def _fields(model: type[BaseModel], path: Path) -> Iterable[str]:
    """The fields of the model that `path` leads to."""
    current: type[BaseModel] = model
    for part in path:
        if isinstance(part, str) and part in current.model_fields:
            inner = _model_in(current.model_fields[part].annotation)
            current = inner or current
    return current.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner)) is not None), None)
