"""A SQLite file as the record's home: created whole, opened checked, one writer, many readers, errors translated."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from store import migrate
from store.filesystem import refuse_network_file_system
from store.port import NoRecord, StoreCorrupt, StoreError, StoreUnavailable

# Primary result codes, https://www.sqlite.org/rescode.html
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNAVAILABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


def translate(problem: sqlite3.Error | OSError, path: Path) -> StoreError:
    """The store's error for an error of the driver or of the operating system on the record at `path`."""
    if isinstance(problem, OSError):
        return StoreUnavailable(f"the record {path} cannot be reached: {problem}")
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    if code in _LOCKED:
        return StoreUnavailable(
            f"the record {path} is locked by another program ({problem}): wait for it to finish, or stop it"
        )
    if code in _CORRUPT:
        return StoreCorrupt(f"{path} is no readable record ({problem}): restore it from a backup")
    if code in _UNAVAILABLE:
        return StoreUnavailable(
            f"the record {path} cannot be read or written ({problem}): check the disk's free space and the permissions"
        )
    return StoreError(f"the record {path} refused: {problem}")


def connect(path: Path, *, read_only: bool, busy_timeout: float) -> sqlite3.Connection:
    """A connection that runs statements as they are (no implicit transactions), to an existing file."""
    mode = "ro" if read_only else "rw"
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,  # whoever uses it holds a lock or has taken it out of the pool
    )
    # FULL syncs the log at every commit; the other two make macOS flush the drive's cache too (no effect elsewhere).
    for pragma in ("synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON"):
        db.execute(f"PRAGMA {pragma}")
    return db


def ensure(path: Path, busy_timeout: float) -> None:
    """Make sure that an up-to-date record is at `path`: create it, or migrate it, if need be."""
    refuse_network_file_system(path)
    if path.is_dir():
        raise StoreError(f"{path} is a folder: name a file for the record")
    if not path.exists():
        _create(path, busy_timeout)
    if migrate.needs_upgrade(_version(path, busy_timeout, read_only=False), str(path)):
        with closing(connect(path, read_only=False, busy_timeout=busy_timeout)) as db:
            _upgrade(db)


def ensure_readable(path: Path, busy_timeout: float) -> None:
    """Make sure that `path` holds a record this program can read, without changing anything."""
    if not path.exists():
        raise NoRecord(f"there is no record yet at {path}: start a drive (`valuetrain drive`), which creates it")
    if migrate.needs_upgrade(version := _version(path, busy_timeout, read_only=True), str(path)):
        raise StoreError(
            f"the record {path} has schema {version}, this program reads {migrate.HEAD}: "
            "it is brought up to date the next time a drive opens it"
        )


def schema_of(path: Path, busy_timeout: float = 5.0) -> str:
    """The schema version of the record at `path`, which may be older than this program. Raises StoreError."""
    try:
        return _version(path, busy_timeout, read_only=True)
    except (sqlite3.Error, OSError) as problem:
        raise translate(problem, path) from problem


def _version(path: Path, busy_timeout: float, *, read_only: bool) -> str:
    if path.stat().st_size == 0:
        raise StoreCorrupt(f"{path} is empty, which no record ever is: restore it from a backup, or delete it")
    with closing(connect(path, read_only=read_only, busy_timeout=busy_timeout)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        row = db.execute(migrate.VERSION_QUERY).fetchone() if "alembic_version" in tables else None
        if row is None or "events" not in tables:
            raise StoreError(f"{path} is a SQLite database of some other program: name another file for the record")
        return str(row[0])


def _create(path: Path, busy_timeout: float) -> None:
    """Build the record under another name and link it into place: nobody ever sees half of one, and of two processes
    that create it at once one wins and the other finds it there."""
    if path.with_name(f"{path.name}-wal").exists() and not path.exists():  # in this order: another may just create it
        # SQLite would replay this log into whatever database stands beside it.
        raise StoreCorrupt(
            f"the record {path} is gone, but its log {path.name}-wal is there: restore both, or delete it"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(connect(draft, read_only=False, busy_timeout=busy_timeout)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            _upgrade(db)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # else a power cut could take the name away again
    finally:
        os.close(directory)


def _upgrade(db: sqlite3.Connection) -> None:
    """Migrate under the write lock; a second process that waited for it finds nothing left to do."""
    from sqlalchemy import StaticPool, create_engine
    from sqlalchemy.exc import DBAPIError

    engine = create_engine("sqlite://", creator=lambda: db, poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            migrate.upgrade(connection)
            connection.commit()
    except DBAPIError as problem:
        raise (problem.orig or problem) from problem  # the driver's own error, as everywhere else


class SqliteFile:
    """The connections to one record: a writer that one thread at a time may use, and readers beside it.

    `forget` is called inside a write transaction, before anything is read, when another process (or a failure) may have
    made what the caller remembers of the file untrue.
    """

    def __init__(self, path: Path, *, read_only: bool, busy_timeout: float, forget: Callable[[], None]) -> None:
        self.path = path
        self.read_only = read_only
        self._busy_timeout = busy_timeout
        self._forget = forget
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._data_version: int | None = None
        self._readers: list[sqlite3.Connection] = []
        self._closed = False

    def transaction(self) -> _Transaction:
        """A write transaction, committed at the end and rolled back on any error. Driver errors come out translated."""
        if self.read_only:
            raise StoreError(f"the record {self.path} was opened for reading only")
        return _Transaction(self)

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading, this block's alone. Driver errors come out translated."""
        self._check_open()
        try:
            try:
                db = self._readers.pop()
            except IndexError:
                db = self._connect()
            try:
                yield db
            except BaseException:
                db.close()  # with whatever it was in the middle of
                raise
        except sqlite3.Error as problem:
            raise translate(problem, self.path) from problem
        self._readers.append(db)
        if self._closed:  # by another thread, meanwhile
            self._close_readers()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Like `reader`, and all that is read in the block is of one moment; text that is no UTF-8 is no error."""
        with self.reader() as db:
            db.text_factory = partial(str, encoding="utf-8", errors="replace")
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
            db.text_factory = str

    def close(self) -> None:
        """Close every connection. Idempotent; waits for a write that is going on."""
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self._close_readers()

    def _close_readers(self) -> None:
        while True:
            try:
                self._readers.pop().close()
            except IndexError:
                return

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the record {self.path} is closed")

    def _connect(self) -> sqlite3.Connection:
        return connect(self.path, read_only=self.read_only, busy_timeout=self._busy_timeout)

    def _notice_others(self, db: sqlite3.Connection) -> None:
        # Changes whenever another connection committed since this one last looked, and only then.
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._forget()
            self._data_version = version

    def _roll_back(self, db: sqlite3.Connection) -> None:
        self._data_version = None  # whatever failed, trust nothing remembered
        try:
            if db.in_transaction:  # SQLite ends it by itself after some disk errors
                db.execute("ROLLBACK")
        except sqlite3.Error:
            db.close()
            self._writer = None

    def _begin(self) -> sqlite3.Connection:
        """With the lock held. Raises the driver's errors."""
        self._check_open()
        db = self._writer = self._writer or self._connect()
        db.execute("BEGIN IMMEDIATE")
        try:
            self._notice_others(db)
        except BaseException:
            self._roll_back(db)
            raise
        return db


class _Transaction:
    """A class: a generator's way there and back takes a tenth of what a small append takes of the processor."""

    __slots__ = ("_db", "_file")

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def __enter__(self) -> sqlite3.Connection:
        file = self._file
        file._lock.acquire()
        try:
            self._db = file._begin()
        except BaseException as problem:
            file._lock.release()
            if isinstance(problem, sqlite3.Error):
                raise translate(problem, file.path) from problem
            raise
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        file = self._file
        try:
            if problem is None:
                try:
                    self._db.execute("COMMIT")
                    return
                except BaseException as failed:
                    problem = failed
            file._roll_back(self._db)
            if isinstance(problem, sqlite3.Error):
                raise translate(problem, file.path) from problem
            raise problem
        finally:
            file._lock.release()
