"""Facts about single columns that quality, splitting, profiling and features all go by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["numeric", "categorical", "boolean", "datetime"]

MAX_LEVELS = 50
MAX_UNIQUE_SHARE = 0.5
"""Text with more than MAX_LEVELS levels, over half of its values distinct, says nothing a model could learn."""

_ID_NAME = re.compile(r"(^|[_\s.-])(id|ids|uuid|guid|key|index|row|rownum)$|^(id|uuid|guid)[_\s.-]", re.IGNORECASE)
_CAMEL_ID = re.compile(r"[a-z](Id|ID)$")


def kind_of(series: pd.Series[Any]) -> Kind:
    """The kind of a typed column (see `tables.typed`)."""
    from pandas.api import types

    if types.is_bool_dtype(series.dtype):
        return "boolean"
    if types.is_datetime64_any_dtype(series.dtype):
        return "datetime"
    return "numeric" if types.is_numeric_dtype(series.dtype) else "categorical"


def constant(series: pd.Series[Any]) -> bool:
    """Whether every row holds the same value, missing counted as a value."""
    return bool(series.nunique(dropna=False) <= 1)


def unique_share(series: pd.Series[Any]) -> float:
    """Distinct values by present values, in [0, 1]; 0 when none is present."""
    present = int(series.notna().sum())
    return float(series.nunique() / present) if present else 0.0


def identifier(series: pd.Series[Any]) -> str:
    """Why the column only names rows, or an empty string if it does not.

    Text of which 95 % of the values differ (and more than MAX_LEVELS do); whole numbers that all differ and either
    count up or down the rows or fill a range without gaps; and either kind with a name like `patient_id` when more
    than half of the values differ. Measured numbers, even when all differ, are not identifiers.
    """
    kind = kind_of(series)
    if kind not in ("numeric", "categorical") or series.nunique() <= MAX_LEVELS / 2:
        return ""
    share = unique_share(series)
    named = bool(_ID_NAME.search(str(series.name)) or _CAMEL_ID.search(str(series.name)))
    if kind == "categorical":
        if share >= 0.95 and series.nunique() > MAX_LEVELS:
            return f"identifier: {share:.0%} of its texts differ"
        return f"identifier by its name: {share:.0%} of its texts differ" if named and share > 0.5 else ""
    present = series.dropna()
    if not bool((present % 1 == 0).all()):
        return ""
    if named and share > 0.5:
        return f"identifier by its name: {share:.0%} of its numbers differ"
    if share < 1.0:
        return ""
    counting = present.is_monotonic_increasing or present.is_monotonic_decreasing
    dense = float(present.max() - present.min()) + 1 == len(present)
    return "identifier: whole numbers that count the rows" if counting or dense else ""


def high_cardinality(series: pd.Series[Any]) -> bool:
    """Text with more than MAX_LEVELS levels of which more than half of the values differ."""
    if kind_of(series) != "categorical":
        return False
    return bool(series.nunique() > MAX_LEVELS and unique_share(series) > MAX_UNIQUE_SHARE)


def duplicates(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Columns whose values equal an earlier column's in every row (numbers by value, not type): name to the earlier.

    Candidates are found by a 64-bit hash of the values and then compared exactly.
    """
    import pandas as pd

    seen: dict[int, list[tuple[str, pd.Series[Any]]]] = {}
    found: dict[str, str] = {}
    for name in names:
        series = frame[name]
        if kind_of(series) in ("numeric", "boolean"):
            series = series.astype("float64")
        digest = hash(tuple(pd.util.hash_pandas_object(series, index=False).to_numpy().tolist()))
        earlier = next((other for other, values in seen.get(digest, []) if values.equals(series)), None)
        if earlier is not None:
            found[name] = earlier
        else:
            seen.setdefault(digest, []).append((name, series))
    return found
