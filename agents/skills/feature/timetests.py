"""Time travel: hold-out rows older than training rows, events of later, and columns that know what comes next.

Each test needs the ticket's `time` column; without one nobody can say what was known when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agents.skills.data.columns import kind_of
from agents.skills.feature.finding import Finding, Verdict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]

LATER = 0.02
"""Share of rows whose event may lie after the row's own time: clocks differ, dates are rounded."""

LEADS = 3
"""How many rows ahead a column is held against the target."""

STANDARD_ERRORS = 5.0
"""How far a column's correlation with the targets to come must stand above chance, and above that with those before.

There are LEADS tests for every column and class, so four would be met by chance now and then."""

FEWEST = 60
"""Fewer rows in a row carry no such test."""


def order(train: pd.DataFrame, holdout: pd.DataFrame, time: str) -> Finding:
    """Share of training rows that are not older than the oldest hold-out row: a fair split by time has none."""
    first = holdout[time].min()
    known = train[time].dropna()
    share = float((known >= first).mean()) if len(known) else 0.0
    verdict: Verdict = "suspect" if share > 0 else "ok"
    return Finding("order of time", "rows", share, 0.0, verdict, "training rows as new as the hold-out's")


def later_events(series: pd.Series[Any], times: pd.Series[Any], newest: Any) -> Finding:
    """Share of rows whose date in this column lies after the row's own time.

    Recorded events end where the data ends: a column of dates after their rows that never go past the `newest` row of
    all, hold-out rows among them, was filled in later, and was not known then. Planned dates do go past it, so they are
    a warning only.
    """
    known = series.notna() & times.notna()
    after = known & (series > times)
    share = float(after.sum() / max(1, int(known.sum())))
    verdict: Verdict = "ok"
    if share > LATER:
        verdict = "suspect" if series[known].max() <= newest else "warning"
    return Finding("later event", str(series.name), share, LATER, verdict, "rows whose date lies after their own time")


def knows_next(
    series: pd.Series[Any], target: pd.Series[Any], classes: Sequence[str], independent: float | None = None
) -> Finding:
    """How much more a column in the order of time says of the next rows' targets than of the rows' before.

    The value is the largest difference of rank correlations, in standard errors of one (1 / sqrt(rows); `independent`
    says how many rows they are worth, by default all). Of several classes each is asked by itself, and all at once. A
    value of the past (a lag, a running mean) says more of what was; only one of the future says more of what comes.
    """
    import numpy as np

    values = _numbers(series)
    best = 0.0
    if len(values) >= FEWEST:
        worth = float(np.sqrt(len(values) if independent is None else independent))
        asked: list[tuple[NDArray[np.float64], Measure]] = [
            (outcome, _correlation) for outcome in _outcomes(target, classes)
        ]
        if len(classes) > 2:
            asked.append((_codes(target, classes), _all_classes))
        for outcome, measure in asked:
            ahead = max(abs(measure(values[:-k], outcome[k:])) for k in range(1, LEADS + 1))
            behind = max(abs(measure(values[k:], outcome[:-k])) for k in range(1, LEADS + 1))
            best = max(best, (ahead - behind) * worth)
    verdict: Verdict = "suspect" if best > STANDARD_ERRORS else "ok"
    meaning = "standard errors by which it says more of the next rows' targets than of the last rows'"
    return Finding("knows the next", str(series.name), best, STANDARD_ERRORS, verdict, meaning)


def _outcomes(target: pd.Series[Any], classes: Sequence[str]) -> list[NDArray[np.float64]]:
    import numpy as np

    if not classes:
        return [target.to_numpy(dtype=np.float64)]
    asked = classes[1:] if len(classes) == 2 else classes
    return [np.asarray(target == label, dtype=np.float64) for label in asked]


def _codes(target: pd.Series[Any], classes: Sequence[str]) -> NDArray[np.float64]:
    """The place of each row's class (rows,)."""
    import numpy as np

    places = np.argmax(np.stack([np.asarray(target == label) for label in classes]), axis=0)
    return np.asarray(places, dtype=np.float64)


def _all_classes(values: NDArray[np.float64], codes: NDArray[np.float64]) -> float:
    """How much the ranks of the values differ between all classes: the root of epsilon squared, which is Kruskal and
    Wallis's statistic less what chance expects of it, by the rows. Of two classes it is about the size of the rank
    correlation."""
    import numpy as np
    from scipy.stats import rankdata

    known = ~np.isnan(values)
    if known.sum() < FEWEST:
        return 0.0
    ranks, places = rankdata(values[known]), np.unique(codes[known], return_inverse=True)[1]
    if ranks.std() == 0:
        return 0.0
    sizes = np.bincount(places)
    means = np.bincount(places, ranks) / sizes
    between = float((sizes * (means - ranks.mean()) ** 2).sum() / (len(ranks) * ranks.var()))
    freedom = len(sizes) - 1
    return float(np.sqrt(max(0.0, between - freedom / (len(ranks) - 1))))


def _numbers(series: pd.Series[Any]) -> NDArray[np.float64]:
    """The column as numbers (rows,): text by its levels' frequency, so that it has an order at all."""
    import numpy as np

    if kind_of(series) == "categorical":
        return np.asarray(series.map(series.value_counts()), dtype=np.float64)
    return np.asarray(series.astype("float64"), dtype=np.float64)


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    from agents.skills.data.association import spearman

    return spearman(left, right)
