"""From a feature map to model inputs: the same two steps in training, evaluation and serving.

`prepare_frame` brings any frame into the map's columns and types; `build_transformer` imputes, scales and encodes them.
The transformer is made of scikit-learn parts only, so that skops can store it without trusting code of ours.
Heavy libraries are imported inside the functions: finding the skills imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.skill import InputError
from agents.skills.data.tables import LARGEST
from agents.skills.shapes import FeatureColumn, FeatureMap

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from sklearn.compose import ColumnTransformer

DATETIME_PARTS = ("days", "year", "month", "day", "weekday", "hour")
"""What a datetime becomes: days since 1970-01-01 (with fraction) and calendar parts (Monday is 0)."""

MAX_LEVELS = 50
"""Most columns one categorical input is encoded into; rarer levels share one column."""

_TRUE = frozenset({"true", "1", "1.0", "yes", "y", "t"})
_FALSE = frozenset({"false", "0", "0.0", "no", "n", "f"})


def prepare_frame(frame: pd.DataFrame, feature_map: FeatureMap) -> pd.DataFrame:
    """The map's columns of `frame`, in the map's order, as float64 (numeric, boolean, datetime parts) or text.

    `frame` is (rows, any columns); further columns are ignored, the index is kept. The result has one column per
    input, and `name|part` for each part of a datetime. What cannot be read as the declared kind, and infinity, counts
    as missing (NaN); categories never seen in training are kept as they are. Raises InputError naming missing columns.
    """
    import pandas as pd

    missing = [column.name for column in feature_map.columns if column.name not in frame.columns]
    if missing:
        raise InputError(
            f"the rows lack {len(missing)} column(s) the model needs: {', '.join(missing[:10])}",
            f"give every column of feature-map.json (signature {feature_map.signature[:12]})",
        )
    parts: dict[str, Any] = {}
    for column in feature_map.columns:
        parts.update(_prepared(frame[column.name], column))
    return pd.DataFrame(parts, index=frame.index)


def build_transformer(feature_map: FeatureMap) -> ColumnTransformer:
    """An unfitted transformer for frames from `prepare_frame`; gives a dense float64 array (rows, encoded inputs).

    Numbers: median imputation with an indicator of what was missing, then standardisation. Categories: missing is
    filled with the most frequent level; one column a level, rare and unseen levels together (at most MAX_LEVELS).
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    numeric = [c.name for c in feature_map.columns if c.kind == "numeric"]
    numeric += [part_name(c.name, "days") for c in feature_map.columns if c.kind == "datetime"]
    steps: list[tuple[str, Any, list[str]]] = []
    if numeric:
        impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        steps.append(("numeric", Pipeline([("impute", impute), ("scale", StandardScaler())]), numeric))
    datetimes = [c.name for c in feature_map.columns if c.kind == "datetime"]
    if calendar := [part_name(name, part) for name in datetimes for part in DATETIME_PARTS if part != "days"]:
        impute = SimpleImputer(strategy="median", keep_empty_features=True)
        steps.append(("calendar", Pipeline([("impute", impute), ("scale", StandardScaler())]), calendar))
    if boolean := [c.name for c in feature_map.columns if c.kind == "boolean"]:
        steps.append(("boolean", SimpleImputer(strategy="most_frequent", keep_empty_features=True), boolean))
    for encode in ("one_hot", "ordinal"):
        if names := [c.name for c in feature_map.columns if c.kind == "categorical" and c.encode == encode]:
            fill = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
            steps.append((encode, Pipeline([("impute", fill), ("encode", _encoder(encode))]), names))
    return ColumnTransformer(steps, remainder="drop", sparse_threshold=0.0)


def part_name(column: str, part: str) -> str:
    """The name of one part of a datetime column: `admitted|month`."""
    return f"{column}|{part}"


def _encoder(encode: str) -> Any:
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    if encode == "ordinal":
        return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=5, max_categories=MAX_LEVELS, sparse_output=False
    )


def _prepared(series: pd.Series[Any], column: FeatureColumn) -> Mapping[str, pd.Series[Any] | NDArray[np.float64]]:
    """The columns one input becomes before encoding."""
    if column.kind == "numeric":
        return {column.name: _numbers(series)}
    if column.kind == "boolean":
        return {column.name: _truths(series)}
    if column.kind == "datetime":
        return _datetime_parts(series, column.name)
    text = series.astype(object).map(str, na_action="ignore").astype(object)
    return {column.name: text.where(series.notna(), float("nan"))}


def _numbers(series: pd.Series[Any]) -> NDArray[np.float64]:
    """Without pandas where the values are numbers already: a single row of many columns is the usual request."""
    import numpy as np
    import pandas as pd

    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "fiu":
        numbers = series.to_numpy(dtype=np.float64)
    else:
        numbers = pd.to_numeric(series, errors="coerce").astype("float64").to_numpy()
    return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan)


def _truths(series: pd.Series[Any]) -> pd.Series[Any]:
    """1.0 for yes, 0.0 for no, NaN for anything else."""
    words = series.astype(object).map(lambda value: str(value).strip().lower(), na_action="ignore").astype(object)
    return words.isin(_TRUE).astype("float64").where(words.isin(_TRUE | _FALSE), float("nan"))


def _datetime_parts(series: pd.Series[Any], name: str) -> dict[str, pd.Series[Any]]:
    import pandas as pd

    when = pd.to_datetime(series, errors="coerce", utc=True, format="ISO8601")
    days = (when - pd.Timestamp("1970-01-01", tz="UTC")).dt.total_seconds() / 86_400
    calendar: dict[str, pd.Series[Any]] = {
        "days": days,
        "year": when.dt.year,
        "month": when.dt.month,
        "day": when.dt.day,
        "weekday": when.dt.day_of_week,
        "hour": when.dt.hour,
    }
    return {part_name(name, part): calendar[part].astype("float64") for part in DATETIME_PARTS}
