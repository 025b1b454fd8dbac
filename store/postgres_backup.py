"""The backup of a record in PostgreSQL is a SQLite record like any other; it can be restored into either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg

from store.copying import KEYS, TABLES, Row, copy, refuse_findings, refuse_unless_empty, verify
from store.port import Verification
from store.postgres import PostgresStore
from store.postgres_address import Address, parse
from store.postgres_link import Connection, PostgresLink, connect, lock_key, translate
from store.postgres_schema import ensure, ensure_readable
from store.sqlite import SqliteStore
from store.sqlite_backup import SqliteRows, new_file, opened, unlogged, verify_file

PAGE = 1_000
"""Rows read at once."""

_NEXT_VIEW = """SELECT setval(pg_get_serial_sequence('views', 'ordinal'),
    (SELECT coalesce(max(ordinal), 0) + 1 FROM views), false)"""


class PostgresRows:
    """`store.copying.Writer` on a connection in whose transaction all of it happens."""

    def __init__(self, db: Connection, address: Address) -> None:
        self._db = db
        self._address = address
        self.where = f"the record {address.where}"

    def rows(self, table: str) -> Iterator[Row]:
        """See the protocol."""
        columns = TABLES[table]
        order = ", ".join(key + ' COLLATE "C"' * (columns[key] == "text") for key in KEYS[table])
        try:
            with self._db.cursor(f"rows_{table}", binary=True) as cursor:
                cursor.itersize = PAGE
                query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}"  # noqa: S608 - names of TABLES
                yield from cursor.execute(query)
        except psycopg.Error as problem:
            raise translate(problem, self._address) from problem

    def replace(self, table: str, rows: Iterable[Row]) -> None:
        """See the protocol."""
        columns = TABLES[table]
        try:
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of TABLES
            with self._db.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)") as into:
                into.set_types(list(columns.values()))
                for row in rows:
                    into.write_row(row)
        except psycopg.Error as problem:
            raise translate(problem, self._address) from problem


def backup(url: str, target: Path) -> Verification:
    """Copy the record in the database at `url`, which others may be writing, to the new file `target`, a SQLite record;
    what was verified in it.

    One snapshot (REPEATABLE READ): what is committed meanwhile is not in the copy. Raises the store's errors:
    StoreError when `target` exists, StoreCorrupt when the copy does not verify (then nothing is left behind).
    """
    address = parse(url)
    try:
        schema = ensure_readable(address)
    except psycopg.Error as problem:
        raise translate(problem, address) from problem
    link = PostgresLink(address, schema, read_only=True, busy_timeout=10.0)
    with new_file(target) as draft, closing(link), link.snapshot() as db:
        SqliteStore.open(draft).close()
        with unlogged(draft) as file:
            copy(PostgresRows(db, address), SqliteRows(file, draft))
        return verify_file(draft)


def restore(file: Path, url: str) -> Verification:
    """Write the backup `file` into the database at `url`, where there must be no record or an empty one; what was
    verified in it.

    One transaction: whatever happens, the record holds all of the backup or nothing. Raises StoreError when it is not
    empty, NoRecord or StoreCorrupt when `file` is no backup, StoreUnavailable when the database cannot be reached.
    """
    address = parse(url)
    with opened(file) as source:
        verify(source)
        try:
            schema = ensure(address)
            with closing(connect(address)) as db, db.transaction():
                # Nobody appends, signs or moves a cursor until this is committed.
                db.execute("SELECT pg_advisory_xact_lock(%b)", (lock_key("append", schema),))
                db.execute(f"LOCK TABLE {', '.join(TABLES)} IN EXCLUSIVE MODE")
                db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                target = PostgresRows(db, address)
                refuse_unless_empty(target)
                copy(source, target)
                db.execute(_NEXT_VIEW)
        except psycopg.Error as problem:
            raise translate(problem, address) from problem
    with closing(PostgresStore.open(url, read_only=True)) as store:
        verification = store.verify()
    refuse_findings(verification)
    return verification
