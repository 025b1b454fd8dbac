"""Skills for the command line: which there are, what one takes, and one run on its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import anyio
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents import discovery
from agents.discovery import AnySkill
from agents.plugins import PluginSkill
from agents.port import Attempt, AttemptError, SkillRun
from agents.tools import first_paragraph, tool
from agents.workbench import Workbench
from autopilot.frontmatter import parse_ticket
from cli.errors import CliError
from schemas.session import PhaseStarted
from schemas.ticket import Ticket
from schemas.values import ArtifactRef, Mode
from workspace.blobs import Blobs
from workspace.children import ForkServer

LARGEST_INPUT = 1_000_000


class SkillInput(BaseModel):
    """What `skill run` reads. Paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    ticket: dict[str, Any] | str = Field(default_factory=lambda: {"id": 1, "title": "A skill on its own"})
    """The ticket's fields as in docs/tickets.md, or the path of a ticket's Markdown file."""
    parameters: dict[str, Any] = {}
    artifacts: dict[str, Path] = {}
    """Artifacts by name, each with the file that is to stand for it."""
    folders: tuple[Path, ...] = ()
    """Folders in which the other artifacts that the skill needs are looked for by name: what earlier runs left."""
    roots: tuple[Path, ...] = (Path("."),)
    """Folders in which the ticket's `data` may lie."""
    acceptance: tuple[str, ...] = ()
    measured: dict[str, dict[str, float]] = {}
    """Figures of earlier phases, by scope and name."""
    mode: Mode | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53)] = 7
    seconds: Annotated[float, Field(gt=0, le=86400)] | None = None
    """The most it may take; by default the skill's own limit."""
    max_data_bytes: Annotated[int, Field(gt=0)] = 200_000_000


def rows() -> list[dict[str, Any]]:
    """Every skill in one line each, in alphabetical order."""
    return [
        {
            "skill": name,
            "agent": cls.role.value,
            "modes": sorted(mode.value for mode in cls.modes),
            "needs": list(cls.needs),
            "produces": list(cls.produces),
            "harness": cls.harness,
            "plugin": cls.origin["shown"] if issubclass(cls, PluginSkill) else None,
            "description": first_paragraph(cls),
        }
        for name, cls in sorted(discovery.skills().items())
    ]


def named(name: str) -> AnySkill:
    """The skill called `name`. Raises CliError with the nearest names."""
    import difflib

    found = discovery.skills()
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, found, n=3) or sorted(
        skill for skill in found if skill.partition(".")[0] == name.partition(".")[0]
    )
    hint = f"did you mean {', '.join(near)}?" if near else "`valuetrain skill list` shows all"
    raise CliError(f"there is no skill {name!r}; {hint}")


def card(name: str) -> dict[str, Any]:
    """All about one skill, with its schema as a tool of a language model. Raises CliError."""
    cls = named(name)
    [row] = [row for row in rows() if row["skill"] == name]
    return row | {
        "optional": list(cls.optional),
        "perhaps": list(cls.perhaps),
        "sealed": list(cls.sealed),
        "seconds": cls.seconds,
        "text": (cls.__doc__ or "").strip(),
        "tool": tool(cls),
    }


def read_input(path: Path) -> SkillInput:
    """The input file, YAML or JSON, with paths made absolute. Raises CliError naming file, field and reason."""
    try:
        if path.stat().st_size > LARGEST_INPUT:
            raise CliError(f"{path} is larger than {LARGEST_INPUT:,} bytes; name artifacts by their paths")
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        reason = " ".join(str(problem).split())
        raise CliError(f"{path} cannot be read: {reason}; docs/skills.md shows what it may say") from problem
    if content is not None and not isinstance(content, dict):
        raise CliError(f"{path} must be a mapping (`ticket:`, `parameters:`, `artifacts:` …); see docs/skills.md")
    try:
        found = SkillInput.model_validate(content or {})
    except ValidationError as problem:
        first = problem.errors()[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(SkillInput.model_fields)
        raise CliError(f"{path}: `{field}`: {first['msg']}; fields are {known}") from problem
    here = path.resolve().parent
    return found.model_copy(
        update={
            "ticket": str(here / found.ticket) if isinstance(found.ticket, str) else found.ticket,
            "artifacts": {name: here / file for name, file in found.artifacts.items()},
            "folders": tuple(here / folder for folder in found.folders),
            "roots": tuple((here / root).resolve() for root in found.roots),
        }
    )


def _ticket(given: dict[str, Any] | str) -> Ticket:
    if isinstance(given, str):
        try:
            return parse_ticket(Path(given).read_text("utf-8"), Path(given).name)
        except (OSError, UnicodeDecodeError) as problem:
            raise CliError(f"ticket {given} cannot be read: {problem}; name a Markdown file") from problem
    try:
        return Ticket.model_validate({"id": 1, "title": "A skill on its own"} | given)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise CliError(f"`ticket.{'.'.join(map(str, first['loc']))}`: {first['msg']}; see docs/tickets.md") from problem


def _artifacts(cls: AnySkill, given: SkillInput) -> dict[str, Path]:
    """The files for what the skill reads. Raises CliError naming all that is missing or not read at all."""
    declared = (*cls.needs, *cls.optional)
    if strange := sorted(set(given.artifacts) - set(declared)):
        reads = ", ".join(declared) or "none"
        raise CliError(f"{cls.name} does not read {', '.join(strange)}; artifacts it reads are {reads}")
    found = dict(given.artifacts)
    for name in declared:
        for folder in given.folders:
            if name not in found and (folder / name).is_file():
                found[name] = folder / name
    if missing := [name for name in cls.needs if name not in found]:
        raise CliError(
            f"{cls.name} needs {', '.join(missing)}: name each under `artifacts`, or a folder that holds them under "
            "`folders`"
        )
    if gone := sorted(str(path) for path in found.values() if not path.is_file()):
        raise CliError(f"{', '.join(gone)} cannot be read: there is no such file")
    return found


def run(
    name: str, given: SkillInput, out: Path, facts: dict[str, str], tell: Callable[[str], None]
) -> tuple[SkillRun, dict[str, Any]]:
    """Run the skill in a child of its own, under the rules of the train, and put what it wrote into `out`.

    `tell` gets each line of progress. Returns the run, and what `output.json` holds. Raises CliError for what cannot be
    used, and AttemptError for a run that failed.
    """
    cls = named(name)
    files = _artifacts(cls, given)
    ticket = _ticket(given.ticket)
    if given.mode is not None and given.mode not in cls.modes:
        raise CliError(f"{name} is for mode {', '.join(sorted(cls.modes))}, not {given.mode}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise CliError(f"{out} cannot be made: {problem.strerror}; name another folder with -o") from problem
    with tempfile.TemporaryDirectory(prefix="value-train-skill-") as place:
        result = anyio.run(_run, cls, given, ticket, files, Path(place), facts, tell)
        blobs = Blobs(Path(place) / "blobs")
        for ref in result.artifacts:
            (out / ref.name).write_bytes(blobs.path(ref.sha256, sealed=ref.sealed).read_bytes())
    document = _document(result)
    (out / "output.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return result, document


async def _run(
    cls: AnySkill,
    given: SkillInput,
    ticket: Ticket,
    files: dict[str, Path],
    place: Path,
    facts: dict[str, str],
    tell: Callable[[str], None],
) -> SkillRun:
    blobs = Blobs(place / "blobs")
    sealed = {artifact for skill in discovery.shipped().values() for artifact in skill.sealed}
    refs = []
    for name, path in files.items():
        sha256, size = blobs.put(path, sealed=name in sealed)
        refs.append(ArtifactRef(name=name, sha256=sha256, size=size, sealed=name in sealed))
    seconds = given.seconds or cls.seconds
    phase = PhaseStarted(
        phase="alone",
        agent=cls.role,
        mode=given.mode or min(cls.modes),
        attempt=1,
        skills=(cls.name,),
        ticket=ticket,
        acceptance=given.acceptance or ticket.acceptance,
        artifacts=tuple(refs),
        measured=given.measured,
        roots=tuple(map(str, given.roots)),
        max_data_bytes=given.max_data_bytes,
        seed=given.seed,
        timeout_seconds=seconds,
        remaining_seconds=seconds,
        started=datetime.now(UTC),
        pipeline=ticket.pipeline,
    )
    attempt = Attempt("local", phase, 1, place / "attempt")
    places = anyio.CapacityLimiter(1)
    async with ForkServer() as children:  # nothing is preloaded: one skill imports only what it needs itself
        bench = Workbench(cls.role, attempt, blobs, children, lambda skill, line: tell(line), places, facts)
        try:
            return await bench.run(cls.name, given.parameters)
        except AttemptError as problem:
            problem.usage = bench.usage
            raise


def _document(result: SkillRun) -> dict[str, Any]:
    return {
        "skill": result.skill,
        "summary": result.summary,
        "measurements": {f"{m.scope}.{m.name}": m.value for m in result.measurements},
        "ticked": [item.model_dump(mode="json") for item in result.ticked],
        "acceptance": list(result.acceptance),
        "warnings": list(result.warnings),
        "artifacts": [
            {"name": ref.name, "sha256": ref.sha256, "size": ref.size, "sealed": ref.sealed} for ref in result.artifacts
        ],
        "usage": result.usage.model_dump(mode="json"),
    }
