"""Reading one table or view of a SQLite file a ticket names: `sql:PATH/TABLE`.

No server and no password: the file lies below an allowed root like any other (docs/adr/0032 says why). Its bytes are
taken into memory first, so nothing can be written to it, and what was checked is what is read. No SQL comes from a
ticket: it names a table or a view.
"""

from __future__ import annotations

import difflib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skill import InputError, LimitError
from agents.skills.data import files, tables

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = {".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite"}
MAGIC = b"SQLite format 3\x00"
WAL = b"\x02\x02"
SECONDS = 60.0
_BATCH = 10_000


def read_table(
    name: str, roots: Sequence[Path], max_bytes: int, seconds: float = SECONDS
) -> tuple[pd.DataFrame, str, list[str]]:
    """The rows of the table or view that `name` (`PATH/TABLE`) means, what to call it, and warnings.

    Raises InputError naming file or table for what cannot be read, and LimitError when a view takes longer than
    `seconds` or gives more than `max_bytes`.
    """
    import pandas as pd

    place, _, table = name.rpartition("/")
    if not place or not table:
        raise InputError(f"'sql:{name}' names no table", "write sql:PATH/TABLE, for example sql:data/clinic.db/visits")
    file = files.locate(place, roots, SUFFIXES, "database")
    content = _settled(files.read(file, max_bytes), file)
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(content)
        ends = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > ends, 100_000)
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        header, rows = _rows(connection, table, file.shown, max_bytes)
    except sqlite3.OperationalError as problem:
        if "interrupted" in str(problem):
            raise LimitError(
                f"{file.shown}: reading {table!r} took over {seconds:.0f} s", "store its rows as a table"
            ) from None
        raise InputError(
            f"{file.shown}: {table!r} cannot be read: {problem}", "repair the view or the file"
        ) from problem
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        raise InputError(f"{file.shown} is damaged: {problem}", "restore or export it again") from problem
    finally:
        connection.close()
    shown = f"{file.shown}/{table}"
    names, _ = tables.check_names(header, shown)
    frame = pd.DataFrame(rows, columns=names)
    return _without_mixtures(frame), shown, []


def _settled(content: bytes, file: files.DataFile) -> bytes:
    """The database's bytes in a mode that needs no second file. Raises InputError if it is none, or half written."""
    if not content.startswith(MAGIC):
        raise InputError(f"{file.shown} is no SQLite database", "name a file that SQLite wrote")
    for end in ("-wal", "-journal"):
        beside = file.path.with_name(file.path.name + end)
        if beside.exists() and beside.stat().st_size:
            raise InputError(
                f"{file.shown} is being written to: {beside.name} holds changes",
                "close it, or make a copy with `VACUUM INTO` and name that",
            )
    return content[:18] + b"\x01\x01" + content[20:] if content[18:20] == WAL else content


def _rows(connection: sqlite3.Connection, table: str, shown: str, max_bytes: int) -> tuple[list[str], list[Any]]:
    known = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
    known = [each for each in known if not each.startswith("sqlite_")]
    if table not in known:
        near = difflib.get_close_matches(table, known, n=1)
        hint = f"did you mean {near[0]}" if near else f"it has {', '.join(sorted(known)[:20]) or 'none'}"
        raise InputError(f"{shown} has no table or view {table!r}", hint)
    quoted = '"' + table.replace('"', '""') + '"'
    cursor = connection.execute(f"SELECT * FROM {quoted}")  # noqa: S608  # a name that the schema holds, quoted
    header = [str(column[0]) for column in cursor.description]
    rows: list[Any] = []
    size = 0
    while batch := cursor.fetchmany(_BATCH):
        rows += batch
        size += sum(len(value) if isinstance(value, str | bytes) else 8 for row in batch for value in row)
        if size > max_bytes:
            raise LimitError(
                f"{shown}: {table!r} has more than {max_bytes:,} bytes", "take a sample, or raise max_data_bytes"
            )
        _no_bytes(batch, header, shown, table)
    if not rows:
        raise InputError(f"{shown}: {table!r} has no rows", "name a table with rows")
    return header, rows


def _no_bytes(batch: list[Any], header: list[str], shown: str, table: str) -> None:
    for row in batch:
        for name, value in zip(header, row, strict=True):
            if isinstance(value, bytes):
                raise InputError(f"{shown}: column {name!r} of {table!r} holds binary values", "make a view without it")


def _without_mixtures(frame: pd.DataFrame) -> pd.DataFrame:
    """SQLite lets a column hold whatever it was given; numbers beside text become text, as in a CSV file."""
    for name in frame.columns:
        kinds = {type(value) for value in frame[name].dropna()}
        if str in kinds and kinds != {str}:
            frame[name] = frame[name].map(str, na_action="ignore")
    return frame
