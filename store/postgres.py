"""The record in PostgreSQL: for several conductors, or a database that others take care of.

Like the SQLite one it uses the driver (psycopg 3, binary results), not an ORM. `postgres_append` says how it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg

from schemas.envelope import StreamId
from store import chain
from store.base import StoreBase
from store.batch import microseconds, moment, prepare
from store.chain import Head
from store.checkpoints import Checkpoint, claimed_heads
from store.port import Append, AppendResult, ArmedTimer, Handled, Lease, Snapshot, StoredEvent, Verification
from store.postgres_address import parse
from store.postgres_append import Appender
from store.postgres_lease import PostgresLease
from store.postgres_link import Connection, PostgresLink, Row, translate
from store.postgres_schema import ensure, ensure_readable
from store.rows import inbox_entry, json_object, snapshot_row, stored_event, stored_head, stream_key

PAGE = 1_000
"""Events read at once: what a slow reader, or one that never finishes, keeps in memory."""

CHUNK = 250
"""Events looked at while the server reads the next ones."""

RUN = 20 * PAGE
"""Events of one such question: a reader that stops in the middle of it keeps the server from tidying up."""

_EVENT = "SELECT position, tenant, kind, stream, sequence, id, raw, hash FROM events"
_HEAD = "SELECT tenant, kind, name, version, hash, first_position, last_position FROM streams"
_ONE_HEAD = f"{_HEAD} WHERE tenant = %b AND kind = %b AND name = %b"
_HANDLED = "SELECT command_id, raw, accepted, verdict FROM inbox"
_COMMANDS = f"{_HANDLED} WHERE tenant = %b AND kind = %b AND stream = %b ORDER BY position"
_PAGE_OF = """FROM events
    WHERE tenant = %b AND kind = %b AND stream = %b AND sequence > %b AND sequence <= %b ORDER BY sequence LIMIT %b"""
_ROWS = f"SELECT sequence, id, raw, hash {_PAGE_OF}"
_PLACED_ROWS = f"SELECT position, sequence, id, raw, hash {_PAGE_OF}"
_TIMERS = """SELECT tenant, kind, stream, key, due, command FROM timers WHERE due <= %b
    ORDER BY due, tenant COLLATE "C", kind COLLATE "C", stream COLLATE "C", key COLLATE "C\""""
_STREAMS = f"{_HEAD} WHERE tenant = %b AND (%b::text IS NULL OR kind = %b) ORDER BY first_position"
_CHECKPOINT = "SELECT number, body, signature, key FROM checkpoints"
_CHECKPOINTS = f"{_CHECKPOINT} ORDER BY number"
_OF_TENANT = "WHERE (%b::text IS NULL OR tenant = %b)"
_SET_CURSOR = """INSERT INTO cursors (name, position, event_id) VALUES (%b, %b, %b)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position, event_id = excluded.event_id RETURNING 1"""
_ADD_CHECKPOINT = """INSERT INTO checkpoints (number, body, signature, key) VALUES (%b, %b, %b, %b)
    ON CONFLICT DO NOTHING RETURNING 1"""
_SET_SNAPSHOT = """INSERT INTO snapshots (tenant, kind, stream, sequence, hash, form, body)
    VALUES (%b, %b, %b, %b, %b, %b, %b) ON CONFLICT (tenant, kind, stream) DO UPDATE
    SET sequence = excluded.sequence, hash = excluded.hash, form = excluded.form, body = excluded.body RETURNING 1"""
_SNAPSHOT = "SELECT sequence, hash, form, body FROM snapshots WHERE tenant = %b AND kind = %b AND stream = %b"
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class PostgresStore(StoreBase):
    """`store.port.Store` on PostgreSQL. Any thread may call it, and any number of processes beside it."""

    def __init__(self, link: PostgresLink) -> None:
        """Use `PostgresStore.open`, which checks what is there."""
        self._link = link
        self._appender = Appender(link)

    @classmethod
    def open(cls, url: str, read_only: bool = False, busy_timeout: float = 10.0) -> PostgresStore:
        """Open the record in the database at `url` (`postgresql://…`, see `store.postgres_address.parse`); create or
        migrate it first unless `read_only`. Connect directly or by way of a pooler that keeps sessions apart.

        `busy_timeout` is how many seconds to wait for another process's append. Raises StoreError when there is nothing
        to read or the database is unfit, StoreUnavailable when it cannot be reached.
        """
        address = parse(url)
        try:
            schema = (ensure_readable if read_only else ensure)(address)
        except psycopg.Error as problem:
            raise translate(problem, address) from problem
        return cls(PostgresLink(address, schema, read_only=read_only, busy_timeout=busy_timeout))

    def close(self) -> None:
        """See the port."""
        self._link.close()
        self._appender.close()

    # Writing

    def append_batch(self, appends: Sequence[Append]) -> list[AppendResult]:
        """See the port. Raises ValueError for events that do not follow each other, StoreError for an event id that is
        stored already: both are bugs of the caller, and nothing of the batch is written.

        When StoreUnavailable comes because the server went away in the middle of a commit and stayed away, whether it
        was committed is not known until the server is back: append again, the inbox and the versions tell.
        """
        prepared = [prepare(append) for append in appends]
        return self._appender.append(prepared) if prepared else []

    def move_cursor(self, name: str, position: int, event_id: str) -> None:
        """See the port."""
        self._link.check_writable()
        self._link.fetch(_SET_CURSOR, (name, position, event_id))

    def add_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Store a signed checkpoint; False when another process stored one of the same number first."""
        self._link.check_writable()
        row = (checkpoint.number, checkpoint.body, checkpoint.signature, checkpoint.key)
        if self._link.fetch(_ADD_CHECKPOINT, row):
            return True
        # It may be ours: stored before the connection was lost, and offered again.
        rows = self._link.fetch(f"{_CHECKPOINT} WHERE number = %b", (checkpoint.number,))
        return [Checkpoint(*found) for found in rows] == [checkpoint]

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """See the port."""
        self._link.check_writable()
        self._link.fetch(_SET_SNAPSHOT, snapshot_row(snapshot))

    def forget_snapshots(self) -> int:
        """See the port."""
        self._link.check_writable()
        return len(self._link.fetch("DELETE FROM snapshots RETURNING 1", ()))

    def lease(self, name: str) -> Lease:
        """See the port: held by one process at a time, until it lets go of it, dies or stops."""
        return PostgresLease(self._link, name)

    # Reading

    def version(self, stream: StreamId) -> int:
        """See the port."""
        rows = self._link.fetch(_ONE_HEAD, stream_key(stream))
        return stored_head(rows[0]).version if rows else 0

    def _pages(self, stream: StreamId, after: int, up_to: int | None) -> Iterator[list[chain.Row]]:
        last = _HIGHEST if up_to is None else up_to
        while True:
            rows: list[chain.Row] = self._link.fetch(_ROWS, (*stream_key(stream), after, last, PAGE))
            yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1][0]
            # A long one. Should the connection be lost in between, the next page is asked for as above.
            for chunk in self._link.chunks(_ROWS, (*stream_key(stream), after, last, RUN), CHUNK):
                yield chunk
                after = chunk[-1][0]

    def _placed(self, stream: StreamId, after: int, up_to: int | None) -> Iterator[list[Any]]:
        last = _HIGHEST if up_to is None else up_to
        while True:
            rows: list[Any] = self._link.fetch(_PLACED_ROWS, (*stream_key(stream), after, last, PAGE))
            yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1][1]

    def read_all(self, after_position: int, limit: int) -> list[StoredEvent]:
        """See the port. Positions are given out under the append lock, so their order is the commit order."""
        rows = self._link.fetch(f"{_EVENT} WHERE position > %b ORDER BY position LIMIT %b", (after_position, limit))
        return list(map(stored_event, rows))

    def last_position(self) -> int:
        """See the port."""
        return int(self._link.fetch("SELECT coalesce(max(position), 0) FROM events")[0][0])

    def position_of(self, event_id: str) -> int | None:
        """See the port."""
        rows = self._link.fetch("SELECT position FROM events WHERE id = %b", (event_id,))
        return rows[0][0] if rows else None

    def streams(self, tenant: str, kind: str | None = None) -> list[StreamId]:
        """See the port."""
        return [stored_head(row).stream for row in self._link.fetch(_STREAMS, (tenant, kind, kind))]

    def handled(self, command_id: str) -> Handled | None:
        """See the port."""
        rows = self._link.fetch(f"{_HANDLED} WHERE command_id = %b", (command_id,))
        return inbox_entry(rows[0]) if rows else None

    def handled_among(self, command_ids: Sequence[str]) -> dict[str, Handled]:
        """See the port."""
        rows = self._link.fetch(f"{_HANDLED} WHERE command_id = ANY(%b)", (list(command_ids),))
        return {entry.command_id: entry for entry in map(inbox_entry, rows)}

    def commands(self, stream: StreamId) -> list[Handled]:
        """See the port."""
        return list(map(inbox_entry, self._link.fetch(_COMMANDS, stream_key(stream))))

    def timers(self, due_before: datetime | None = None) -> list[ArmedTimer]:
        """See the port."""
        until = _HIGHEST if due_before is None else microseconds(due_before)
        return [
            ArmedTimer(StreamId(tenant, kind, stream), key, moment(due), command)
            for tenant, kind, stream, key, due, command in self._link.fetch(_TIMERS, (until,))
        ]

    def next_due(self) -> datetime | None:
        """See the port."""
        ((due,),) = self._link.fetch("SELECT min(due) FROM timers", ())
        return None if due is None else moment(due)

    def cursor(self, name: str) -> tuple[int, str]:
        """See the port."""
        rows = self._link.fetch("SELECT position, event_id FROM cursors WHERE name = %b", (name,))
        return (rows[0][0], rows[0][1]) if rows else (0, "")

    def view(self, tenant: str, kind: str, id: str) -> dict[str, Any] | None:
        """See the port."""
        query = "SELECT body FROM views WHERE tenant = %b AND kind = %b AND id = %b"
        rows = self._link.fetch(query, (tenant, kind, id))
        return json_object(rows[0][0]) if rows else None

    def views(self, tenant: str, kind: str) -> list[dict[str, Any]]:
        """See the port."""
        query = "SELECT body FROM views WHERE tenant = %b AND kind = %b ORDER BY ordinal"
        return [json_object(body) for (body,) in self._link.fetch(query, (tenant, kind))]

    def snapshot(self, stream: StreamId) -> Snapshot | None:
        """See the port."""
        rows = self._link.fetch(_SNAPSHOT, stream_key(stream))
        return Snapshot(stream, *rows[0]) if rows else None

    # Auditing

    def heads(self, after_position: int = 0) -> list[Head]:
        """Heads of all streams with an event after `after_position`, as of one moment."""
        query = f"{_HEAD} WHERE last_position > %b ORDER BY first_position"
        return list(map(stored_head, self._link.fetch(query, (after_position,))))

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints by number."""
        return [Checkpoint(*row) for row in self._link.fetch(_CHECKPOINTS)]

    def newest_checkpoint(self) -> Checkpoint | None:
        """The last of them; None when there is none."""
        rows = self._link.fetch(f"{_CHECKPOINT} ORDER BY number DESC LIMIT 1", ())
        return Checkpoint(*rows[0]) if rows else None

    def verify(self, tenant: str | None = None) -> Verification:
        """See the port. Also holds the chains to the checkpoints' heads; `store.checkpoints.verify` adds signatures."""
        with self._link.snapshot() as db:
            claimed, findings = claimed_heads(Checkpoint(*row) for row in db.execute(_CHECKPOINTS, binary=True))
            heads = map(stored_head, db.execute(f"{_HEAD} {_OF_TENANT}", (tenant, tenant), binary=True))
            verification = chain.verify(
                _walk(db, tenant),
                {head.stream: head for head in heads},
                {stream: versions for stream, versions in claimed.items() if tenant in (None, stream.tenant)},
                lambda stream: _reread(db, stream),
                whole=tenant is None,
            )
        return replace(verification, findings=(*findings, *verification.findings))


def _of_stream(stream: StreamId, rows: Sequence[Row]) -> Iterator[StoredEvent]:
    for position, sequence, id_, raw, hash_ in rows:
        yield StoredEvent(position, stream, sequence, id_, raw, hash_)


def _walk(db: Connection, tenant: str | None) -> Iterator[StoredEvent]:
    """All events in commit order, a page in memory at a time."""
    with db.cursor("walk", binary=True) as cursor:
        cursor.itersize = PAGE
        yield from map(stored_event, cursor.execute(f"{_EVENT} {_OF_TENANT} ORDER BY position", (tenant, tenant)))


def _reread(db: Connection, stream: StreamId) -> Iterator[StoredEvent]:
    """The stream's rows by sequence, whatever that says."""
    after = _LOWEST
    while True:
        values = (*stream_key(stream), after, _HIGHEST, PAGE)
        rows = db.execute(_PLACED_ROWS, values, binary=True).fetchall()
        yield from _of_stream(stream, rows)
        if len(rows) < PAGE:
            return
        after = rows[-1][1]
