"""The evaluation skills: metrics, intervals, calibration, slices, refusals and the report."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from agents.skill import InputError, LimitError, SkillError
from agents.skills.evaluation import bootstrap, calibration, slices
from agents.skills.evaluation.measure import EvaluationMeasure
from agents.skills.evaluation.predict import EvaluationPredict
from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome, brier, score, statistics
from agents.skills.training.modelfile import UntrustedModel, dump_model
from agents.skills.training.train import TrainingTrain
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import (
    binary_wine,
    checklist,
    diabetes,
    make_inputs,
    quick_plan,
    ticket,
    wine,
    write_json,
)

BY_OTHERS = {"claims-checked", "robustness-measured", "groups-compared"}
"""Items of the phase that its other skills tick."""


def class_outcome(rows: int, classes: int, seed: int, *, ties: bool = False) -> ClassOutcome:
    """Random classes with probabilities that know something of them."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    raw = random.random((rows, classes)) + 0.7 * np.eye(classes)[truth]
    if ties:
        raw = np.round(raw, 1) + 0.1
    return ClassOutcome(truth, raw / raw.sum(axis=1, keepdims=True))


def value_outcome(rows: int, seed: int) -> ValueOutcome:
    random = np.random.default_rng(seed)
    truth = random.normal(50, 10, rows)
    return ValueOutcome(truth, truth + random.normal(1, 5, rows))


# Metrics


@pytest.mark.parametrize("ties", [False, True])
def test_two_class_metrics_equal_scikit_learns(ties: bool) -> None:
    outcome = class_outcome(150, 2, 1, ties=ties)
    truth, values, called = outcome.truth, outcome.probabilities[:, 1], outcome.predicted
    expected = {
        "roc_auc": reference.roc_auc_score(truth, values),
        "average_precision": reference.average_precision_score(truth, values),
        "accuracy": reference.accuracy_score(truth, called),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, called),
        "f1": reference.f1_score(truth, called),
        "recall": reference.recall_score(truth, called),
        "precision": reference.precision_score(truth, called),
    }
    assert {name: score(outcome, name) for name in statistics(outcome)} == pytest.approx(expected)
    assert brier(outcome)(np.ones((1, 150)))[0] == pytest.approx(reference.brier_score_loss(truth, values))


def test_many_class_metrics_equal_scikit_learns() -> None:
    outcome = class_outcome(200, 4, 2)
    truth, values, called = outcome.truth, outcome.probabilities, outcome.predicted
    expected = {
        "roc_auc": reference.roc_auc_score(truth, values, multi_class="ovr", average="macro"),
        "average_precision": reference.average_precision_score(np.eye(4)[truth], values, average="macro"),
        "accuracy": reference.accuracy_score(truth, called),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, called),
        "f1": reference.f1_score(truth, called, average="macro"),
        "recall": reference.recall_score(truth, called, average="macro"),
        "precision": reference.precision_score(truth, called, average="macro"),
    }
    assert {name: score(outcome, name) for name in statistics(outcome)} == pytest.approx(expected)


def test_regression_metrics_equal_scikit_learns() -> None:
    outcome = value_outcome(120, 3)
    expected = {
        "mae": reference.mean_absolute_error(outcome.truth, outcome.predicted),
        "rmse": reference.root_mean_squared_error(outcome.truth, outcome.predicted),
        "r2": reference.r2_score(outcome.truth, outcome.predicted),
    }
    assert {name: score(outcome, name) for name in statistics(outcome)} == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(0, 4).filter(lambda count: count != 1))
def test_a_weight_is_how_often_a_row_was_drawn(seed: int, classes: int) -> None:
    """The vectorised statistic of a resample equals the metric of the rows it drew, one by one."""
    outcome: Any = class_outcome(40, classes, seed, ties=seed % 2 == 0) if classes else value_outcome(40, seed)
    weights = np.random.default_rng(seed).multinomial(40, [1 / 40] * 40).astype(float)
    drawn = outcome.take(np.repeat(np.arange(40), weights.astype(int)))
    for name, statistic in statistics(outcome).items():
        assert statistic(weights[None, :])[0] == pytest.approx(score(drawn, name), nan_ok=True), name


def test_undefined_is_not_a_number_and_never_a_score() -> None:
    only = ClassOutcome(np.zeros(5, dtype=int), np.tile([0.3, 0.7], (5, 1)))
    for name in ("roc_auc", "average_precision", "recall"):
        assert np.isnan(score(only, name))
    assert np.isnan(score(only.take(np.zeros(5, dtype=bool)), "accuracy"))
    flat = ValueOutcome(np.full(4, 2.0), np.array([1.0, 2.0, 3.0, 2.0]))
    assert np.isnan(score(flat, "r2"))


# Intervals


def all_intervals(outcome: Any, seed: int = 0, resamples: int = 400) -> dict[str, bootstrap.Interval]:
    return bootstrap.intervals(outcome, bootstrap.resample(statistics(outcome), len(outcome.truth), resamples, seed))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(8, 60), classes=st.sampled_from([0, 2, 3]))
def test_the_point_lies_in_its_interval(seed: int, rows: int, classes: int) -> None:
    outcome: Any = class_outcome(rows, classes, seed) if classes else value_outcome(rows, seed)
    for name, interval in all_intervals(outcome, seed, 100).items():
        assert interval.lower <= interval.value <= interval.upper, name
        assert np.isfinite([interval.lower, interval.upper, interval.se]).all(), name


def test_a_point_outside_its_own_percentiles_widens_the_interval() -> None:
    drawn = np.array([0.91, 0.93, np.nan, 0.95])
    assert bootstrap.percentile_interval(0.9, drawn).lower == 0.9
    assert bootstrap.percentile_interval(0.97, drawn).upper == 0.97
    assert bootstrap.percentile_interval(0.5, np.array([np.nan])) == bootstrap.Interval(0.5, 0.5, 0.5, 0.0)


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    outcome = class_outcome(80, 3, 5)
    assert all_intervals(outcome, 1) == all_intervals(outcome, 1)
    assert all_intervals(outcome, 1) != all_intervals(outcome, 2)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = value_outcome(50, 1)
    whole = bootstrap.resample(statistics(outcome), 50, 300, 9)
    monkeypatch.setattr(bootstrap, "_CELLS", 50 * 7)
    parts = bootstrap.resample(statistics(outcome), 50, 300, 9)
    assert all(np.allclose(whole[name], parts[name]) for name in whole)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Of 300 experiments with accuracy 0.8 and 120 rows, about 95 % of the intervals must hold 0.8."""
    random = np.random.default_rng(11)
    held = 0
    for experiment in range(300):
        right = random.random(120) < 0.8
        truth = random.integers(0, 2, 120)
        called = np.where(right, truth, 1 - truth)
        outcome = ClassOutcome(truth, np.eye(2)[called] * 0.8 + 0.1)
        parts = {"accuracy": statistics(outcome)["accuracy"]}
        drawn = bootstrap.resample(parts, 120, 400, experiment)["accuracy"]
        interval = bootstrap.percentile_interval(score(outcome, "accuracy"), drawn)
        held += interval.lower <= 0.8 <= interval.upper
    assert 0.90 <= held / 300 <= 0.98


def test_a_perfect_score_of_few_rows_is_not_certain() -> None:
    truth = np.array([0] * 20 + [1] * 10)
    found = all_intervals(ClassOutcome(truth, np.eye(2)[truth] * 0.8 + 0.1))
    assert found["accuracy"].lower == pytest.approx(30 / (30 + 1.96**2), abs=1e-3)
    assert found["recall"].lower == pytest.approx(10 / (10 + 1.96**2), abs=1e-3)
    assert found["roc_auc"].lower == bootstrap.perfect_auc_lower(10, 20)
    assert all(interval.value == interval.upper == 1.0 for interval in found.values())


def test_newcombes_bound_solves_its_equation_and_grows_with_rows() -> None:
    """Newcombe (2006), method 5: the bound is where 1 - area = z * sqrt(variance(area))."""
    area = bootstrap.perfect_auc_lower(10, 20)
    half = (10 + 20) / 2 - 1
    bracket = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
    assert 1 - area == pytest.approx(1.959964 * np.sqrt(area * (1 - area) * bracket / 200), abs=1e-6)
    bounds = [bootstrap.perfect_auc_lower(size, 2 * size) for size in (2, 10, 50, 500)]
    assert bounds == sorted(bounds)
    assert bounds[-1] > 0.99


def test_a_constant_baseline_has_an_exact_area_of_one_half() -> None:
    outcome = ClassOutcome(np.array([0, 1] * 20), np.tile([0.6, 0.4], (40, 1)))
    interval = all_intervals(outcome)["roc_auc"]
    assert (interval.value, interval.lower, interval.upper) == (0.5, 0.5, 0.5)


def test_too_many_rows_for_the_time_is_a_limit() -> None:
    outcome = class_outcome(2000, 2, 1)
    with pytest.raises(LimitError, match="2000 hold-out rows"):
        bootstrap.resample(statistics(outcome), 2000, 2000, 1, seconds=1e-3)


# Calibration and slices


def test_calibration_error_of_honest_and_of_boastful_probabilities() -> None:
    random = np.random.default_rng(4)
    chance = random.random(4000)
    truth = (random.random(4000) < chance).astype(int)
    honest = ClassOutcome(truth, np.column_stack([1 - chance, chance]))
    called = (chance > 0.5).astype(float)
    boastful = ClassOutcome(truth, np.column_stack([1 - called, called]))
    ones = np.ones((1, 4000))
    assert calibration.calibration_error(honest)(ones)[0] < 0.03
    assert calibration.calibration_error(boastful)(ones)[0] == pytest.approx(0.25, abs=0.03)
    bins = calibration.reliability(honest)
    assert [each.predicted for each in bins] == sorted(each.predicted for each in bins)
    assert sum(each.rows for each in bins) == 4000
    assert min(each.rows for each in bins) >= 10


def sliced(bad: int, seed: int = 3) -> slices.SliceReport:
    """600 rows in four regions; in region `south`, `bad` of ten predictions are made worthless."""
    random = np.random.default_rng(seed)
    region = np.array(["north", "east", "south", "west"])[random.integers(0, 4, 600)]
    truth = random.integers(0, 2, 600)
    chance = np.clip(0.5 + (truth - 0.5) * 0.8 + random.normal(0, 0.2, 600), 0.01, 0.99)
    lost = (region == "south") & (random.random(600) < bad / 10)
    chance[lost] = 1 - chance[lost]
    age = np.where(random.random(600) < 0.1, np.nan, random.normal(50, 10, 600))
    features = pd.DataFrame({"region": region, "age": age, "flag": random.random(600) < 0.5})
    outcome = ClassOutcome(truth, np.column_stack([1 - chance, chance]))
    floor = ClassOutcome(truth, np.full((600, 2), 0.5))
    return slices.measure_slices(outcome, floor, features, "roc_auc", 1)


def test_a_planted_bad_slice_is_named_and_chance_is_not() -> None:
    report = sliced(bad=6)
    worst = report.worst[0]
    assert (worst.column, worst.values, worst.clearly_worse) == ("region", "south", True)
    assert worst.baseline == 0.5
    assert worst.gain.value == pytest.approx(worst.interval.value - 0.5)
    assert report.formed == report.judged == 4 + 4 + 1 + 2  # regions, age ranges, missing ages, flags
    assert not any(part.clearly_worse for seed in range(5) for part in sliced(bad=0, seed=seed).worst)


def test_small_slices_are_not_judged_and_regression_slices_are() -> None:
    outcome = value_outcome(50, 1)
    features = pd.DataFrame({"kind": ["a"] * 40 + ["b"] * 10, "day": pd.date_range("2026-01-01", periods=50)})
    report = slices.measure_slices(outcome, outcome, features, "r2", 1)
    assert (report.metric, report.formed, report.judged) == ("rmse", 2, 1)
    assert report.worst[0].values == "a"


# Predicting


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A linear model of blunt wine data, its inputs and its predictions."""
    folder = tmp_path_factory.mktemp("binary")
    artifacts = make_inputs(folder / "in", *binary_wine(), metric="roc_auc")
    artifacts["experiment-plan.json"] = quick_plan(folder, "roc_auc")
    for skill in (TrainingTrain, EvaluationPredict):
        _, files = run_skill(skill, ticket(), folder, artifacts)
        artifacts |= files
    return artifacts


def test_predictions_are_probabilities_in_the_scopes_order(trained: dict[str, Path], tmp_path: Path) -> None:
    output, files = run_skill(EvaluationPredict, ticket(), tmp_path, trained)
    table = pd.read_parquet(files["predictions.parquet"])
    held = pd.read_parquet(trained["holdout-features.parquet"])
    assert list(table.columns) == ["__row__", "p_0", "p_1", "b_0", "b_1"]
    assert set(table["__row__"]) == set(held["__row__"])
    assert np.allclose(table[["p_0", "p_1"]].sum(axis=1), 1)
    assert table["b_0"].nunique() == 1
    assert {each.name for each in output.measurements} == {"batch_ms_per_row", "single_row_ms"}
    assert files["predictions.parquet"].read_bytes() == trained["predictions.parquet"].read_bytes()


def test_a_planted_model_is_refused_and_not_executed(trained: dict[str, Path], tmp_path: Path) -> None:
    proof = tmp_path / "executed"

    class Runs:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {proof}",)

    planted = tmp_path / "model.skops"
    planted.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UntrustedModel, match="is not a model this train produced"):
        run_skill(EvaluationPredict, ticket(), tmp_path, trained | {"model.skops": planted})
    assert not proof.exists()


def test_a_model_of_other_classes_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import Pipeline

    other = Pipeline([("model", DummyClassifier())]).fit([[0], [1]], ["red", "blue"])
    planted = tmp_path / "model.skops"
    planted.write_bytes(dump_model(other))
    with pytest.raises(SkillError, match="does not predict the classes"):
        run_skill(EvaluationPredict, ticket(), tmp_path, trained | {"model.skops": planted})


def test_hold_out_rows_without_a_column_are_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "holdout-features.parquet"
    pd.read_parquet(trained["holdout-features.parquet"]).drop(columns="ash").to_parquet(path)
    with pytest.raises(InputError, match="ash"):
        run_skill(EvaluationPredict, ticket(), tmp_path, trained | {path.name: path})


# Measuring


def measure(tmp_path: Path, artifacts: dict[str, Path], **more: Any) -> tuple[Any, dict[str, Path], dict[str, Any]]:
    output, files = run_skill(EvaluationMeasure, more.pop("ticket", ticket()), tmp_path, artifacts, **more)
    return output, files, json.loads(files["metrics.json"].read_text("utf-8"))


def test_only_the_measuring_skill_may_read_sealed_labels() -> None:
    assert EvaluationMeasure.harness
    assert not EvaluationPredict.harness
    assert "holdout-labels.parquet" not in EvaluationPredict.needs


def test_measuring_ticks_its_checklist_and_gives_every_figure(trained: dict[str, Path], tmp_path: Path) -> None:
    output, files, found = measure(tmp_path, trained)
    assert {item.item for item in output.ticked} == checklist("validation") - BY_OTHERS
    measured = {f"{each.scope}.{each.name}": each.value for each in output.measurements}
    for name in ("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "recall", "precision"):
        assert measured[f"metrics.{name}_lower"] <= measured[f"metrics.{name}"] <= measured[f"metrics.{name}_upper"]
        assert measured[f"baseline.{name}_lower"] <= measured[f"baseline.{name}_upper"]
        assert measured[f"metrics.{name}_se"] >= 0
        gain = measured[f"metrics.{name}"] - measured[f"baseline.{name}"]
        assert measured[f"metrics.{name}_gain"] == pytest.approx(gain)
    table = pd.read_parquet(trained["predictions.parquet"]).merge(pd.read_parquet(trained["holdout-labels.parquet"]))
    assert measured["metrics.rows"] == len(table) == found["rows"]
    assert measured["metrics.roc_auc"] == pytest.approx(
        reference.roc_auc_score(table["__target__"] == "other", table["p_1"])
    )
    assert np.array(found["confusion"]).sum() == len(table)
    again = measure(tmp_path, trained)[1]
    assert all(again[name].read_bytes() == files[name].read_bytes() for name in files), "figure and report included"


def test_regression_end_to_end(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *diabetes(), metric="mae")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "mae")
    for skill in (TrainingTrain, EvaluationPredict):
        _, files = run_skill(skill, ticket(), tmp_path, artifacts)
        artifacts |= files
    output, files, found = measure(tmp_path, artifacts)
    assert {item.item for item in output.ticked} == checklist("validation") - BY_OTHERS
    assert found["gain"]["mae"]["lower"] > 0, "a gain is positive when better, for errors too"
    assert found["calibration"].keys() == {"bins"}
    assert found["slices"]["judged"] > 0
    assert "predicts medians" in files["evaluation-report.md"].read_text("utf-8")


def test_many_classes_end_to_end_with_a_perfect_score(tmp_path: Path) -> None:
    frame, labels = wine()
    artifacts = make_inputs(tmp_path / "in", frame, labels, metric="balanced_accuracy")
    held = pd.read_parquet(artifacts["holdout-labels.parquet"])
    truth = held["__target__"].str[-1].astype(int).to_numpy()
    table = pd.DataFrame({"__row__": held["__row__"]})
    for index in range(3):
        table[f"p_{index}"] = np.where(truth == index, 0.8, 0.1)
        table[f"b_{index}"] = 1 / 3
    artifacts["predictions.parquet"] = tmp_path / "predictions.parquet"
    table.to_parquet(artifacts["predictions.parquet"])
    _, files, found = measure(tmp_path, artifacts)
    assert found["metrics"]["accuracy"]["value"] == 1.0
    assert 0.5 < found["metrics"]["balanced_accuracy"]["lower"] < 0.95
    assert found["gain"]["balanced_accuracy"]["lower"] < found["gain"]["balanced_accuracy"]["value"]
    assert "called cultivar" in files["evaluation-report.md"].read_text("utf-8")


def _drop_one(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[1:]


def _double_one(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.iloc[:1]])


def _another_row(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(__row__=np.where(np.arange(len(table)) == 0, 10_000, table["__row__"]))


def _no_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[:0]


def _not_one(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(p_0=table["p_0"] * 0.9)


def _negative(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(p_0=-0.1, p_1=1.1)


def _not_a_number(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(p_0=table["p_0"].where(table.index > 0))


def _clever_baseline(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(b_0=table["p_1"], b_1=table["p_0"])


def _no_column(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="p_1")


def _no_row_numbers(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="__row__")


@pytest.mark.parametrize(
    ("tamper", "says"),
    [(_drop_one, "differ in 1 rows"), (_double_one, "more than once"), (_another_row, "differ in 2 rows"),
     (_no_rows, "differ in"), (_not_one, "sum to 1"), (_negative, "not probabilities"),
     (_not_a_number, "not probabilities"), (_clever_baseline, "no floor"), (_no_column, "no column p_1"),
     (_no_row_numbers, "no column __row__")],
)  # fmt: skip
def test_tampered_predictions_are_refused(trained: dict[str, Path], tmp_path: Path, tamper: Any, says: str) -> None:
    path = tmp_path / "predictions.parquet"
    tamper(pd.read_parquet(trained["predictions.parquet"])).to_parquet(path, index=False)
    with pytest.raises(SkillError, match=says):
        measure(tmp_path, trained | {path.name: path})


def test_hold_out_rows_that_cannot_answer_the_question_are_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    labels = pd.read_parquet(trained["holdout-labels.parquet"])
    path = tmp_path / "holdout-labels.parquet"
    labels.assign(__target__="other").to_parquet(path, index=False)
    with pytest.raises(InputError, match="roc_auc is undefined on the hold-out rows"):
        measure(tmp_path, trained | {path.name: path})
    labels.assign(__target__="third kind").to_parquet(path, index=False)
    with pytest.raises(SkillError, match="third kind"):
        measure(tmp_path, trained | {path.name: path})


# The report


def test_the_report_shows_criteria_with_their_figures_and_its_limits(trained: dict[str, Path], tmp_path: Path) -> None:
    criteria = ("metrics.roc_auc_lower >= 0.6", "serving.single_row_ms < 100.0 || metrics.nothing > 0.0")
    _, files, found = measure(tmp_path, trained, acceptance=criteria, measured={"serving": {"single_row_ms": 12.5}})
    text = files["evaluation-report.md"].read_text("utf-8")
    assert f"metrics.roc_auc_lower = {found['metrics']['roc_auc']['lower']:.4g}" in text
    assert "serving.single_row_ms = 12.5" in text
    for heading in ("## Metrics", "## Acceptance criteria", "## Slices", "## Calibration", "do not say"):
        assert heading in text
    assert "ynthetic" not in text
    assert "<svg" in files["evaluation.svg"].read_text("utf-8")


def test_synthetic_rows_and_hostile_names_show_as_what_they_are(trained: dict[str, Path], tmp_path: Path) -> None:
    scope = json.loads(trained["scope.json"].read_text("utf-8")) | {"target": "`|<script>"}
    source = json.loads(trained["data-source.json"].read_text("utf-8")) | {"synthetic": True}
    artifacts = trained | {
        "scope.json": write_json(tmp_path / "scope.json", scope),
        "data-source.json": write_json(tmp_path / "data-source.json", source),
    }
    hostile = ticket(title="Costs $x_{ $\n# and <img src=x> @everyone | [a](b)")
    _, files, _ = measure(tmp_path, artifacts, ticket=hostile)
    text = files["evaluation-report.md"].read_text("utf-8")
    assert "**Synthetic data.**" in text
    assert "<img" not in text
    assert "@everyone" not in text
    assert "\n# and" not in text
    assert "<script>" not in text.replace("`'\\|<script>`", "")
