"""Rows of a database as typed columns of a Parquet file: decimals stay exact, times keep their zone."""

from __future__ import annotations

import datetime
import decimal
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import SourceError

_WRONG = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


class Columns:
    """Collects rows, batch by batch, as columns. A column whose values have no type in common becomes text."""

    def __init__(self, shown: str, names: Sequence[str], known: Sequence[pa.DataType | None]) -> None:
        """`shown` names the rows in errors; `known` are the columns' types as far as the database said so. Raises
        SourceError for names that no table can have."""
        if not names:
            raise SourceError(f"{shown} has no columns", "name a table, or a query that gives rows")
        if doubled := [name for name, count in Counter(names).items() if count > 1]:
            what = ", ".join(name[:60] for name in doubled[:10])
            raise SourceError(f"{shown} gives two columns the name {what}", "write `AS` in the query")
        self._shown = shown
        self._names = list(names)
        self._known = list(known)
        self._chunks: list[list[pa.Array]] = [[] for _ in names]
        self.rows = 0
        self.bytes = 0

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take a batch. Raises SourceError for values that fit into no column."""
        self.rows += len(rows)
        for number, values in enumerate(zip(*rows, strict=True)):
            chunk = self._chunk(number, values)
            self.bytes += chunk.nbytes
            self._chunks[number].append(chunk)

    def table(self) -> pa.Table:
        """All rows so far. Raises SourceError as `add`."""
        columns = [self._joined(number, chunks) for number, chunks in enumerate(self._chunks)]
        return pa.table(columns, names=self._names)

    def _chunk(self, number: int, values: Sequence[Any]) -> pa.Array:
        for wanted in dict.fromkeys((self._known[number], None)):
            try:
                array = pa.array(values, type=wanted)
            except _WRONG:
                continue
            if not (pa.types.is_nested(array.type) or isinstance(array.type, pa.BaseExtensionType)):
                return array
            break
        present = [value for value in values if value is not None]
        if all(isinstance(value, int | float | decimal.Decimal) for value in present):  # NaN, or too many digits
            return pa.array([None if value is None else float(value) for value in values], type=pa.float64())
        return pa.array([self._text(number, value) for value in values], type=pa.string())

    def _joined(self, number: int, chunks: list[pa.Array]) -> pa.ChunkedArray:
        kinds = {chunk.type for chunk in chunks} - {pa.null()}
        if len(kinds) < 2:
            kind = kinds.pop() if kinds else self._known[number] or pa.null()
            return pa.chunked_array([chunk.cast(kind) for chunk in chunks], type=kind)
        try:
            parts = [pa.schema([("value", kind)]) for kind in sorted(kinds, key=str)]
            kind = pa.unify_schemas(parts, promote_options="permissive").field(0).type
            return pa.chunked_array([chunk.cast(kind) for chunk in chunks], type=kind)
        except _WRONG:
            texts = [pa.array([self._text(number, v) for v in chunk.to_pylist()], pa.string()) for chunk in chunks]
            return pa.chunked_array(texts, type=pa.string())

    def _text(self, number: int, value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            name = self._names[number][:60]
            raise SourceError(
                f"column {name!r} of {self._shown} mixes bytes with other values", "leave it out, or cast it in a query"
            )
        if isinstance(value, dict | list | tuple):
            return json.dumps(value, default=str, sort_keys=True)
        if isinstance(value, datetime.datetime | datetime.date | datetime.time):
            return value.isoformat()
        return str(value)


def write(table: pa.Table, path: Path) -> None:
    """The table as a Parquet file: equal rows in equal order make equal bytes."""
    pq.write_table(table.replace_schema_metadata(None), path, compression="snappy")


def look_at(path: Path, shown: str) -> tuple[int, int]:
    """Rows and columns of a Parquet file. Raises SourceError if it is none."""
    try:
        metadata = pq.read_metadata(path)
        return int(metadata.num_rows), int(metadata.num_columns)
    except (pa.ArrowException, OSError) as problem:
        raise SourceError(f"{shown} is no Parquet file, or a damaged one", "export it again") from problem


def merge(parts: Sequence[tuple[str, Path]], out: Path) -> tuple[int, int]:
    """Write the rows of several Parquet files, each with its name for people, into one; rows and columns. Raises
    SourceError naming a part that is damaged or has other columns than the first."""
    tables: list[pa.Table] = []
    for shown, path in parts:
        look_at(path, shown)
        try:
            table = pq.read_table(path, partitioning=None).replace_schema_metadata(None)
        except (pa.ArrowException, OSError) as problem:
            raise SourceError(f"{shown} is a damaged Parquet file", "export it again") from problem
        if tables and table.schema.names != tables[0].schema.names:
            raise SourceError(f"{shown} has other columns than {parts[0][0]}", "give all objects of a folder the same")
        tables.append(table)
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")
    except _WRONG as problem:
        raise SourceError(
            f"the objects beside {parts[0][0]} have other types in the same columns", "give all the same columns"
        ) from problem
    write(whole, out)
    return whole.num_rows, whole.num_columns
