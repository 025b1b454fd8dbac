"""The average of several models: who is in it, when it is kept, what it predicts, how it is stored and made again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.skills.evaluation.claims import Claims, check_training
from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome
from agents.skills.feature.transform import prepare_frame
from agents.skills.shapes import ExperimentLog, ExperimentPlan, FeatureMap, ScopeSpec, SplitSpec
from agents.skills.training import experiment, modelfile, voting
from agents.skills.training.candidates import CATALOGUE, Problem
from agents.skills.training.choice import Finalist
from agents.skills.training.rows import read_rows
from agents.skills.training.search import class_probabilities
from agents.skills.training.train import TrainingTrain
from schemas.values import Task
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import binary_wine, diabetes, make_inputs, quick_plan, ticket, wine, write_json

PROBLEM = Problem(Task.CLASSIFICATION, "roc_auc", 3, 178, 1)


def contender(kind: str, *scores: float) -> voting.Contender:
    outcomes = [ClassOutcome(np.zeros(1, dtype=np.intp), np.array([[each, 1 - each]])) for each in scores]
    finalist = Finalist(kind, f"{kind} (tuned)", {}, (CATALOGUE[kind].simplicity, 1), np.array(scores))
    return voting.Contender(finalist, outcomes)


def average_of(*scores: float) -> Finalist:
    return Finalist(voting.VOTING, "voting (linear + random_forest)", {}, (3, 1), np.array(scores))


# Who is in it


def test_whom_the_best_clearly_beats_stays_out() -> None:
    best = contender("hist_gradient_boosting", 0.80, 0.82, 0.79, 0.80, 0.81)
    close = contender("linear", 0.79, 0.83, 0.78, 0.81, 0.80)
    worse = contender("random_forest", 0.60, 0.62, 0.59, 0.60, 0.62)
    members = voting.worth_averaging([close, worse, best], 0.25, True)
    assert [each.finalist.kind for each in members] == ["hist_gradient_boosting", "linear"]
    assert voting.worth_averaging([worse, best], 0.25, True) == [], "one model alone is no average"
    assert voting.worth_averaging([worse, best], 0.25, False) == [], "for errors, lower is better"
    assert voting.worth_averaging([best], 0.25, True) == []


def test_of_two_models_of_one_kind_the_better_one_is_in_it() -> None:
    default = contender("linear", 0.70, 0.71, 0.70)
    tuned = contender("linear", 0.72, 0.71, 0.72)
    other = contender("random_forest", 0.71, 0.72, 0.71)
    assert voting.worth_averaging([default, tuned, other], 0.5, True) == [tuned, other]


# When it is kept


def test_it_is_kept_only_if_it_clearly_beats_the_best_and_the_chosen() -> None:
    best = contender("hist_gradient_boosting", 0.80, 0.82, 0.79, 0.80, 0.81).finalist
    chosen = contender("linear", 0.78, 0.80, 0.77, 0.78, 0.79).finalist
    clear, unsure = average_of(0.85, 0.87, 0.84, 0.85, 0.86), average_of(0.81, 0.80, 0.82, 0.83, 0.78)
    kept, duels = voting.challenge(clear, best, chosen, 0.25, True)
    assert (kept, [each.won for each in duels]) == (clear, [True, True])
    kept, duels = voting.challenge(unsure, best, chosen, 0.25, True)
    assert (kept, [each.won for each in duels]) == (chosen, [False])
    kept, duels = voting.challenge(clear, best, best, 0.25, True)
    assert (kept, len(duels)) == (clear, 1), "the best is the chosen one: they meet once"


# What it predicts


@pytest.mark.parametrize("classes", [True, False])
def test_the_average_of_predictions_is_what_the_fitted_average_predicts(classes: bool) -> None:
    frame, target = wine() if classes else diabetes()
    labels = np.array(target)
    task = Task.CLASSIFICATION if classes else Task.REGRESSION
    problem = Problem(task, "roc_auc" if classes else "rmse", 3 if classes else 0, len(frame), 1)
    names = ("cultivar_0", "cultivar_1", "cultivar_2") if classes else ()
    members = {kind: CATALOGUE[kind].defaults(problem) for kind in ("hist_gradient_boosting", "linear")}
    parts = []
    for kind, params in members.items():
        model = CATALOGUE[kind].build(params, problem).fit(frame, labels)
        if classes:
            outcome: Any = ClassOutcome(np.zeros(len(frame), dtype=np.intp), class_probabilities(model, frame, names))
        else:
            outcome = ValueOutcome(labels, model.predict(frame))
        parts.append(voting.Contender(Finalist(kind, kind, params, (0, 0), np.zeros(1)), [outcome]))
    fitted = voting.KINDS[voting.VOTING].build(voting.joined_settings(members), problem).fit(frame, labels)
    [ours] = voting.averaged(parts)
    if isinstance(ours, ClassOutcome):
        np.testing.assert_array_equal(ours.probabilities, class_probabilities(fitted, frame, names))
    else:
        np.testing.assert_allclose(ours.predicted, fitted.predict(frame), rtol=1e-14)


# Its settings


def test_settings_go_into_a_log_and_come_back() -> None:
    members = {kind: candidate.defaults(PROBLEM) for kind, candidate in CATALOGUE.items()}
    flat = json.loads(json.dumps(voting.joined_settings(members), sort_keys=True))
    assert voting.members_of(flat) == members
    assert list(voting.members_of(flat)) == list(CATALOGUE)
    assert voting.own_settings(voting.VOTING, flat, PROBLEM)
    assert voting.variant(voting.VOTING, flat, tuned=True) == "linear + random_forest + hist_gradient_boosting"


@pytest.mark.parametrize(
    "params",
    [{}, {"linear.C": 1.0}, {"C": 1.0, "random_forest.max_depth": 3}, {"linear.C": 1.0, "voting.linear.C": 1.0},
     {"linear.C": 1.0, "oracle.C": 1.0}, {"linear.C": 1.0, "linear.n_jobs": 9, "random_forest.max_depth": 3}],
)  # fmt: skip
def test_settings_no_average_of_ours_has_are_refused(params: dict[str, Any]) -> None:
    assert not voting.own_settings(voting.VOTING, params, PROBLEM)


# In the training


def always_better(average: Finalist, best: Finalist, holder: Finalist, *rest: Any) -> tuple[Finalist, list[Any]]:
    return average, []


def test_on_visits_to_doctors_the_average_is_clearly_better(tmp_path: Path) -> None:
    """A quarter of the RAND health insurance rows: linear model and boosting err differently there."""
    import statsmodels.api as sm

    rows = sm.datasets.randhie.load_pandas().data.iloc[::4]
    artifacts = make_inputs(tmp_path / "in", rows.drop(columns="mdvis"), list(rows["mdvis"]), metric="rmse")
    plan = json.loads(quick_plan(tmp_path, "rmse", ("linear", "hist_gradient_boosting"), 2).read_text("utf-8"))
    artifacts["experiment-plan.json"] = write_json(tmp_path / "experiment-plan.json", plan | {"folds": 5})
    _, files = run_skill(TrainingTrain, ticket(), tmp_path, artifacts)
    log = ExperimentLog.model_validate_json(files["experiment-log.json"].read_text("utf-8"))
    assert log.chosen.model == "voting (linear + hist_gradient_boosting)"
    assert "is clearly better than linear (default)" in log.reason


def test_an_unclear_gain_leaves_the_single_model(tmp_path: Path) -> None:
    artifacts = make_inputs(tmp_path / "in", *diabetes(), metric="rmse")
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, "rmse", ("linear", "random_forest"), 2)
    _, files = run_skill(TrainingTrain, ticket(), tmp_path, artifacts)
    log = ExperimentLog.model_validate_json(files["experiment-log.json"].read_text("utf-8"))
    assert log.chosen.model.startswith("linear")
    assert "voting (linear + random_forest) is not clearly better than linear" in log.reason
    assert any(trial.model == "voting (linear + random_forest)" for trial in log.trials)


@pytest.mark.parametrize("metric", ["f1", "rmse"])
def test_a_kept_average_is_stored_safely_repeats_and_is_audited(
    tmp_path: Path, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claims are made again by the harness: the same bytes, and a score of the same folds."""
    monkeypatch.setattr(experiment, "challenge", always_better)
    frame, target = binary_wine() if metric == "f1" else diabetes()
    kinds = tuple(CATALOGUE) if metric == "f1" else ("linear", "random_forest")
    artifacts = make_inputs(tmp_path / "in", frame, target, metric=metric)
    artifacts["experiment-plan.json"] = quick_plan(tmp_path, metric, kinds, len(kinds))
    output, files = run_skill(TrainingTrain, ticket(), tmp_path, artifacts)
    _, again = run_skill(TrainingTrain, ticket(), tmp_path, artifacts)
    log = ExperimentLog.model_validate_json(files["experiment-log.json"].read_text("utf-8"))
    assert log.chosen.model.startswith("voting (")
    assert files["model.skops"].read_bytes() == again["model.skops"].read_bytes()
    assert "seeded" in {item.item for item in output.ticked}
    model = modelfile.load_model(files["model.skops"])
    features = FeatureMap.model_validate_json(artifacts["feature-map.json"].read_text("utf-8"))
    assert len(set(map(str, model.predict(prepare_frame(frame, features))))) > 1
    shapes = {"log": ExperimentLog, "plan": ExperimentPlan, "features": FeatureMap, "scope": ScopeSpec}
    names = ("experiment-log.json", "experiment-plan.json", "feature-map.json", "scope.json")
    read = {
        key: shape.model_validate_json((artifacts | files)[name].read_text("utf-8"))
        for name, (key, shape) in zip(names, shapes.items(), strict=True)
    }
    split = SplitSpec.model_validate_json(artifacts["split.json"].read_text("utf-8"))
    sha256 = modelfile.digest(files["model.skops"].read_bytes())
    claims: Any = Claims(split=split, model_sha256=sha256, **read)
    rows = read_rows(artifacts["train.parquet"], features, claims.scope)
    checks, _ = check_training(claims, rows, 600.0, lambda line: None)
    for check in checks:
        assert not check.problems, check


def test_a_forged_member_is_refused(tmp_path: Path) -> None:
    """Trees are looked into in the members of an average, too; a member that is none of ours is refused."""
    from sklearn.ensemble import RandomForestClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    frame, labels = wine()
    linear = ("linear", LogisticRegression(max_iter=10))
    forest = RandomForestClassifier(2, random_state=1)
    path = tmp_path / "model.skops"

    def dumped(*members: Any) -> bytes:
        average = VotingClassifier([linear, *members], voting="soft")
        return modelfile.dump_model(Pipeline([("model", average)]).fit(frame, labels))

    whole = dumped(("forest", forest))
    path.write_bytes(whole)
    assert len(modelfile.load_model(path).predict(frame)) == len(frame)
    with zipfile.ZipFile(path) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    forged = {name: _wild(data) if name.endswith(".npy") else data for name, data in members.items()}
    assert forged != members
    path.write_bytes(modelfile.zip_bytes(forged))
    with pytest.raises(modelfile.UntrustedModel, match="points outside itself"):
        modelfile.load_model(path)
    path.write_bytes(dumped(("forest", Pipeline([("forest", forest)]))))
    with pytest.raises(modelfile.UntrustedModel, match="an average of Pipeline"):
        modelfile.load_model(path)


def _wild(data: bytes) -> bytes:
    import io

    array = np.load(io.BytesIO(data), allow_pickle=False)
    if "feature" not in (array.dtype.names or ()):
        return data
    array = array.copy()
    array["feature"][0] = 1_000_000
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
