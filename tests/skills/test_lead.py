"""Scoping: what is inferred, what is proposed, and which criteria cannot be measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agents.skill import InputError
from agents.skills.data.target import as_target, infer_task
from agents.skills.lead import criteria
from agents.skills.lead.scope import LeadScope
from agents.skills.shapes import ScopeSpec
from conductor.pipelines import load
from schemas.ticket import Ticket
from schemas.values import Task
from tests.skills.conftest import ECONOMY, TICKETS, VOTES, WINE
from tests.skills.harness import run_skill

ROOT = Path(__file__).resolve().parents[2]
BINARY = criteria.measurable(Task.CLASSIFICATION, 2)


def scope_of(ticket: Ticket, root: Path, workdir: Path, **more: Any) -> tuple[Any, ScopeSpec, str]:
    output, files = run_skill(LeadScope, ticket, workdir, {}, roots=(root,), **more)
    return output, ScopeSpec.model_validate_json(files["scope.json"].read_text()), files["scope.md"].read_text()


@pytest.mark.parametrize(
    ("name", "task", "metric", "classes", "proposed"),
    [
        ("wine", "classification", "balanced_accuracy", ("first", "second", "third"),
         "metrics.balanced_accuracy_gain_lower > 0.0"),
        ("votes", "classification", "roc_auc", ("Clinton", "Dole"), "metrics.roc_auc_gain_lower > 0.0"),
        ("travel", "classification", "roc_auc", ("no", "yes"), "metrics.roc_auc_gain_lower > 0.0"),
        ("economy", "regression", "mae", (), "metrics.mae_gain_lower > 0.0"),
    ],
)  # fmt: skip
def test_what_the_ticket_leaves_open_is_inferred(
    data_root: Path, tmp_path: Path, name: str, task: str, metric: str, classes: tuple[str, ...], proposed: str
) -> None:
    output, scope, _ = scope_of(TICKETS[name], data_root, tmp_path)
    assert (scope.task, scope.metric, scope.classes) == (task, metric, classes)
    assert scope.acceptance == output.acceptance == (proposed,)
    assert scope.acceptance_from == "proposed"
    assert scope.higher_is_better is (metric != "mae")
    criteria.check(proposed, criteria.measurable(scope.task, len(classes)))


def test_what_the_ticket_says_is_kept(data_root: Path, tmp_path: Path) -> None:
    wanted = ("metrics.recall >= 0.6", "metrics.f1_gain_lower > 0.0")
    ticket = VOTES.model_copy(update={"metric": "f1", "acceptance": wanted, "body": "For @everyone <script>\n# Title"})
    output, scope, document = scope_of(ticket, data_root, tmp_path, acceptance=wanted)
    assert (scope.metric, scope.acceptance, scope.acceptance_from) == ("f1", wanted, "ticket")
    assert output.acceptance == ()
    assert scope.budget_minutes == ticket.budget.minutes
    assert "    For @everyone <script>\n    # Title" in document, "the ticket's text is a code block, not markup"


def test_items_ticked_are_those_of_the_phase(data_root: Path, tmp_path: Path) -> None:
    output, _, _ = scope_of(WINE, data_root, tmp_path)
    assert [item.item for item in output.ticked] == [item.id for item in load("ml-delivery").phases[0].checklist]
    assert all("scope.json" in item.evidence for item in output.ticked)


def test_synthetic_data_is_called_so(tmp_path: Path) -> None:
    ticket = Ticket(id=1, title="Late refills", data="synthetic:refills", target="late_by_more_than_7_days")
    _, _, document = scope_of(ticket, tmp_path, tmp_path)
    assert "Synthetic data" in document


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([True, False], Task.CLASSIFICATION),
        (["a", "b"], Task.CLASSIFICATION),
        (list(range(20)), Task.CLASSIFICATION),
        (list(range(21)), Task.REGRESSION),
        ([1.0, 2.0, 1.0], Task.CLASSIFICATION),
        ([1.5, 2.0, 1.0], Task.REGRESSION),
        (pd.array([True, None], dtype="boolean"), Task.CLASSIFICATION),
    ],
)
def test_the_task_follows_from_the_values(values: Any, task: Task) -> None:
    assert infer_task(pd.Series(values)) is task


def test_labels_do_not_depend_on_how_numbers_were_stored() -> None:
    whole = as_target(pd.Series([0, 1, 1], name="y"), Task.CLASSIFICATION)
    floating = as_target(pd.Series([0.0, 1.0, 1.0], name="y"), Task.CLASSIFICATION)
    assert list(whole) == list(floating) == ["0", "1", "1"]
    assert list(as_target(pd.Series([True, False], name="y"), Task.CLASSIFICATION)) == ["True", "False"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "regression"}, ["'vote'", "not a number", "task: classification"]),
        ({"metric": "mae"}, ["'mae'", "classification with 2 classes", "roc_auc"]),
        ({"target": "popul", "task": "classification"}, ["'popul'", "distinct values", "task: regression"]),
        (
            {"data": "wine.csv", "target": "cultivar", "metric": "average_precision"},
            ["'average_precision'", "3 classes"],
        ),
        ({"acceptance": ("metrics.kappa > 0.5",)}, ["'metrics.kappa > 0.5'", "'metrics.kappa'", "roc_auc"]),
    ],
)
def test_what_does_not_fit_the_data_is_refused(
    data_root: Path, tmp_path: Path, change: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        scope_of(Ticket(**(VOTES.model_dump(exclude_unset=True) | change)), data_root, tmp_path)
    for part in says:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "criterion",
    [
        "metrics.roc_auc >= 0.9",
        "metrics.roc_auc_lower > baseline.roc_auc_upper && metrics.rows >= 30",
        "metrics.f1 > 0.5 || (metrics.recall >= 0.9 && metrics.precision >= 0.4)",
        "!(metrics.ece > 0.1)",
        "metrics.roc_auc - baseline.roc_auc > 0.05",
        "metrics . recall > 1e-2",
    ],
)
def test_criteria_that_can_be_measured(criterion: str) -> None:
    criteria.check(criterion, BINARY)


@pytest.mark.parametrize(
    ("criterion", "says"),
    [
        ("metrics.auc > 0.9", ["'metrics.auc'", "did you mean metrics.roc_auc"]),
        ("metrics.mae < 3.0", ["'metrics.mae'", "nothing measures"]),
        ("recall >= 0.9", ["'recall'", "did you mean metrics.recall"]),
        ("ticket.risk == 'low'", ["'ticket.risk'"]),
        ("baseline.rows > 3", ["'baseline.rows'"]),
        ("metrics.roc_auc_low > 0.9", ["did you mean metrics.roc_auc_lower"]),
        ("metrics.recall >=", ["cannot be evaluated"]),
        ("metrics.recall > ", ["cannot be evaluated"]),
        ("metrics.rows + 1 > 2", ["cannot be evaluated", "1.0, not 1"]),
        ("metrics.recall", ["not a condition"]),
        ("true", ["reads no figure"]),
        ("'metrics.recall' == 'metrics.recall'", ["reads no figure"]),
        ("__import__('os').system('id') == metrics.recall", ["'__import__'"]),
        ("", ["reads no figure"]),
    ],
)
def test_criteria_nobody_can_measure(criterion: str, says: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        criteria.check(criterion, BINARY)
    assert repr(criterion) in str(caught.value)
    assert "metrics.X" in caught.value.remedy or "metrics.roc_auc_lower" in caught.value.remedy
    for part in says:
        assert part in str(caught.value)


def test_a_regression_ticket_knows_its_own_metrics(data_root: Path, tmp_path: Path) -> None:
    ticket = ECONOMY.model_copy(update={"acceptance": ("metrics.roc_auc > 0.5",)})
    with pytest.raises(InputError, match="one of mae, rmse, r2"):
        scope_of(ticket, data_root, tmp_path)


def test_finding_these_skills_imports_nothing_heavy() -> None:
    code = (
        "import sys, importlib, pkgutil, agents.skills.lead, agents.skills.data, agents.skills.feature as f\n"
        "for p in (agents.skills.lead, agents.skills.data, f):\n"
        "    for m in pkgutil.iter_modules(p.__path__, p.__name__ + '.'): importlib.import_module(m.name)\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'scipy', 'pyarrow', 'pandera', 'matplotlib', 'statsmodels'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
