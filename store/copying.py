"""Copying a whole record from one database to another, of the same kind or not, and proof that the copy is the same.

Caches are left out: what can be made again from the events is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from schemas.envelope import StreamId
from store import chain
from store.checkpoints import Checkpoint, claimed_heads
from store.port import StoreCorrupt, StoredEvent, StoreError, Verification
from store.rows import stored_event, stored_head

Row: TypeAlias = tuple[Any, ...]

_STREAM = {"tenant": "text", "kind": "text", "stream": "text"}
_NAMED = {"tenant": "text", "kind": "text"}

TABLES: Mapping[str, Mapping[str, str]] = {
    "events": {"position": "int8", **_STREAM, "sequence": "int8", "id": "text", "raw": "bytea", "hash": "bytea"},
    "streams": {
        **_NAMED, "name": "text", "version": "int8", "hash": "bytea", "first_position": "int8", "last_position": "int8",
    },
    "inbox": {
        "position": "int8", "command_id": "text", **_STREAM, "raw": "bytea", "accepted": "int4", "verdict": "text",
    },
    "timers": {**_STREAM, "key": "text", "due": "int8", "command": "bytea"},
    "cursors": {"name": "text", "position": "int8", "event_id": "text"},
    "views": {"ordinal": "int8", **_NAMED, "id": "text", "body": "text"},
    "checkpoints": {"number": "int8", "body": "bytea", "signature": "bytea", "key": "text"},
}  # fmt: skip
"""Each table of a record with its columns and their types in PostgreSQL (here to spare the import of `store.tables`; a
test compares them)."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "events": ("position",),
    "streams": ("tenant", "kind", "name"),
    "inbox": ("position",),
    "timers": ("tenant", "kind", "stream", "key"),
    "cursors": ("name",),
    "views": ("ordinal",),
    "checkpoints": ("number",),
}
"""What the rows of each table are ordered by when they are read, text by its UTF-8 bytes: the primary keys."""

_REPLACED = {"cursors"}
"""A reader of the log that looked at an empty record leaves its cursor there; a restored record has its own."""


class Reader(Protocol):
    """All rows of a record, as of one moment."""

    where: str
    """What to call it in messages."""

    def rows(self, table: str) -> Iterator[Row]:
        """The rows of a table in the order of `KEYS`, few of them in memory at a time. Raises the store's errors."""


class Writer(Reader, Protocol):
    """The same inside a transaction that nobody else can write beside."""

    def replace(self, table: str, rows: Iterable[Row]) -> None:
        """Make `rows` the rows of a table. Raises the store's errors."""


def copy(source: Reader, target: Writer) -> None:
    """Write all of `source` to `target`, and read it back. Committing is the caller's.

    Raises StoreCorrupt when `target` gives back anything else than was written.
    """
    for table in TABLES:
        written, read = _Digest(), _Digest()
        target.replace(table, written.over(source.rows(table)))
        for _ in read.over(target.rows(table)):
            pass
        if (written.count, written.value) != (read.count, read.value):
            raise StoreCorrupt(
                f"{target.where} does not give back what was written to its table {table} "
                f"({written.count} rows written, {read.count} read): check its disk and its memory; nothing was kept"
            )


def refuse_unless_empty(target: Reader) -> None:
    """Raises StoreError when `target` holds anything that was ever recorded."""
    for table in TABLES:
        if table not in _REPLACED and next(target.rows(table), None) is not None:
            raise StoreError(
                f"{target.where} holds a record already: restore into an empty place, a backup replaces nothing"
            )


def verify(reader: Reader) -> Verification:
    """Walk the hash chains of a whole record and hold them to its checkpoints.

    Raises StoreCorrupt, naming the first bad event, when something was changed.
    """
    claimed, findings = claimed_heads(Checkpoint(*row) for row in reader.rows("checkpoints"))

    def reread(stream: StreamId) -> Iterable[StoredEvent]:
        rows = (row for row in map(stored_event, reader.rows("events")) if row.stream == stream)
        return sorted(rows, key=lambda row: row.sequence)

    heads = {head.stream: head for head in map(stored_head, reader.rows("streams"))}
    verification = chain.verify(map(stored_event, reader.rows("events")), heads, claimed, reread)
    refuse_findings(Verification(verification.streams, verification.events, (*findings, *verification.findings)))
    return verification


def refuse_findings(verification: Verification) -> None:
    """Raises StoreCorrupt when something was found."""
    if verification.findings:
        first = verification.findings[0]
        where = f"event {first.sequence} of {first.stream.name}"
        raise StoreCorrupt(
            f"the record is not as it was written ({where}: {first.problem}): keep older backups, see `audit verify`"
        )


class _Digest:
    """Number and SHA-256 of the rows that went by, whatever database they come from."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    @property
    def value(self) -> bytes:
        return self._hash.digest()

    def over(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.count += 1
            self._hash.update(repr(row).encode())  # of numbers, text and bytes, which it tells apart
            yield row
