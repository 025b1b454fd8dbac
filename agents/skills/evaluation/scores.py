"""The metrics, written so that one formula serves the hold-out rows and every bootstrap resample of them.

A `Statistic` takes row weights of shape (resamples, rows), how often each row was drawn, and returns one value for each
resample; weights of one give the metric itself. NaN where a resample leaves a metric undefined (no positive row).
Formulas are scikit-learn's (https://scikit-learn.org/stable/modules/model_evaluation.html); a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.ticket import CLASSIFICATION_METRICS, REGRESSION_METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.intp]
    Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class ClassOutcome:
    """What happened and what was predicted, for classes.

    `truth` (rows,) holds class indices; `probabilities` (rows, classes) sum to one. The predicted class is the most
    probable one (0.5 for two classes): the threshold is never tuned on hold-out rows.
    """

    truth: Integers
    probabilities: Floats

    @property
    def predicted(self) -> Integers:
        """Indices of the most probable classes, shape (rows,); a tie goes to the first class."""
        import numpy as np

        best: Integers = np.argmax(self.probabilities, axis=1)
        return best

    def take(self, rows: Any) -> ClassOutcome:
        """The same outcome for some rows (indices or a mask)."""
        return ClassOutcome(self.truth[rows], self.probabilities[rows])


@dataclass(frozen=True)
class ValueOutcome:
    """What happened and what was predicted, for numbers: `truth` and `predicted`, both of shape (rows,)."""

    truth: Floats
    predicted: Floats

    def take(self, rows: Any) -> ValueOutcome:
        """The same outcome for some rows (indices or a mask)."""
        return ValueOutcome(self.truth[rows], self.predicted[rows])


Outcome = ClassOutcome | ValueOutcome


def joined(parts: Sequence[Outcome]) -> Outcome:
    """The outcomes of several folds, which must be of one kind, as one."""
    import numpy as np

    classes = [part for part in parts if isinstance(part, ClassOutcome)]
    values = [part for part in parts if isinstance(part, ValueOutcome)]
    if classes:
        truth = np.concatenate([part.truth for part in classes])
        return ClassOutcome(truth, np.concatenate([part.probabilities for part in classes]))
    return ValueOutcome(np.concatenate([p.truth for p in values]), np.concatenate([p.predicted for p in values]))


def losses(outcome: Outcome) -> Floats:
    """The loss of each row (rows,): 1 for a wrong class and 0 for a right one, or the absolute error."""
    import numpy as np

    wrong = isinstance(outcome, ClassOutcome)
    loss: Floats = (outcome.predicted != outcome.truth) if wrong else np.abs(outcome.predicted - outcome.truth)
    return loss.astype(np.float64)


def metric_names(outcome: Outcome) -> tuple[str, ...]:
    """The metrics that exist for this kind of outcome, in the order tickets document them."""
    return CLASSIFICATION_METRICS if isinstance(outcome, ClassOutcome) else REGRESSION_METRICS


def statistics(outcome: Outcome) -> Mapping[str, Statistic]:
    """Every metric of the outcome as a statistic of row weights."""
    return class_statistics(outcome) if isinstance(outcome, ClassOutcome) else value_statistics(outcome)


def score(outcome: Outcome, metric: str) -> float:
    """One metric on the rows as they are; NaN if it is undefined there."""
    import numpy as np

    rows = len(outcome.truth)
    return float(statistics(outcome)[metric](np.ones((1, rows)))[0]) if rows else float("nan")


def class_statistics(outcome: ClassOutcome) -> dict[str, Statistic]:
    """Metrics of a classifier: the second class is positive for two classes, macro averages beyond."""
    import numpy as np

    classes = outcome.probabilities.shape[1]
    count = _confusion(outcome)
    positive = slice(1, 2) if classes == 2 else slice(None)
    ranked = [1] if classes == 2 else list(range(classes))
    by_class = [(outcome.truth == c, outcome.probabilities[:, c]) for c in ranked]

    def recall(w: Floats) -> Floats:
        hits, support, _ = count(w)
        return _mean_defined(_ratio(hits, support)[:, positive])

    def precision(w: Floats) -> Floats:
        hits, support, called = count(w)
        value = np.where(called > 0, _ratio(hits, called), 0.0)
        return _mean_defined(np.where(support > 0, value, np.nan)[:, positive])

    def f1(w: Floats) -> Floats:
        hits, support, called = count(w)
        value = _ratio(2 * hits, support + called)
        return _mean_defined(np.where(support > 0, value, np.nan)[:, positive])

    def accuracy(w: Floats) -> Floats:
        return _ratio(count(w)[0].sum(axis=1), w.sum(axis=1))

    def balanced_accuracy(w: Floats) -> Floats:
        hits, support, _ = count(w)
        return _mean_defined(_ratio(hits, support))

    return {
        "roc_auc": _averaged([roc_auc(truth, values) for truth, values in by_class]),
        "average_precision": _averaged([average_precision(truth, values) for truth, values in by_class]),
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "f1": f1,
        "recall": recall,
        "precision": precision,
    }


def value_statistics(outcome: ValueOutcome) -> dict[str, Statistic]:
    """Metrics of a regressor, in the target's unit (mae, rmse) or as explained variance (r2, at most 1)."""
    import numpy as np

    truth = outcome.truth - outcome.truth.mean()  # r2 does not change and loses no digits to a large mean
    error = outcome.truth - outcome.predicted
    square, size = error**2, np.abs(error)

    def r2(w: Floats) -> Floats:
        rows = w.sum(axis=1)
        spread = w @ truth**2 - (w @ truth) ** 2 / rows
        return 1.0 - _ratio(w @ square, np.where(spread > 1e-12 * rows, spread, 0.0))

    return {
        "mae": lambda w: w @ size / w.sum(axis=1),
        "rmse": lambda w: np.sqrt(w @ square / w.sum(axis=1)),
        "r2": r2,
    }


def roc_auc(positive: NDArray[np.bool_], values: Floats) -> Statistic:
    """Area under the ROC curve: the chance that a positive row outranks a negative one, ties counting one half.

    Mann-Whitney U over P*N (Hanley and McNeil 1982, Radiology 143:29-36).
    """
    import numpy as np

    order, starts = _tie_groups(values)
    sign = positive[order].astype(float)

    def statistic(w: Floats) -> Floats:
        drawn = w[:, order]
        up = np.add.reduceat(drawn * sign, starts, axis=1)
        down = np.add.reduceat(drawn, starts, axis=1) - up
        below = np.cumsum(down, axis=1) - down
        return _ratio((up * (below + down / 2)).sum(axis=1), up.sum(axis=1) * down.sum(axis=1))

    return statistic


def average_precision(positive: NDArray[np.bool_], values: Floats) -> Statistic:
    """Average precision: the sum over thresholds of precision times the recall gained, without interpolation."""
    import numpy as np

    order, starts = _tie_groups(-values)
    sign = positive[order].astype(float)

    def statistic(w: Floats) -> Floats:
        drawn = w[:, order]
        up = np.add.reduceat(drawn * sign, starts, axis=1)
        called = np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1)
        precision = np.where(called > 0, _ratio(np.cumsum(up, axis=1), called), 0.0)
        return _ratio((up * precision).sum(axis=1), up.sum(axis=1))

    return statistic


def brier(outcome: ClassOutcome) -> Statistic:
    """Mean squared error of the probabilities (Brier 1950): the positive class's for two classes, else summed.

    From 0 (perfect) to 1 for two classes, to 2 beyond.
    """
    import numpy as np

    classes = outcome.probabilities.shape[1]
    error = (outcome.probabilities - np.eye(classes)[outcome.truth]) ** 2
    loss = error[:, 1] if classes == 2 else error.sum(axis=1)
    return lambda w: w @ loss / w.sum(axis=1)


def _confusion(outcome: ClassOutcome) -> Callable[[Floats], tuple[Floats, Floats, Floats]]:
    """Weighted hits, rows of and calls for each class, each of shape (resamples, classes)."""
    import numpy as np

    classes = np.arange(outcome.probabilities.shape[1])
    truth = (outcome.truth[:, None] == classes).astype(float)
    called = (outcome.predicted[:, None] == classes).astype(float)
    return lambda w: (w @ (truth * called), w @ truth, w @ called)


def _averaged(parts: list[Statistic]) -> Statistic:
    """The mean of one-versus-rest statistics over the classes for which they are defined."""
    import numpy as np

    return lambda w: _mean_defined(np.stack([part(w) for part in parts], axis=1))


def _tie_groups(values: Floats) -> tuple[Integers, Integers]:
    """Ascending order of the values and where each run of equal values starts in it."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return order, starts


def _ratio(above: Floats, below: Floats) -> Floats:
    """`above / below`, NaN where `below` is zero."""
    import numpy as np

    undefined = below == 0
    return np.where(undefined, np.nan, above / np.where(undefined, 1.0, below))


def _mean_defined(values: Floats) -> Floats:
    """Row means over the values that are not NaN; NaN where none is."""
    import numpy as np

    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(float))
