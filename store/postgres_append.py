"""The append transaction on PostgreSQL: who may write when, and in how few round trips.

One writer at a time: the transaction takes an advisory lock before it reads anything and holds it until it is
committed. So global positions are given out in the order of the commits, without a gap, and a reader by position never
passes a transaction that commits late. (Reading only up to the oldest running transaction would allow commits side by
side, but then any long transaction of the whole server, a backup say, holds up the relay, and positions have gaps.)
The lock is an advisory one since a lock on a table would wait for its vacuum.

The first trip locks and reads (heads, inbox), the second writes and commits. While nobody else writes, one trip is
enough: the server checks on the way whether what this process remembers is still so, and otherwise writes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from schemas.envelope import StreamId
from store.batch import Batch, Prepared, TimerRow, ViewRow
from store.chain import Head
from store.port import AppendResult, StoreCorrupt, StoreError
from store.postgres_link import Connection, Cursor, PostgresLink, Row, lock_key
from store.rows import head_row, inbox_entry, stored_head, stream_key

_REMEMBERED_HEADS = 10_000

# Each statement sees what was committed before it began, so those after the lock see everything.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCK = "SELECT pg_advisory_xact_lock(%b)"
# Every statement that writes asks this setting, which lasts as long as the transaction. (An error would stop them too,
# but fill the server's log, and psycopg would take for prepared what the error kept from being so.)
_GO = "current_setting('valuetrain.go')::bool"
_LAST = """SELECT coalesce((SELECT max(position) FROM events), 0), coalesce((SELECT max(position) FROM inbox), 0),
    set_config('valuetrain.go', 'true', true)"""
_STILL_SO = """SELECT set_config('valuetrain.go', (
    coalesce((SELECT max(position) FROM events), 0) = %b AND coalesce((SELECT max(position) FROM inbox), 0) = %b
    AND NOT EXISTS (SELECT FROM inbox WHERE command_id = ANY(%b))
    AND %b = (SELECT count(*) FROM streams WHERE (tenant, kind, name, version, hash) IN
        (SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::int8[], %b::bytea[])))
    )::text, true)"""
_HEADS = """SELECT tenant, kind, name, version, hash, first_position, last_position FROM streams
    WHERE (tenant, kind, name) IN (SELECT * FROM unnest(%b::text[], %b::text[], %b::text[]))"""
_HANDLED = "SELECT command_id, raw, accepted, verdict FROM inbox WHERE command_id = ANY(%b)"
_HAS_EVENT = "SELECT EXISTS (SELECT FROM events WHERE position = %b AND id = %b)"
_HAS_COMMAND = "SELECT EXISTS (SELECT FROM inbox WHERE position = %b AND command_id = %b)"


@dataclass(frozen=True, slots=True)
class _Insert:
    """A statement for one row and one for many: with an array for each column, a thousand rows cost no more than by
    COPY, which cannot travel with other statements; for a single row plain values cost less."""

    one: str
    many: str

    @classmethod
    def into(cls, table: str, types: Sequence[str], or_else: str = "") -> _Insert:
        """`table` names its columns, `types` are theirs, `or_else` what to do about a row that is there."""
        values = ", ".join("%b" for _ in types)
        arrays = ", ".join(f"%b::{name}[]" for name in types)
        return cls(
            f"INSERT INTO {table} SELECT {values} WHERE {_GO} {or_else}",
            f"INSERT INTO {table} SELECT * FROM unnest({arrays}) WHERE {_GO} {or_else}",  # noqa: S608
        )

    def rows(self, cursor: Cursor, rows: Sequence[Row]) -> None:
        """Insert `rows`, if there are any."""
        if len(rows) == 1:
            cursor.execute(self.one, rows[0])
        elif rows:
            cursor.execute(self.many, _columns(rows))


_KEY = ("text", "text", "text")
_EVENTS = _Insert.into(
    "events (position, tenant, kind, stream, sequence, id, raw, hash)",
    ("int8", *_KEY, "int8", "text", "bytea", "bytea"),
)
_STREAMS = _Insert.into(
    "streams (tenant, kind, name, version, hash, first_position, last_position)",
    (*_KEY, "int8", "bytea", "int8", "int8"),
    """ON CONFLICT (tenant, kind, name) DO UPDATE
    SET version = excluded.version, hash = excluded.hash, last_position = excluded.last_position""",
)
_INBOX = _Insert.into(
    "inbox (position, command_id, tenant, kind, stream, raw, accepted, verdict)",
    ("int8", "text", *_KEY, "bytea", "int4", "text"),
)
_TIMERS = _Insert.into(
    "timers (tenant, kind, stream, key, due, command)",
    (*_KEY, "text", "int8", "bytea"),
    "ON CONFLICT (tenant, kind, stream, key) DO UPDATE SET due = excluded.due, command = excluded.command",
)
_VIEWS = _Insert.into(
    "views (tenant, kind, id, body)",
    (*_KEY, "text"),
    "ON CONFLICT (tenant, kind, id) DO UPDATE SET body = excluded.body",
)
_CLEAR_TIMERS = f"""DELETE FROM timers WHERE {_GO} AND (tenant, kind, stream, key) IN
    (SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[]))"""  # noqa: S608
_REMOVE_VIEWS = f"""DELETE FROM views WHERE {_GO} AND (tenant, kind, id) IN
    (SELECT * FROM unnest(%b::text[], %b::text[], %b::text[]))"""  # noqa: S608


@dataclass(slots=True)
class _Attempt:
    """What was sent to be committed, if it came to that, and whether the connection broke."""

    batch: Batch | None = None
    results: list[AppendResult] = field(default_factory=list)
    lost: bool = False


class Appender:
    """The writer of one process: one thread at a time appends, on a connection of its own."""

    def __init__(self, link: PostgresLink) -> None:
        self._link = link
        self._key = lock_key("append", link.schema)
        self._lock = threading.Lock()
        self._db: Connection | None = None
        # As of this process's last append, in case that is still how things are.
        self._heads: dict[StreamId, Head] = {}
        self._last: tuple[int, int] | None = None  # positions of the newest event and the newest inbox entry
        self._alone = False

    def append(self, prepared: Sequence[Prepared]) -> list[AppendResult]:
        """Commit `prepared` in one transaction; the verdict on each. Raises the store's errors.

        A connection that was lost is replaced once. Whether the lost one's transaction was committed is looked up
        under the lock, which its server process holds as long as it may still commit.
        """
        with self._lock:
            self._link.check_writable()
            attempt = _Attempt()
            try:
                try:
                    return self._append(prepared, attempt, _Attempt())
                except psycopg.Error:
                    if not attempt.lost:
                        raise
                return self._append(prepared, _Attempt(), doubt=attempt)
            except errors.UniqueViolation as problem:
                raise _not_unique(problem) from problem
            except psycopg.Error as problem:
                raise self._link.translate(problem) from problem

    def close(self) -> None:
        """Close the connection. Idempotent; waits for an append that is going on."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _append(self, prepared: Sequence[Prepared], attempt: _Attempt, doubt: _Attempt) -> list[AppendResult]:
        """One try, noted in `attempt`; `doubt` is the one before, if its connection was lost."""
        db = self._db = self._db or self._link.connect()
        try:
            results = self._in_one_trip(db, prepared, attempt) if self._alone else None
            if results is None:
                results = self._in_two_trips(db, prepared, attempt, doubt)
        except BaseException:
            # In whatever state it is: another one costs a few milliseconds, and this is rare.
            attempt.lost = db.broken
            db.close()
            self._db = None
            self._forget()
            raise
        return results

    def _in_one_trip(
        self, db: Connection, prepared: Sequence[Prepared], attempt: _Attempt
    ) -> list[AppendResult] | None:
        """None when what is remembered does not suffice or is outdated; then nothing was written."""
        streams = {each.append.stream for each in prepared}
        heads = {stream: self._heads[stream] for stream in streams if stream in self._heads}
        if self._last is None or len(heads) < len(streams):
            return None
        batch = Batch(*self._last, heads.__getitem__, lambda _: None)
        results = [batch.add(each) for each in prepared]
        attempt.batch, attempt.results = batch, results
        states = [(*stream_key(head.stream), head.version, head.hash) for head in heads.values()]
        cursor = db.cursor()  # one for all that is not read: making a cursor costs as much as using it
        with db.pipeline():
            cursor.execute(_BEGIN)
            cursor.execute(_LOCK, (self._key,))
            checking = db.execute(_STILL_SO, (*self._last, _command_ids(prepared), len(states), *_columns(states)))
            _write(cursor, batch)
            cursor.execute("COMMIT")
        if checking.fetchone() != ("true",):
            self._alone = False
            attempt.batch = None
            return None
        self._remember(batch)
        return results

    def _in_two_trips(
        self, db: Connection, prepared: Sequence[Prepared], attempt: _Attempt, doubt: _Attempt
    ) -> list[AppendResult]:
        keys = list({stream_key(each.append.stream): None for each in prepared})
        cursor = db.cursor()
        with db.pipeline():
            cursor.execute(_BEGIN)
            cursor.execute(_LOCK, (self._key,))
            reading_last = db.execute(_LAST, binary=True)
            reading_heads = db.execute(_HEADS, _columns(keys), binary=True)
            reading_inbox = db.execute(_HANDLED, (_command_ids(prepared),), binary=True)
        if doubt.batch is not None and _is_stored(cursor, doubt.batch):
            cursor.execute("COMMIT")
            return doubt.results
        heads = {head.stream: head for head in map(stored_head, reading_heads.fetchall())}
        handled = {entry.command_id: entry for entry in map(inbox_entry, reading_inbox.fetchall())}
        ((position, count, _),) = reading_last.fetchall()
        self._alone = self._last == (position, count)
        if not self._alone:
            self._heads.clear()
        batch = Batch(position, count, lambda stream: heads.get(stream) or Head(stream), handled.get)
        results = [batch.add(each) for each in prepared]
        attempt.batch, attempt.results = batch, results
        with db.pipeline():
            _write(cursor, batch)
            cursor.execute("COMMIT")
        self._heads.update(heads)
        self._remember(batch)
        return results

    def _remember(self, batch: Batch) -> None:
        if len(self._heads) > _REMEMBERED_HEADS:
            self._heads.clear()
        self._heads.update(batch.heads)
        self._last = (batch.last_position, batch.last_handled)

    def _forget(self) -> None:
        self._heads.clear()
        self._last = None
        self._alone = False


def _columns(rows: Sequence[Row]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _command_ids(prepared: Sequence[Prepared]) -> list[str]:
    return [each.append.handled.command_id for each in prepared if each.append.handled]


def _is_stored(cursor: Cursor, batch: Batch) -> bool:
    """Was `batch` committed after all? One that has neither event nor command can just be written again."""
    if batch.events:
        position, *_, id_, _raw, _hash = batch.events[-1]
        row = cursor.execute(_HAS_EVENT, (position, id_)).fetchone()
    elif batch.inbox:
        row = cursor.execute(_HAS_COMMAND, batch.inbox[-1][:2]).fetchone()
    else:
        return False
    return bool(row and row[0])


def _write(cursor: Cursor, batch: Batch) -> None:
    """Send the batch's rows. A statement may touch a row once, so of several words on one key only the last goes."""
    _EVENTS.rows(cursor, batch.events)
    _STREAMS.rows(cursor, list(map(head_row, batch.heads.values())))
    _INBOX.rows(cursor, batch.inbox)
    cleared, armed = _timers(batch.timers)
    if cleared:
        cursor.execute(_CLEAR_TIMERS, _columns(cleared))
    _TIMERS.rows(cursor, armed)
    removed, written = _views(batch.views)
    if removed:
        cursor.execute(_REMOVE_VIEWS, _columns(removed))
    _VIEWS.rows(cursor, written)


def _timers(rows: Sequence[TimerRow]) -> tuple[list[Row], list[Row]]:
    """Keys to disarm, and rows to arm."""
    last = {row[:4]: row for row in rows}
    return [key for key, row in last.items() if row[4] is None], [row for row in last.values() if row[4] is not None]


def _views(rows: Sequence[ViewRow]) -> tuple[list[Row], list[Row]]:
    """Keys to remove, then rows to write, in order: one that was removed and written again has a new place."""
    removed: dict[Row, None] = {}
    written: dict[Row, Row] = {}
    for row in rows:
        key = row[:3]
        if row[3] is None:
            removed[key] = None
            written.pop(key, None)
        else:
            written[key] = row
    return list(removed), list(written.values())


def _not_unique(problem: errors.UniqueViolation) -> StoreError:
    if problem.diag.constraint_name == "uq_events_id":
        return StoreError(f"an event with the same id is stored already ({problem}): every event needs its own")
    return StoreCorrupt(f"the stream heads do not fit the events ({problem}): verify the record")
