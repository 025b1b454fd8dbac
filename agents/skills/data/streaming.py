"""A ticket's rows in pieces of bounded size, for work on more rows than should be in memory at once.

CSV and Parquet files are read in pieces; other sources are read whole, within the same limit of bytes. Cells of a CSV
stay text: what a column holds is decided by whoever reads it for all rows, never by the piece.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agents.skill import InputError, SkillContext
from agents.skills.data import files, tables
from agents.skills.data.loading import load_rows

if TYPE_CHECKING:
    import pandas as pd

MISSING = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip
"""Cells of a CSV without a value: those that `pandas.read_csv` documents, which training reads with."""
_HEAD = 256_000
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Source:
    """Rows that can be read more than once. `sha256` is the digest of the bytes they come from."""

    shown: str
    sha256: str
    _open: IO[bytes] | None
    _kind: str
    _frame: pd.DataFrame | None = None

    def pieces(self, rows: int, wanted: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """The rows in their order, at most `rows` at once, each with its place in the source (0..n-1) as index.

        `wanted` are the columns to read (all by default). Raises InputError for a file that is damaged, ragged, lacks a
        wanted column, or was changed since it was opened.
        """
        if self._frame is not None:
            frame = self._frame if wanted is None else self._frame[self._columns(list(self._frame.columns), wanted)]
            for start in range(0, len(frame), rows):
                yield frame.iloc[start : start + rows]
            return
        if self._open is None:
            raise InputError(f"{self.shown} is closed", "open it again")
        before = os.fstat(self._open.fileno())
        self._open.seek(0)
        yield from (self._parquet if self._kind == "parquet" else self._csv)(self._open, rows, wanted)
        after = os.fstat(self._open.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise InputError(f"{self.shown} changed while it was read", "name a file nobody writes to")

    def _columns(self, there: Sequence[str], wanted: Sequence[str]) -> list[str]:
        if missing := [name for name in wanted if name not in there]:
            raise InputError(
                f"{self.shown} lacks {len(missing)} column(s): {', '.join(missing[:10])}",
                "give the columns that the package reads, and the ticket's `time`",
            )
        return list(wanted)

    def _csv(self, opened: IO[bytes], rows: int, wanted: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        head = opened.read(_HEAD)
        for magic, what in tables.OTHER_KINDS:
            if head.startswith(magic):
                raise InputError(f"{self.shown} is {what}, not CSV", "export it as CSV text in UTF-8")
        separator = tables.separator_of(head.decode("utf-8-sig", "replace"))
        opened.seek(0)
        text = io.TextIOWrapper(opened, "utf-8-sig", newline="")
        try:
            yield from self._lines(
                csv.reader(text, delimiter=separator, strict=True, skipinitialspace=True), rows, wanted
            )
        except UnicodeDecodeError as problem:
            raise InputError(f"{self.shown} is not UTF-8: {problem.reason}", "export it as CSV in UTF-8") from problem
        except csv.Error as problem:
            raise InputError(f"{self.shown} is broken: {problem}", "check the quotes and export it again") from problem
        finally:
            text.detach()

    def _lines(self, reader: Any, rows: int, wanted: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        header: list[str] = []
        names: list[str] = []
        places: list[int] = []
        found: list[list[str]] = []
        start = 0
        for row in filter(None, reader):
            if not header:
                header, _ = tables.check_names(row, self.shown)
                names = self._columns(header, wanted if wanted is not None else header)
                places = [header.index(name) for name in names]
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{self.shown} is ragged: line {reader.line_num} has {len(row)} fields, the header {len(header)}",
                    "quote fields that contain the separator, and export it again",
                )
            found.append([row[place] for place in places])
            if len(found) == rows:
                yield _texts(found, names, start)
                start += rows
                found = []
        if found:
            yield _texts(found, names, start)

    def _parquet(self, opened: IO[bytes], rows: int, wanted: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(opened)
            there = [str(name) for name in file.schema_arrow.names]
            names = self._columns(there, wanted if wanted is not None else tables.check_names(there, self.shown)[0])
            for name in names:
                kind = file.schema_arrow.field(name).type
                if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                    raise InputError(
                        f"column {name!r} of {self.shown} holds {kind} values", "flatten it into plain columns"
                    )
            start = 0
            for batch in file.iter_batches(batch_size=rows, columns=names):
                frame = batch.to_pandas()[names]
                frame.index = range(start, start + len(frame))
                start += len(frame)
                yield frame
        except (pa.ArrowException, OSError) as problem:
            reason = str(problem).splitlines()[0]
            raise InputError(f"{self.shown} is a damaged Parquet file: {reason}", "export it again") from problem


def _texts(rows: list[list[str]], names: list[str], start: int) -> pd.DataFrame:
    import pandas as pd

    index = range(start, start + len(rows))
    columns = {
        name: [None if row[place].strip() in MISSING else row[place] for row in rows]
        for place, name in enumerate(names)
    }
    return pd.DataFrame(columns, index=index, dtype=object)


@contextmanager
def opened(context: SkillContext) -> Iterator[Source]:
    """The rows the ticket's `data` names. Raises InputError for everything about the source that cannot be used."""
    if context.ticket.data is None or context.ticket.data_scheme != "file":
        loaded = load_rows(context.ticket, context.roots, context.max_data_bytes)
        yield Source(loaded.source.uri, loaded.source.sha256, None, "frame", loaded.frame)
        return
    file = files.locate(context.ticket.data, context.roots)
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise InputError(f"{file.shown} cannot be opened: {reason}", "make the file readable") from problem
    with os.fdopen(descriptor, "rb") as content:
        status = os.fstat(content.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            raise InputError(f"{file.shown} is no plain file with content", "name a CSV or Parquet file")
        if status.st_size > context.max_data_bytes:
            raise InputError(
                f"{file.shown} has {status.st_size:,} bytes, more than the {context.max_data_bytes:,} allowed",
                "raise max_data_bytes in the policy, or divide the file",
            )
        digest = hashlib.sha256()
        while block := content.read(_BLOCK):
            digest.update(block)
        yield Source(file.shown, digest.hexdigest(), content, file.kind)


def named_root(place: str) -> Path:
    """The directory that the installation names for backfills. Raises InputError when it names none."""
    if not place:
        raise InputError("nothing says where backfilled rows may lie", "run it where `valuetrain` has a home")
    return Path(place)
