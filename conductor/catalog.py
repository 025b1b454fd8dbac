"""What there is to run: the shipped pipelines, checklists and modes, and the user's, which come first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel, ValidationError

from conductor.yamlfile import Document, Problem, explain, misspelt, read
from schemas.pipeline_source import Checklist, Kind, ModeDefinition
from schemas.values import Mode

FOLDERS: dict[Kind, str] = {"pipeline": "", "checklist": "checklists", "mode": "modes"}
"""Where each kind lies below a folder of pipelines."""

M = TypeVar("M", bound=BaseModel)


class PipelineError(ValueError):
    """A definition that cannot be used. `problems` are all of them, each with file, line, field and reason; the message
    is the first one, and how many there are."""

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> PipelineError:
        """The error for `problems` (at least one)."""
        found = tuple(dict.fromkeys(sorted(problems)))
        more = f" (and {len(found) - 1} more: `valuetrain pipeline check` lists all)" if len(found) > 1 else ""
        return cls(f"{found[0]}{more}", found)


@dataclass(frozen=True, slots=True)
class Origin:
    """One file: what it is called, and whether it came with the train."""

    kind: Kind
    name: str
    file: Path | Traversable
    shipped: bool

    @property
    def shown(self) -> str:
        """How the file is named to people."""
        folder = FOLDERS[self.kind]
        inside = f"pipelines/{folder}/{self.name}.yaml" if folder else f"pipelines/{self.name}.yaml"
        return f"{inside} (shipped)" if self.shipped else str(self.file)

    def document(self) -> Document:
        """Its content; a file that cannot be read is a problem like any other."""
        try:
            return read(self.file.read_text("utf-8"), self.shown)
        except (OSError, UnicodeDecodeError) as problem:
            document = Document(self.shown)
            document.add((), f"cannot be read as UTF-8 text: {problem}; save it as UTF-8 text")
            return document


class Catalog:
    """All definitions by kind and name. Files are read when they are asked for, once."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        """`folders` are the user's, the first one first; each may hold `checklists/` and `modes/`."""
        users = list(folders)
        self.origins: dict[Kind, dict[str, Origin]] = {kind: _found(kind, users) for kind in FOLDERS}
        self._read: dict[tuple[Kind, str], BaseModel | PipelineError] = {}

    def origin(self, kind: Kind, name: str) -> Origin:
        """The file of that name. Raises PipelineError naming the known ones."""
        known = self.origins[kind]
        if name not in known:
            raise PipelineError(f"there is no {kind} {name!r}; there are {', '.join(sorted(known))}")
        return known[name]

    def checklist(self, name: str) -> Checklist:
        """The checklist of that name. Raises PipelineError if there is none or it is wrong."""
        return self._get("checklist", name, Checklist)

    def mode(self, mode: Mode) -> ModeDefinition:
        """What is said about `mode`. Raises PipelineError if its file is wrong."""
        return self._get("mode", mode.value, ModeDefinition)

    def _get(self, kind: Kind, name: str, model: type[M]) -> M:
        if (kind, name) not in self._read:
            try:
                self._read[kind, name] = validated(self.origin(kind, name).document(), model, name)
            except PipelineError as problem:
                self._read[kind, name] = problem
        found = self._read[kind, name]
        if isinstance(found, PipelineError):
            raise found
        return cast(M, found)

    def check_checklist(self, document: Document, name: str | None) -> Checklist:
        """The checklist in `document`. Raises PipelineError with everything that is wrong."""
        return validated(document, Checklist, name)

    def check_mode(self, document: Document, name: str | None) -> ModeDefinition:
        """The mode in `document`, which must name a checklist there is. Raises PipelineError."""
        mode = validated(document, ModeDefinition, name)
        if mode.checklist not in self.origins["checklist"]:
            document.add(("checklist",), self.no_checklist(mode.checklist))
            raise PipelineError.of(document.problems)
        return mode

    def no_checklist(self, name: str) -> str:
        """Why a reference to `name` is wrong."""
        known = misspelt(name, self.origins["checklist"])
        return f"there is no checklist {name!r}; {known}; or add checklists/{name}.yaml"


def _found(kind: Kind, folders: list[Path]) -> dict[str, Origin]:
    below = FOLDERS[kind]
    known: dict[str, Origin] = {}
    for item in (resources.files("pipelines") / below if below else resources.files("pipelines")).iterdir():
        if item.name.endswith(".yaml"):
            name = item.name.removesuffix(".yaml")
            known[name] = Origin(kind, name, item, shipped=True)
    for folder in reversed(folders):
        if (folder / below).is_dir():
            paths = sorted((folder / below).glob("*.yaml"))
            known.update({path.stem: Origin(kind, path.stem, path, shipped=False) for path in paths})
    return known


def validated(document: Document, model: type[M], name: str | None) -> M:
    """`document` as a `model` whose `name` is the file's. Raises PipelineError with everything that is wrong."""
    found: M | None = None
    try:
        if document.tree is not None:
            found = model.model_validate(document.data)
    except ValidationError as problem:
        explain(document, problem, model, frozenset())
    own_name(document, name)
    for step, _ in document.items("items"):
        doubled(document, ("items", step, "id"), [document.at("items", n, "id") for n in range(step)], "item")
    if document.problems or found is None:
        raise PipelineError.of(document.problems)
    return found


def own_name(document: Document, name: str | None) -> None:
    """A definition is found by its file's name, so both must be the same."""
    written = document.at("name")
    if name is not None and isinstance(written, str) and written != name:
        document.add(("name",), f"is {written!r}, but the file is {name}.yaml: both must be the same; rename one")


def doubled(document: Document, path: tuple[str | int, ...], before: list[object], what: str) -> None:
    """Note that the value at `path` stands among those `before` it."""
    value = document.at(*path)
    if isinstance(value, str) and value in before:
        document.add(path, f"{what} {value!r} is named twice; give one another name or remove it")
