"""What kind of thing a target column is, and its values in the form every later skill reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skill import InputError
from schemas.values import Task

if TYPE_CHECKING:
    import pandas as pd

MAX_INTEGER_CLASSES = 20
"""Whole numbers with at most this many distinct values are taken for class labels when the ticket names no task."""

MAX_CLASSES = 50
"""More classes than this is a number, an identifier or free text."""


def infer_task(target: pd.Series[Any]) -> Task:
    """Classification for yes/no, text, and up to 20 distinct whole numbers; regression for other numbers."""
    from pandas.api import types

    if types.is_bool_dtype(target.dtype) or not types.is_numeric_dtype(target.dtype):
        return Task.CLASSIFICATION
    distinct = target.dropna().unique()
    whole = all(float(value).is_integer() for value in distinct[: MAX_INTEGER_CLASSES + 1])
    return Task.CLASSIFICATION if whole and len(distinct) <= MAX_INTEGER_CLASSES else Task.REGRESSION


def as_target(target: pd.Series[Any], task: Task) -> pd.Series[Any]:
    """The target as the artifacts hold it: class labels as text, or float64. The index is kept.

    Whole numbers read as floats lose their `.0`, so that `1` is `1` whether or not other rows are missing. Raises
    InputError naming the column when it does not fit `task`.
    """
    from pandas.api import types

    name = str(target.name)
    numeric = types.is_numeric_dtype(target.dtype) and not types.is_bool_dtype(target.dtype)
    if task is Task.REGRESSION:
        if not numeric:
            raise InputError(
                f"target {name!r} is {target.dtype}, not a number: it cannot be used for regression",
                "write `task: classification`, or clean the column",
            )
        return target.astype("float64")
    if (classes := target.nunique()) > MAX_CLASSES:
        raise InputError(
            f"target {name!r} has {classes} distinct values, more than the {MAX_CLASSES} classes allowed",
            "write `task: regression` if it is a number, or group the classes",
        )
    return target.map(_label).astype("str")


def classes_of(labels: pd.Series[Any]) -> tuple[str, ...]:
    """The class labels in sorted order; of two, the second is the positive class."""
    return tuple(sorted(map(str, labels.unique())))


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
