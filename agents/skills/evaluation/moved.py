"""Columns that differ between the training rows and the rows the model was asked about, each with its explanation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from agents.skills.data.columns import kind_of
from agents.skills.data.drift import compare_rows

if TYPE_CHECKING:
    import pandas as pd

_TREND = 0.3


@dataclass(frozen=True)
class Moved:
    """A column whose distributions differ: by how much (`data.drift`, which has the limits), and why (empty: nobody
    knows)."""

    column: str
    distance: float
    limit: float
    psi: float
    psi_limit: float
    explanation: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def moved_columns(
    train: pd.DataFrame, asked: pd.DataFrame, strategy: Literal["random", "stratified", "grouped", "time"]
) -> tuple[Moved, ...]:
    """Columns of `asked` that moved, most moved first; `strategy` is how the rows were divided, and `train` is in the
    order of time if that was by time."""
    found = [
        Moved(
            column=each.name,
            distance=each.distance,
            limit=each.distance_limit,
            psi=each.psi,
            psi_limit=each.psi_limit,
            explanation=_explain(train[each.name], strategy),
        )
        for each in compare_rows(train, asked)
        if each.moved
    ]
    return tuple(sorted(found, key=lambda each: (-each.distance, each.column)))


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
