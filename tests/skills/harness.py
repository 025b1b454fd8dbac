"""Runs one skill in a temporary directory, with the rules of the real runner that matter to a test."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.skill import MEDIA_TYPES, Skill, SkillContext, SkillOutput
from schemas.ticket import Ticket

SEALED = frozenset({"dataset.parquet", "holdout-labels.parquet"})
NOW = "2026-11-20T09:00:00Z"


def run_skill(
    skill: Skill[Any, Any] | type[Skill[Any, Any]],
    ticket: Ticket,
    workdir: Path,
    artifacts: Mapping[str, Path],
    roots: tuple[Path, ...] = (),
    measured: Mapping[str, Mapping[str, float]] | None = None,
    acceptance: tuple[str, ...] = (),
    seed: int = 7,
    **more: Any,
) -> tuple[Any, dict[str, Path]]:
    """Stage `skill`'s declared inputs below `workdir`, run it with its default parameters, check what it left.

    `artifacts` maps names to files produced so far; pass `artifacts | files` on to the next skill. `more` goes to the
    `SkillContext` (`max_data_bytes`, `seconds`, `facts` …), except `parameters`, which goes to the skill.
    Returns the skill's output and its produced files by name. Raises what the skill raises, and AssertionError if a
    need is missing, a sealed artifact would reach a skill outside the harness, or the files are not those it declares.
    """
    instance = skill() if isinstance(skill, type) else skill
    folder = _fresh(workdir, instance.name)
    inputs = _stage(instance, artifacts, folder / "in")
    out = folder / "out"
    out.mkdir()
    parameters = more.pop("parameters", None) or instance.parameters()
    context = SkillContext(
        ticket=ticket, acceptance=acceptance, inputs=inputs, out=out, roots=roots, measured=measured or {},
        seed=seed, now=NOW, **more,
    )  # fmt: skip
    output = instance.run(parameters, context)
    files = {path.name: path for path in sorted(out.iterdir())}
    _check(instance, output, files)
    return output, files


def run_chain(
    skills: Sequence[type[Skill[Any, Any]]], ticket: Ticket, workdir: Path, roots: tuple[Path, ...] = (), **more: Any
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Run `skills` in order, each with what the earlier ones left: outputs by skill name, and all files by name."""
    outputs: dict[str, Any] = {}
    files: dict[str, Path] = {}
    for skill in skills:
        outputs[skill.name], produced = run_skill(skill, ticket, workdir, files, roots=roots, **more)
        files |= produced
    return outputs, files


def _fresh(workdir: Path, name: str) -> Path:
    """A new folder for this run; a second run of the same skill gets one of its own."""
    number = 1
    while (folder := workdir / f"{name}-{number}").exists():
        number += 1
    folder.mkdir(parents=True)
    return folder


def _stage(skill: Skill[Any, Any], artifacts: Mapping[str, Path], into: Path) -> dict[str, Path]:
    """Copy what the skill declares, read-only."""
    into.mkdir()
    missing = [name for name in skill.needs if name not in artifacts]
    assert not missing, f"{skill.name} needs {missing}; produced so far: {sorted(artifacts)}"
    staged = {}
    for name in (*skill.needs, *(name for name in skill.optional if name in artifacts)):
        assert skill.harness or name not in SEALED, f"{skill.name} is not of the harness and must not see {name}"
        staged[name] = Path(shutil.copy(artifacts[name], into / name))
        staged[name].chmod(stat.S_IRUSR)
    return staged


def _check(skill: Skill[Any, Any], output: Any, files: Mapping[str, Path]) -> None:
    """The runner's own checks: a typed output, and exactly the declared files, none empty, each of a known type."""
    assert isinstance(output, SkillOutput)
    left = set(files) - set(skill.perhaps)
    assert left == set(skill.produces), f"{skill.name} left {sorted(files)}, declares {sorted(skill.produces)}"
    assert set(skill.sealed) <= set(skill.produces)
    for name, path in files.items():
        assert path.stat().st_size > 0, f"{skill.name} left {name} empty"
        assert path.suffix in MEDIA_TYPES or path.suffix in (".skops", ".onnx"), f"{name} has no media type"
