"""Columns and target of the training rows as plain numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from agents.skills.data import columns, twins
from agents.skills.data.association import association
from agents.skills.data.columns import kind_of
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, ScopeSpec

if TYPE_CHECKING:
    import pandas as pd

BINS = 12
TOP = 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def describe_rows(train: pd.DataFrame, scope: ScopeSpec, time: str | None) -> dict[str, Any]:
    """The training rows (features, `__target__`, `__row__`, `__group__`) as `data-profile.json` has them: how many, as
    many as how many independent ones, how many of them repeat another, how new the newest is (with a `time` column of
    dates), target and columns; where rows belong to groups, also the columns of one row of each and how many rows each
    has (`cases`)."""
    target = train[TARGET_COLUMN]
    features = train.drop(columns=[TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN], errors="ignore")
    found: dict[str, Any] = {
        "rows": len(train),
        "independent_rows": twins.effective(train[GROUP_COLUMN].to_numpy()) if GROUP_COLUMN in train else len(train),
        "repeated_rows": repeated_share(train.drop(columns=[ROW_COLUMN, GROUP_COLUMN], errors="ignore")),
        "target": describe_target(target, scope),
        "columns": describe_columns(features, target, scope.classes),
    }
    if GROUP_COLUMN in train and not train[GROUP_COLUMN].is_unique:
        first = features[~train[GROUP_COLUMN].duplicated()]
        found["cases"] = {
            "rows": len(first),
            "sizes": describe_values(sizes_of(train[GROUP_COLUMN])),
            "columns": [describe_values(first[name]) for name in first.columns],
        }
    if time is not None and kind_of(train[time]) == "datetime" and train[time].notna().any():
        found["newest"] = {"column": time, "value": train[time].max().isoformat()}
    return found


def sizes_of(groups: pd.Series[Any]) -> pd.Series[Any]:
    """How many rows each group has, one value a group, as text: a bin of numbers would hold most of them."""
    return groups.value_counts(sort=False).rename("rows of a case").astype("str")


def repeated_share(rows: pd.DataFrame) -> float:
    """Share of rows that equal an earlier one in every column, identifiers aside, in [0, 1]."""
    compared = [name for name in map(str, rows.columns) if not columns.identifier(rows[name])]
    return float(rows.duplicated(subset=compared).mean()) if compared and len(rows) else 0.0


def describe_columns(features: pd.DataFrame, target: pd.Series[Any], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Each column as described by `describe_column`, strongest association first, then by name.

    A ROC AUC counts by its distance from one half, so that measures can be compared at all.
    """
    described = [describe_column(features[name], target, classes) for name in features.columns]
    return sorted(described, key=lambda item: (-_strength(item), item["name"]))


def describe_column(series: pd.Series[Any], target: pd.Series[Any], classes: tuple[str, ...]) -> dict[str, Any]:
    """Kind, missing share, distinct values, distribution and association of one typed column."""
    measure, value = association(series, target, classes) if series.notna().any() else ("none", 0.0)
    return describe_values(series) | {"measure": measure, "association": float(value)}


def describe_values(series: pd.Series[Any]) -> dict[str, Any]:
    """Kind, missing share, distinct values and distribution of one typed column, by itself."""
    kind = kind_of(series)
    present = series.dropna()
    item: dict[str, Any] = {
        "name": str(series.name),
        "type": str(series.dtype),
        "kind": kind,
        "missing": float(series.isna().mean()),
        "distinct": int(present.nunique()),
    }
    if present.empty:
        return item
    if kind == "numeric":
        return item | _numbers(present.astype("float64"))
    if kind == "datetime":
        return item | {"min": present.min().isoformat(), "max": present.max().isoformat()}
    top = present.astype("str").value_counts(normalize=True)
    ordered = sorted(top.items(), key=lambda pair: (-pair[1], str(pair[0])))[:TOP]
    return item | {"top": {str(value): float(share) for value, share in ordered}}


def describe_target(target: pd.Series[Any], scope: ScopeSpec) -> dict[str, Any]:
    """The target: shares of the classes, or the distribution of the numbers."""
    if scope.classes:
        shares = target.value_counts(normalize=True)
        return {"name": scope.target, "classes": {label: float(shares.get(label, 0.0)) for label in scope.classes}}
    return {"name": scope.target} | _numbers(target.astype("float64"))


def _numbers(present: pd.Series[Any]) -> dict[str, Any]:
    """Moments, quantiles and a histogram of numbers without missing values.

    `reached` are the shares of values up to each quantile: more than its own share where many values are equal.
    """
    import numpy as np

    counts, edges = np.histogram(present.to_numpy(), bins=BINS)
    spread = float(present.std(ddof=0))
    skewness = float((((present - present.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0
    quantiles = present.quantile(list(QUANTILES))
    return {
        "mean": float(present.mean()),
        "sd": spread,
        "skewness": skewness if math.isfinite(skewness) else 0.0,
        "min": float(present.min()),
        "p5": float(quantiles[0.05]),
        "p25": float(quantiles[0.25]),
        "median": float(quantiles[0.5]),
        "p75": float(quantiles[0.75]),
        "p95": float(quantiles[0.95]),
        "max": float(present.max()),
        "reached": [float((present <= quantiles[share]).mean()) for share in QUANTILES],
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
    }


def _strength(item: dict[str, Any]) -> float:
    value = float(item["association"])
    return 2 * abs(value - 0.5) if item["measure"] == "AUC" else value
