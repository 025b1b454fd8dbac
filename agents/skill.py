"""The skill port: one unit of real work with typed parameters and a typed result.

A skill is one file below `agents/skills/<area>/` with one `Skill` subclass; it is discovered, never listed. It runs
in a child process of its own, in an empty directory, with only the artifacts it declares staged for it, without
secrets and without the hold-out labels (unless it belongs to the harness). It talks to the world through its
`SkillContext` only.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem, Value


class SkillError(Exception):
    """Base of the failures a skill names itself. The message says what is wrong; `remedy` says what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class InputError(SkillError):
    """What the ticket names cannot be used (data, target, metric …): no retry of the same input can succeed."""


class LimitError(SkillError):
    """A limit of time, memory or money was reached. Terminal: never retried."""


class Parameters(Value):
    """Base of a skill's parameters. Every field has a default, so that a playbook can run the skill as it is."""


class SkillOutput(Value):
    """Base of a skill's result.

    `summary` is one line for people. `ticked` are fulfilled checklist items with their evidence. `measurements` are the
    numbers criteria read. `acceptance` are criteria proposed for the session (Lead, in mode `scope` only). `warnings`
    are sentences a reviewer should see. `paths` are, by artifact, the repository's files that a change was found to
    touch (skills of the harness only): approvers by path are chosen by them.
    """

    summary: str
    ticked: tuple[TickedItem, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    acceptance: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    paths: dict[str, tuple[str, ...]] = Field(default_factory=dict)


P = TypeVar("P", bound=Parameters)
R = TypeVar("R", bound=SkillOutput)

MEDIA_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".svg": "image/svg+xml",
    ".patch": "text/x-diff",
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
    ".dockerfile": "text/plain",
}


@dataclass(frozen=True)
class SkillContext:
    """Everything a skill may know and touch.

    `inputs` maps artifact names to read-only staged files; `out` is the directory for produced artifacts; `roots` are
    the directories ticket data files may lie in (the backlog first); `measured` is what the session measured so far,
    by scope and name; `seed` is the same for every attempt of the session; `now` is the attempt's start, ISO 8601 UTC.
    """

    ticket: Ticket
    acceptance: tuple[str, ...]
    inputs: Mapping[str, Path]
    out: Path
    roots: tuple[Path, ...]
    measured: Mapping[str, Mapping[str, float]]
    seed: int
    now: str
    session: str = "local"
    seconds: float = 600.0
    """Time this skill may take; a search should plan to stay well below it."""
    max_data_bytes: int = 200_000_000
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the record says of the session: `pipeline`, `artifacts` (name to SHA-256), `approvals`, `usage`,
    `sandbox_hosts`; and what the installation sets."""
    kept: Path | None = None
    """Where a skill that `resumes` finds what a killed run of it in this phase kept, and keeps its own; None: nowhere.
    Nothing tells it whether that still fits its inputs: it has to make sure."""
    progress: Callable[[str], None] = lambda message: None
    """Tells observers one line of progress."""

    def path(self, name: str) -> Path:
        """The staged artifact `name`. Raises KeyError if the skill does not declare it in `needs` or `optional`."""
        try:
            return self.inputs[name]
        except KeyError:
            raise KeyError(f"artifact {name!r} is not staged; the skill must declare it in `needs`") from None

    def read_json(self, name: str) -> Any:
        """The staged JSON artifact `name`, parsed."""
        return json.loads(self.path(name).read_text("utf-8"))

    def write_text(self, name: str, text: str) -> Path:
        """Write the artifact `name` as UTF-8 text with a final newline and return its path."""
        path = self.out / name
        path.write_text(text if text.endswith("\n") else text + "\n", "utf-8")
        return path

    def write_json(self, name: str, value: Any) -> Path:
        """Write the artifact `name` as readable JSON with sorted keys (NaN and infinity are refused)."""
        return self.write_text(name, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    """NumPy scalars and the like as plain numbers; anything else is a programming error."""
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


class Skill(ABC, Generic[P, R]):
    """Base of every skill. The class docstring's first line is its help text and its description as an LLM tool."""

    name: ClassVar[str]
    """`area.verb`, unique, for example `data.profile`."""
    role: ClassVar[Role]
    modes: ClassVar[frozenset[Mode]]
    """Modes the skill is allowed in; in any other it is refused."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Artifacts that must have been produced before."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Artifacts staged when they exist."""
    produces: ClassVar[tuple[str, ...]] = ()
    """Artifacts the skill always writes; a missing one is a failure."""
    perhaps: ClassVar[tuple[str, ...]] = ()
    """Artifacts it writes in some cases only; another skill may name them as `optional`, none as a need."""
    sealed: ClassVar[tuple[str, ...]] = ()
    """Which of `produces` no agent may read afterwards (hold-out labels)."""
    harness: ClassVar[bool] = False
    """Whether the skill belongs to the harness: it may read sealed artifacts, and computes what gates read."""
    beside: ClassVar[bool] = False
    """Whether it may run while other skills of its phase do. Of those it is told nothing but the artifacts it `needs`
    and what their makers measured, so that its result does not depend on who is done first. Not for one that takes
    times itself."""
    resumes: ClassVar[bool] = False
    """Whether it gets a folder that survives the attempt on the same machine (`SkillContext.kept`)."""
    reads_source: ClassVar[bool] = False
    """Whether it opens what the ticket names as `data`: only then are the rows of a named source staged for it."""
    seconds: ClassVar[float] = 300.0
    """Wall-clock limit; the child process is killed at it."""
    parameters: ClassVar[type[Parameters]] = Parameters

    @abstractmethod
    def run(self, parameters: P, context: SkillContext) -> R:
        """Do the work. Raises InputError or LimitError for what the skill can name; all else is a fault of ours."""
