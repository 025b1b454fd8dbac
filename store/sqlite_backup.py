"""Backups are SQLite records: whole, of one moment, and verified before they get their name. Made and restored here."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from store import migrate
from store.copying import KEYS, TABLES, Row, copy, refuse_findings, refuse_unless_empty, verify
from store.port import NoRecord, StoreCorrupt, StoreError, StoreUnavailable, Verification
from store.sqlite import SqliteStore
from store.sqlite_file import connect, ensure, translate

PAGES = 1_024
"""Pages copied at once, 4 MiB: between two such steps the writer gets its turn."""


class SqliteRows:
    """`store.copying.Writer` on one connection."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.db = db
        self._path = path
        self.where = str(path)

    def rows(self, table: str) -> Iterator[Row]:
        """See the protocol."""
        try:
            columns, order = ", ".join(TABLES[table]), ", ".join(KEYS[table])  # SQLite compares text by its bytes
            yield from self.db.execute(f"SELECT {columns} FROM {table} ORDER BY {order}")  # noqa: S608 - names of TABLES
        except sqlite3.Error as problem:
            raise translate(problem, self._path) from problem

    def replace(self, table: str, rows: Iterable[Row]) -> None:
        """See the protocol."""
        columns, places = ", ".join(TABLES[table]), ", ".join("?" for _ in TABLES[table])
        try:
            self.db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of TABLES
            insert = f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - names of TABLES
            self.db.executemany(insert, rows)
        except sqlite3.Error as problem:
            raise translate(problem, self._path) from problem


def backup(record: Path, target: Path, busy_timeout: float = 5.0) -> Verification:
    """Copy the record at `record`, which others may be writing, to the new file `target`; what was verified in it.

    Uses SQLite's online backup: what is committed meanwhile is in the copy or not, as a whole. Raises StoreError when
    `target` exists, StoreCorrupt when the copy does not verify (then nothing is left behind), StoreUnavailable when it
    cannot be written.
    """
    with new_file(target) as draft:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy_pages(record, draft, busy_timeout)
        return verify_file(draft)


def restore(file: Path, record: Path, busy_timeout: float = 5.0) -> Verification:
    """Write the backup `file` into the record at `record`, which is made, or must be empty; what was verified in it.

    One transaction: whatever happens, the record holds all of the backup or nothing. Raises StoreError when `record`
    is not empty, NoRecord or StoreCorrupt when `file` is no backup, StoreUnavailable when `record` cannot be written.
    """
    with opened(file) as source:
        verify(source)
        try:
            ensure(record, busy_timeout)
            with closing(connect(record, read_only=False, busy_timeout=busy_timeout)) as db:
                db.execute("BEGIN IMMEDIATE")
                target = SqliteRows(db, record)
                refuse_unless_empty(target)
                copy(source, target)
                db.execute("COMMIT")  # closing without it rolls back
        except (sqlite3.Error, OSError) as problem:
            raise translate(problem, record) from problem
    with closing(SqliteStore.open(record, read_only=True)) as store:
        verification = store.verify()
    refuse_findings(verification)
    return verification


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """The path of a draft that gets the name `target` at the end of the block, unless the block raises.

    Raises StoreError when `target` exists (before the block, or after when somebody was faster), StoreUnavailable when
    it cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} is there already: name another file, a backup is never overwritten")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        try:
            yield draft
            _sync(draft)
            os.link(draft, target)
            _sync(target.parent)  # else a power cut could take the name away again
        finally:
            for leftover in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm", "-journal"))):
                leftover.unlink(missing_ok=True)
    except FileExistsError as problem:
        raise StoreError(f"{target} was made by somebody else meanwhile: name another file") from problem
    except OSError as problem:
        raise StoreUnavailable(f"the backup {target} cannot be written: {problem}; name another place") from problem


@contextmanager
def opened(file: Path) -> Iterator[SqliteRows]:
    """A backup, to read from: by its pages whole, of this program's schema (an older one is upgraded in a copy).

    Nothing is written beside it, so it may lie on a read-only disk. Raises NoRecord when there is no such file,
    StoreCorrupt when it is damaged, StoreError when it is no backup.
    """
    if not file.is_file():
        raise NoRecord(f"there is no backup {file}: name the file that `valuetrain db backup` wrote")
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"{file} is a record in use, not a backup: {log.name} beside it holds its newest commits; "
            "copy it with `valuetrain db backup`"
        )
    try:
        with _immutable(file) as source:
            if not migrate.needs_upgrade(_schema(source.db, file), str(file)):
                yield source
                return
        with tempfile.TemporaryDirectory(prefix="valuetrain-restore-") as folder:
            upgraded = Path(folder) / file.name
            shutil.copyfile(file, upgraded)
            SqliteStore.open(upgraded).close()
            with _immutable(upgraded) as source:
                yield source
    except (sqlite3.Error, OSError) as problem:
        raise translate(problem, file) from problem


def verify_file(file: Path) -> Verification:
    """Check the pages and the hash chains of the backup `file`. Raises StoreCorrupt naming the first bad thing."""
    with opened(file) as source:
        (answer,) = source.db.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise StoreCorrupt(f"the copy is damaged ({answer}): check the disk, and the record with `audit verify`")
        return verify(source)


@contextmanager
def _immutable(file: Path) -> Iterator[SqliteRows]:
    """Read a file that nobody writes, as it is, without SQLite's own files beside it."""
    uri = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
        yield SqliteRows(db, file)


@contextmanager
def unlogged(draft: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on a record that is thrown away if it fails: written once, with no log and no flush of its own."""
    try:
        with closing(connect(draft, read_only=False, busy_timeout=1.0)) as db:
            for pragma in ("journal_mode=OFF", "synchronous=OFF"):
                db.execute(f"PRAGMA {pragma}")
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as problem:
        raise translate(problem, draft) from problem


def _schema(db: sqlite3.Connection, file: Path) -> str:
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    row = db.execute(migrate.VERSION_QUERY).fetchone() if "alembic_version" in tables else None
    if row is None or "events" not in tables:
        raise StoreError(f"{file} is no backup of a record: name the file that `valuetrain db backup` wrote")
    return str(row[0])


def _copy_pages(record: Path, draft: Path, busy_timeout: float) -> None:
    try:
        with (
            closing(connect(record, read_only=True, busy_timeout=busy_timeout)) as source,
            closing(connect(draft, read_only=False, busy_timeout=busy_timeout)) as target,
        ):
            source.execute("BEGIN")  # one snapshot: a busy writer would make the copy start over for ever
            source.execute("SELECT count(*) FROM alembic_version").fetchone()
            source.backup(target, pages=PAGES)
    except sqlite3.Error as problem:
        raise translate(problem, record) from problem


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
