"""The training skills: plan, folds, choice, reproducibility, model files, tracking, and inputs that cannot be used."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from agents.skill import InputError, LimitError
from agents.skills.shapes import ExperimentLog, ExperimentPlan
from agents.skills.training import candidates, experiment, modelfile, search
from agents.skills.training.candidates import Problem
from agents.skills.training.choice import Finalist, choose, corrected_se, duel
from agents.skills.training.folds import make_folds, plan_folds
from agents.skills.training.plan import TrainingPlan
from agents.skills.training.train import TrainingTrain
from schemas.values import Task
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import (
    ROOT,
    binary_wine,
    checklist,
    diabetes,
    make_inputs,
    quick_plan,
    ticket,
    wine,
    write_json,
)


def train(tmp_path: Path, artifacts: dict[str, Path], **more: Any) -> tuple[Any, dict[str, Path], ExperimentLog]:
    output, files = run_skill(TrainingTrain, ticket(), tmp_path, artifacts, **more)
    return output, files, ExperimentLog.model_validate_json(files["experiment-log.json"].read_text("utf-8"))


# The plan


def test_plan_names_baseline_candidates_and_folds(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *wine(), metric="roc_auc")
    output, files = run_skill(TrainingPlan, ticket(), tmp_path, artifacts, seed=2**40 + 3)
    plan = ExperimentPlan.model_validate_json(files["experiment-plan.json"].read_text("utf-8"))
    assert {item.item for item in output.ticked} == checklist("model-architecture")
    assert plan.candidates == ("linear", "random_forest", "hist_gradient_boosting")
    assert plan.seed < 2**32, "scikit-learn takes no larger seed"
    assert plan.baseline.startswith("dummy")
    assert "Nadeau" in files["experiment-plan.md"].read_text("utf-8")


@pytest.mark.parametrize(
    ("rows", "columns", "missing"),
    [(30, 4, {"random_forest", "hist_gradient_boosting"}), (80, 4, {"hist_gradient_boosting"}),
     (1000, 2000, {"hist_gradient_boosting"}), (1000, 10, set())],
)  # fmt: skip
def test_candidates_fit_the_size_of_the_table(rows: int, columns: int, missing: set[str]) -> None:
    names, left_out = candidates.fitting_candidates(rows, columns)
    assert set(left_out) == missing
    assert set(names) == set(candidates.CATALOGUE) - missing


def test_every_candidate_gets_trials_and_more_cells_get_fewer() -> None:
    names = tuple(candidates.CATALOGUE)
    assert all(count >= 1 for count in candidates.share_trials(3, names).values())
    assert candidates.trial_count(500, 10, 2) > candidates.trial_count(100_000, 100, 2)


def test_a_longer_search_has_more_trials_over_wider_ranges_and_stays_in_the_budget(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *wine(), metric="roc_auc")

    def planned(name: str, **budget: float) -> tuple[ExperimentPlan, str]:
        asked = ticket(budget=budget)
        (tmp_path / name).mkdir()
        _, files = run_skill(TrainingPlan, asked, tmp_path / name, artifacts)
        text = files["experiment-plan.md"].read_text("utf-8")
        return ExperimentPlan.model_validate_json(files["experiment-plan.json"].read_text("utf-8")), text

    usual, text = planned("usual")
    assert (usual.search_seconds, usual.wide) == (8.0, False)
    assert "up to 400 rounds" not in text
    long, text = planned("long", search_seconds=24.0)
    assert long.search_seconds == 24.0
    assert long.trials > 6 * usual.trials
    assert long.wide
    assert "up to 400 rounds" in text
    short, _ = planned("short", search_seconds=2.0)
    assert (short.search_seconds, short.wide) == (2.0, False)
    assert len(short.candidates) <= short.trials < usual.trials


@pytest.mark.parametrize("classes", [0, 3])
def test_wide_settings_are_settings_of_the_model_and_can_be_built_again(classes: int) -> None:
    task = Task.CLASSIFICATION if classes else Task.REGRESSION
    problem = Problem(task, "roc_auc" if classes else "r2", classes, 500, 7, wide=True)
    for candidate in candidates.CATALOGUE.values():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
        seen = [candidate.suggest(study.ask(), problem) for _ in range(50)]
        for params in seen:
            built = candidate.build(params, Problem(task, problem.metric, classes, 500, 7)).get_params()
            assert {name: built[name] for name in params} == params
        usual = candidate.suggest(optuna.create_study().ask(), Problem(task, problem.metric, classes, 500, 7))
        assert set(usual) <= set(seen[0])
        assert (set(usual) == set(seen[0])) == (candidate.name == "linear")


# Folds


@pytest.mark.parametrize("classes", [True, False])
def test_groups_are_never_split(classes: bool) -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 25, 200)
    target = np.array(["a", "b"])[random.integers(0, 2, 200)] if classes else random.normal(size=200)
    plan = plan_folds(target, groups, wanted=5, classes=classes, time=False)
    assert plan.kind == ("stratified-grouped" if classes else "grouped")
    for seed in range(5):
        for fold in make_folds(plan, target, groups, seed):
            assert not set(groups[fold.train]) & set(groups[fold.test])


def test_time_folds_score_the_future_without_groups_of_the_past() -> None:
    groups = np.arange(119) // 7
    target = np.arange(119.0)
    plan = plan_folds(target, groups, wanted=4, classes=False, time=True)
    for fold in make_folds(plan, target, groups, 1):
        assert fold.train.max() < fold.test.min()
        assert not set(groups[fold.train]) & set(groups[fold.test])


def test_rare_classes_and_few_groups_reduce_the_folds_with_a_note() -> None:
    target = np.array(["a"] * 30 + ["b"] * 3)
    plan = plan_folds(target, np.arange(33), wanted=5, classes=True, time=False)
    assert (plan.count, "3 rows of the rarest class" in plan.note) == (3, True)
    plan = plan_folds(np.arange(33.0), np.arange(33) % 2, wanted=5, classes=False, time=False)
    assert (plan.count, "2 groups" in plan.note) == (2, True)


@pytest.mark.parametrize(
    ("target", "groups", "says"),
    [(["a"] * 9, range(9), "every training row has the class"), (["a"] * 9 + ["b"], range(10), "one training row"),
     (["a", "b"] * 5, [1] * 10, "one group"), (["a", "b"], range(2), "cannot be cross-validated"),
     (["a"] * 5 + ["b"] * 5, [1] * 5 + [2] * 5, "both classes")],
)  # fmt: skip
def test_rows_that_cannot_be_folded_are_named(target: list[str], groups: Any, says: str) -> None:
    labels, ids = np.array(target), np.array(list(groups))
    with pytest.raises(InputError, match=says):
        make_folds(plan_folds(labels, ids, wanted=5, classes=True, time=False), labels, ids, 0)


# The choice


def finalist(kind: str, simplicity: int, *scores: float) -> Finalist:
    return Finalist(kind, kind, {}, (simplicity, 0), np.array(scores))


def test_a_tie_keeps_the_simpler_model() -> None:
    scores = (0.9, 0.8, 0.85, 0.88, 0.9)
    chosen, duels = choose([finalist("boosting", 2, *scores), finalist("linear", 0, *scores)], 0.25, True)
    assert (chosen.kind, duels[0].won, duels[0].gain) == ("linear", False, 0.0)


def test_a_clear_winner_replaces_and_an_uncertain_one_does_not() -> None:
    linear = finalist("linear", 0, 0.70, 0.71, 0.69, 0.70, 0.72)
    clear = finalist("boosting", 2, 0.80, 0.82, 0.79, 0.80, 0.81)
    lucky = finalist("forest", 1, 0.95, 0.65, 0.72, 0.69, 0.75)
    assert choose([linear, lucky], 0.25, True)[0].kind == "linear"
    assert choose([linear, lucky, clear], 0.25, True)[0].kind == "boosting"
    assert choose([linear, clear], 0.25, False)[0].kind == "linear", "for errors, lower is better"


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    gains = np.array([0.1, 0.2, 0.3, 0.2])
    assert corrected_se(gains, 1 / 3) == pytest.approx(np.sqrt((1 / 4 + 1 / 3) * np.var(gains, ddof=1)))
    result = duel(finalist("b", 1, *gains), finalist("a", 0, 0, 0, 0, 0), 1 / 3, True)
    assert result.lower == pytest.approx(0.2 - 3.182446 * corrected_se(gains, 1 / 3), abs=1e-6)


def test_undefined_folds_are_left_out_of_a_duel() -> None:
    result = duel(finalist("b", 1, 0.9, np.nan, 0.9), finalist("a", 0, 0.5, 0.5, np.nan), 0.5, True)
    assert (result.gain, result.won) == (pytest.approx(0.4), False), "one fold proves nothing"


# Training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Path], ExperimentLog]:
    """A full training on wine, with the plan the train makes itself."""
    folder = tmp_path_factory.mktemp("wine")
    artifacts = make_inputs(folder / "in", *wine(), metric="balanced_accuracy")
    _, planned = run_skill(TrainingPlan, ticket(), folder, artifacts)
    lines: list[str] = []
    output, files, log = train(folder, artifacts | planned, progress=lines.append)
    assert any(line.startswith("trial 3/") for line in lines)
    return folder, output, artifacts | planned | files, log


def test_training_ticks_its_checklist_and_logs_every_trial(
    trained: tuple[Path, Any, dict[str, Path], ExperimentLog],
) -> None:
    _, output, files, log = trained
    plan = ExperimentPlan.model_validate_json(files["experiment-plan.json"].read_text("utf-8"))
    assert {item.item for item in output.ticked} == checklist("training")
    searched = [trial for trial in log.trials if "(" not in trial.model]
    assert len(searched) == plan.trials
    assert {trial.model for trial in searched} == set(plan.candidates)
    assert log.baseline.mean == pytest.approx(1 / 3)
    assert log.chosen.mean > 0.9
    assert log.chosen.model == "linear (default)", "wine is linearly separable: nothing can be clearly better"
    assert "not clearly better" in log.reason


def test_training_twice_gives_the_same_bytes_and_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when folds are fitted one after the other the second time."""
    artifacts = make_inputs(tmp_path / "in", *binary_wine(), metric="f1")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "f1", tuple(candidates.CATALOGUE), 5)
    _, files, log = train(tmp_path, artifacts)
    monkeypatch.setattr(search, "_AT_ONCE", 1)
    _, others, again = train(tmp_path, artifacts)
    assert (again.model_sha256, again.chosen.model) == (log.model_sha256, log.chosen.model)
    for name in ("model.skops", "baseline.skops"):
        assert files[name].read_bytes() == others[name].read_bytes()
    assert [trial.mean for trial in again.trials] == [trial.mean for trial in log.trials]


def test_the_model_predicts_and_the_baseline_is_constant(
    trained: tuple[Path, Any, dict[str, Path], ExperimentLog],
) -> None:
    from agents.skills.feature.transform import prepare_frame
    from tests.skills.ml_inputs import feature_map

    _, _, files, _ = trained
    frame, labels = wine()
    inputs = prepare_frame(frame, feature_map(frame))
    model, floor = (modelfile.load_model(files[name]) for name in ("model.skops", "baseline.skops"))
    assert np.mean(model.predict(inputs) == np.array(labels)) > 0.95
    assert np.ptp(floor.predict_proba(inputs), axis=0).max() == 0.0


_DUMP = """
import hashlib
from sklearn.datasets import load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline
from agents.skills.training.modelfile import dump_model
X, y = load_wine(return_X_y=True)
models = (RandomForestClassifier(5, random_state=1), HistGradientBoostingClassifier(max_iter=5, random_state=1))
digests = [hashlib.sha256(dump_model(Pipeline([("model", model)]).fit(X, y))).hexdigest() for model in models]
"""


def test_model_bytes_do_not_depend_on_the_process() -> None:
    """Memory addresses, hash seeds and the order of imports differ between processes."""
    here: dict[str, Any] = {}
    exec(_DUMP, here)
    there = subprocess.run(
        [sys.executable, "-c", _DUMP + "print(*digests)"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert there.stdout.split() == here["digests"]


def test_model_bytes_do_not_depend_on_which_equal_strings_are_one_object() -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import Pipeline

    def dumped(names: list[str]) -> bytes:
        model = DummyClassifier().fit([[0], [1]], [0, 1])
        model.names = names
        return modelfile.dump_model(Pipeline([("model", model)]))

    text = "mean radius"
    assert dumped([text, text]) == dumped([text, "".join(["mean", " radius"])])


def test_seeded_is_not_ticked_when_two_fits_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = make_inputs(tmp_path / "in", *binary_wine(), metric="roc_auc")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "roc_auc")
    salt = iter(range(100))
    dump = modelfile.dump_model
    monkeypatch.setattr(experiment, "dump_model", lambda model: dump(model) + bytes([next(salt)]))
    output, _, _ = train(tmp_path, artifacts)
    assert {item.item for item in output.ticked} == checklist("training") - {"seeded"}
    assert any("two different models" in warning for warning in output.warnings)


@pytest.mark.parametrize(("metric", "dummy"), [("mae", "median"), ("rmse", "mean")])
def test_regression_with_its_own_floor(tmp_path: Path, metric: str, dummy: str) -> None:
    artifacts = make_inputs(tmp_path / "in", *diabetes(), metric=metric)
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, metric, ("linear", "hist_gradient_boosting"), 3)
    _, files, log = train(tmp_path, artifacts)
    assert log.chosen.mean < log.baseline.mean
    assert not log.higher_is_better
    assert modelfile.load_model(files["baseline.skops"])[-1].strategy == dummy
    assert dummy in candidates.baseline_name(False, metric)


def test_the_time_fuse_skips_trials_but_no_candidate(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *binary_wine(), metric="roc_auc")
    plan = ExperimentPlan(
        metric="roc_auc", folds=3, grouped=False, seed=7, baseline="dummy", candidates=("linear", "random_forest"),
        trials=40, search_seconds=1e-6,
    )  # fmt: skip
    artifacts["experiment-plan.json"] = write_json(tmp_path / "experiment-plan.json", plan)
    output, _, log = train(tmp_path, artifacts)
    assert [trial.model for trial in log.trials][:2] == ["linear", "random_forest"]
    assert any("stopped after 2 of" in warning for warning in output.warnings)


def test_a_table_that_is_far_too_large_hits_the_limit_early(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *wine(), metric="roc_auc")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "roc_auc")
    with pytest.raises(LimitError, match="simplest model would take"):
        train(tmp_path, artifacts, seconds=1e-4)


def test_wide_tiny_and_odd_tables_train(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    labels = ["yes" if value else "no" for value in random.integers(0, 2, 80)]
    wide = pd.DataFrame(random.normal(size=(80, 400))).add_prefix("column_")
    odd = pd.DataFrame({
        "many levels": [f"level {number}" for number in range(80)],
        "empty": [None] * 80,
        "broken": ["1", "x|y\n"] * 40,
        "number": np.where(np.arange(80) % 3, np.arange(80.0), np.nan),
    })  # fmt: skip
    for name, frame in (("wide", wide), ("odd", odd), ("tiny", odd.iloc[:30])):
        artifacts = make_inputs(tmp_path / name, frame, labels[: len(frame)], metric="roc_auc")
        artifacts["experiment-plan.json"] = quick_plan(tmp_path, "roc_auc", ("linear", "random_forest"))
        _, _, log = train(tmp_path / name, artifacts)
        assert log.chosen.model, name


def test_a_class_of_one_row_among_three_is_survived(tmp_path: Path) -> None:
    frame, labels = wine()
    artifacts = make_inputs(tmp_path / "in", frame, labels, metric="balanced_accuracy")
    rows = pd.read_parquet(artifacts["train.parquet"])
    lone = rows[rows["__target__"] == "cultivar_2"].index[1:]
    rows.drop(index=lone).to_parquet(artifacts["train.parquet"])
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "balanced_accuracy", ("linear", "random_forest"), 3)
    output, _, _ = train(tmp_path, artifacts)
    assert any("2 folds instead of 3" in warning for warning in output.warnings)


def test_rows_that_do_not_fit_the_scope_are_refused(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *wine(), metric="roc_auc")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "roc_auc")
    features = json.loads(artifacts["feature-map.json"].read_text("utf-8"))
    empty = write_json(tmp_path / "feature-map.json", features | {"columns": []})
    with pytest.raises(InputError, match="names no columns"):
        train(tmp_path, artifacts | {"feature-map.json": empty})
    scope = json.loads(artifacts["scope.json"].read_text("utf-8"))
    fewer = write_json(tmp_path / "scope.json", scope | {"classes": scope["classes"][:2]})
    with pytest.raises(InputError, match="cultivar_2"):
        train(tmp_path, artifacts | {"scope.json": fewer})


# Model files


class _Runs:
    """Unpickling this runs a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    (tmp_path / "model.skops").write_bytes(pickle.dumps(_Runs(proof)))
    with pytest.raises(modelfile.UntrustedModel, match="not a skops file"):
        modelfile.load_model(tmp_path / "model.skops")
    assert not proof.exists()


@pytest.mark.parametrize(
    "node",
    [
        {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
        {"__class__": "Popen", "__module__": "subprocess", "__loader__": "TypeNode"},
        {"__class__": "eval", "__module__": "builtins", "__loader__": "FunctionNode"},
        {"__class__": "load", "__module__": "numpy", "__loader__": "FunctionNode"},
        {"__class__": "Thing", "__module__": "sklearn.pipeline", "__loader__": "NoSuchNode"},
    ],
)
def test_a_skops_file_with_anything_foreign_is_refused(tmp_path: Path, node: dict[str, Any]) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("schema.json", json.dumps({**node, "protocol": 3, "_skops_version": "0.16.0"}))
    with pytest.raises(modelfile.UntrustedModel, match="is not a model this train produced"):
        modelfile.load_model(path)


def test_a_damaged_or_oversized_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import Pipeline

    path = tmp_path / "model.skops"
    whole = modelfile.dump_model(Pipeline([("model", DummyClassifier())]).fit(*wine()))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(modelfile.UntrustedModel):
        modelfile.load_model(path)
    path.write_bytes(whole)
    monkeypatch.setattr(modelfile, "_MAX_BYTES", 100)
    with pytest.raises(modelfile.UntrustedModel, match="unpacks to more"):
        modelfile.load_model(path)


@pytest.mark.parametrize("kind", ["random_forest", "hist_gradient_boosting"])
def test_a_tree_that_points_outside_itself_is_refused(tmp_path: Path, kind: str) -> None:
    """scikit-learn follows links and column numbers unchecked: a forged one reads foreign memory."""
    from sklearn.pipeline import Pipeline

    from schemas.values import Task

    frame, labels = wine()
    problem = candidates.Problem(Task.CLASSIFICATION, "roc_auc", 3, len(frame), 1)
    candidate = candidates.CATALOGUE[kind]
    model = Pipeline([("model", candidate.build(candidate.defaults(problem), problem))]).fit(frame, labels)
    path = tmp_path / "model.skops"
    path.write_bytes(modelfile.dump_model(model))
    assert modelfile.load_model(path).predict(frame).tolist() == model.predict(frame).tolist()
    with zipfile.ZipFile(path) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    forged = dict(members)
    for name, data in members.items():
        if name.endswith(".npy"):
            forged[name] = _with_wild_column(data)
    assert forged != members
    path.write_bytes(modelfile.zip_bytes(forged))
    with pytest.raises(modelfile.UntrustedModel, match="points outside itself"):
        modelfile.load_model(path)


def _with_wild_column(data: bytes) -> bytes:
    """The array with the column number of its first inner node far out of range, if it is an array of tree nodes."""
    import io

    array = np.load(io.BytesIO(data), allow_pickle=False)
    names = array.dtype.names or ()
    name = next((each for each in ("feature", "feature_idx") if each in names), None)
    if name is None:
        return data
    array = array.copy()
    array[name][0] = 1_000_000
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


# Tracking


@pytest.mark.slow  # the first use of an MLflow store in SQLite takes seconds
def test_runs_are_tracked_in_mlflow_when_the_session_names_a_store(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    artifacts = make_inputs(tmp_path / "in", *binary_wine(), metric="roc_auc")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "roc_auc")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    output, _, log = train(tmp_path, artifacts, facts={"tracking_uri": uri})
    assert not output.warnings
    assert log.tracking.startswith("MLflow experiment tell-cultivars-apart, run ")
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("tell-cultivars-apart")
    runs = client.search_runs([found.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == len(log.trials) + 1
    assert parent.data.tags["valuetrain.model_sha256"] == log.model_sha256
    assert parent.data.metrics["cv_roc_auc"] == pytest.approx(log.chosen.mean)
    assert all(run.info.status == "FINISHED" for run in runs)


def test_an_unreachable_store_is_a_warning_and_not_a_failure(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *binary_wine(), metric="roc_auc")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "roc_auc")
    output, _, log = train(tmp_path, artifacts, facts={"tracking_uri": "nonsense://nowhere"})
    assert log.tracking == "artifact only"
    assert any("not tracked in MLflow" in warning for warning in output.warnings)
