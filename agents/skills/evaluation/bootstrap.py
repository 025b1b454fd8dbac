"""Confidence intervals by the bootstrap: seeded, vectorised, the same resamples for model and baseline.

Percentile intervals (Efron and Tibshirani 1993, chapter 13). A perfect score has no spread to resample, so its lower
bound comes from a score interval instead: Wilson (1927) for shares of rows, and for the area under the ROC curve
Newcombe (2006, Statistics in Medicine 25:559-573, method 5).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from agents.skill import LimitError
from agents.skills.evaluation.scores import ClassOutcome, Outcome, statistics
from agents.skills.evaluation.text import number

if TYPE_CHECKING:
    import numpy as np

    from agents.skills.evaluation.scores import Floats, Statistic

CONFIDENCE = 0.95
Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""
_CELLS = 2_000_000
"""Weights held at once: resamples times rows (16 MB)."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95 % interval and standard error; `lower <= value <= upper` always."""

    value: float
    lower: float
    upper: float
    se: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "lower": self.lower, "upper": self.upper, "se": self.se}

    @property
    def text(self) -> str:
        """`0.953 [0.921, 0.980]`."""
        return f"{number(self.value)} [{number(self.lower)}, {number(self.upper)}]"


def resample_count(rows: int) -> int:
    """How many resamples: 2,000, and 1,000 where more rows make each costlier and the ends steadier."""
    return 2000 if rows <= 10_000 else 1000


def resample(
    parts: Mapping[str, Statistic],
    rows: int,
    resamples: int,
    seed: int,
    seconds: float = 600.0,
) -> dict[str, Floats]:
    """Each statistic on each of `resamples` draws of `rows` rows with replacement: arrays of shape (resamples,).

    All statistics see the same draws, so differences between them are paired. Raises LimitError when the first draws
    show that the rest would take longer than `seconds`.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    chunk = max(1, min(resamples, _CELLS // max(rows, 1)))
    values: dict[str, list[Floats]] = {name: [] for name in parts}
    started = time.monotonic()
    for done in range(0, resamples, chunk):
        drawn = min(chunk, resamples - done)
        weights = _draw(generator, drawn, rows)
        for name, statistic in parts.items():
            values[name].append(statistic(weights))
        if (time.monotonic() - started) / (done + drawn) * resamples > seconds:
            raise LimitError(
                f"{resamples} bootstrap resamples of {rows} hold-out rows would take longer than {seconds:.0f} s",
                "hold out fewer rows or allow the skill more time",
            )
    return {name: np.concatenate(chunks) for name, chunks in values.items()}


def _draw(generator: np.random.Generator, resamples: int, rows: int) -> Floats:
    """How often each row is drawn in each resample; shape (resamples, rows), each row summing to `rows`."""
    import numpy as np

    index = generator.integers(0, rows, size=(resamples, rows))
    index += (np.arange(resamples) * rows)[:, None]
    counts = np.bincount(index.ravel(), minlength=resamples * rows)
    return counts.reshape(resamples, rows).astype(np.float64)


def percentile_interval(value: float, values: Floats) -> Interval:
    """The middle 95 % of the resampled values, widened if need be to hold the point estimate.

    Undefined resamples (NaN) are left out. A biased statistic of few rows can lie outside its own percentiles; the
    wider interval is the honest one.
    """
    import numpy as np

    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return Interval(value, value, value, 0.0)
    lower, upper = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    se = float(defined.std(ddof=1)) if len(defined) > 1 else 0.0
    return Interval(value, min(float(lower), value), max(float(upper), value), se)


def intervals(outcome: Outcome, drawn: Mapping[str, Floats]) -> dict[str, Interval]:
    """Every metric of the outcome that is defined, with its interval from the resampled values in `drawn`."""
    import numpy as np

    ones = np.ones((1, len(outcome.truth)))
    found = {}
    for name, statistic in statistics(outcome).items():
        value = float(statistic(ones)[0])
        if not np.isnan(value):
            found[name] = _unless_perfect(outcome, name, percentile_interval(value, drawn[name]))
    return found


def _unless_perfect(outcome: Outcome, name: str, interval: Interval) -> Interval:
    """The interval itself, or with a lower bound by a score method when the score is perfect and has no spread."""
    import numpy as np

    if not isinstance(outcome, ClassOutcome) or interval.value < 1.0 or interval.lower < 1.0:
        return interval
    if bool(np.all(outcome.probabilities == outcome.probabilities[0])):
        return interval  # a constant scorer: its score is a definition, not a sample
    sizes = np.bincount(outcome.truth, minlength=outcome.probabilities.shape[1])
    present = sizes[sizes > 0]
    if name == "roc_auc":
        smallest = int(present.min())
        lower = perfect_auc_lower(smallest, int(sizes.sum()) - smallest)
    elif name == "accuracy":
        lower = wilson_lower(int(sizes.sum()))
    elif len(sizes) == 2 and name in ("recall", "precision", "f1", "average_precision"):
        lower = wilson_lower(int(sizes[1]))
    else:
        lower = wilson_lower(int(present.min()))
    return Interval(interval.value, lower, interval.upper, (1.0 - lower) / Z)


def wilson_lower(trials: int) -> float:
    """Wilson's 95 % lower bound for a share when all of `trials` succeeded: n / (n + z²)."""
    return trials / (trials + Z**2)


def perfect_auc_lower(positives: int, negatives: int) -> float:
    """The smallest area whose 95 % score interval still holds an observed 1.0.

    Newcombe's method 5: Hanley and McNeil's variance with both class sizes replaced by their mean in the bracket;
    solved by bisection for `1 - area = z * sqrt(variance(area))`.
    """
    if not positives or not negatives:
        return 0.0
    half = (positives + negatives) / 2 - 1

    def beyond(area: float) -> bool:
        bracket = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
        return 1 - area > Z * sqrt(area * (1 - area) * bracket / (positives * negatives))

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) else (low, middle)
    return low


def paired_gain(
    model: Interval, baseline: Interval, values: Floats, others: Floats, higher_is_better: bool
) -> Interval:
    """The model's gain over the baseline, positive when better, from the same resamples of both.

    A perfect model against a constant baseline leaves no spread to resample; the model's own lower bound then counts.
    """
    sign = 1.0 if higher_is_better else -1.0
    gain = percentile_interval(sign * (model.value - baseline.value), sign * (values - others))
    if gain.se < 1e-9 < model.se and higher_is_better:
        return Interval(gain.value, min(gain.lower, model.lower - baseline.upper), gain.upper, model.se)
    return gain
