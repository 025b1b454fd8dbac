"""From the bytes of a CSV or Parquet file to a frame, refusing what would be read wrongly without a word."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.skill import InputError
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 2000
"""More columns than this is a file laid out the wrong way round, or an attack."""

LARGEST = 1e37
"""Numbers beyond this count as infinite: models compute in single precision, which ends at 3.4e38."""

OTHER_KINDS = (
    (b"\x80\x02", "a Python pickle"), (b"\x80\x03", "a Python pickle"), (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"), (b"PK\x03\x04", "a zip or Excel file"), (b"\x1f\x8b", "a gzip file"),
    (b"PAR1", "a Parquet file"), (b"%PDF", "a PDF"), (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"\xff\xfe", "UTF-16 text"), (b"\xfe\xff", "UTF-16 text"), (b"SQLite format 3", "an SQLite database"),
)  # fmt: skip
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_SEPARATORS = ",;\t|"
_RESERVED = {TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN}


def read_csv(data: bytes, shown: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a CSV file and warnings about how it was read.

    Encoding: UTF-8 with or without a byte-order mark, else Latin-1 with a warning. Separator: comma, semicolon, tab
    or bar, whichever divides the first lines most evenly. Raises InputError, naming `shown` and the line, for binary
    content, ragged rows, doubled or reserved column names, a file of one column, and a header without rows.
    """
    import pandas as pd

    text, warnings = _decoded(data, shown)
    separator = separator_of(text)
    header, unnamed = _checked_rows(text, separator, shown)
    warnings += [f"{shown}: column {name} has no name in the header" for name in unnamed]
    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator, header=0, names=header, index_col=False, low_memory=False,
            skipinitialspace=True,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError) as problem:
        raise InputError(f"{shown} cannot be read as CSV: {problem}", "export it again") from problem
    return frame, warnings


def read_parquet(data: bytes, shown: str, max_bytes: int) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a Parquet file, without an index some writers add.

    Raises InputError when it is not Parquet, is damaged, holds nested or binary columns (named), doubled column names,
    or would unpack to more than five times `max_bytes`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data[:4] != b"PAR1" or data[-4:] != b"PAR1" or len(data) < 12:
        raise InputError(f"{shown} is not a Parquet file", "export it again, or name it .csv if it is one")
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        rows, columns = file.metadata.num_rows, file.metadata.num_columns
        if rows * columns * 8 > 5 * max_bytes:
            raise InputError(f"{shown} unpacks to {rows:,} rows × {columns:,} columns", "take a sample of the rows")
        names = [str(name) for name in file.schema_arrow.names if not re.fullmatch(r"__index_level_\d+__", name)]
        header, _ = check_names(names, shown)
        for field in file.schema_arrow:
            if pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
                raise InputError(
                    f"column {field.name!r} of {shown} holds {field.type} values",
                    "flatten it into plain columns, or leave it out",
                )
        frame = file.read(columns=names).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError) as problem:
        reason = str(problem).splitlines()[0]
        raise InputError(f"{shown} is a damaged Parquet file: {reason}", "export it again") from problem
    frame.columns = header
    return frame, []


def check_names(names: Sequence[str], shown: str) -> tuple[list[str], list[str]]:
    """Column names without outer blanks, and which had none (they become `unnamed_<position>`).

    Raises InputError for doubled names (after stripping), reserved ones, and too many.
    """
    stripped = [name.strip() for name in names]
    filled = [name or f"unnamed_{position}" for position, name in enumerate(stripped, start=1)]
    if doubled := [name for name, count in Counter(filled).items() if count > 1]:
        raise InputError(f"{shown} has doubled column names: {', '.join(doubled[:10])}", "rename one of each")
    if reserved := sorted(_RESERVED & set(filled)):
        raise InputError(f"{shown} uses reserved column names: {', '.join(reserved)}", "rename them")
    if len(filled) > MAX_COLUMNS:
        raise InputError(
            f"{shown} has {len(filled):,} columns, more than {MAX_COLUMNS:,}", "one row must be one case: transpose it?"
        )
    return filled, [name for name, given in zip(filled, stripped, strict=True) if not given]


def _decoded(data: bytes, shown: str) -> tuple[str, list[str]]:
    """The text, and a warning if it is not UTF-8. Raises InputError if it is no text at all."""
    remedy = "export it as CSV text in UTF-8"
    for magic, what in OTHER_KINDS:
        if data.startswith(magic):
            raise InputError(f"{shown} is {what}, not CSV", remedy)
    if control := _CONTROL.search(data):
        line = data.count(b"\n", 0, control.start()) + 1
        raise InputError(f"{shown} is not text: byte 0x{control[0][0]:02x} in line {line}", remedy)
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        if sum(byte >= 0x80 for byte in data[:100_000]) > 0.3 * min(len(data), 100_000):
            what = f"{shown} is neither UTF-8 nor Latin-1: a third of it is not letters (first in line {line})"
            raise InputError(what, remedy) from problem
        return data.decode("latin-1"), [f"{shown} is not UTF-8 (line {line}); read as Latin-1: check accents"]


def separator_of(text: str) -> str:
    """The separator that gives the first lines the same number of fields, the more the better."""
    end = 0
    for _ in range(50):
        following = text.find("\n", end)
        if following < 0:
            end = len(text)
            break
        end = following + 1
    best, best_score = ",", (0.0, 0)
    for separator in _SEPARATORS:
        try:
            counts = [len(row) for row in csv.reader(io.StringIO(text[:end]), delimiter=separator) if row]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            score = (sum(count == counts[0] for count in counts) / len(counts), counts[0])
            best, best_score = max((best, best_score), (separator, score), key=lambda pair: pair[1])
    return best


def _checked_rows(text: str, separator: str, shown: str) -> tuple[list[str], list[str]]:
    """The header, and which names were missing, after every row was seen to have as many fields as the header."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True, skipinitialspace=True)
    rows = 0
    header: list[str] = []
    unnamed: list[str] = []
    try:
        for row in reader:
            if not row:
                continue
            if not header:
                header, unnamed = check_names(row, shown)
                continue
            rows += 1
            if len(row) != len(header):
                raise InputError(
                    f"{shown} is ragged: line {reader.line_num} has {len(row)} fields, the header {len(header)}",
                    "quote fields that contain the separator, and export it again",
                )
    except csv.Error as problem:
        raise InputError(
            f"{shown} is broken at line {reader.line_num}: {problem}", "check the quotes and export it again"
        ) from problem
    if not header:
        raise InputError(f"{shown} is empty", "give it a header and rows")
    if len(header) < 2:
        raise InputError(
            f"{shown} has one column ({header[0][:80]})", "separate columns by comma, semicolon, tab or bar"
        )
    if not rows:
        raise InputError(f"{shown} has a header and no rows", "add rows")
    return header, unnamed


def typed(frame: pd.DataFrame, shown: str) -> tuple[pd.DataFrame, list[str]]:
    """The frame with every column as one of float64, int64, bool, boolean, datetime64 (UTC) or str; and warnings.

    Infinity and numbers beyond `LARGEST` become missing; text that is ISO 8601 throughout becomes datetime; a column
    that mixes numbers and text stays text. The first and the last are warnings that name the column.
    """
    import pandas as pd

    warnings: list[str] = []
    columns = {str(name): _typed_column(frame[name], str(name), shown, warnings) for name in frame.columns}
    return pd.DataFrame(columns, index=frame.index).reset_index(drop=True), warnings


def _typed_column(series: pd.Series[Any], name: str, shown: str, warnings: list[str]) -> pd.Series[Any]:
    from pandas.api import types

    dtype = series.dtype
    if types.is_bool_dtype(dtype):
        return series.astype("boolean" if series.isna().any() else "bool")
    if types.is_datetime64_any_dtype(dtype):
        plain = series if series.dt.tz is None else series.dt.tz_convert("UTC").dt.tz_localize(None)
        return plain.astype("datetime64[us]")
    if types.is_timedelta64_dtype(dtype):
        seconds: pd.Series[Any] = series.dt.total_seconds()
        return seconds.astype("float64")
    if types.is_integer_dtype(dtype) and not series.isna().any() and str(dtype) not in ("uint64", "UInt64"):
        return series.astype("int64")
    if types.is_numeric_dtype(dtype):
        numbers = series.astype("float64")
        infinite = numbers.abs() > LARGEST
        if infinite.any():
            warnings.append(f"{shown}: {int(infinite.sum())} infinite value(s) in column {name!r} count as missing")
        return numbers.mask(infinite)
    return _typed_text(series, name, shown, warnings)


def _typed_text(series: pd.Series[Any], name: str, shown: str, warnings: list[str]) -> pd.Series[Any]:
    """An object, text or category column as boolean, number, datetime or text."""
    import datetime
    import decimal

    import pandas as pd

    present = series.dropna()
    if present.empty:
        return pd.Series(float("nan"), index=series.index, dtype="float64")
    kinds = set(map(type, present))
    if kinds == {bool}:
        return series.astype("boolean")
    if all(issubclass(kind, int | float | decimal.Decimal) and kind is not bool for kind in kinds):
        return _typed_column(pd.to_numeric(series.astype(object), errors="coerce"), name, shown, warnings)
    if all(issubclass(kind, datetime.date) for kind in kinds):
        return pd.to_datetime(series, errors="coerce", utc=True).dt.tz_localize(None).astype("datetime64[us]")
    if any(issubclass(kind, list | dict | tuple | set | bytes) for kind in kinds):
        raise InputError(f"column {name!r} of {shown} holds nested values", "flatten it into plain columns")
    text = series.map(str, na_action="ignore").astype("str")
    when = _iso_datetimes(text, present.map(str))
    if when is not None:
        return when
    readable = pd.to_numeric(present.map(str), errors="coerce").notna()
    if 0.5 <= readable.mean() < 1.0:
        first = readable[~readable].index[0]
        warnings.append(
            f"{shown}: column {name!r} mixes numbers and text ({str(series[first])[:40]!r} in data row {first + 1}): "
            "treated as text"
        )
    elif present.map(str).str.fullmatch(r"-?\d+(\.\d{3})*,\d+").all():
        warnings.append(f"{shown}: column {name!r} has decimal commas: treated as text; write decimal points")
    return text


_ISO = r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?"


def _iso_datetimes(text: pd.Series[Any], present: pd.Series[Any]) -> pd.Series[Any] | None:
    """The column as datetimes in UTC if every value is an ISO 8601 date or time, else None."""
    import pandas as pd

    if not present.str.fullmatch(_ISO).all():
        return None
    when = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
    if when.notna().sum() != len(present):
        return None
    return when.dt.tz_localize(None).astype("datetime64[us]")
