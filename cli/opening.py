"""Opening the record where the settings say it is: a SQLite file in the home, or a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from cli.errors import CliError
from cli.home import Home
from cli.settings import Settings
from store.port import NoRecord, Store, Verification

NO_DRIVER = "a record in PostgreSQL needs the extra: pip install 'agenticops-value-train[postgres]'"


def open_store(home: Home, settings: Settings, read_only: bool = False) -> Store:
    """The record; made, or brought up to date, unless `read_only`. The caller closes it.

    Raises the store's errors, and CliError when PostgreSQL is wanted and its driver is not installed.
    """
    if settings.store_url is None:
        from store.sqlite import SqliteStore

        return SqliteStore.open(home.record, read_only=read_only)
    try:
        from store.postgres import PostgresStore
    except ImportError as problem:
        raise CliError(f"{NO_DRIVER} ({problem})") from problem
    return PostgresStore.open(settings.store_url.get_secret_value(), read_only=read_only)


def has_record(home: Home, settings: Settings) -> bool:
    """Whether anything was ever recorded. Raises as `open_store` does."""
    if settings.store_url is None:
        return home.record.exists()
    try:
        open_store(home, settings, read_only=True).close()
    except NoRecord:
        return False
    return True


def upgrade(home: Home, settings: Settings) -> tuple[str, str, str]:
    """Bring the record up to this program's schema: where it is (without a password), its schema before and after.

    Raises as `open_store` does.
    """
    if settings.store_url is None:
        from store.sqlite_file import schema_of

        place, before = str(home.record), schema_of(home.record)
        open_store(home, settings).close()
        return place, before, schema_of(home.record)
    try:
        from store import postgres_schema
    except ImportError as problem:
        raise CliError(f"{NO_DRIVER} ({problem})") from problem
    url = settings.store_url.get_secret_value()
    place, before = postgres_schema.schema_of(url)
    open_store(home, settings).close()
    return place, before, postgres_schema.schema_of(url)[1]


def back_up(home: Home, settings: Settings, file: Path) -> Verification:
    """Copy the record, which may be in use, to the new `file`; what was verified in the copy.

    Raises the store's errors, and CliError when PostgreSQL is wanted and its driver is not installed.
    """
    if settings.store_url is None:
        from store.sqlite_backup import backup as from_sqlite

        return from_sqlite(home.record, file)
    try:
        from store.postgres_backup import backup as from_postgres
    except ImportError as problem:
        raise CliError(f"{NO_DRIVER} ({problem})") from problem
    return from_postgres(settings.store_url.get_secret_value(), file)


def bring_back(home: Home, settings: Settings, file: Path) -> Verification:
    """Write the backup `file` into the record, which must be empty; what was verified in it afterwards.

    Raises as `back_up` does.
    """
    if settings.store_url is None:
        from store.sqlite_backup import restore as into_sqlite

        return into_sqlite(file, home.record)
    try:
        from store.postgres_backup import restore as into_postgres
    except ImportError as problem:
        raise CliError(f"{NO_DRIVER} ({problem})") from problem
    return into_postgres(file, settings.store_url.get_secret_value())
