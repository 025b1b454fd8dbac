"""The delivered configuration, fitted anew on folds of the training rows: errors to learn from without the hold-out.

Whoever studies errors of the hold-out rows and improves the model by them has no hold-out any more. Here every training
row is predicted by a model that did not see it, so the sealed rows stay unseen for the model that comes next.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import SkillError
from agents.skills.evaluation.scores import Outcome, joined, losses, score
from agents.skills.feature.transform import build_transformer
from agents.skills.shapes import ExperimentLog, FeatureMap, ScopeSpec
from agents.skills.training.candidates import Candidate, Problem, baseline
from agents.skills.training.choice import Duel, Finalist, duel
from agents.skills.training.folds import Fold, make_folds, plan_folds
from agents.skills.training.rows import TrainingRows
from agents.skills.training.search import held_out_share, outcome_of
from agents.skills.training.voting import KINDS, own_settings
from schemas.ticket import LOWER_IS_BETTER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDS = 5
MAX_COLUMNS = 60
"""Columns whose importance is measured: each costs a prediction of every row."""


@dataclass(frozen=True)
class Importance:
    """How much the metric loses when one column's values are shuffled: mean over folds, with its standard error."""

    column: str
    loss: float
    se: float

    @property
    def clear(self) -> bool:
        """Whether the loss is surely above zero."""
        return self.loss > 2 * self.se


@dataclass(frozen=True)
class Crossed:
    """Training rows predicted by models that did not see them.

    `order` are their positions in `train.parquet`, in the order of the outcomes; `half` compares all fitting rows with
    half of them by the metric, `half_loss` by the loss of a row (a positive gain: more rows helped).
    """

    order: NDArray[np.intp]
    model: Outcome
    floor: Outcome
    importance: tuple[Importance, ...]
    half: Duel
    half_loss: Duel
    folds: int


@dataclass(frozen=True)
class _Settings:
    rows: TrainingRows
    scope: ScopeSpec
    features: FeatureMap
    candidate: Candidate
    params: dict[str, Any]
    problem: Problem


def cross(
    rows: TrainingRows, features: FeatureMap, scope: ScopeSpec, log: ExperimentLog, seed: int, *, time_ordered: bool,
    progress: Callable[[str], None],
) -> Crossed:  # fmt: skip
    """Predict every row that a fold leaves out. Raises SkillError for a log that names a model nobody can build."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    kind = log.chosen.model.split(" ")[0]
    problem = Problem(scope.task, scope.metric, len(scope.classes), len(rows.target), seed % 2**31)
    if kind not in KINDS:
        raise SkillError(f"experiment-log.json names a model {log.chosen.model!r} that is not known", "train again")
    if not own_settings(kind, log.chosen.parameters, problem):
        raise SkillError(f"experiment-log.json: the settings of its {kind} model are not its own", "train again")
    settings = _Settings(rows, scope, features, KINDS[kind], dict(log.chosen.parameters), problem)
    plan = plan_folds(rows.target, rows.groups, wanted=FOLDS, classes=bool(scope.classes), time=time_ordered)
    folds = make_folds(plan, rows.target, rows.groups, problem.seed)
    generator = np.random.default_rng(problem.seed)
    models, floors, drops, halves = [], [], [], []
    with threadpool_limits(limits=1):
        for index, fold in enumerate(folds, 1):
            progress(f"fold {index}/{len(folds)}")
            predict = _fit(settings, fold.train)
            models.append(predict(rows.frame.iloc[fold.test], fold.test))
            floors.append(_floor(settings, fold))
            drops.append(_drops(settings, fold, predict, models[-1], generator))
            half = fold.train[len(fold.train) // 2 :] if time_ordered else _half(fold.train, rows.groups, generator)
            halves.append(_of_half(settings, fold, half))
    return Crossed(
        order=np.concatenate([fold.test for fold in folds]),
        model=joined(models),
        floor=joined(floors),
        importance=_importance(drops, len(folds)),
        half=_duel(models, halves, lambda each: score(each, scope.metric), folds, scope.higher_is_better),
        half_loss=_duel(models, halves, lambda each: float(losses(each).mean()), folds, higher_is_better=False),
        folds=len(folds),
    )


def _fit(settings: _Settings, train: NDArray[np.intp]) -> Callable[[Any, NDArray[np.intp]], Outcome]:
    """Fit on some rows; the result predicts a prepared frame beside the target at the given positions."""
    transformer = build_transformer(settings.features)
    model = settings.candidate.build(settings.params, settings.problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # categories a fold never saw are expected and handled
        fit = transformer.fit_transform(settings.rows.frame.iloc[train], settings.rows.target[train])
        model.fit(fit, settings.rows.target[train])

    def predict(frame: Any, at: NDArray[np.intp]) -> Outcome:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return outcome_of(model, transformer.transform(frame), settings.rows.target[at], settings.scope.classes)

    return predict


def _floor(settings: _Settings, fold: Fold) -> Outcome:
    import numpy as np

    target = settings.rows.target
    fit, test = (np.zeros((len(part), 1)) for part in (fold.train, fold.test))
    return outcome_of(
        baseline(settings.problem).fit(fit, target[fold.train]), test, target[fold.test], settings.scope.classes
    )


def _drops(
    settings: _Settings, fold: Fold, predict: Callable[[Any, NDArray[np.intp]], Outcome], whole: Outcome, generator: Any
) -> dict[str, float]:
    """What the metric loses in this fold when each column is shuffled among the rows left out."""
    metric = settings.scope.metric
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    test, reached = settings.rows.frame.iloc[fold.test], score(whole, metric)
    found = {}
    for column in settings.features.columns[:MAX_COLUMNS]:
        parts = [name for name in test.columns if name == column.name or name.startswith(f"{column.name}|")]
        shuffled = test.copy()
        shuffled[parts] = test[parts].to_numpy()[generator.permutation(len(test))]
        found[column.name] = sign * (score(predict(shuffled.astype(test.dtypes), fold.test), metric) - reached)
    return found


def _importance(drops: Sequence[Mapping[str, float]], folds: int) -> tuple[Importance, ...]:
    import numpy as np

    found = []
    for name in drops[0]:
        values = np.array([each[name] for each in drops])
        values = values[~np.isnan(values)]
        if len(values):
            se = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
            found.append(Importance(name, float(values.mean()), se))
    return tuple(sorted(found, key=lambda each: (-each.loss, each.column)))


def _half(train: NDArray[np.intp], groups: NDArray[Any], generator: Any) -> NDArray[np.intp]:
    """About half of the rows, whole groups together."""
    import numpy as np

    own = groups[train]
    names = generator.permutation(np.unique(own))
    half: NDArray[np.intp] = train[np.isin(own, names[: max(1, len(names) // 2)])]
    return half


def _of_half(settings: _Settings, fold: Fold, half: NDArray[np.intp]) -> Outcome | None:
    """What a model fitted on half of the rows predicts; None when they leave one class only."""
    import numpy as np

    target = settings.rows.target
    if len(half) < 2 or (settings.scope.classes and len(np.unique(target[half])) < 2):
        return None
    return _fit(settings, half)(settings.rows.frame.iloc[fold.test], fold.test)


def _duel(
    whole: Sequence[Outcome], halves: Sequence[Outcome | None], measure: Callable[[Outcome], float],
    folds: Sequence[Fold], higher_is_better: bool,
) -> Duel:  # fmt: skip
    """All fitting rows against half of them, fold by fold."""
    import numpy as np

    ours = np.array([measure(each) for each in whole])
    theirs = np.array([float("nan") if each is None else measure(each) for each in halves])
    challenger = Finalist("", "all rows", {}, (1, 0), ours)
    return duel(challenger, Finalist("", "half of them", {}, (0, 0), theirs), held_out_share(folds), higher_is_better)
