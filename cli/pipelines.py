"""Pipelines for the command line: which there are, whether they can run, what is wrong with a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.discovery import skills as discovered
from conductor.catalog import FOLDERS, Catalog, Origin, PipelineError
from conductor.pipelines import SkillFacts, Skills, check, find, missing_skills
from conductor.yamlfile import Document, Problem
from schemas.pipeline import PipelineDefinition, RepeatRule
from schemas.pipeline_source import Kind, PhaseSource, PipelineSource


def skills() -> Skills:
    """What the skills of this installation say of themselves, by name."""
    return {n: SkillFacts(s.role, s.modes, s.needs, s.produces) for n, s in discovered().items()}


def rows(catalog: Catalog) -> list[dict[str, Any]]:
    """Every pipeline: where it is from, whether it can run, else which skills are missing or what is wrong."""
    return [_row(catalog, origin) for _, origin in sorted(catalog.origins["pipeline"].items())]


def _row(catalog: Catalog, origin: Origin) -> dict[str, Any]:
    row: dict[str, Any] = {"pipeline": origin.name, "file": origin.shown, "shipped": origin.shipped}
    try:
        source = find(catalog, origin.name, skills())
    except PipelineError as problem:
        return row | {"runnable": False, "missing_skills": {}, "problem": str(problem)}
    facts = {"version": source.version, "phases": len(source.phases), "description": source.description}
    return row | facts | _can(source)


def document(catalog: Catalog, name: str) -> tuple[PipelineSource, dict[str, Any]]:
    """The pipeline called `name`, and all about it for `--json`. Raises PipelineError."""
    source = find(catalog, name, skills())
    body = source.model_dump(mode="json", exclude={"name"})
    head = {"pipeline": name, "file": catalog.origin("pipeline", name).shown}
    return source, head | _can(source) | body


def _can(source: PipelineDefinition) -> dict[str, Any]:
    """Whether it can run, else which skills are missing; and whether it judges a ticket's acceptance criteria."""
    missing = missing_skills(source, skills())
    return {
        "runnable": not missing,
        "missing_skills": {phase: list(names) for phase, names in missing.items()},
        "judges_acceptance": source.judges_acceptance,
    }


def lines(source: PipelineSource) -> list[str]:
    """The pipeline as text."""
    found: list[str] = []
    for number, phase in enumerate(source.phases, 1):
        found += ["", f"{number}. {phase.name} ({phase.agent.value}, mode {phase.mode.value})", f"   {phase.purpose}"]
        found += [f"   {name:<10} {text}" for name, text in _facts(phase) if text]
        for item in phase.checklist:
            evidence = f"  [{item.evidence}]" if item.evidence else ""
            found.append(f"   {'item':<10} {item.id}: {item.text}{evidence}{'' if item.required else '  (optional)'}")
    return found


def _facts(phase: PhaseSource) -> list[tuple[str, str]]:
    missing = [name for name in phase.skills if name not in skills()]
    idle = phase.idle_seconds
    seconds = f"{phase.timeout_seconds:g} s an attempt, at most {phase.retry.max_attempts} attempts"
    return [
        ("skills", ", ".join(f"{name} (missing)" if name in missing else name for name in phase.skills)),
        ("needs", ", ".join(phase.needs)),
        ("artifacts", ", ".join(phase.artifacts)),
        ("signed", ", ".join(phase.sign)),
        ("applied", f"{phase.apply} to the branch" if phase.apply else ""),
        ("registers", f"{phase.registers} as a version of the ticket's model" if phase.registers else ""),
        ("criteria", "; ".join([*phase.criteria, *(["the ticket's acceptance criteria"] if phase.acceptance else [])])),
        ("after", "" if phase.after is None else ", ".join(phase.after) or "nothing: it starts at once"),
        ("skipped", f"when {phase.skip_when}" if phase.skip_when else ""),
        ("gate", gate(phase)),
        ("goes back", "; ".join(f"to {rule.to} {back(rule)}" for rule in phase.repeat)),
        ("limits", seconds + ("" if idle is None else f", {idle:g} s without a sign of life")),
    ]


def gate(phase: PhaseSource) -> str:
    """Who decides at the phase's exit, in one line."""
    if phase.gate.human == "never":
        return "automatic"
    people = "a person" if phase.gate.quorum == 1 else f"{phase.gate.quorum} people"
    time = "" if phase.gate.expires_seconds is None else f", within {phase.gate.expires_seconds:g} s"
    return f"{people}, always{time}" if phase.gate.human == "always" else f"{people} when {phase.gate.when}{time}"


def back(rule: RepeatRule) -> str:
    """When a way back is taken, in one line."""
    times = "once" if rule.iterations == 1 else f"{rule.iterations} times"
    return f"when {rule.when or 'the criteria are not met'}, at most {times}"


def check_all(catalog: Catalog, folder: Path) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Check every shipped definition and the user's in `folder`: what was checked, and everything that is wrong."""
    found = [
        _checked(catalog, o.document(), o.name, o.kind) for kind in FOLDERS for o in catalog.origins[kind].values()
    ]
    strays = [path for below in FOLDERS.values() for path in sorted((folder / below).glob("*.yml"))]
    return _together([*found, *(check_file(catalog, path) for path in strays)])


def check_files(catalog: Catalog, files: list[Path]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Check the files given, of whatever kind: what was checked, and everything that is wrong."""
    return _together([check_file(catalog, path) for path in files])


def check_file(catalog: Catalog, path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Check one file; its folder, else its fields, say of which kind it is."""
    content = Origin("pipeline", path.stem, path, shipped=False).document()
    if path.suffix != ".yaml":
        content.add((), "is not found under this name; call it NAME.yaml")
    return _checked(catalog, content, path.stem, _kind(path, content))


def _kind(path: Path, content: Document) -> Kind:
    for kind, below in FOLDERS.items():
        if below and path.resolve().parent.name == below:
            return kind
    if content.at("phases") is None and content.at("items") is not None:
        return "checklist"
    if content.at("phases") is None and content.at("leads_to") is not None:
        return "mode"
    return "pipeline"


def _checked(catalog: Catalog, content: Document, name: str, kind: Kind) -> tuple[dict[str, Any], list[Problem]]:
    row: dict[str, Any] = {"file": content.file, "kind": kind, "ok": True}
    try:
        if kind == "checklist":
            catalog.check_checklist(content, name)
        elif kind == "mode":
            catalog.check_mode(content, name)
        else:
            row |= _can(check(content, name, catalog, skills()))
    except PipelineError as problem:
        return row | {"ok": False}, list(problem.problems)
    return row, []


def _together(found: list[tuple[dict[str, Any], list[Problem]]]) -> tuple[list[dict[str, Any]], list[Problem]]:
    return [row for row, _ in found], list(dict.fromkeys(p for _, problems in found for p in problems))


def as_json(problems: list[Problem]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [asdict(problem) for problem in problems]
