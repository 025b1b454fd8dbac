"""What ships under `pipelines/` is right, complete, and fits the skills there are."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from agents.discovery import skills as discovered
from agents.skills.lead.criteria import measurable
from cli.pipelines import skills
from conductor.catalog import FOLDERS
from conductor.criterion_types import Figures
from conductor.pipelines import Catalog, find, load, missing_skills
from schemas.figures import MEASURED
from schemas.pipeline import PipelineDefinition
from schemas.values import Mode, Task

ROOT = Path(__file__).resolve().parents[2]
CATALOG = Catalog()
PIPELINES = sorted(CATALOG.origins["pipeline"])
PRE_ENGAGEMENT = ["opportunity", "discovery", "readiness", "scope", "pre-kickoff"]
DELIVERY = [
    "data-sources", "extraction", "preparation", "exploration", "feature-engineering", "model-architecture", "training",
    "validation", "risk-review", "deployment", "monitoring", "evaluation", "performance-analysis", "improvement",
    "retraining",
]  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_is_right(name: str) -> None:
    source = find(CATALOG, name, skills())
    assert source.name == name
    assert source.definition().phases
    for phase in source.phases:
        assert phase.checklist, f"{phase.name} has no checklist"
        assert any(item.required for item in phase.checklist)


@pytest.mark.parametrize("name", sorted(CATALOG.origins["checklist"]))
def test_every_checklist_is_right(name: str) -> None:
    assert CATALOG.check_checklist(CATALOG.origin("checklist", name).document(), name).items


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_is_described(mode: Mode) -> None:
    found = CATALOG.check_mode(CATALOG.origin("mode", mode.value).document(), mode.value)
    assert CATALOG.checklist(found.checklist).owner is None


def test_the_modes_are_the_nine() -> None:
    assert set(CATALOG.origins["mode"]) == {mode.value for mode in Mode}


def test_the_shipped_pipelines_and_which_can_run() -> None:
    missing = {name: missing_skills(find(CATALOG, name), skills()) for name in PIPELINES}
    assert PIPELINES == ["data-onboarding", "ml-delivery", "ml-engagement", "release", "retrain", "software-change"]
    assert [name for name in PIPELINES if not missing[name]] == PIPELINES


def test_an_engagement_has_every_phase_of_the_train_in_order() -> None:
    phases = load("ml-engagement").phases
    assert [phase.name for phase in phases] == PRE_ENGAGEMENT + DELIVERY
    assert {phase.mode for phase in phases} == set(Mode)
    assert set(PRE_ENGAGEMENT + DELIVERY) <= set(CATALOG.origins["checklist"])


def test_the_default_pipeline_is_the_one_that_was_always_recorded() -> None:
    """Its file was divided into checklists since; sessions must not notice. Version 2 registers its package; version 3
    measures robustness, compares groups, writes the compliance bundle and manifests, and is otherwise the same."""
    history = (ROOT / "tests" / "golden" / "ml-delivery.history.jsonl").read_text("utf-8").splitlines()
    started = next(line for line in map(json.loads, history) if line["type"] == "session_started")
    recorded = PipelineDefinition.model_validate(started["data"]["pipeline"])
    now = load("ml-delivery")
    assert now.version == 3
    added = {"validation": ("skills", "artifacts", "checklist", "criteria"), "risk-review": ("skills", "artifacts")}
    added["deployment"] = added["risk-review"]
    for before, phase in zip(recorded.phases, now.phases, strict=True):
        same = {name: getattr(before, name) for name in added.get(phase.name, ())}
        for name, was in same.items():
            assert getattr(phase, name)[: len(was)] == was
            assert len(getattr(phase, name)) > len(was)
        registers = {"registers": before.registers} if phase.name == "deployment" else {}
        assert phase.model_copy(update=same | registers) == before


def test_no_checklist_lies_about_unused() -> None:
    used = {CATALOG.mode(mode).checklist for mode in Mode}
    for name in PIPELINES:
        text = CATALOG.origin("pipeline", name).file.read_text("utf-8")
        used |= {line.split(":")[1].strip() for line in text.splitlines() if line.startswith("    checklist: ")}
    assert used == set(CATALOG.origins["checklist"])


@pytest.mark.parametrize("name", sorted(discovered()))
def test_the_modes_allow_every_skill_where_it_says_it_works(name: str) -> None:
    cls = discovered()[name]
    for mode in cls.modes:
        assert CATALOG.mode(mode).allows(name)
        assert cls.role in CATALOG.mode(mode).agents


@pytest.mark.parametrize("name", sorted(discovered()))
def test_the_figures_a_skill_measures_are_known(name: str) -> None:
    known = Figures(set(MEASURED.get(name, ())))
    measured = _measured(inspect.getsource(inspect.getmodule(discovered()[name]) or discovered()[name]))
    assert [figure for figure in measured if known.kind(figure) is None] == []
    if name not in ("evaluation.measure", "evaluation.compare"):  # they name their figures by the metrics, see below
        assert len(measured) == len({m.removesuffix("x") for m in MEASURED.get(name, ())}) or "training" in name


def _measured(source: str) -> list[str]:
    """`scope.name` of each Measurement written out; an x for what is put in at run time."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Measurement":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            scope, name = given["scope"], given["name"]
            if isinstance(scope, ast.Constant) and isinstance(name, ast.Constant):
                found.append(f"{scope.value}.{name.value}")
            elif isinstance(scope, ast.Constant) and isinstance(name, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "x" for part in name.values]
                if parts[0] != "x":
                    found.append(f"{scope.value}.{''.join(map(str, parts))}")
    return found


@pytest.mark.parametrize(
    ("task", "classes"), [(Task.CLASSIFICATION, 2), (Task.CLASSIFICATION, 3), (Task.REGRESSION, 0)]
)
def test_whatever_a_ticket_may_accept_by_a_pipeline_may_judge_by(task: Task, classes: int) -> None:
    assert set(measurable(task, classes)) <= set(MEASURED["evaluation.measure"])


def test_all_of_it_is_in_the_wheel() -> None:
    builder = WheelBuilder(str(ROOT))
    shipped = {str(file.distribution_path) for file in builder.recurse_included_files()}
    for kind, below in FOLDERS.items():
        for name in CATALOG.origins[kind]:
            assert "/".join(part for part in ("pipelines", below, f"{name}.yaml") if part) in shipped
