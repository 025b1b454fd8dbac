"""Slices: the metric on parts of the hold-out rows, so that a good average cannot hide a bad part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from agents.skills.evaluation.bootstrap import Interval, percentile_interval, resample
from agents.skills.evaluation.scores import ClassOutcome, Outcome, score, statistics
from schemas.ticket import LOWER_IS_BETTER

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.evaluation.scores import Floats

    Mask = NDArray[np.bool_]

MIN_ROWS = 30
"""A slice of fewer rows is not judged."""
MIN_CLASS_ROWS = 5
"""Nor one with fewer rows of its second largest class, where the metric compares classes."""
MAX_COLUMNS = 100
_MAX_LEVELS = 12
_RESAMPLES = 1000
_SHOWN = 5


@dataclass(frozen=True)
class Slice:
    """Rows with one thing in common. `clearly_worse`: the whole 95 % interval is on the bad side of the whole set."""

    column: str
    values: str
    rows: int
    interval: Interval
    clearly_worse: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "column": self.column,
            "values": self.values,
            "rows": self.rows,
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


def measure_slices(outcome: Outcome, features: pd.DataFrame, metric: str, seed: int) -> SliceReport:
    """Measure `metric` on every slice of every column and give the worst an interval.

    Explained variance shrinks with the range of any slice, so `r2` is replaced by `rmse` here.
    """
    import numpy as np

    metric = "rmse" if metric == "r2" else metric
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    formed, found = 0, []
    for column, values, mask in _slices(features.iloc[:, :MAX_COLUMNS]):
        formed += 1
        part = outcome.take(mask)
        if _large_enough(part, metric):
            value = score(part, metric)
            if not np.isnan(value):
                found.append((sign * value, formed, column, values, mask))
    found.sort(key=lambda item: item[:2])
    overall = score(outcome, metric)
    worst = tuple(
        _with_interval(outcome.take(mask), column, values, metric, overall, seed)
        for _, _, column, values, mask in found[:_SHOWN]
    )
    return SliceReport(metric, formed, len(found), worst, max(0, features.shape[1] - MAX_COLUMNS))


def _with_interval(part: Outcome, column: str, values: str, metric: str, overall: float, seed: int) -> Slice:
    rows = len(part.truth)
    drawn = resample({metric: statistics(part)[metric]}, rows, _RESAMPLES, seed)[metric]
    interval = percentile_interval(score(part, metric), drawn)
    worse = interval.lower > overall if metric in LOWER_IS_BETTER else interval.upper < overall
    return Slice(column, values, rows, interval, worse)


def _large_enough(part: Outcome, metric: str) -> bool:
    import numpy as np

    if len(part.truth) < MIN_ROWS:
        return False
    if not isinstance(part, ClassOutcome) or metric == "accuracy":
        return True
    sizes = np.sort(np.bincount(part.truth, minlength=part.probabilities.shape[1]))
    return bool(sizes[-2] >= MIN_CLASS_ROWS)


def _slices(features: pd.DataFrame) -> Iterator[tuple[str, str, Mask]]:
    import numpy as np
    import pandas as pd

    for name in features.columns:
        column = features[name]
        missing = column.isna().to_numpy()
        if missing.any():
            yield str(name), "missing", missing
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        if numeric and column.nunique() > _MAX_LEVELS:
            yield from _ranges(str(name), column.to_numpy(dtype=np.float64, na_value=np.nan))
        elif pd.api.types.is_datetime64_any_dtype(column):
            yield from _ranges(str(name), _epoch(column))
        else:
            yield from _levels(str(name), column, numeric)


def _epoch(column: pd.Series[Any]) -> Floats:
    import numpy as np
    import pandas as pd

    stamps = pd.to_datetime(column, utc=True)
    origin = pd.Timestamp(0, tz="UTC")
    seconds: Floats = ((stamps - origin) / pd.Timedelta(seconds=1)).to_numpy(dtype=np.float64).astype(np.float64)
    return seconds


def _ranges(name: str, values: Floats) -> Iterator[tuple[str, str, Mask]]:
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
        yield name, f"{low:.4g} to {'' if last else 'below '}{high:.4g}", mask


def _levels(name: str, column: pd.Series[Any], numeric: bool) -> Iterator[tuple[str, str, Mask]]:
    """The most frequent values; rarer ones could not be judged."""
    text = column.map("{:.6g}".format) if numeric else column.astype(str)
    known = text[column.notna()]
    for level in sorted(known.value_counts().index[:_MAX_LEVELS]):
        yield name, str(level)[:60], ((text == level) & column.notna()).to_numpy()
