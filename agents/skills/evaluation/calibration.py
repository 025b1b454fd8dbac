"""Calibration: whether a predicted 70 % comes true seven times in ten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.evaluation.bootstrap import Interval, percentile_interval
from agents.skills.evaluation.scores import ClassOutcome, Outcome, ValueOutcome, brier

if TYPE_CHECKING:
    from agents.skills.evaluation.scores import Floats, Statistic

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Rows with similar predictions: mean prediction, mean outcome, how many."""

    predicted: float
    observed: float
    rows: int

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"predicted": self.predicted, "observed": self.observed, "rows": self.rows}


def reliability(outcome: Outcome) -> list[Bin]:
    """Up to ten bins with about equally many rows, at least ten rows each, from low predictions to high.

    For two classes the prediction is the positive class's probability and the outcome its frequency; for more classes
    the probability of the predicted class and how often it was right; for numbers both are means of the target.
    Only means leave this function, never the outcome of one row.
    """
    import numpy as np

    predicted, observed = _pairs(outcome)
    parts = max(1, min(BINS, len(predicted) // 10))
    order = np.argsort(predicted, kind="stable")
    return [
        Bin(float(predicted[rows].mean()), float(observed[rows].mean()), len(rows))
        for rows in np.array_split(order, parts)
        if len(rows)
    ]


def calibration_error(outcome: ClassOutcome) -> Statistic:
    """Expected calibration error over ten equally wide bins (Naeini et al. 2015), of row weights like every statistic.

    From 0 (calibrated) to 1. It grows by chance when rows are few, so read it with its interval.
    """
    import numpy as np

    predicted, observed = _pairs(outcome)
    index = np.minimum((predicted * BINS).astype(int), BINS - 1)
    member = (index[:, None] == np.arange(BINS)).astype(float)
    difference = predicted - observed

    def statistic(w: Floats) -> Floats:
        total: Floats = np.abs((w * difference) @ member).sum(axis=1) / w.sum(axis=1)
        return total

    return statistic


def calibration_statistics(outcome: Outcome) -> dict[str, Statistic]:
    """`brier` and `ece` for classes, nothing for numbers."""
    if isinstance(outcome, ValueOutcome):
        return {}
    return {"brier": brier(outcome), "ece": calibration_error(outcome)}


def calibration_intervals(outcome: Outcome, drawn: dict[str, Floats]) -> dict[str, Interval]:
    """The calibration figures with intervals from resampled values."""
    import numpy as np

    ones = np.ones((1, len(outcome.truth)))
    return {
        name: percentile_interval(float(statistic(ones)[0]), drawn[name])
        for name, statistic in calibration_statistics(outcome).items()
    }


def _pairs(outcome: Outcome) -> tuple[Any, Any]:
    if isinstance(outcome, ValueOutcome):
        return outcome.predicted, outcome.truth
    if outcome.probabilities.shape[1] == 2:
        return outcome.probabilities[:, 1], (outcome.truth == 1).astype(float)
    chosen = outcome.predicted
    return outcome.probabilities.max(axis=1), (chosen == outcome.truth).astype(float)
