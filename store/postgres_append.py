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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from schemas.envelope import StreamId
from store.batch import Batch, Prepared
from store.chain import Head
from store.port import AppendResult, StoreCorrupt, StoreError
from store.postgres_link import Connection, Cursor, PostgresLink, lock_key
from store.postgres_write import ALWAYS, columns, remove_views, still_so, views_again, write
from store.rows import inbox_entry, stored_head, stream_key

_REMEMBERED_HEADS = 10_000

# Each statement sees what was committed before it began, so those after the lock see everything.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCK = "SELECT pg_advisory_xact_lock(%b)"
_LAST = "SELECT coalesce((SELECT max(position) FROM events), 0), coalesce((SELECT max(position) FROM inbox), 0)"
_HEADS = """SELECT tenant, kind, name, version, hash, first_position, last_position FROM streams
    WHERE (tenant, kind, name) IN (SELECT * FROM unnest(%b::text[], %b::text[], %b::text[]))"""
_HANDLED = "SELECT command_id, raw, accepted, verdict FROM inbox WHERE command_id = ANY(%b)"
_HAS_EVENT = "SELECT EXISTS (SELECT FROM events WHERE position = %b AND id = %b)"
_HAS_COMMAND = "SELECT EXISTS (SELECT FROM inbox WHERE position = %b AND command_id = %b)"


class _Miscounted(psycopg.OperationalError):
    """The driver has more answers than it waits for, and has thrown away what they said."""


@contextmanager
def _pipeline(db: Connection) -> Iterator[None]:
    """psycopg 3.3 ends a pipeline with an IndexError when the server refuses a commit and all its answers come at
    once; a bug of it, which must not hide what became of the commit."""
    try:
        with db.pipeline():
            yield
    except IndexError as problem:
        raise _Miscounted("the driver lost count of the server's answers") from problem


@dataclass(slots=True)
class _Attempt:
    """What was sent to be committed, if it came to that, and whether the answer to that was lost."""

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
        self._cursors: tuple[Cursor, Cursor] | None = None  # of that connection: making one costs as much as using it
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
                raise self._link.translate(_reason(problem)) from problem

    def close(self) -> None:
        """Close the connection. Idempotent; waits for an append that is going on."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = self._cursors = None

    def _append(self, prepared: Sequence[Prepared], attempt: _Attempt, doubt: _Attempt) -> list[AppendResult]:
        """One try, noted in `attempt`; `doubt` is the one before, if its connection was lost."""
        db = self._db = self._db or self._link.connect()
        try:
            results = self._in_one_trip(db, prepared, attempt) if self._alone else None
            if results is None:
                results = self._in_two_trips(db, prepared, attempt, doubt)
        except BaseException as problem:
            # In whatever state it is: another one costs a few milliseconds, and this is rare.
            attempt.lost = db.broken or isinstance(problem, _Miscounted)
            db.close()
            self._db = self._cursors = None
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
        if views_again(batch):
            return None
        attempt.batch, attempt.results = batch, results
        cursor, writing = self._cursors = self._cursors or (db.cursor(), db.cursor())
        # What is sent up to the end of a pipeline is one transaction: no BEGIN and COMMIT need be sent and answered.
        with _pipeline(db):
            cursor.execute(_LOCK, (self._key,))
            write(writing, batch, still_so(*self._last, list(heads.values()), _command_ids(prepared)))
        if writing.fetchone() != (True,):
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
        with _pipeline(db):
            cursor.execute(_BEGIN)
            cursor.execute(_LOCK, (self._key,))
            reading_last = db.execute(_LAST, binary=True)
            reading_heads = db.execute(_HEADS, columns(keys), binary=True)
            reading_inbox = db.execute(_HANDLED, (_command_ids(prepared),), binary=True)
        if doubt.batch is not None and _is_stored(cursor, doubt.batch):
            cursor.execute("COMMIT")
            return doubt.results
        heads = {head.stream: head for head in map(stored_head, reading_heads.fetchall())}
        handled = {entry.command_id: entry for entry in map(inbox_entry, reading_inbox.fetchall())}
        ((position, count),) = reading_last.fetchall()
        self._alone = self._last == (position, count)
        if not self._alone:
            self._heads.clear()
        batch = Batch(position, count, lambda stream: heads.get(stream) or Head(stream), handled.get)
        results = [batch.add(each) for each in prepared]
        attempt.batch, attempt.results = batch, results
        with _pipeline(db):
            if again := views_again(batch):
                remove_views(cursor, again)
            write(cursor, batch, ALWAYS)
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


def _reason(problem: psycopg.Error) -> psycopg.Error:
    """What the server said, if it refused a commit: the driver then complains about the pipeline instead."""
    said = problem.__context__
    return said if not problem.sqlstate and isinstance(said, psycopg.Error) and said.sqlstate else problem


def _not_unique(problem: errors.UniqueViolation) -> StoreError:
    if problem.diag.constraint_name == "uq_events_id":
        return StoreError(f"an event with the same id is stored already ({problem}): every event needs its own")
    return StoreCorrupt(f"the stream heads do not fit the events ({problem}): verify the record")
