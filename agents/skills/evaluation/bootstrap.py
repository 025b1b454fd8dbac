"""Confidence intervals by the bootstrap: seeded, vectorised, the same resamples for model and baseline.

Percentile intervals (Efron and Tibshirani 1993, chapter 13). Rows that say the same thing again (of one person, or
covariate twins) are drawn together: of G groups G - 1 are drawn with replacement, which makes the variance of a mean of
group totals exact for few groups, too (Rao and Wu 1988, JASA 83:231-241). A perfect score has no spread to resample, so
its lower bound comes from a score interval instead: Wilson (1927) for shares of rows, and for the area under the ROC
curve Newcombe (2006, Statistics in Medicine 25:559-573, method 5).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from agents.skill import InputError, LimitError
from agents.skills.evaluation.scores import ClassOutcome, Outcome, statistics
from agents.skills.evaluation.text import estimate

if TYPE_CHECKING:
    import numpy as np

    from agents.skills.evaluation.scores import Floats, Integers, Statistic

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
        return estimate(self.value, self.lower, self.upper)

    @property
    def like(self) -> str:
        """The estimate alone, with the digits of `text`."""
        return self.text.partition(" ")[0]


def resample_count(rows: int) -> int:
    """How many resamples: 2,000, and 1,000 where more rows make each costlier and the ends steadier."""
    return 2000 if rows <= 10_000 else 1000


def resample(
    parts: Mapping[str, Statistic],
    rows: int,
    resamples: int,
    seed: int,
    seconds: float = 600.0,
    groups: Integers | None = None,
) -> dict[str, Floats]:
    """Each statistic on each of `resamples` draws of `rows` rows with replacement: arrays of shape (resamples,).

    Rows of one number in `groups` (rows,) are drawn together; without it, or when all differ, each row by itself. All
    statistics see the same draws, so differences between them are paired. Raises LimitError when the first draws show
    that the rest would take longer than `seconds`, InputError when all rows are one group.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    codes = _codes(groups, rows)
    chunk = max(1, min(resamples, _CELLS // max(rows, 1)))
    values: dict[str, list[Floats]] = {name: [] for name in parts}
    started = time.monotonic()
    for done in range(0, resamples, chunk):
        drawn = min(chunk, resamples - done)
        weights = _draw(generator, drawn, rows) if codes is None else _draw_groups(generator, drawn, codes)
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


def _codes(groups: Integers | None, rows: int) -> Integers | None:
    """Group numbers 0, 1, … (rows,); None when every row is a group of its own."""
    import numpy as np

    if groups is None:
        return None
    known, codes = np.unique(groups, return_inverse=True)
    if len(known) == rows:
        return None
    if len(known) < 2:
        raise InputError(
            f"the {rows} rows that are measured all belong to one group: nothing says how others would differ",
            "give rows of more groups, or name another `groups` column or none",
        )
    return codes


def _draw_groups(generator: np.random.Generator, resamples: int, codes: Integers) -> Floats:
    """How often each row is drawn when whole groups are: shape (resamples, rows)."""
    import numpy as np

    known = int(codes.max()) + 1
    index = generator.integers(0, known, size=(resamples, known - 1))
    index += (np.arange(resamples) * known)[:, None]
    counts = np.bincount(index.ravel(), minlength=resamples * known).reshape(resamples, known)
    return counts[:, codes].astype(np.float64)


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


def intervals(outcome: Outcome, drawn: Mapping[str, Floats], groups: Integers | None = None) -> dict[str, Interval]:
    """Every metric of the outcome that is defined, with its interval from the resampled values in `drawn`."""
    import numpy as np

    ones = np.ones((1, len(outcome.truth)))
    found = {}
    for name, statistic in statistics(outcome).items():
        value = float(statistic(ones)[0])
        if not np.isnan(value):
            found[name] = _unless_perfect(outcome, name, percentile_interval(value, drawn[name]), groups)
    return found


def _unless_perfect(outcome: Outcome, name: str, interval: Interval, groups: Integers | None) -> Interval:
    """The interval itself, or with a lower bound by a score method when the score is perfect and has no spread.

    What counts as a trial there is a row, or a group: a person whose ten rows are all right was right once.
    """
    import numpy as np

    if not isinstance(outcome, ClassOutcome) or interval.value < 1.0 or interval.lower < 1.0:
        return interval
    if bool(np.all(outcome.probabilities == outcome.probabilities[0])):
        return interval  # a constant scorer: its score is a definition, not a sample
    sizes = _trials(outcome, groups)
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


def _trials(outcome: ClassOutcome, groups: Integers | None) -> Integers:
    """How many independent rows each class has (classes,)."""
    import numpy as np

    truth = outcome.truth
    if groups is not None:
        truth = np.unique(np.stack([truth, groups], axis=1), axis=0)[:, 0]
    return np.bincount(truth, minlength=outcome.probabilities.shape[1])


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
