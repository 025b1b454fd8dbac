"""The record in a SQLite file: the embedded default.

The append and replay paths use the driver, not an ORM: at batches of 1,000 that is ten times as fast.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.envelope import StreamId
from store import chain, sqlite_write
from store.base import StoreBase
from store.batch import Batch, microseconds, moment, prepare
from store.chain import Head
from store.checkpoints import Checkpoint, claimed_heads
from store.port import (
    Append,
    AppendResult,
    ArmedTimer,
    Handled,
    Snapshot,
    StoredEvent,
    Verification,
)
from store.rows import inbox_entry, json_object, snapshot_row, stored_event, stored_head, stream_key
from store.sqlite_file import SqliteFile, ensure, ensure_readable, translate

PAGE = 300
"""Events read at once, as many as stay in the processor's cache until they are looked at: a slow reader, or one that
never finishes, must not hold a snapshot that lets the log grow."""

_OWN_PAGES = 4
"""Pages after which it is asked how long a stream is."""

_REMEMBERED_HEADS = 10_000

_SET_CURSOR = """INSERT INTO cursors VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position, event_id = excluded.event_id"""

_SET_SNAPSHOT = "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?)"
_SNAPSHOT = "SELECT sequence, hash, form, body FROM snapshots"

_EVENT = "SELECT position, tenant, kind, stream, sequence, id, raw, hash FROM events"
_OF_STREAM = "tenant = ? AND kind = ? AND stream = ?"
_HEAD = "SELECT tenant, kind, name, version, hash, first_position, last_position FROM streams"
_HANDLED = "SELECT command_id, raw, accepted, verdict FROM inbox"
_HANDLED_AMONG = """SELECT command_id, raw, accepted, verdict FROM inbox
    WHERE command_id IN (SELECT value FROM json_each(?))"""
_PAGE_OF = """FROM events
    WHERE tenant = ? AND kind = ? AND stream = ? AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?"""
_ROWS = f"SELECT sequence, id, raw, hash {_PAGE_OF}"
_PLACED_ROWS = f"SELECT position, sequence, id, raw, hash {_PAGE_OF}"
_TIMERS = """SELECT tenant, kind, stream, key, due, command FROM timers
    WHERE due <= ? ORDER BY due, tenant, kind, stream, key"""
_CHECKPOINT = "SELECT number, body, signature, key FROM checkpoints"
_OF_TENANT = "WHERE (?1 IS NULL OR tenant = ?1)"
_UNBOUNDED = 2**63 - 1


class SqliteStore(StoreBase):
    """`store.port.Store` on SQLite. Any thread may call it; writes queue up behind one lock."""

    def __init__(self, path: Path, *, read_only: bool, busy_timeout: float) -> None:
        """Use `SqliteStore.open`, which checks what is at `path`."""
        self._file = SqliteFile(path, read_only=read_only, busy_timeout=busy_timeout, forget=self._forget)
        # Of the committed state, what every append needs. Used inside write transactions only.
        self._heads: dict[StreamId, Head] = {}
        self._last: tuple[int, int] | None = None  # positions of the newest event and the newest inbox entry

    @classmethod
    def open(cls, path: Path | str, read_only: bool = False, busy_timeout: float = 5.0) -> SqliteStore:
        """Open the record at `path`; create or migrate it first unless `read_only`.

        `busy_timeout` is how many seconds to wait for another process's write. Raises StoreError when there is nothing
        to read or the place is unfit, StoreCorrupt for what is no record, StoreUnavailable when it cannot be reached.
        """
        path = Path(path)
        try:
            (ensure_readable if read_only else ensure)(path, busy_timeout)
        except (sqlite3.Error, OSError) as problem:
            raise translate(problem, path) from problem
        return cls(path, read_only=read_only, busy_timeout=busy_timeout)

    def close(self) -> None:
        """See the port."""
        self._file.close()

    # Writing

    def append_batch(self, appends: Sequence[Append]) -> list[AppendResult]:
        """See the port. Raises ValueError for events that do not follow each other, StoreError for an event id that is
        stored already: both are bugs of the caller, and nothing of the batch is written."""
        prepared = [prepare(append) for append in appends]
        with self._file.transaction() as db:
            position, handled = self._last or self._read_last(db)
            commands = [each.append.handled.command_id for each in prepared if each.append.handled]
            known = _handled_among(db, commands) if commands else {}
            batch = Batch(position, handled, lambda stream: self._head(db, stream), known.get)
            results = [batch.add(each) for each in prepared]
            sqlite_write.write(db, batch)
            if len(self._heads) > _REMEMBERED_HEADS:
                self._heads.clear()
            self._heads.update(batch.heads)  # forgotten again should the commit fail
            self._last = (batch.last_position, batch.last_handled)
        return results

    def move_cursor(self, name: str, position: int, event_id: str) -> None:
        """See the port."""
        with self._file.transaction() as db:
            db.execute(_SET_CURSOR, (name, position, event_id))

    def add_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Store a signed checkpoint; False when another process stored one of the same number first."""
        with self._file.transaction() as db:
            row = (checkpoint.number, checkpoint.body, checkpoint.signature, checkpoint.key)
            return db.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount == 1

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """See the port."""
        with self._file.transaction() as db:
            db.execute(_SET_SNAPSHOT, snapshot_row(snapshot))

    def forget_snapshots(self) -> int:
        """See the port."""
        with self._file.transaction() as db:
            return db.execute("DELETE FROM snapshots").rowcount

    def _forget(self) -> None:
        self._heads.clear()
        self._last = None

    def _read_last(self, db: sqlite3.Connection) -> tuple[int, int]:
        row = db.execute("SELECT (SELECT max(position) FROM events), (SELECT max(position) FROM inbox)").fetchone()
        return row[0] or 0, row[1] or 0

    def _head(self, db: sqlite3.Connection, stream: StreamId) -> Head:
        known = self._heads.get(stream)
        if known is None:
            row = db.execute(f"{_HEAD} WHERE tenant = ? AND kind = ? AND name = ?", stream_key(stream)).fetchone()
            known = Head(stream, *row[3:]) if row else Head(stream)
        return known

    # Reading

    def version(self, stream: StreamId) -> int:
        """See the port."""
        with self._file.reader() as db:
            row = db.execute(f"{_HEAD} WHERE tenant = ? AND kind = ? AND name = ?", stream_key(stream)).fetchone()
        return row[3] if row else 0

    def _pages(self, stream: StreamId, after: int, up_to: int | None) -> Iterator[list[chain.Row] | chain.Linked]:
        for number, rows in enumerate(self._paged(_ROWS, stream, after, up_to), start=1):
            yield rows
            if len(rows) < PAGE:
                return
            if number == _OWN_PAGES:
                break
        from store import sqlite_ahead  # costs milliseconds that most reads do not need

        after, previous = rows[-1][0], rows[-1][3]
        last = self.version(stream) if up_to is None else min(up_to, self.version(stream))
        if last - after >= sqlite_ahead.LONG:
            for page in sqlite_ahead.read_ahead(self._file.path, stream, after, previous, last, PAGE):
                yield page
                after += len(page.ids)
        yield from self._paged(_ROWS, stream, after, up_to)

    def _placed(self, stream: StreamId, after: int, up_to: int | None) -> Iterator[list[Any]]:
        return self._paged(_PLACED_ROWS, stream, after, up_to)

    def _paged(self, query: str, stream: StreamId, after: int, up_to: int | None) -> Iterator[list[Any]]:
        last = _UNBOUNDED if up_to is None else up_to
        while True:
            with self._file.reader() as db:
                rows = db.execute(query, (*stream_key(stream), after, last, PAGE)).fetchall()
            yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1][-4]

    def read_all(self, after_position: int, limit: int) -> list[StoredEvent]:
        """See the port. Positions are given out under the write lock, so their order is the commit order."""
        with self._file.reader() as db:
            rows = db.execute(f"{_EVENT} WHERE position > ? ORDER BY position LIMIT ?", (after_position, limit))
            return list(map(stored_event, rows))

    def last_position(self) -> int:
        """See the port."""
        with self._file.reader() as db:
            return self._read_last(db)[0]

    def position_of(self, event_id: str) -> int | None:
        """See the port."""
        with self._file.reader() as db:
            row = db.execute("SELECT position FROM events WHERE id = ?", (event_id,)).fetchone()
        return row[0] if row else None

    def streams(self, tenant: str, kind: str | None = None) -> list[StreamId]:
        """See the port."""
        where, values = ("tenant = ?", (tenant,)) if kind is None else ("tenant = ? AND kind = ?", (tenant, kind))
        with self._file.reader() as db:
            return [
                stored_head(row).stream for row in db.execute(f"{_HEAD} WHERE {where} ORDER BY first_position", values)
            ]

    def handled(self, command_id: str) -> Handled | None:
        """See the port."""
        with self._file.reader() as db:
            return _handled(db, command_id)

    def handled_among(self, command_ids: Sequence[str]) -> dict[str, Handled]:
        """See the port."""
        with self._file.reader() as db:
            return _handled_among(db, command_ids)

    def commands(self, stream: StreamId) -> list[Handled]:
        """See the port."""
        with self._file.reader() as db:
            rows = db.execute(f"{_HANDLED} WHERE {_OF_STREAM} ORDER BY position", stream_key(stream))
            return list(map(inbox_entry, rows))

    def timers(self, due_before: datetime | None = None) -> list[ArmedTimer]:
        """See the port."""
        until = _UNBOUNDED if due_before is None else microseconds(due_before)
        with self._file.reader() as db:
            rows = db.execute(_TIMERS, (until,))
            return [
                ArmedTimer(StreamId(tenant, kind, stream), key, moment(due), command)
                for tenant, kind, stream, key, due, command in rows
            ]

    def next_due(self) -> datetime | None:
        """See the port."""
        with self._file.reader() as db:
            (due,) = db.execute("SELECT min(due) FROM timers").fetchone()
        return None if due is None else moment(due)

    def cursor(self, name: str) -> tuple[int, str]:
        """See the port."""
        with self._file.reader() as db:
            row = db.execute("SELECT position, event_id FROM cursors WHERE name = ?", (name,)).fetchone()
        return (row[0], row[1]) if row else (0, "")

    def view(self, tenant: str, kind: str, id: str) -> dict[str, Any] | None:
        """See the port."""
        with self._file.reader() as db:
            query = "SELECT body FROM views WHERE tenant = ? AND kind = ? AND id = ?"
            row = db.execute(query, (tenant, kind, id)).fetchone()
        return json_object(row[0]) if row else None

    def views(self, tenant: str, kind: str) -> list[dict[str, Any]]:
        """See the port."""
        with self._file.reader() as db:
            query = "SELECT body FROM views WHERE tenant = ? AND kind = ? ORDER BY ordinal"
            return [json_object(body) for (body,) in db.execute(query, (tenant, kind))]

    def snapshot(self, stream: StreamId) -> Snapshot | None:
        """See the port."""
        with self._file.reader() as db:
            row = db.execute(f"{_SNAPSHOT} WHERE {_OF_STREAM}", stream_key(stream)).fetchone()
        return Snapshot(stream, *row) if row else None

    # Auditing

    def heads(self, after_position: int = 0) -> list[Head]:
        """Heads of all streams with an event after `after_position`, as of one moment."""
        with self._file.reader() as db:
            rows = db.execute(f"{_HEAD} WHERE last_position > ? ORDER BY first_position", (after_position,))
            return list(map(stored_head, rows))

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints by number."""
        with self._file.reader() as db:
            return _checkpoints(db)

    def newest_checkpoint(self) -> Checkpoint | None:
        """The last of them; None when there is none."""
        with self._file.reader() as db:
            row = db.execute(f"{_CHECKPOINT} ORDER BY number DESC LIMIT 1").fetchone()
        return Checkpoint(*row) if row else None

    def verify(self, tenant: str | None = None) -> Verification:
        """See the port. Also holds the chains to the checkpoints' heads; `store.checkpoints.verify` adds signatures."""

        with self._file.snapshot() as db:
            claimed, findings = claimed_heads(_checkpoints(db))
            heads = map(stored_head, db.execute(f"{_HEAD} {_OF_TENANT}", (tenant,)))
            verification = chain.verify(
                map(stored_event, db.execute(f"{_EVENT} {_OF_TENANT} ORDER BY position", (tenant,))),
                {head.stream: head for head in heads},
                {stream: versions for stream, versions in claimed.items() if tenant in (None, stream.tenant)},
                lambda stream: map(
                    stored_event, db.execute(f"{_EVENT} WHERE {_OF_STREAM} ORDER BY sequence", stream_key(stream))
                ),
                whole=tenant is None,
            )
        return replace(verification, findings=(*findings, *verification.findings))


def _handled(db: sqlite3.Connection, command_id: str) -> Handled | None:
    row = db.execute(f"{_HANDLED} WHERE command_id = ?", (command_id,)).fetchone()
    return inbox_entry(row) if row else None


def _handled_among(db: sqlite3.Connection, command_ids: Sequence[str]) -> dict[str, Handled]:
    if len(command_ids) == 1:
        known = _handled(db, command_ids[0])
        return {known.command_id: known} if known else {}
    # As JSON: one statement for any number of them, which the driver prepares once.
    rows = db.execute(_HANDLED_AMONG, (json.dumps(command_ids),))
    return {entry.command_id: entry for entry in map(inbox_entry, rows)}


def _checkpoints(db: sqlite3.Connection) -> list[Checkpoint]:
    return [Checkpoint(*row) for row in db.execute(f"{_CHECKPOINT} ORDER BY number")]
