"""Is there a record in this database, and is it up to date? Created and migrated in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg

from store import migrate
from store.port import NoRecord, StoreError
from store.postgres_address import Address, parse
from store.postgres_link import connect, lock_key, translate

OLDEST = 14
"""Major version of PostgreSQL; before, it does not end sessions that are idle, and leases never ran out."""

_ABOUT = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_schema()"
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
_OURS = {"events", "streams", "inbox"}


def ensure(address: Address) -> str:
    """Make sure that the database holds an up-to-date record: create or migrate it if need be. The schema's name."""
    with closing(connect(address)) as db:
        schema = _usable_schema(db, address)
        if not _outdated(db, address):
            return schema
    _upgrade(address, schema)
    return schema


def ensure_readable(address: Address) -> str:
    """Make sure that the database holds a record this program can read, changing nothing. The schema's name."""
    with closing(connect(address, read_only=True)) as db:
        schema = _usable_schema(db, address)
        found = _version(db, address)
    if found is None:
        raise NoRecord(f"there is no record yet at {address.where}: start a drive (`valuetrain drive`)")
    if migrate.needs_upgrade(found, address.where):
        raise StoreError(
            f"the record {address.where} has schema {found}, this program reads {migrate.HEAD}: "
            "it is brought up to date the next time a drive opens it"
        )
    return schema


def schema_of(url: str) -> tuple[str, str]:
    """Where the record at `url` is (without a password), and its schema version, "none" when there is no record yet.

    Raises the store's errors.
    """
    address = parse(url)
    try:
        with closing(connect(address, read_only=True)) as db:
            return address.where, _version(db, address) or "none"
    except psycopg.Error as problem:
        raise translate(problem, address) from problem


def _usable_schema(db: psycopg.Connection[Any], address: Address) -> str:
    version, encoding, schema = db.execute(_ABOUT).fetchone() or (0, "", None)
    if version < OLDEST * 10_000:
        raise StoreError(f"{address.where} is PostgreSQL {version // 10_000}: version {OLDEST} or newer is needed")
    if encoding != "UTF8":
        raise StoreError(f"the database {address.where} is encoded in {encoding}: create one with ENCODING 'UTF8'")
    if schema is None:
        raise StoreError(f"the search_path of {address.where} names no schema that exists: create it first")
    return str(schema)


def _version(db: psycopg.Connection[Any], address: Address) -> str | None:
    """The record's schema version; None when the database's schema is free for one."""
    tables = {name for (name,) in db.execute(_TABLES)}
    if "alembic_version" in tables and tables >= _OURS and (row := db.execute(migrate.VERSION_QUERY).fetchone()):
        return str(row[0])
    if "alembic_version" in tables or tables & _OURS:
        raise StoreError(
            f"the database {address.where} is in use by some other program: give the record a database of its own "
            "(or a schema: ?options=-csearch_path%3DNAME)"
        )
    return None


def _outdated(db: psycopg.Connection[Any], address: Address) -> bool:
    found = _version(db, address)
    return found is None or migrate.needs_upgrade(found, address.where)


def _upgrade(address: Address, schema: str) -> None:
    """Migrate under a lock; a second process that waited for it finds nothing left to do."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    creator: Callable[[], Any] = lambda: psycopg.connect(**address.parameters)  # noqa: E731
    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (lock_key("schema", schema),))
            driver: Any = connection.connection.driver_connection
            if _outdated(driver, address):
                migrate.upgrade(connection)
                connection.commit()
    except DBAPIError as problem:
        raise (problem.orig or problem) from problem  # the driver's own error, as everywhere else
