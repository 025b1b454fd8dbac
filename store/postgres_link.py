"""The connections to one PostgreSQL record: opened when needed, given back, replaced when lost, errors translated."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeAlias

import psycopg
from psycopg import capabilities, errors
from psycopg.types.numeric import Int8BinaryDumper

from store.port import StoreCorrupt, StoreError, StoreUnavailable
from store.postgres_address import Address

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = "psycopg.Connection[Row]"
Cursor: TypeAlias = "psycopg.Cursor[Row]"

_MOST_IDLE = 4
"""Readers kept for the next one to read; each is a process of the server."""

# Whatever the server, the database or the role has set: an answered commit is on the disk; a writer that stops (a
# suspended process, a machine that is gone) loses its transaction and its lock before those who wait give up.
_SETTINGS = """SELECT
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
        ELSE current_setting('synchronous_commit') END, false),
    set_config('lock_timeout', %s, false),
    set_config('idle_in_transaction_session_timeout', %s, false),
    set_config('default_transaction_read_only', %s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('jit', 'off', false)"""
IDLE_IN_TRANSACTION = 5.0
"""Seconds after which the server ends a transaction whose client says nothing."""

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_CORRUPT = {"XX001", "XX002"}
_UNAVAILABLE_CLASSES = {
    "08",  # connection
    "28",  # authorization: the login may be put right again
    "40",  # serialization failure, deadlock
    "53",  # disk full, out of memory, too many connections
    "57",  # shutdown, crash, cancelled
    "58",  # the operating system's errors
}
_READ_ONLY, _IDLE_TIMEOUT = "25006", "25P03"


def translate(problem: psycopg.Error, address: Address) -> StoreError:
    """The store's error for an error of the driver or the server; the message holds no password."""
    said, code = address.scrub(problem), problem.sqlstate or ""
    where = f"the record {address.where}"
    if isinstance(problem, errors.LockNotAvailable):
        return StoreUnavailable(f"{where} is locked by another program ({said}): wait for it to finish, or stop it")
    if code in _CORRUPT:
        return StoreCorrupt(f"{where} is damaged ({said}): restore it from a backup")
    if code == _READ_ONLY:
        return StoreUnavailable(f"{where} cannot be written ({said}): the server may be a standby, name the primary")
    lost = not code and isinstance(problem, psycopg.OperationalError | psycopg.InterfaceError)
    if lost or code[:2] in _UNAVAILABLE_CLASSES or code == _IDLE_TIMEOUT:
        return StoreUnavailable(
            f"{where} cannot be reached or written ({said}): check that the server runs, its disk and the login"
        )
    return StoreError(f"{where} refused: {said}")


def connect(address: Address, *, read_only: bool = False, busy_timeout: float = 10.0) -> Connection:
    """A connection in which each statement is its own transaction unless BEGIN says otherwise.

    `busy_timeout` is how many seconds to wait for a lock. Raises psycopg.Error.
    """
    db: Connection = psycopg.connect(**address.parameters, autocommit=True)
    try:
        # One size for all numbers: the size of the value would otherwise make another prepared statement of each.
        db.adapters.register_dumper(int, Int8BinaryDumper)
        milliseconds = (f"{1000 * seconds:.0f}" for seconds in (busy_timeout, IDLE_IN_TRANSACTION))
        db.execute(_SETTINGS, (*milliseconds, "on" if read_only else "off"))
    except BaseException:
        db.close()
        raise
    return db


def lock_key(purpose: str, schema: str) -> int:
    """The number of an advisory lock: such locks are the database's, of which a record may use but one schema."""
    digest = hashlib.sha256(f"valuetrain {purpose} {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class PostgresLink:
    """Connections to the record at `address`. Any thread may use it."""

    def __init__(self, address: Address, schema: str, *, read_only: bool, busy_timeout: float) -> None:
        self.address = address
        self.schema = schema
        self.read_only = read_only
        self._busy_timeout = busy_timeout
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def connect(self) -> Connection:
        """A connection of the caller's own. Raises psycopg.Error, StoreError when closed."""
        self.check_open()
        return connect(self.address, read_only=self.read_only, busy_timeout=self._busy_timeout)

    def translate(self, problem: psycopg.Error) -> StoreError:
        """See `translate`."""
        return translate(problem, self.address)

    def check_open(self) -> None:
        """Raises StoreError when closed."""
        if self._closed:
            raise StoreError(f"the record {self.address.where} is closed")

    def check_writable(self) -> None:
        """Raises StoreError when closed or opened for reading only."""
        self.check_open()
        if self.read_only:
            raise StoreError(f"the record {self.address.where} was opened for reading only")

    def fetch(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of a query (or of a statement that may be repeated without harm).

        A connection that turns out to be lost is replaced once: a server that was restarted is no error.
        """
        self.check_open()
        try:
            if (db := self._take()) is not None:
                try:
                    return self._run(db, query, values)
                except psycopg.Error:
                    if not db.broken:
                        raise
                    self._drop_idle()  # the others were lost with it
            return self._run(self.connect(), query, values)
        except psycopg.Error as problem:
            raise self.translate(problem) from problem

    def _run(self, db: Connection, query: str, values: Sequence[object]) -> list[Row]:
        try:
            rows = db.execute(query, values, binary=True).fetchall()
        except BaseException:
            if not db.broken:
                db.close()  # with whatever it was in the middle of
            raise
        self._give(db)
        return rows

    def chunks(self, query: str, values: Sequence[object], size: int) -> Iterator[list[Row]]:
        """The rows of a query, `size` at a time; the server reads on while the caller is busy with the last ones.

        Ends early, without an error, when the connection is lost, or where the driver's libpq cannot do it: ask again
        for what is missing. Until the end the query holds a snapshot and a connection.
        """
        if not capabilities.has_stream_chunked():
            return
        self.check_open()
        try:
            db = self._take() or self.connect()
            try:
                rows = db.cursor().stream(query, values, binary=True, size=size)
                while chunk := list(islice(rows, size)):
                    yield chunk
            except psycopg.Error:
                if not db.broken:
                    raise
                self._drop_idle()
                return
            except BaseException:
                db.close()  # with whatever it was in the middle of
                raise
            self._give(db)
        except psycopg.Error as problem:
            raise self.translate(problem) from problem

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection on which all that is read in the block is of one moment. Driver errors come out translated."""
        try:
            with self.connect() as db:
                db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                # Between two pages of a long walk the reader may take its time.
                db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                yield db
        except psycopg.Error as problem:
            raise self.translate(problem) from problem

    def close(self) -> None:
        """Close every idle connection; one that is in use is closed when it comes back. Idempotent."""
        self._closed = True
        self._drop_idle()

    def _take(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give(self, db: Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(db)
                return
        db.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
