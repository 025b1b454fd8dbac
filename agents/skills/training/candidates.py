"""The catalogue of models: how each is built, what is searched, and which is simpler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.values import Task

if TYPE_CHECKING:
    import optuna

Params = dict[str, float | int | str | bool | None]

LINEAR = "linear"
FOREST = "random_forest"
BOOSTING = "hist_gradient_boosting"

TREES = 50
"""Trees of a forest: enough for a reference; each costs about 3 ms however few the rows."""

_BALANCE_METRICS = frozenset({"balanced_accuracy", "f1", "recall"})
"""Metrics at a fixed threshold that reward weighting rare classes up."""


@dataclass(frozen=True)
class Problem:
    """What a model is built for: the task, the metric, how many classes (0 for numbers) and training rows, the seed,
    and whether settings are searched over wide ranges."""

    task: Task
    metric: str
    classes: int
    rows: int
    seed: int
    wide: bool = False

    @property
    def classification(self) -> bool:
        """Whether the target is a class."""
        return self.task is Task.CLASSIFICATION


@dataclass(frozen=True)
class Candidate:
    """One kind of model. `simplicity` orders kinds: a lower one is kept unless a higher one is clearly better."""

    name: str
    simplicity: int
    describe: str
    defaults: Callable[[Problem], Params]
    suggest: Callable[[optuna.Trial, Problem], Params]
    build: Callable[[Params, Problem], Any]


def baseline(problem: Problem) -> Any:
    """The floor: class frequencies; the median where absolute error counts, else the mean."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if problem.classification:
        return DummyClassifier(strategy="prior")
    return DummyRegressor(strategy="median" if problem.metric == "mae" else "mean")


def baseline_name(problem_is_classification: bool, metric: str) -> str:
    """What `baseline` builds, in words."""
    if problem_is_classification:
        return "dummy: the class frequencies of the training rows"
    return f"dummy: the {'median' if metric == 'mae' else 'mean'} of the training rows' target"


def _linear_defaults(problem: Problem) -> Params:
    params: Params = {"C": 1.0} if problem.classification else {"alpha": 1.0}
    return params | _unweighted(problem)


def _linear_suggest(trial: optuna.Trial, problem: Problem) -> Params:
    if not problem.classification:
        return {"alpha": trial.suggest_float("alpha", 1e-3, 1e3, log=True)}
    return {"C": trial.suggest_float("C", 1e-3, 1e2, log=True)} | _class_weight(trial, problem)


def _linear_build(params: Params, problem: Problem) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if problem.classification:
        return LogisticRegression(max_iter=2000, **params)
    return Ridge(**params)


def _forest_defaults(problem: Problem) -> Params:
    params: Params = {"max_depth": 10, "min_samples_leaf": 2, "max_features": "sqrt" if problem.classification else 0.5}
    return params | _unweighted(problem)


def _forest_suggest(trial: optuna.Trial, problem: Problem) -> Params:
    params: Params = {
        "max_depth": trial.suggest_int("max_depth", 3, 24 if problem.wide else 14),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 30, log=True),
        "max_features": trial.suggest_categorical("max_features", ["sqrt", 0.3, 0.5, *([1.0] if problem.wide else [])]),
    }
    if problem.wide:
        params["n_estimators"] = trial.suggest_int("n_estimators", TREES, 4 * TREES)
    return params | _class_weight(trial, problem)


def _forest_build(params: Params, problem: Problem) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if problem.classification else RandomForestRegressor
    fixed: dict[str, Any] = {
        "max_samples": 0.5 if problem.rows > 5000 else None, "n_jobs": 1, "random_state": problem.seed
    }  # fmt: skip
    return kind(**fixed, **({"n_estimators": TREES} | params))


def _boosting_defaults(problem: Problem) -> Params:
    params: Params = {
        "learning_rate": 0.1,
        "max_iter": _rounds(problem, 60),
        "max_leaf_nodes": 15,
        "min_samples_leaf": 20,
        "l2_regularization": 1e-3,
    }
    return params | _unweighted(problem)


def _boosting_suggest(trial: optuna.Trial, problem: Problem) -> Params:
    wide = problem.wide
    params: Params = {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        "max_iter": trial.suggest_int("max_iter", _rounds(problem, 30), _rounds(problem, 400 if wide else 120)),
        "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 3 if wide else 4, 63 if wide else 31, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2 if wide else 5, 80, log=True),
        "l2_regularization": trial.suggest_float("l2_regularization", 1e-4, 10.0, log=True),
    }
    if wide:
        params["max_features"] = trial.suggest_float("max_features", 0.2, 1.0)
    return params | _class_weight(trial, problem)


def _boosting_build(params: Params, problem: Problem) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    # Early stopping would hold out random rows and split groups: the number of rounds is searched instead.
    fixed: dict[str, Any] = {"early_stopping": False, "random_state": problem.seed}
    if problem.classification:
        return HistGradientBoostingClassifier(**fixed, **params)
    loss = "absolute_error" if problem.metric == "mae" else "squared_error"
    return HistGradientBoostingRegressor(loss=loss, **fixed, **params)


def _rounds(problem: Problem, wanted: int) -> int:
    """Boosting rounds: each grows one tree for each class beyond two, so many classes get fewer."""
    return max(10, wanted // max(1, problem.classes // 2))


def _weighs_classes(problem: Problem) -> bool:
    return problem.classification and problem.metric in _BALANCE_METRICS


def _unweighted(problem: Problem) -> Params:
    return {"class_weight": None} if _weighs_classes(problem) else {}


def _class_weight(trial: optuna.Trial, problem: Problem) -> Params:
    if not _weighs_classes(problem):
        return {}
    return {"class_weight": trial.suggest_categorical("class_weight", [None, "balanced"])}


CATALOGUE: Mapping[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate(
            LINEAR, 0, "regularised linear model; strength searched on a log scale",
            _linear_defaults, _linear_suggest, _linear_build,
        ),
        Candidate(
            FOREST, 1, f"{TREES} trees; depth 3 to 14, leaf size 1 to 30, share of columns at each split",
            _forest_defaults, _forest_suggest, _forest_build,
        ),
        Candidate(
            BOOSTING, 2, "boosted trees; learning rate 0.02 to 0.3, rounds, 4 to 31 leaves, leaf size, L2 penalty",
            _boosting_defaults, _boosting_suggest, _boosting_build,
        ),
    )
}  # fmt: skip
"""Every kind of model by name, simplest first."""

_WIDE = {
    FOREST: f"{TREES} to {4 * TREES} trees; depth 3 to 24, leaf size 1 to 30, share of columns at each split",
    BOOSTING: "boosted trees; learning rate 0.02 to 0.3, up to 400 rounds, 3 to 63 leaves, leaf size, L2 penalty, "
    "share of columns at each split",
}


def describe(name: str, *, wide: bool) -> str:
    """What is searched of a kind, in words."""
    return _WIDE.get(name, CATALOGUE[name].describe) if wide else CATALOGUE[name].describe


def fitting_candidates(rows: int, columns: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """Which kinds suit a table of this size, and why the others are left out."""
    left_out = {}
    if rows < 50:
        left_out[FOREST] = f"{rows} rows are too few for trees"
        left_out[BOOSTING] = left_out[FOREST]
    elif rows < 100:
        left_out[BOOSTING] = f"{rows} rows are too few for boosting"
    elif columns > 300:
        left_out[BOOSTING] = f"{columns} columns make boosting too slow to search"
    return tuple(name for name in CATALOGUE if name not in left_out), left_out


def trial_count(rows: int, columns: int, classes: int) -> int:
    """How many configurations to search: fixed by the size of the table, so that every run tries the same ones."""
    cost = rows * columns * max(1, classes - 1)
    for limit, trials in ((400_000, 11), (4_000_000, 7)):
        if cost <= limit:
            return trials
    return 4


def share_trials(trials: int, names: tuple[str, ...]) -> dict[str, int]:
    """Trials for each kind, in proportion to how much its settings matter; at least one each."""
    weights = {LINEAR: 2, FOREST: 2, BOOSTING: 5}
    whole = sum(weights[name] for name in names)
    shares = {name: max(1, round(trials * weights[name] / whole)) for name in names}
    return shares
