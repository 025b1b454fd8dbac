"""Cross-validation and the seeded search over configurations."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

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
_AT_ONCE = min(2, os.cpu_count() or 1)
"""Folds that are fitted at the same time, on this machine."""


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


def _one_thread() -> None:
    """Sums over several threads differ in their last bits. For OpenMP the limit is that of the calling thread."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)


class Elsewhere(Protocol):
    """Computes predictions in other processes or on other machines; asked from several threads at once."""

    def predict(self, kind: str, params: Params, folds: Sequence[Fold]) -> list[Kept]:
        """What a configuration predicts for the rows each fold leaves out: to the bit what this process would."""


@dataclass
class CrossValidator:
    """Scores configurations on folds; the prepared columns of a fold are kept while they fit in memory.

    `frame` holds the prepared input columns, `target` labels or numbers, `transformer` makes an unfitted transformer;
    with `elsewhere` nothing is computed here.
    """

    frame: pd.DataFrame
    target: NDArray[Any]
    classes: Sequence[str]
    problem: Problem
    transformer: Callable[[], Any]
    checkpoint: Checkpoint
    elsewhere: Elsewhere | None = None
    _kept: dict[int, tuple[Fold, Any, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bytes: int = 0
    _cpu: float = 0.0
    _wall: float = 0.0

    def cpu(self) -> float:
        """Seconds of CPU: of this process, and of a killed one for what was taken from its checkpoint."""
        return time.process_time() + self._cpu

    def wall(self) -> float:
        """The same by the clock on the wall."""
        return time.monotonic() + self._wall

    def effort(self) -> float:
        """Seconds that computing took: by the clock here, of CPU elsewhere, where the clock also counts the start of
        workers."""
        return self.wall() if self.elsewhere is None else self.cpu()

    def scores(self, candidate: Candidate, params: Params, folds: Sequence[Fold]) -> Floats:
        """The metric on each fold, shape (folds,); NaN where a fold's rows leave it undefined."""
        import numpy as np

        return np.array([score(each, self.problem.metric) for each in self.outcomes(candidate, params, folds)])

    def outcomes(self, candidate: Candidate, params: Params, folds: Sequence[Fold]) -> list[Outcome]:
        """What the configuration predicts for the rows each fold leaves out, beside what happened there."""
        known = [self._known(candidate, params, fold) for fold in folds]
        made = self._made(candidate, params, [fold for fold, kept in zip(folds, known, strict=True) if kept is None])
        found = [next(made) if kept is None else kept for kept in known]
        return [
            beside(kept.predicted, self.target[fold.test], self.classes)
            for fold, kept in zip(folds, found, strict=True)
        ]

    def _known(self, candidate: Candidate, params: Params, fold: Fold) -> Kept | None:
        """What a killed run predicted; the seconds it took count."""
        shape = (len(fold.test), len(self.classes)) if self.classes else (len(fold.test),)
        kept = self.checkpoint.find(candidate.name, params, fold, shape)
        if kept is not None:
            self._count(kept.cpu, kept.wall)
        return kept

    def _made(self, candidate: Candidate, params: Params, folds: Sequence[Fold]) -> Iterator[Kept]:
        """Compute these, here or all at once elsewhere, and write each down, in their order."""
        if self.elsewhere is not None and folds:
            for fold, kept in zip(folds, self.elsewhere.predict(candidate.name, params, folds), strict=True):
                self._count(kept.cpu, 0.0)  # the clock on the wall was ours
                with self._lock:
                    self.checkpoint.keep(candidate.name, params, fold, kept)
                yield kept
            return
        # Models are fitted outside of the interpreter's lock, for the most part: two folds at once on two cores.
        # What is predicted for a fold is the same, whoever is faster.
        with ThreadPoolExecutor(_AT_ONCE, initializer=_one_thread) as threads:
            for fold, kept in zip(folds, threads.map(partial(self._timed, candidate, params), folds), strict=True):
                self.checkpoint.keep(candidate.name, params, fold, kept)
                yield kept

    def _timed(self, candidate: Candidate, params: Params, fold: Fold) -> Kept:
        cpu, wall = time.thread_time(), time.monotonic()
        predicted = self.predicted(candidate, params, fold)
        return Kept(predicted, time.thread_time() - cpu, time.monotonic() - wall)

    def _count(self, cpu: float, wall: float) -> None:
        with self._lock:
            self._cpu, self._wall = self._cpu + cpu, self._wall + wall

    def predicted(self, candidate: Candidate, params: Params, fold: Fold) -> Floats:
        """Fit the configuration to the fold's training rows, here, and predict its others."""
        fit, test = self._prepared(fold)
        model = candidate.build(params, self.problem)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slow convergence of a trial shows in its score
            model.fit(fit, self.target[fold.train])
            return predictions(model, test, self.classes)

    def _prepared(self, fold: Fold) -> tuple[Any, Any]:
        with self._lock:
            kept = self._kept.get(id(fold))
        if kept is not None:
            return kept[1], kept[2]
        transformer = self.transformer()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown categories in a fold are expected and handled
            fit = transformer.fit_transform(self.frame.iloc[fold.train], self.target[fold.train])
            test = transformer.transform(self.frame.iloc[fold.test])
        size = int(fit.nbytes + test.nbytes)
        with self._lock:
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

    The number of trials is fixed; `budget` (CPU seconds of this process, of those that compute for it, and of a killed
    one it goes on from, so that neither a busy machine nor a kill changes anything) is a fuse: when it blows, the rest
    is skipped and `cut` says so. Every kind gets its default configuration in any case. Where predictions are computed
    elsewhere, the kinds are searched at the same time, each as it would be alone, and the fuse cuts all of them.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = validator.problem
    share = held_out_share(folds)
    started = validator.cpu()
    planned = sum(shares.values())
    done: list[int] = []  # grows by one for each trial; its length is read by several threads

    def of_kind(name: str) -> tuple[list[Trial], Params]:
        candidate = CATALOGUE[name]
        study = optuna.create_study(
            direction="minimize" if problem.metric in LOWER_IS_BETTER else "maximize",
            sampler=optuna.samplers.TPESampler(seed=problem.seed, n_startup_trials=4),
        )
        study.enqueue_trial(candidate.defaults(problem))  # a known good point for the sampler to learn from
        found: list[Trial] = []
        for index in range(shares[name]):
            if index and validator.cpu() - started > budget:
                break
            began = validator.wall()
            asked = study.ask()
            params = candidate.suggest(asked, problem)
            scores = validator.scores(candidate, params, folds)
            found.append(as_trial(name, params, scores, share, validator.wall() - began))
            study.tell(asked, found[-1].mean)
            done.append(index)
            progress(f"trial {len(done)}/{planned} {name}: {problem.metric} {found[-1].mean:.4f}")
        return found, found[study.best_trial.number].parameters

    if validator.elsewhere is None:
        results = [of_kind(name) for name in shares]
    else:  # kinds know nothing of each other, so each has a thread that waits for its trials
        with ThreadPoolExecutor(len(shares)) as threads:
            results = list(threads.map(of_kind, shares))
    trials = [trial for found, _ in results for trial in found]
    best = {name: params for name, (_, params) in zip(shares, results, strict=True)}
    return Searched(tuple(trials), best, planned, cut=len(trials) < planned)


def held_out_share(folds: Sequence[Fold]) -> float:
    """Test rows over fitting rows, on average over the folds."""
    import numpy as np

    return float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))
