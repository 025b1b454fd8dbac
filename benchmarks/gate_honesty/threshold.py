"""The gate most teams have: train, look at the metric on a random fifth of the rows, and stop below a bound.

The bound of each set is what clean rows give in the mean, less two standard deviations, over the development seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from benchmarks.gate_honesty.sets import SETS, RealSet, cut

SEEDS = (100, 101, 102)


@dataclass(frozen=True)
class ThresholdGate:
    """The gate for one set."""

    chosen: RealSet
    bound: float

    @classmethod
    def of(cls, chosen: RealSet) -> ThresholdGate:
        """With its bound from clean rows."""
        return cls(chosen, _bound(chosen.name))

    def stops(self, rows: pd.DataFrame, seed: int) -> bool:
        """Whether the metric is below the bound, or there is none."""
        value = _metric(self.chosen, rows, seed)
        return not value >= self.bound


@lru_cache(maxsize=32)
def _bound(name: str) -> float:
    values = [_metric(SETS[name], cut(SETS[name], seed)[0], seed) for seed in SEEDS]
    return float(np.mean(values) - 2 * np.std(values, ddof=1))


def _metric(chosen: RealSet, rows: pd.DataFrame, seed: int) -> float:
    """ROC AUC (mean one against rest) or R² of gradient boosting on a random fifth of the rows; NaN if undefined."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.model_selection import train_test_split

    frame = rows.drop(columns=[c for c in (chosen.target, chosen.groups) if c in rows.columns])
    for name in frame.columns:
        if frame[name].dtype.kind not in "fib":
            frame[name] = pd.factorize(frame[name])[0]
    target = rows[chosen.target]
    parts = train_test_split(frame.to_numpy(dtype=float), target.to_numpy(), test_size=0.2, random_state=seed)
    fit, score, known, truth = parts
    settings = {"max_iter": 40, "max_leaf_nodes": 15, "random_state": seed}
    try:
        if not chosen.classes:
            return float(r2_score(truth, HistGradientBoostingRegressor(**settings).fit(fit, known).predict(score)))
        chances = HistGradientBoostingClassifier(**settings).fit(fit, known).predict_proba(score)
        if chances.shape[1] == 2:
            return float(roc_auc_score(truth, chances[:, 1]))
        return float(roc_auc_score(truth, chances, multi_class="ovr"))
    except ValueError:
        return float("nan")
