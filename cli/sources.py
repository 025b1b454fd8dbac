"""`sources.yaml` in the home: the named sources that tickets may ask for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autopilot.fetching import Reader
from autopilot.plainyaml import MAX_BYTES, Problem, Unreadable, problems_of, read
from cli.home import Home
from ingest.settings import Sources

REMEDIES = {
    "sql": "docs/operations.md shows a database with its items",
    "s3": "docs/operations.md shows a bucket with its items",
    "name": "give each another name",
}


class SourcesError(ValueError):
    """A file of sources that cannot be used. The message says why, line by line."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{path}: " + " · ".join(str(problem) for problem in problems))


def load_sources(path: Path) -> Sources:
    """The sources in the file; none when there is no file. Raises SourcesError with all that is wrong."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Sources()
    except OSError as problem:
        why = Problem("file", f"cannot be read ({problem.strerror})", "check who may read it")
        raise SourcesError(path, [why]) from problem
    try:
        if len(raw) > MAX_BYTES:
            raise Unreadable(Problem("file", f"is larger than {MAX_BYTES // 1000} kB", "name fewer items"))
        document = read(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        raise SourcesError(path, [Problem("file", "is not UTF-8 text", "save it as UTF-8")]) from problem
    except Unreadable as problem:
        raise SourcesError(path, [problem.problem]) from problem
    try:
        return Sources.model_validate(_present(document.data))
    except ValidationError as error:
        problems = problems_of(error, document, Sources, REMEDIES)
        raise SourcesError(path, sorted(problems, key=lambda p: p.line or 0)) from None


def _present(value: Any) -> Any:
    """Without fields that have no value, which count as left out."""
    if isinstance(value, dict):
        return {name: _present(each) for name, each in value.items() if each is not None}
    return [_present(each) for each in value] if isinstance(value, list) else value


def reader_of(home: Home) -> Reader:
    """What reads the sources of this home."""
    return Reader(partial(load_sources, home.sources), home.path)


def rows(sources: Sources) -> list[dict[str, Any]]:
    """Every item in one line each: what a ticket names, and what that is."""
    return [
        {
            "source": source.name,
            "item": item.name,
            "data": f"source:{source.name}/{item.name}",
            "kind": source.kind,
            "place": source.place,
            "reads": item.shown,
            "limits": source.limits.model_dump(mode="json"),
        }
        for source in sources.all
        for item in source.items
    ]
