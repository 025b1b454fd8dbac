"""A copy of a SQLite record that is in use: whole, of one moment, and verified before it gets its name."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from store.port import StoreCorrupt, StoreError, StoreUnavailable, Verification
from store.sqlite import SqliteStore
from store.sqlite_file import connect, translate

PAGES = 1_024
"""Pages copied at once, 4 MiB: between two such steps the writer gets its turn."""


def backup(record: Path, target: Path, busy_timeout: float = 5.0) -> Verification:
    """Copy the record at `record`, which others may be writing, to the new file `target`; what was verified in it.

    Uses SQLite's online backup: what is committed meanwhile is in the copy or not, as a whole. Raises StoreError when
    `target` exists, StoreCorrupt when the copy does not verify (then nothing is left behind), StoreUnavailable when it
    cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} is there already: name another file, a backup is never overwritten")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        try:
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            _copy(record, draft, busy_timeout)
            verification = _verified(draft)
            os.link(draft, target)
            _sync(target.parent)
            return verification
        finally:
            for leftover in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm", "-journal"))):
                leftover.unlink(missing_ok=True)
    except FileExistsError as problem:
        raise StoreError(f"{target} was made by somebody else meanwhile: name another file") from problem
    except OSError as problem:
        raise StoreUnavailable(f"the backup {target} cannot be written: {problem}; name another place") from problem


def _copy(record: Path, draft: Path, busy_timeout: float) -> None:
    try:
        with (
            closing(connect(record, read_only=True, busy_timeout=busy_timeout)) as source,
            closing(connect(draft, read_only=False, busy_timeout=busy_timeout)) as copy,
        ):
            source.execute("BEGIN")  # one snapshot: a busy writer would make the copy start over for ever
            source.execute("SELECT count(*) FROM alembic_version").fetchone()
            source.backup(copy, pages=PAGES)
    except sqlite3.Error as problem:
        raise translate(problem, record) from problem
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verified(draft: Path) -> Verification:
    with closing(connect(draft, read_only=True, busy_timeout=1.0)) as copy:
        (answer,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    if answer != "ok":
        raise StoreCorrupt(f"the copy is damaged ({answer}): check the disk, and the record with `audit verify`")
    with closing(SqliteStore.open(draft, read_only=True)) as store:
        verification = store.verify()
    if verification.findings:
        first = verification.findings[0]
        where = f"event {first.sequence} of {first.stream.name}"
        raise StoreCorrupt(
            f"the record is not as it was written ({where}: {first.problem}): keep older backups, see `audit verify`"
        )
    return verification


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # else a power cut could take the name away again
    finally:
        os.close(descriptor)
