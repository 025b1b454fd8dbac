"""Data contracts in the Open Data Contract Standard, v3.1: written from a dataset, and turned into an executable check.

What is inferred from one dataset must not be broken by the next one's ordinary variation (a fixed range misfires), so
ranges tolerate as many rows as lie outside now and `TOLERANCE` more, level lists tolerate `TOLERANCE`, and shares of
missing values may grow by as much.
ODCS has no library metric for a range some rows may leave; it is a `custom` rule of the engine `pandera`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.skills.data.columns import MAX_LEVELS, kind_of
from agents.skills.data.loading import MIN_ROWS
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, ScopeSpec, SourceSpec

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

TOLERANCE = 0.02
"""Share of present values that may lie outside an inferred list of levels, or come to lie outside a range."""

_LOGICAL = {"float64": "number", "int64": "integer", "bool": "boolean", "boolean": "boolean", "str": "string"}


def write_contract(
    dataset: pd.DataFrame, source: SourceSpec, scope: ScopeSpec | None, version: str = "1.0.0"
) -> dict[str, Any]:
    """The contract of `dataset` (rows, features with `__row__`) as plain YAML values.

    With `scope` the dataset has `__target__`, too; without it, it is for no model in particular.
    """
    features = [_feature(dataset[name]) for name in dataset.columns if name not in (TARGET_COLUMN, ROW_COLUMN)]
    if scope is not None:
        features.append(_target(dataset[TARGET_COLUMN], scope))
    least = MIN_ROWS if scope is not None else 1
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"value-train:{source.uri}")),
        "version": version,
        "status": "active",
        "name": source.uri,
        "description": {
            "purpose": "Rows to look at, to count and to join." if scope is None else _purpose(scope),
            "usage": "any the risk profile allows" if scope is None else f"{scope.task.value} by {scope.metric}",
            "limitations": ("Synthetic rows. " if source.synthetic else "") + source.description,
        },
        "schema": [
            {
                "name": "dataset",
                "logicalType": "object",
                "physicalType": "parquet",
                "properties": [*features, _row()],
                "quality": [{"type": "library", "metric": "rowCount", "mustBeGreaterOrEqualTo": least}],
            }
        ],
        "customProperties": [{"property": "sourceSha256", "value": source.sha256}],
    }


def _purpose(scope: ScopeSpec) -> str:
    return f"Rows to learn `{scope.target}` from."


def executable(contract: Mapping[str, Any]) -> pa.DataFrameSchema:
    """The pandera schema that checks what the contract of `write_contract` says. Further columns are a violation."""
    import pandera.pandas as pa

    table = contract["schema"][0]
    least = next(rule["mustBeGreaterOrEqualTo"] for rule in table["quality"] if rule.get("metric") == "rowCount")
    rows = pa.Check(lambda frame: len(frame) >= least, name=f"at least {least} rows")
    columns = {item["physicalName"]: _column(item) for item in table["properties"]}
    return pa.DataFrameSchema(columns, checks=[rows], strict=True, name=str(contract["name"]))


def violations(contract: Mapping[str, Any], dataset: pd.DataFrame) -> list[str]:
    """What in `dataset` breaks the contract, one line each; empty when it is fulfilled."""
    import pandera.pandas as pa

    try:
        executable(contract).validate(dataset, lazy=True)
    except pa.errors.SchemaErrors as found:
        cases = found.failure_cases
        if cases is None:
            return [str(found).splitlines()[0]]
        told = [_told(str(row.column), str(row.check), str(row.failure_case)) for row in cases.itertuples()]
        return list(dict.fromkeys(told))
    return []


def _told(column: str, check: str, case: str) -> str:
    """One violation in words; pandera names a missing or unknown column as the failure case of the table."""
    tables = {"column_in_dataframe": "is missing", "column_in_schema": "is not in the contract"}
    return f"{case}: {tables[check]}" if check in tables else f"{column}: {check}"


def _feature(series: pd.Series[Any]) -> dict[str, Any]:
    """One feature: its type, how much may be missing, and its range or levels."""
    rules: list[dict[str, Any]] = [
        {
            "type": "library", "metric": "nullValues", "mustBeLessOrEqualTo": _percent(float(series.isna().mean())),
            "unit": "percent", "dimension": "completeness",
        }
    ]  # fmt: skip
    present = series.dropna()
    kind = kind_of(series)
    if kind == "numeric" and len(present):
        low, high = _range(present)
        most = _percent(_share(~present.between(low, high)))
        rules.append(
            {
                "type": "custom", "engine": "pandera", "name": "range", "dimension": "conformity",
                "description": f"At most {most:g}% of the present values lie outside the range.",
                "implementation": {"minimum": low, "maximum": high, "tolerance": round(most / 100, 3)},
            }
        )  # fmt: skip
    elif kind == "categorical" and 0 < present.nunique() <= MAX_LEVELS:
        rules.append(
            {
                "type": "library", "metric": "invalidValues", "mustBeLessOrEqualTo": 100 * TOLERANCE,
                "unit": "percent", "dimension": "conformity",
                "arguments": {"validValues": sorted(map(str, present.unique()))},
            }
        )  # fmt: skip
    return _property(str(series.name), str(series.name), series, required=False, rules=rules)


def _target(series: pd.Series[Any], scope: ScopeSpec) -> dict[str, Any]:
    """The target: always present, and for classes always one of them."""
    rules: list[dict[str, Any]] = [{"type": "library", "metric": "nullValues", "mustBe": 0}]
    if scope.classes:
        rules.append(
            {
                "type": "library",
                "metric": "invalidValues",
                "mustBe": 0,
                "arguments": {"validValues": list(scope.classes)},
            }
        )
    return _property(scope.target, TARGET_COLUMN, series, required=True, rules=rules)


def _row() -> dict[str, Any]:
    return {
        "name": ROW_COLUMN, "physicalName": ROW_COLUMN, "description": "Row number in the extracted dataset.",
        "logicalType": "integer", "physicalType": "int64", "required": True, "unique": True, "primaryKey": True,
    }  # fmt: skip


def _property(
    name: str, physical: str, series: pd.Series[Any], *, required: bool, rules: list[dict[str, Any]]
) -> dict[str, Any]:
    dtype = str(series.dtype)
    logical = _LOGICAL.get(dtype, "timestamp")
    return {
        "name": name, "physicalName": physical, "logicalType": logical, "physicalType": dtype, "required": required,
        "quality": rules,
    }  # fmt: skip


def _range(present: pd.Series[Any]) -> tuple[float, float]:
    """The 1st to 99th percentile, widened by a tenth on both sides; never below 0 for what never is."""
    low, high = float(present.quantile(0.01)), float(present.quantile(0.99))
    margin = 0.1 * (high - low)
    floor = 0.0 if float(present.min()) >= 0 else -math.inf
    return _rounded(max(low - margin, floor), down=True), _rounded(high + margin, down=False)


def _rounded(value: float, *, down: bool) -> float:
    """Six significant digits, away from the data, so that rounding excludes no row."""
    if value == 0 or not math.isfinite(value):
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 5)
    return float(f"{(math.floor if down else math.ceil)(value / step) * step:.6g}")


def _percent(share: float) -> float:
    """How many percent of values may be missing, or outside: what is so now, and TOLERANCE more."""
    return min(100.0, math.ceil(1000 * (share + TOLERANCE)) / 10)


def _column(item: Mapping[str, Any]) -> pa.Column:
    import pandera.pandas as pa

    checks = [check for rule in item.get("quality", ()) if (check := _check(rule)) is not None]
    return pa.Column(
        _dtype(item["physicalType"]), checks=checks, nullable=not item["required"], unique=item.get("unique", False)
    )


def _dtype(physical: str) -> Any:
    import pandas as pd

    return pd.StringDtype(na_value=float("nan")) if physical == "str" else physical


def _check(rule: Mapping[str, Any]) -> pa.Check | None:
    """The pandera check of one rule; None for what `required` says already."""
    import pandera.pandas as pa

    if rule.get("metric") == "nullValues":
        if "mustBe" in rule:
            return None
        most = rule["mustBeLessOrEqualTo"] / 100
        return pa.Check(
            lambda series: float(series.isna().mean()) <= most, ignore_na=False, name=f"at most {most:.1%} missing"
        )
    if rule.get("metric") == "invalidValues":
        valid, most = rule["arguments"]["validValues"], rule.get("mustBeLessOrEqualTo", 0) / 100
        return pa.Check(
            lambda series: _share(~series.dropna().isin(valid)) <= most, name=f"at most {most:.1%} unknown levels"
        )
    if rule.get("engine") == "pandera":
        wanted = rule["implementation"]
        low, high, most = wanted["minimum"], wanted["maximum"], wanted["tolerance"]
        return pa.Check(
            lambda series: _share(~series.dropna().between(low, high)) <= most,
            name=f"at most {most:.1%} outside {low} to {high}",
        )
    raise ValueError(f"the contract has a rule nobody checks: {dict(rule)}")


def _share(outside: pd.Series[bool]) -> float:
    return float(outside.mean()) if len(outside) else 0.0
