"""Loading pipeline definitions from YAML: the shipped ones, and the user's, which come first.

A file is checked whole before anything of it is used: its form, its references, the types of its criteria, and whether
its phases fit together. Everything that is wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from conductor import pipeline_graph, pipeline_rules, skill_rules
from conductor.catalog import Catalog, PipelineError, own_name
from conductor.pipeline_graph import Order
from conductor.skill_rules import SkillFacts, Skills
from conductor.yamlfile import Document, explain, read
from schemas.pipeline import NAMED_TWICE, OUT_OF_ORDER, PipelineDefinition
from schemas.pipeline_source import PipelineSource

__all__ = ["Catalog", "PipelineError", "SkillFacts", "Skills", "check", "find", "load", "missing_skills", "parse"]


def load(name: str, folders: Iterable[Path] = (), skills: Skills | None = None) -> PipelineDefinition:
    """The pipeline called `name`: from the first of `folders` that has `<name>.yaml`, else the shipped one.

    With `skills` (all there are) it must be one that can run. Raises PipelineError for an unknown name (naming the
    known ones), for an invalid file, and for a pipeline whose phases want skills that nobody has (naming them).
    """
    source = find(Catalog(folders), name, skills)
    if skills is not None and (missing := missing_skills(source, skills)):
        wanted = "; ".join(f"{phase} wants {', '.join(names)}" for phase, names in missing.items())
        raise PipelineError(
            f"pipeline {name!r} cannot run: no agent has these skills yet: {wanted}; choose another pipeline "
            "(`valuetrain pipeline list` says which can run)"
        )
    return source.definition()


def find(catalog: Catalog, name: str, skills: Skills | None = None) -> PipelineSource:
    """The pipeline called `name` as it was written. Raises PipelineError for an unknown name and an invalid file."""
    return check(catalog.origin("pipeline", name).document(), name, catalog, skills)


def parse(text: str, source: str, name: str | None = None, catalog: Catalog | None = None) -> PipelineDefinition:
    """A definition from YAML text. Raises PipelineError with the line and the reason of each problem."""
    return check(read(text, source), name, catalog or Catalog()).definition()


def check(document: Document, name: str | None, catalog: Catalog, skills: Skills | None = None) -> PipelineSource:
    """The pipeline in `document`; `name` is its file's. Raises PipelineError with everything that is wrong."""
    found: PipelineSource | None = None
    if document.tree is not None:
        _look_up_checklists(document, catalog)
        try:
            found = PipelineSource.model_validate(document.data)
        except ValidationError as problem:
            explain(document, problem, PipelineSource, frozenset({NAMED_TWICE, OUT_OF_ORDER}))
        own_name(document, name)
        order = Order(document)
        pipeline_graph.check(document, order)
        pipeline_rules.check(document, catalog, order)
        if skills is not None:
            skill_rules.check(document, skills, order)
    if document.problems or found is None:
        raise PipelineError.of(document.problems)
    return found


def missing_skills(source: PipelineDefinition, skills: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """By phase, the skills it wants that are not among `skills`; empty when the pipeline can run."""
    known = set(skills)
    wanted = {phase.name: tuple(s for s in phase.skills if s not in known) for phase in source.phases}
    return {phase: names for phase, names in wanted.items() if names}


def _look_up_checklists(document: Document, catalog: Catalog) -> None:
    """Put the items in the place of a checklist's name; a name nobody knows leaves the phase without items."""
    if isinstance(document.at("phases"), list):  # an anchor may have made two phases the same object
        document.data["phases"] = [dict(phase) if isinstance(phase, dict) else phase for phase in document.at("phases")]
    for at, phase in document.items("phases"):
        name = phase.get("checklist") if isinstance(phase, dict) else None
        if not isinstance(name, str):
            continue
        document.names["phases", at, "checklist"] = name
        phase["checklist"] = []
        if name not in catalog.origins["checklist"]:
            document.add(("phases", at, "checklist"), catalog.no_checklist(name))
            continue
        try:
            items = catalog.checklist(name).items
        except PipelineError as problem:
            document.problems += [p for p in problem.problems if p not in document.problems]
        else:
            phase["checklist"] = [item.model_dump(mode="json") for item in items]
