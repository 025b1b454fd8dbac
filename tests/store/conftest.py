"""Fixtures of both records."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from store.postgres import PostgresStore
from store.sqlite import SqliteStore
from store.tables import Table
from tests.store.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty record to copy: cheaper than migrating a new one for every test."""
    path = tmp_path_factory.mktemp("blank") / "record.db"
    SqliteStore.open(path).close()
    return path


@pytest.fixture
def path(tmp_path: Path, blank: Path) -> Path:
    """The path of an empty record of the test's own."""
    target = tmp_path / "record.db"
    shutil.copy(blank, target)
    return target


@pytest.fixture
def reopen(path: Path) -> Iterator[Callable[[], SqliteStore]]:
    """Opens the record at `path`, having closed it before if it was open."""
    opened: list[SqliteStore] = []

    def open_again() -> SqliteStore:
        while opened:
            opened.pop().close()
        opened.append(SqliteStore.open(path))
        return opened[0]

    yield open_again
    while opened:
        opened.pop().close()


@pytest.fixture
def store(reopen: Callable[[], SqliteStore]) -> SqliteStore:
    """An empty record, open."""
    return reopen()


# PostgreSQL


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server, one for each worker of the test run."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def empty_databases(postgres: PostgresServer) -> list[str]:
    """Names of databases that hold an empty record and that no test is using."""
    return []


@pytest.fixture
def new_database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database with nothing in it."""
    name = postgres.create()
    yield name
    postgres.drop(name)


@pytest.fixture
def database(postgres: PostgresServer, empty_databases: list[str]) -> Iterator[str]:
    """The name of a database with an empty record, the test's own."""
    if not empty_databases:
        empty_databases.append(postgres.create())
        PostgresStore.open(postgres.url(empty_databases[0])).close()
    name = empty_databases.pop()
    yield name
    try:
        postgres.empty(name, Table.metadata.tables)
    except psycopg.Error:  # a table is gone or locked: a new one for the next test
        postgres.drop(name)
    else:
        empty_databases.append(name)


@pytest.fixture
def url(postgres: PostgresServer, database: str) -> str:
    """Where that record is."""
    return postgres.url(database)


@pytest.fixture
def open_postgres(url: str) -> Iterator[Callable[..., PostgresStore]]:
    """Opens that record, once more each time; all are closed when the test ends."""
    with ExitStack() as stack:

        def open_one(**settings: Any) -> PostgresStore:
            store = PostgresStore.open(url, **settings)
            stack.callback(store.close)
            return store

        yield open_one
