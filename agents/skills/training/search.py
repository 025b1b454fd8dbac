"""Cross-validation and the seeded search over configurations."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agents.skill import InputError
from agents.skills.evaluation.scores import ClassOutcome, Outcome, ValueOutcome, score
from agents.skills.shapes import Trial
from agents.skills.training.candidates import CATALOGUE, Candidate, Params, Problem
from agents.skills.training.checkpoint import Checkpoint, Kept
from agents.skills.training.choice import corrected_se
from agents.skills.training.folds import Fold
from schemas.ticket import LOWER_IS_BETTER

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.evaluation.scores import Floats

_CACHE_BYTES = 200_000_000


def outcome_of(model: Any, frame: Any, target: NDArray[Any], classes: Sequence[str]) -> Outcome:
    """What a fitted model or pipeline predicts for `frame` beside what happened there."""
    return beside(predictions(model, frame, classes), target, classes)


def predictions(model: Any, frame: Any, classes: Sequence[str]) -> Floats:
    """Numbers of shape (rows,), or probabilities of shape (rows, classes)."""
    import numpy as np

    if classes:
        return class_probabilities(model, frame, classes)
    numbers: Floats = np.asarray(model.predict(frame), dtype=np.float64)
    return numbers


def beside(predicted: Floats, target: NDArray[Any], classes: Sequence[str]) -> Outcome:
    """Predictions beside what happened."""
    import numpy as np

    if not classes:
        return ValueOutcome(target.astype(np.float64), predicted)
    lookup = {label: index for index, label in enumerate(classes)}
    return ClassOutcome(np.array([lookup[str(label)] for label in target], dtype=np.intp), predicted)


def class_probabilities(model: Any, frame: Any, classes: Sequence[str]) -> Floats:
    """Probabilities of shape (rows, classes) in the order of `classes`; zero for a class the model never saw."""
    import numpy as np

    lookup = {label: index for index, label in enumerate(classes)}
    known = model.predict_proba(frame)
    values = np.zeros((known.shape[0], len(classes)), dtype=np.float64)
    for column, label in enumerate(model.classes_):
        values[:, lookup[str(label)]] = known[:, column]
    return values


@dataclass
class CrossValidator:
    """Scores configurations on folds; the prepared columns of a fold are kept while they fit in memory.

    `frame` holds the prepared input columns, `target` labels or numbers, `transformer` makes an unfitted transformer.
    """

    frame: pd.DataFrame
    target: NDArray[Any]
    classes: Sequence[str]
    problem: Problem
    transformer: Callable[[], Any]
    checkpoint: Checkpoint
    _kept: dict[int, tuple[Fold, Any, Any]] = field(default_factory=dict)
    _bytes: int = 0
    _cpu: float = 0.0
    _wall: float = 0.0

    def cpu(self) -> float:
        """Seconds of CPU: of this process, and of a killed one for what was taken from its checkpoint."""
        return time.process_time() + self._cpu

    def wall(self) -> float:
        """The same by the clock on the wall."""
        return time.monotonic() + self._wall

    def scores(self, candidate: Candidate, params: Params, folds: Sequence[Fold]) -> Floats:
        """The metric on each fold, shape (folds,); NaN where a fold's rows leave it undefined."""
        import numpy as np

        return np.array([score(each, self.problem.metric) for each in self.outcomes(candidate, params, folds)])

    def outcomes(self, candidate: Candidate, params: Params, folds: Sequence[Fold]) -> list[Outcome]:
        """What the configuration predicts for the rows each fold leaves out, beside what happened there."""
        return [self._outcome(candidate, params, fold) for fold in folds]

    def _outcome(self, candidate: Candidate, params: Params, fold: Fold) -> Outcome:
        target = self.target[fold.test]
        shape = (len(target), len(self.classes)) if self.classes else (len(target),)
        kept = self.checkpoint.find(candidate.name, params, fold, shape)
        if kept is not None:
            self._cpu, self._wall = self._cpu + kept.cpu, self._wall + kept.wall
            return beside(kept.predicted, target, self.classes)
        cpu, wall = time.process_time(), time.monotonic()
        predicted = self._predicted(candidate, params, fold)
        spent = (time.process_time() - cpu, time.monotonic() - wall)
        self.checkpoint.keep(candidate.name, params, fold, Kept(predicted, *spent))
        return beside(predicted, target, self.classes)

    def _predicted(self, candidate: Candidate, params: Params, fold: Fold) -> Floats:
        fit, test = self._prepared(fold)
        model = candidate.build(params, self.problem)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slow convergence of a trial shows in its score
            model.fit(fit, self.target[fold.train])
            return predictions(model, test, self.classes)

    def _prepared(self, fold: Fold) -> tuple[Any, Any]:
        kept = self._kept.get(id(fold))
        if kept is not None:
            return kept[1], kept[2]
        transformer = self.transformer()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown categories in a fold are expected and handled
            fit = transformer.fit_transform(self.frame.iloc[fold.train], self.target[fold.train])
            test = transformer.transform(self.frame.iloc[fold.test])
        size = int(fit.nbytes + test.nbytes)
        if self._bytes + size <= _CACHE_BYTES:
            self._bytes += size
            self._kept[id(fold)] = (fold, fit, test)
        return fit, test


@dataclass(frozen=True)
class Searched:
    """What a search found: all trials in order, the best configuration of each kind, and whether time cut it short."""

    trials: tuple[Trial, ...]
    best: dict[str, Params]
    planned: int
    cut: bool


def as_trial(name: str, params: Params, scores: Floats, test_share: float, seconds: float) -> Trial:
    """The record of one evaluated configuration; undefined folds are left out of mean and error.

    Raises InputError when the metric is undefined on every fold.
    """
    import numpy as np

    defined = scores[~np.isnan(scores)]
    if not len(defined):
        raise InputError(
            "the metric is undefined on every cross-validation fold (no fold has rows of each class)",
            "provide more rows of the rarest class or choose another metric",
        )
    se = corrected_se(defined, test_share)
    return Trial(
        model=name,
        parameters=params,
        mean=float(defined.mean()),
        standard_error=se if np.isfinite(se) else 0.0,
        seconds=round(seconds, 3),
    )


def search(
    validator: CrossValidator,
    folds: Sequence[Fold],
    shares: dict[str, int],
    budget: float,
    progress: Callable[[str], None],
) -> Searched:
    """Try the planned number of configurations of each kind with a seeded tree-structured Parzen estimator.

    The number of trials is fixed; `budget` (CPU seconds of this process and of a killed one it goes on from, so that
    neither a busy machine nor a kill changes anything) is a
    fuse: when it blows, the rest is skipped and `cut` says so. Every kind gets its default configuration in any case.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = validator.problem
    share = held_out_share(folds)
    started = validator.cpu()
    trials: list[Trial] = []
    best: dict[str, Params] = {}
    planned = sum(shares.values())
    for name, count in shares.items():
        candidate = CATALOGUE[name]
        study = optuna.create_study(
            direction="minimize" if problem.metric in LOWER_IS_BETTER else "maximize",
            sampler=optuna.samplers.TPESampler(seed=problem.seed, n_startup_trials=4),
        )
        study.enqueue_trial(candidate.defaults(problem))  # a known good point for the sampler to learn from
        found: list[Trial] = []
        for index in range(count):
            if index and validator.cpu() - started > budget:
                break
            began = validator.wall()
            asked = study.ask()
            params = candidate.suggest(asked, problem)
            scores = validator.scores(candidate, params, folds)
            found.append(as_trial(name, params, scores, share, validator.wall() - began))
            study.tell(asked, found[-1].mean)
            progress(f"trial {len(trials) + len(found)}/{planned} {name}: {problem.metric} {found[-1].mean:.4f}")
        trials += found
        best[name] = found[study.best_trial.number].parameters
    return Searched(tuple(trials), best, planned, cut=len(trials) < planned)


def held_out_share(folds: Sequence[Fold]) -> float:
    """Test rows over fitting rows, on average over the folds."""
    import numpy as np

    return float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))
