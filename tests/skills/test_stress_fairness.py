"""Spoilt rows and groups of people: what is left of the figures, and who is served differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

from agents.skill import InputError
from agents.skills.evaluation import featurecosts, groups, perturb
from agents.skills.evaluation.fairness import EvaluationFairness
from agents.skills.evaluation.measure import EvaluationMeasure
from agents.skills.evaluation.predict import EvaluationPredict
from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome
from agents.skills.evaluation.stress import EvaluationStress
from agents.skills.risk.compliance import RiskCompliance
from agents.skills.risk.profile import RiskProfile
from agents.skills.shapes import FeatureMap
from agents.skills.training.train import TrainingTrain
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import binary_wine, checklist, diabetes, feature_map, make_inputs, quick_plan, ticket


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained, predicted and measured model of two classes, with a text column that makes groups."""
    folder = tmp_path_factory.mktemp("evaluated")
    frame, labels = binary_wine()
    frame = frame.assign(region=np.where(np.arange(len(frame)) % 2, "north", "south"))
    files = make_inputs(folder / "in", frame, labels, metric="roc_auc", holdout=0.5)
    files |= {"experiment-plan.json": quick_plan(folder, "roc_auc")}
    for skill in (TrainingTrain, EvaluationPredict, EvaluationMeasure):
        files |= run_skill(skill, ticket(), folder, files)[1]
    return files


def figures(output: Any) -> dict[str, float]:
    return {f"{m.scope}.{m.name}": m.value for m in output.measurements}


def test_spoilt_rows_lose_and_the_report_says_how_much(evaluated: dict[str, Path], tmp_path: Path) -> None:
    output, files = run_skill(EvaluationStress, ticket(), tmp_path, evaluated)
    found = json.loads(files["robustness.json"].read_text("utf-8"))
    metrics = json.loads(evaluated["metrics.json"].read_text("utf-8"))
    assert found["plain"] == pytest.approx(metrics["metrics"]["roc_auc"])
    assert {each["name"] for each in found["damages"]} == {"noise", "extremes", "missing", "unseen"}
    for each in found["damages"]:
        lost = found["plain"]["value"] - each["metric"]["value"]
        assert each["lost"]["value"] == pytest.approx(lost)
        assert each["lost"]["lower"] <= lost <= each["lost"]["upper"]
    worst = found["damages"][0]
    assert figures(output)["robustness.worst_loss"] == worst["lost"]["value"] > 0
    assert found["answers_empty_row"] is True
    assert found["cost"]["p95_ms"] >= found["cost"]["single_ms"] > 0
    assert found["cost"]["batch_bytes"] > found["cost"]["single_bytes"] > 0
    assert worst["what"] in files["robustness.md"].read_text("utf-8")
    again, second = run_skill(EvaluationStress, ticket(), tmp_path, evaluated)
    again_found = json.loads(second["robustness.json"].read_text("utf-8"))
    assert again_found["damages"] == found["damages"]
    assert second["robustness.svg"].read_bytes() == files["robustness.svg"].read_bytes()
    assert {item.item for item in again.ticked} <= checklist("validation")


def test_every_input_has_its_cost_and_the_signature_of_its_definition(
    evaluated: dict[str, Path], tmp_path: Path
) -> None:
    _, files = run_skill(EvaluationStress, ticket(), tmp_path, evaluated)
    inputs = json.loads(files["robustness.json"].read_text("utf-8"))["inputs"]
    features = FeatureMap.model_validate_json(evaluated["feature-map.json"].read_text("utf-8"))
    assert {each["name"] for each in inputs} == {column.name for column in features.columns}
    assert [each["row_us"] for each in inputs] == sorted((each["row_us"] for each in inputs), reverse=True)
    assert all(min(each["fit_ms"], each["row_us"], each["peak_bytes"]) > 0 for each in inputs)
    of = {each["name"]: each for each in inputs}
    assert (of["region"]["encoded"], of["ash"]["encoded"]) == (2, 1), "one number a level; one for a number"
    assert (of["region"]["row_bytes"], of["ash"]["row_bytes"]) == (16, 8)
    assert len({each["definition"] for each in inputs}) == len(inputs)
    text = files["robustness.md"].read_text("utf-8")
    assert all(each["definition"][:12] in text for each in inputs)


def test_an_input_of_many_levels_costs_more_memory_than_a_number(tmp_path: Path) -> None:
    frame, _ = binary_wine()
    frame = frame.assign(town=[f"town {number % 40}" for number in range(len(frame))], empty=np.nan)
    costs = {each.name: each for each in featurecosts.input_costs(frame, feature_map(frame))}
    assert costs["town"].peak_bytes > costs["ash"].peak_bytes
    assert costs["town"].encoded > 10 > costs["empty"].encoded
    other = feature_map(frame.rename(columns={"ash": "cinders"}))
    again = {
        each.name: each.definition for each in featurecosts.input_costs(frame.rename(columns={"ash": "cinders"}), other)
    }
    assert again["town"] == costs["town"].definition, "a definition does not depend on the columns beside it"
    assert again["cinders"] != costs["ash"].definition


def test_numbers_are_spoilt_and_measured_too(tmp_path: Path) -> None:
    frame, values = diabetes()
    files = make_inputs(tmp_path / "in", frame, values, metric="mae")
    files |= {"experiment-plan.json": quick_plan(tmp_path, "mae")}
    for skill in (TrainingTrain, EvaluationPredict):
        files |= run_skill(skill, ticket(), tmp_path, files)[1]
    output, _ = run_skill(EvaluationStress, ticket(), tmp_path, files)
    assert figures(output)["robustness.worst_loss"] > 0
    output, written = run_skill(EvaluationFairness, ticket(sensitive=("sex", "age")), tmp_path, files)
    found = json.loads(written["fairness.json"].read_text("utf-8"))
    assert [each["column"] for each in found["columns"]] == ["sex", "age"]
    assert "fairness.error_difference" in figures(output)


def test_every_damage_does_what_it_says() -> None:
    frame = pd.DataFrame({"a": np.linspace(0, 1, 200), "b": ["x", "y"] * 100})
    spoilt = {each.name: each.rows for each in perturb.spoilt(frame, feature_map(frame), seed=3)}
    assert 0 < (spoilt["noise"]["a"] - frame["a"]).abs().max() < 0.2
    assert 0 < (spoilt["extremes"]["a"] > 2).mean() < 0.15
    assert 0.03 < spoilt["missing"].isna().to_numpy().mean() < 0.2
    assert set(spoilt["unseen"]["b"]) == {perturb.UNSEEN}
    assert frame["a"].max() == 1.0
    assert perturb.empty_row(frame, feature_map(frame)).isna().all(axis=None)


def test_the_differences_are_fairlearns() -> None:
    random = np.random.default_rng(2)
    truth, chance = random.integers(0, 2, 400), random.random(400)
    outcome = ClassOutcome(truth, np.column_stack([1 - chance, chance]))
    column = pd.Series(np.array(["a", "b", "c"])[random.integers(0, 3, 400)])
    compared = groups.compare("g", column, outcome, seed=1)
    metrics = {"selection rate": selection_rate, "true positive rate": true_positive_rate}
    metrics["false positive rate"] = false_positive_rate
    frame = MetricFrame(metrics=metrics, y_true=truth, y_pred=outcome.predicted, sensitive_features=column)
    for name, value in frame.difference().items():
        assert compared.differences[name].value == pytest.approx(value)
    assert {group.name: group.rows for group in compared.groups} == column.value_counts().to_dict()


def made(gap: float, seed: int, rows: int = 600) -> groups.Compared:
    """Two groups; in one of them the positives are missed by `gap` more often."""
    random = np.random.default_rng(seed)
    group, truth = random.integers(0, 2, rows), random.integers(0, 2, rows)
    missed = (truth == 1) & (random.random(rows) < 0.1 + gap * group)
    chance = np.where((truth == 1) & ~missed, 0.9, 0.1)
    outcome = ClassOutcome(truth, np.column_stack([1 - chance, chance]))
    return groups.compare("g", pd.Series(group), outcome, seed=seed)


def test_a_real_difference_is_clear_and_chance_seldom_is() -> None:
    assert all("true positive rate" in made(0.4, seed).clear for seed in range(5))
    assert sum(bool(made(0.0, seed).clear) for seed in range(30)) <= 5


def test_small_groups_are_shown_and_not_judged() -> None:
    truth = np.array([0, 1] * 50)
    outcome = ClassOutcome(truth, np.eye(2)[truth])
    compared = groups.compare("g", pd.Series(["a"] * 90 + ["b"] * 10), outcome, seed=1)
    assert [(group.name, group.judged) for group in compared.groups] == [("a", True), ("b", False)]
    assert compared.differences == {}


def test_groups_of_numbers_rare_levels_and_missing_values() -> None:
    ages = pd.Series([float(age) for age in range(100)] + [None] * 5)
    assert groups.group_names(ages).value_counts()[groups.MISSING] == 5
    assert groups.group_names(ages).nunique() == 5
    many = groups.group_names(pd.Series([f"level {n % 40}" for n in range(400)]))
    assert many.nunique() == groups.MAX_GROUPS + 1
    outcome = ValueOutcome(np.zeros(400), np.ones(400))
    assert groups.compare("g", pd.Series(["x"] * 400), outcome, seed=1).differences == {}


def test_without_a_named_column_it_says_so_and_hints(evaluated: dict[str, Path], tmp_path: Path) -> None:
    output, files = run_skill(EvaluationFairness, ticket(), tmp_path, evaluated)
    assert "names no `sensitive` column" in files["fairness.md"].read_text("utf-8")
    assert figures(output) == {"fairness.columns": 0.0, "fairness.clear_differences": 0.0}
    assert {item.item for item in output.ticked} <= checklist("validation")


def test_a_named_column_that_is_not_there_is_an_input_error(evaluated: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'sex'"):
        run_skill(EvaluationFairness, ticket(sensitive=("sex",)), tmp_path, evaluated)


def test_every_statement_of_compliance_has_its_proof_or_its_person(evaluated: dict[str, Path], tmp_path: Path) -> None:
    asked = ticket(sensitive=("region",), title="Wine | `x` <b>")
    files = dict(evaluated)
    for skill in (EvaluationStress, EvaluationFairness, RiskProfile):
        files |= run_skill(skill, asked, tmp_path, files)[1]
    facts = {"approvals": ["Gate g.1: approved by dana"]}
    output, written = run_skill(RiskCompliance, asked, tmp_path, files, facts=facts)
    found = json.loads(written["compliance.json"].read_text("utf-8"))
    annex = found["frameworks"]["annex_iv"]
    assert list(dict.fromkeys(each["part"][0] for each in annex)) == list("123456789")
    assert {each["by"] for each in annex if each["part"][0] in "78"} == {"person"}
    for framework in found["frameworks"].values():
        for each in framework:
            assert set(each["proof"].values()) <= set(found["evidence"].values())
            assert each["by"] != "person" or not each["proof"]
    tests = found["ml_test_score"]["tests"]
    assert len(tests) == 28
    assert {test["points"] for test in tests} <= {0.0, 0.5, 1.0}
    assert found["ml_test_score"]["score"] == min(found["ml_test_score"]["sections"].values())
    assert figures(output)["compliance.ml_test_score"] == found["ml_test_score"]["score"]
    text = written["compliance.md"].read_text("utf-8")
    assert "approved by dana" in text
    assert "<b>" not in text
    without = {name: path for name, path in files.items() if name not in ("robustness.json", "fairness.json")}
    _, less = run_skill(RiskCompliance, asked, tmp_path, without)
    score = json.loads(less["compliance.json"].read_text("utf-8"))["ml_test_score"]
    assert score["score"] < found["ml_test_score"]["score"]
