"""The shape of `schema-spec.json`: what columns the extracted dataset has."""

from __future__ import annotations

from typing import Literal

from schemas.values import Value


class ColumnSpec(Value):
    """One feature column of `dataset.parquet`. `nulls` are rows without a value; `distinct` counts present values."""

    name: str
    type: str
    """Its type in the table: float64, int64, bool, boolean, datetime64[us] or str."""
    kind: Literal["numeric", "categorical", "boolean", "datetime"]
    nulls: int
    distinct: int
    role: Literal["feature", "groups", "time"]


class SchemaSpec(Value):
    """`schema-spec.json`: the dataset's columns, and the rows that were left out while reading."""

    rows: int
    columns: tuple[ColumnSpec, ...]
    target: str
    """The target's column; empty when the rows are for no model in particular."""
    target_type: str
    dropped_rows: int
    dropped_reason: str
    warnings: tuple[str, ...]
