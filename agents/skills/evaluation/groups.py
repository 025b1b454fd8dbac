"""Figures by group of people, by fairlearn: who is called positive, who is missed, who is called so wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.evaluation.bootstrap import Interval
from agents.skills.evaluation.scores import ClassOutcome, Outcome

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from agents.skills.evaluation.scores import Integers

MIN_ROWS = 30
"""A group of fewer rows is shown and not judged."""
MAX_GROUPS = 12
RESAMPLES = 500
MISSING = "(no value)"


@dataclass(frozen=True)
class Group:
    """One group: its rows, its figures by name (None where a figure is undefined), and whether it is judged."""

    name: str
    rows: int
    figures: dict[str, float | None]
    judged: bool


@dataclass(frozen=True)
class Compared:
    """One column: its groups, and the largest difference between judged groups in each figure, with its interval.

    `clear`: the figures whose difference is more than groups drawn by chance show (permutation of the groups, 5 %,
    divided by the number of figures).
    """

    column: str
    groups: tuple[Group, ...]
    differences: dict[str, Interval]
    lowest: dict[str, str]
    highest: dict[str, str]
    clear: tuple[str, ...]


def compare(
    column: str, values: pd.Series[Any], outcome: Outcome, seed: int, units: Integers | None = None
) -> Compared:
    """Compare the groups that `values` (one for each row of `outcome`) makes. Rows of one number in `units` (rows,) say
    the same thing again, and are drawn and exchanged together; without it each row is by itself."""
    import numpy as np

    names = group_names(values)
    metrics, truth, predicted = _metrics(outcome)
    frame = _frame(metrics, truth, predicted, names)
    sizes = names.value_counts()
    large = [name for name in frame.index if sizes[name] >= MIN_ROWS]
    groups = tuple(
        Group(
            name=str(name),
            rows=int(sizes[name]),
            figures={metric: _plain(frame.loc[name, metric]) for metric in metrics},
            judged=name in large,
        )
        for name in frame.index
    )
    if len(large) < 2:
        return Compared(column, groups, {}, {}, {}, ())
    kept = names.isin(large).to_numpy()
    codes = np.array([large.index(name) for name in names[kept]], dtype=np.intp)
    ratios = [(above[kept], below[kept]) for above, below in _ratios(outcome)]
    now = _spreads(ratios, codes, len(large))
    generator = np.random.default_rng(seed)
    parts = _parts(None if units is None else units[kept], len(codes))
    draws = (_drawn(generator, parts, len(codes)) for _ in range(RESAMPLES))
    resampled = np.array([_spreads(ratios, codes[rows], len(large), rows) for rows in draws])
    chance = np.array([_spreads(ratios, _exchanged(generator, parts, codes), len(large)) for _ in range(RESAMPLES)])
    judged = frame.loc[large]
    differences, clear = {}, []
    for place, metric in enumerate(metrics):
        if np.isnan(now[place]):
            continue
        values_drawn = resampled[:, place][~np.isnan(resampled[:, place])]
        low, high = np.quantile(values_drawn, [0.025, 0.975]) if len(values_drawn) else (now[place], now[place])
        se = float(values_drawn.std(ddof=1)) if len(values_drawn) > 1 else 0.0
        value = float(now[place])
        differences[metric] = Interval(value, min(float(low), value), max(float(high), value), se)
        if (1 + np.sum(chance[:, place] >= value)) / (1 + RESAMPLES) < 0.05 / len(metrics):
            clear.append(metric)
    return Compared(
        column,
        groups,
        differences,
        {metric: str(judged[metric].astype(float).idxmin()) for metric in differences},
        {metric: str(judged[metric].astype(float).idxmax()) for metric in differences},
        tuple(clear),
    )


def _parts(units: Integers | None, rows: int) -> list[Integers] | None:
    """The positions of the rows of each unit; None when every row is by itself."""
    import numpy as np

    if units is None or len(np.unique(units)) == rows:
        return None
    order = np.argsort(units, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(units[order])) + 1)


def _drawn(generator: np.random.Generator, parts: list[Integers] | None, rows: int) -> Integers:
    """Positions of rows drawn with replacement, or of as many units as there are less one (see `bootstrap`)."""
    import numpy as np

    if parts is None:
        return generator.integers(0, rows, rows)
    chosen = generator.integers(0, len(parts), max(1, len(parts) - 1))
    return np.concatenate([parts[place] for place in chosen])


def _exchanged(generator: np.random.Generator, parts: list[Integers] | None, codes: Integers) -> Integers:
    """The group numbers (rows,) in another order. Those of units are laid, in the units' order, over the units in
    another order: rows of one unit stay together on both sides, so that chance differs as much as it does between
    units."""
    import numpy as np

    if parts is None:
        return generator.permutation(codes)
    changed = np.empty_like(codes)
    shuffled = [parts[place] for place in generator.permutation(len(parts))]
    changed[np.concatenate(shuffled)] = codes[np.concatenate(parts)]
    return changed


def group_names(values: pd.Series[Any]) -> pd.Series[Any]:
    """A name of a group for each row: numbers of many values in quarters, rare levels together."""
    import pandas as pd

    plain = values.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(plain) and plain.nunique() > MAX_GROUPS:
        cut = pd.qcut(plain.astype("float64"), 4, duplicates="drop")
        names = cut.map(lambda part: f"{part.left:.4g} to {part.right:.4g}", na_action="ignore").astype(object)
    else:
        names = plain.astype(object).map(str, na_action="ignore")
    names = names.where(plain.notna(), MISSING)
    common = names.value_counts().index[:MAX_GROUPS]
    return names.where(names.isin(common), "(other)")


def _metrics(outcome: Outcome) -> tuple[dict[str, Callable[..., Any]], Any, Any]:
    """fairlearn's figures for the kind of outcome, the truth and the predictions."""
    import numpy as np
    from fairlearn.metrics import false_positive_rate, mean_prediction, selection_rate, true_positive_rate
    from sklearn.metrics import accuracy_score, mean_absolute_error

    if not isinstance(outcome, ClassOutcome):

        def mean_error(truth: Any, predicted: Any) -> float:
            return float(np.mean(np.asarray(predicted) - np.asarray(truth)))

        figures = {"mean prediction": mean_prediction, "mean absolute error": mean_absolute_error}
        return figures | {"mean error": mean_error}, outcome.truth, outcome.predicted
    if outcome.probabilities.shape[1] > 2:
        return {"accuracy": accuracy_score}, outcome.truth, outcome.predicted
    return (
        {
            "selection rate": selection_rate,
            "true positive rate": _defined(true_positive_rate, 1),
            "false positive rate": _defined(false_positive_rate, 0),
            "accuracy": accuracy_score,
        },
        outcome.truth,
        outcome.predicted,
    )


def _defined(rate: Callable[..., Any], among: int) -> Callable[..., Any]:
    """A rate among the rows of class `among`; NaN, not zero, where there is none."""

    def figure(truth: Any, predicted: Any) -> float:
        import numpy as np

        return float(rate(truth, predicted, pos_label=1)) if np.any(np.asarray(truth) == among) else float("nan")

    return figure


def _frame(metrics: dict[str, Callable[..., Any]], truth: Any, predicted: Any, names: Any) -> pd.DataFrame:
    from fairlearn.metrics import MetricFrame

    found: pd.DataFrame = MetricFrame(
        metrics=metrics, y_true=truth, y_pred=predicted, sensitive_features=names
    ).by_group
    return found


def _ratios(outcome: Outcome) -> list[tuple[Any, Any]]:
    """Each figure of `_metrics`, in its order, as a numerator and a denominator by row: a group's figure is the ratio
    of their sums. `MetricFrame.difference()` gives the same and takes 5 ms a call; resampling needs hundreds."""
    import numpy as np

    ones = np.ones(len(outcome.truth))
    if not isinstance(outcome, ClassOutcome):
        error = outcome.predicted - outcome.truth
        return [(outcome.predicted, ones), (np.abs(error), ones), (error, ones)]
    right = (outcome.predicted == outcome.truth).astype(float)
    if outcome.probabilities.shape[1] > 2:
        return [(right, ones)]
    called, positive = (outcome.predicted == 1).astype(float), (outcome.truth == 1).astype(float)
    return [(called, ones), (called * positive, positive), (called * (1 - positive), 1 - positive), (right, ones)]


def _spreads(ratios: list[tuple[Any, Any]], codes: Any, groups: int, rows: Any = slice(None)) -> list[float]:
    """For each figure the largest less the smallest of the groups, NaN if fewer than two have it."""
    import numpy as np

    found = []
    for numerator, denominator in ratios:
        below = np.bincount(codes, denominator[rows], groups)
        above = np.bincount(codes, numerator[rows], groups)
        values = above[below > 0] / below[below > 0]
        found.append(float(values.max() - values.min()) if len(values) > 1 else float("nan"))
    return found


def _plain(value: Any) -> float | None:
    number = float(value)
    return None if number != number else number
