"""Slices: the metric on parts of the hold-out rows, so that a good average cannot hide a bad part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from agents.skills.evaluation.bootstrap import Interval, paired_gain, percentile_interval, resample
from agents.skills.evaluation.scores import ClassOutcome, Outcome, score, statistics
from schemas.ticket import LOWER_IS_BETTER

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.evaluation.scores import Floats, Integers

    Mask = NDArray[np.bool_]

MIN_ROWS = 30
"""A slice of fewer rows is not judged."""
MIN_GROUPS = 10
"""Nor one of fewer groups, where rows belong to groups."""
MIN_CLASS_ROWS = 5
"""Nor one with fewer rows of its second largest class, where the metric compares classes."""
MAX_COLUMNS = 100
_MAX_LEVELS = 12
_RESAMPLES = 1000
_SHOWN = 5


@dataclass(frozen=True)
class Slice:
    """Rows with one thing in common.

    `baseline` is the baseline's score on the same rows, `gain` the paired gain over it (positive is better).
    `clearly_worse` than all rows: by more standard errors than chance explains among as many slices as were compared
    (Bonferroni, 95 %). Rows that are hard for any model can be that; only a gain below zero is the model's own fault.
    """

    column: str
    values: str
    rows: int
    interval: Interval
    baseline: float
    gain: Interval
    clearly_worse: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "column": self.column,
            "values": self.values,
            "rows": self.rows,
            "baseline": self.baseline,
            "gain": self.gain.as_dict(),
            "clearly_worse": self.clearly_worse,
            **self.interval.as_dict(),
        }


@dataclass(frozen=True)
class SliceReport:
    """What was looked at: `metric`, slices formed and slices large enough to judge, and the worst, worst first."""

    metric: str
    formed: int
    judged: int
    worst: tuple[Slice, ...]
    columns_left_out: int


@dataclass(frozen=True)
class _Part:
    """A slice before it has an interval."""

    badness: float
    column: str
    values: str
    mask: Mask


def measure_slices(
    model: Outcome,
    baseline: Outcome,
    features: pd.DataFrame,
    metric: str,
    seed: int,
    *,
    by_gain: bool = False,
    groups: Integers | None = None,
) -> SliceReport:
    """Measure `metric` on every slice of every column and give the worst an interval (whole `groups` are resampled).

    The worst are those with the worst score, or `by_gain` those with the least gain over the baseline. Explained
    variance shrinks with the range of any slice, so `r2` is replaced by `rmse` here.
    """
    import math

    metric = "rmse" if metric == "r2" else metric
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    formed, found = 0, []
    for column, values, mask in _slices(features.iloc[:, :MAX_COLUMNS]):
        formed += 1
        part = model.take(mask)
        if _large_enough(part, metric) and (groups is None or len(set(groups[mask].tolist())) >= MIN_GROUPS):
            value = score(part, metric)
            floor = score(baseline.take(mask), metric) if by_gain else 0.0
            if not math.isnan(value - floor):
                found.append(_Part(sign * (value - floor), column, values, mask))
    found.sort(key=lambda each: -each.badness)  # a stable sort: equally bad slices keep the columns' order
    worst = tuple(_measured(each, model, baseline, metric, len(found), seed, groups) for each in found[:_SHOWN])
    return SliceReport(metric, formed, len(found), worst, max(0, features.shape[1] - MAX_COLUMNS))


def _measured(
    part: _Part, model: Outcome, baseline: Outcome, metric: str, compared: int, seed: int, groups: Integers | None
) -> Slice:
    outcomes = {"model": model.take(part.mask), "baseline": baseline.take(part.mask)}
    rows = len(outcomes["model"].truth)
    own = None if groups is None else groups[part.mask]
    parts = {name: statistics(each)[metric] for name, each in outcomes.items()}
    drawn = resample(parts, rows, _RESAMPLES, seed, groups=own)
    interval, floor = (percentile_interval(score(each, metric), drawn[name]) for name, each in outcomes.items())
    better = metric not in LOWER_IS_BETTER
    worse_by = (score(model, metric) - interval.value) * (1.0 if better else -1.0)
    threshold = NormalDist().inv_cdf(1 - 0.025 / compared) * interval.se
    return Slice(
        column=part.column,
        values=part.values,
        rows=rows,
        interval=interval,
        baseline=floor.value,
        gain=paired_gain(interval, floor, drawn["model"], drawn["baseline"], better),
        clearly_worse=worse_by > threshold > 0,
    )


def _large_enough(part: Outcome, metric: str) -> bool:
    import numpy as np

    if len(part.truth) < MIN_ROWS:
        return False
    if not isinstance(part, ClassOutcome) or metric == "accuracy":
        return True
    sizes = np.sort(np.bincount(part.truth, minlength=part.probabilities.shape[1]))
    return bool(sizes[-2] >= MIN_CLASS_ROWS)


def _slices(features: pd.DataFrame) -> Iterator[tuple[str, str, Mask]]:
    """Column, values in words and rows of every slice: missing, ranges of numbers and dates, single values."""
    import numpy as np
    import pandas as pd

    for name in features.columns:
        column = features[name]
        missing = column.isna().to_numpy()
        if missing.any():
            yield str(name), "missing", missing
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        if numeric and column.nunique() > _MAX_LEVELS:
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            yield from ((str(name), words, mask) for words, mask in _ranges(values, "{:.4g}".format))
        elif pd.api.types.is_datetime64_any_dtype(column):
            yield from ((str(name), words, mask) for words, mask in _ranges(_days(column), _day))
        else:
            yield from _levels(str(name), column, numeric)


def _days(column: pd.Series[Any]) -> Floats:
    """Days since 1970-01-01."""
    import numpy as np
    import pandas as pd

    since = pd.to_datetime(column, utc=True) - pd.Timestamp(0, tz="UTC")
    days: Floats = (since / pd.Timedelta(days=1)).to_numpy(dtype=np.float64).astype(np.float64)
    return days


def _day(days: float) -> str:
    import pandas as pd

    return (pd.Timestamp(0) + pd.Timedelta(days=days)).strftime("%Y-%m-%d")


def _ranges(values: Floats, words: Any) -> Iterator[tuple[str, Mask]]:
    """Up to four ranges with about equally many rows, fewer while a range would have under `MIN_ROWS`."""
    import numpy as np

    known = values[np.isfinite(values)]
    parts = min(4, len(known) // MIN_ROWS)
    if parts < 2:
        return
    edges = np.unique(np.quantile(known, np.linspace(0, 1, parts + 1)))
    for index, (low, high) in enumerate(pairwise(edges.tolist())):
        last = index == len(edges) - 2
        with np.errstate(invalid="ignore"):
            mask = (values >= low) & ((values <= high) if last else (values < high))
        yield f"{words(low)} to {'' if last else 'below '}{words(high)}", mask


def _levels(name: str, column: pd.Series[Any], numeric: bool) -> Iterator[tuple[str, str, Mask]]:
    """The most frequent values; rarer ones could not be judged."""
    text = column.map("{:.6g}".format) if numeric else column.astype(str)
    known = text[column.notna()]
    for level in sorted(known.value_counts().index[:_MAX_LEVELS]):
        yield name, str(level)[:60], ((text == level) & column.notna()).to_numpy()
