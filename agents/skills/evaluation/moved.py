"""Columns that differ between the training rows and the rows the model was asked about, each with its explanation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

from agents.skills.data.columns import kind_of
from agents.skills.data.drift import DISTANCE_LIMIT

if TYPE_CHECKING:
    import pandas as pd

_D_1_PERCENT = 1.63
"""The 1 % point of the two-sample Kolmogorov-Smirnov statistic, times the root of 1/n + 1/m."""
_TREND = 0.3


@dataclass(frozen=True)
class Moved:
    """A column whose distributions differ: by how much (0 to 1), the limit, and why (empty: nobody knows)."""

    column: str
    distance: float
    limit: float
    explanation: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def moved_columns(
    train: pd.DataFrame, asked: pd.DataFrame, strategy: Literal["random", "stratified", "grouped", "time"]
) -> tuple[Moved, ...]:
    """Columns of `asked` that moved, most moved first. Numbers by the Kolmogorov-Smirnov distance, the rest by total
    variation; `strategy` is how the rows were divided, and `train` is in the order of time if that was by time."""
    limit = max(DISTANCE_LIMIT, _D_1_PERCENT * sqrt(1 / len(train) + 1 / len(asked)))
    found = []
    for name in map(str, asked.columns):
        if kind_of(train[name]) == "datetime":
            continue
        distance = _distance(train[name], asked[name])
        if distance > limit:
            found.append(Moved(name, round(distance, 4), round(limit, 4), _explain(train[name], strategy)))
    return tuple(sorted(found, key=lambda each: (-each.distance, each.column)))


def _distance(before: pd.Series[Any], now: pd.Series[Any]) -> float:
    import numpy as np
    from scipy.stats import ks_2samp

    if kind_of(before) == "numeric":
        values = [part.dropna().to_numpy(dtype=np.float64) for part in (before, now)]
        return float(ks_2samp(*values).statistic) if all(map(len, values)) else 0.0
    shares = [part.dropna().astype("str").value_counts(normalize=True) for part in (before, now)]
    return float(shares[0].sub(shares[1], fill_value=0.0).abs().sum() / 2)


def _explain(before: pd.Series[Any], strategy: str) -> str:
    """Why a column moved, where the way the rows were divided says so."""
    import numpy as np
    from scipy.stats import spearmanr

    if strategy == "time" and kind_of(before) == "numeric":
        known = before.notna().to_numpy()
        trend = spearmanr(np.flatnonzero(known), before[known]).statistic if known.sum() > 2 else 0.0
        if abs(trend) >= _TREND:
            return f"it changes with time: rank correlation {trend:+.2f} in the training rows already"
    if strategy == "grouped":
        return "the hold-out rows are of other groups than the training rows"
    return ""
