"""Opening a record in PostgreSQL: created whole, migrated, refused with a reason; and what is never said."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import errors
from sqlalchemy import create_engine

from store import migrate, postgres_schema
from store.port import Append, Appended, StoreCorrupt, StoreError, StoreUnavailable, TimerSet
from store.postgres import PostgresStore
from store.postgres_address import parse
from store.postgres_link import connect, translate
from store.tables import Table
from tests.conformance.store import NOON, ONE, append, handled
from tests.store.postgres_server import PostgresServer
from tests.store.test_opening import newer_program

ROOT = Path(__file__).parents[2]
Open = Callable[..., PostgresStore]


@pytest.fixture
def new_url(postgres: PostgresServer, new_database: str) -> str:
    """Where a database with nothing in it is."""
    return postgres.url(new_database)


def test_two_that_create_at_once_get_one_record(new_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both_there = threading.Barrier(2)
    upgrade = postgres_schema._upgrade

    def together(*arguments: object) -> None:
        both_there.wait(30)
        upgrade(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(postgres_schema, "_upgrade", together)
    stores: list[PostgresStore] = []
    threads = [threading.Thread(target=lambda: stores.append(PostgresStore.open(new_url))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, two = stores
    assert one.append(append(ONE, 0)) == Appended(1, 1, 1)
    assert two.append(append(ONE, 1)) == Appended(2, 2, 2)
    one.close()
    two.close()


def test_opening_an_up_to_date_record_loads_neither_alembic_nor_sqlalchemy(url: str) -> None:
    code = (
        "import sys; from store.postgres import PostgresStore; PostgresStore.open(sys.argv[1]).close();"
        "print([name for name in ('alembic', 'sqlalchemy', 'sqlmodel', 'cryptography') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, url], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_migrations_make_what_the_tables_say(url: str) -> None:
    with create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url)).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_several_records_in_one_database(postgres: PostgresServer, new_database: str, new_url: str) -> None:
    for schema in ("one", "two"):
        postgres.run(f"CREATE SCHEMA {schema}", new_database)
        with pytest.raises(StoreError, match="no record yet"):
            PostgresStore.open(f"{new_url}?options=-csearch_path%3D{schema}", read_only=True)
        store = PostgresStore.open(f"{new_url}?options=-csearch_path%3D{schema}")
        assert store.append(append(ONE, 0)) == Appended(1, 1, 1)
        store.close()
    with pytest.raises(StoreError, match="names no schema that exists"):
        PostgresStore.open(f"{new_url}?options=-csearch_path%3Dnone")


# Reading only


def test_a_reader_sees_each_commit_and_changes_nothing(open_postgres: Open) -> None:
    store, reader = open_postgres(), open_postgres(read_only=True)
    for version in range(5):
        assert reader.version(ONE) == version
        store.append(append(ONE, version, handled=handled(f"c-{version}")))
        assert [envelope.sequence for envelope in reader.read(ONE)] == list(range(1, version + 2))
        assert reader.handled(f"c-{version}") is not None
    assert reader.verify().events == 5
    for write in (lambda: reader.append(append(ONE, 5)), lambda: reader.move_cursor("relay", 1, "e")):
        with pytest.raises(StoreError, match="for reading only"):
            write()
    with pytest.raises(errors.ReadOnlySqlTransaction), reader._link.connect() as db:
        db.execute("DELETE FROM events")


def test_a_reader_creates_nothing(postgres: PostgresServer, new_database: str, new_url: str) -> None:
    with pytest.raises(StoreError, match=r"no record yet at postgresql://.*valuetrain drive"):
        PostgresStore.open(new_url, read_only=True)
    assert postgres.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", new_database) == []


# Schema versions


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_record_is_refused(postgres: PostgresServer, database: str, url: str, read_only: bool) -> None:
    postgres.run("UPDATE alembic_version SET version_num = '0999'", database)
    try:
        with pytest.raises(StoreError, match=r"has schema 0999.*knows up to .*update it"):
            PostgresStore.open(url, read_only=read_only)
    finally:
        postgres.run(f"UPDATE alembic_version SET version_num = '{migrate.HEAD}'", database)


def test_an_older_record_is_migrated_at_open(
    new_url: str, postgres: PostgresServer, new_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore.open(new_url)
    store.append(append(ONE, 0, 2))
    newer_program(tmp_path, monkeypatch, "op.execute('CREATE TABLE next (a INTEGER)')")
    with pytest.raises(StoreError, match="has schema 0002, this program reads 0003"):
        PostgresStore.open(new_url, read_only=True)
    migrated = PostgresStore.open(new_url)
    assert migrated.append(append(ONE, 2)) == Appended(3, 3, 3)
    assert migrated.verify().findings == ()
    assert postgres.run(migrate.VERSION_QUERY, new_database) == [("0003",)]
    assert postgres.run("SELECT * FROM next", new_database) == []
    assert store.append(append(ONE, 3)) == Appended(4, 4, 4), "who had it open goes on"
    store.close()
    migrated.close()


def test_a_failing_migration_leaves_the_record_as_it_was(
    new_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore.open(new_url)
    store.append(append(ONE, 0, 2))
    newer_program(tmp_path, monkeypatch, "op.execute('DROP TABLE events'); op.execute('not SQL')")
    with pytest.raises(StoreError, match="refused: syntax error"):
        PostgresStore.open(new_url)
    monkeypatch.undo()
    again = PostgresStore.open(new_url)
    assert again.version(ONE) == 2
    assert again.verify().findings == ()
    store.close()
    again.close()


# What is no place for a record


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE events (title TEXT)",
        "CREATE TABLE alembic_version (version_num TEXT)",
        "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('bd07f7e963c5')",
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_another_program(
    postgres: PostgresServer, new_database: str, new_url: str, statement: str, read_only: bool
) -> None:
    postgres.run(statement, new_database)
    with pytest.raises(StoreError, match="some other program: give the record a database of its own"):
        PostgresStore.open(new_url, read_only=read_only)


def test_a_database_in_another_encoding(postgres: PostgresServer) -> None:
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StoreError, match="encoded in LATIN1: create one with ENCODING 'UTF8'"):
        PostgresStore.open(postgres.url("latin"))
    postgres.drop("latin")


def test_an_old_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_schema, "OLDEST", 99)
    with pytest.raises(StoreError, match=r"is PostgreSQL \d+: version 99 or newer is needed"):
        PostgresStore.open(url)


def test_a_role_that_may_not_create(postgres: PostgresServer, new_database: str) -> None:
    postgres.run("CREATE ROLE guest LOGIN PASSWORD 's3cret-guest'")
    with pytest.raises(StoreError, match="refused: permission denied for schema public"):
        PostgresStore.open(postgres.url(new_database, "guest", "s3cret-guest"))
    postgres.run("DROP ROLE guest")


def test_a_database_that_is_not_there(postgres: PostgresServer) -> None:
    with pytest.raises(StoreUnavailable, match=r'postgresql://postgres@127.*database "nowhere" does not exist'):
        PostgresStore.open(postgres.url("nowhere"))


# What a session is told


@pytest.mark.parametrize(("set_to", "becomes"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")])
def test_an_answered_commit_is_on_the_disk(url: str, set_to: str, becomes: str) -> None:
    with connect(parse(f"{url}?options=-csynchronous_commit%3D{set_to}")) as db:
        assert db.execute("SHOW synchronous_commit").fetchone() == (becomes,)


def test_another_isolation_by_default_changes_nothing(url: str) -> None:
    """The transaction says itself what it needs."""
    odd = f"{url}?options=-cdefault_transaction_isolation%3Dserializable%20-cdefault_transaction_deferrable%3Don"
    one, two = PostgresStore.open(odd), PostgresStore.open(url)
    for version in range(0, 6, 2):
        assert one.append(append(ONE, version)) == Appended(version + 1, version + 1, version + 1)
        assert two.append(append(ONE, version + 1)) == Appended(version + 2, version + 2, version + 2)
    one.close()
    two.close()


def test_text_that_postgresql_cannot_hold(open_postgres: Open) -> None:
    store = open_postgres()
    with pytest.raises(StoreError, match=r"invalid byte sequence.*0x00"):
        store.append(Append(ONE, 0, (), handled("c"), (TimerSet("a\0b", NOON, b""),)))
    assert store.handled("c") is None
    assert store.append(append(ONE, 0)) == Appended(1, 1, 1)


# Secrets


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://alice:pa55@word@server/record",
        "postgresql://alice:pa55/word@server/record",
        "postgresql://alice:pa55?word@server/record",
        "postgresql://alice:pa55#word@server/record",
        "postgresql://alice:pa55%word@server/record",
        "postgresql://alice:pa55 word@server/record",
        "postgresql://alice:pa55word",
        "postgresql://alice:pa55word/record",
        "postgresql://alice@server/record?pa55word",
        "postgresql://alice@server/record?secret=pa55word",
        "mysql://alice:pa55word@server/record",
        "alice:pa55word@server/record",
        "host=server password=pa55word",
        "",
    ],
)
def test_a_url_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(StoreError, match="the record's URL") as caught:
        PostgresStore.open(url)
    said = "".join(traceback.format_exception(caught.value))
    assert "pa55" not in said.split("the record's URL")[-1]
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://alice:pa55%40word@server:5433/record", "postgresql://alice@server:5433/record"),
        ("postgres://alice:pa:55@one:1,two:2/record?sslmode=require", "postgresql://alice@one,two:1,2/record"),
        ("postgresql:///record?host=/var/run/postgresql&password=pa55", "postgresql:///var/run/postgresql/record"),
        ("postgresql://", "postgresql://"),
    ],
)
def test_where_a_record_is_can_be_said(url: str, where: str) -> None:
    address = parse(url)
    assert address.where == where
    assert "pa55" not in repr(address)


def test_a_password_is_taken_out_of_whatever_is_said() -> None:
    address = parse("postgresql://alice:pa55@server/record?sslpassword=key55")
    said = str(translate(psycopg.OperationalError("login pa55\nkey key55\tof alice failed"), address))
    assert "(login *** key *** of alice failed)" in said


def test_a_wrong_password_is_not_repeated(
    postgres: PostgresServer, database: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wr0" + "ng"  # in two parts, since a traceback shows this line
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(StoreUnavailable, match="password authentication failed for user") as caught:
            PostgresStore.open(postgres.url(database, password=wrong))
        store = PostgresStore.open(url)
        store.append(append(ONE, 0))
        postgres.run("ALTER ROLE postgres VALID UNTIL '2000-01-01'", database)
        try:
            with pytest.raises(StoreUnavailable) as later:
                while True:  # until the connections there are have been used
                    store._link._drop_idle()
                    store.version(ONE)
        finally:
            store._appender._db.execute("ALTER ROLE postgres VALID UNTIL 'infinity'")  # type: ignore[union-attr]
        store.close()
    shown = [repr(store), repr(store._link), repr(store._link.address), caplog.text]
    for problem in (caught.value, later.value):
        shown += [str(problem), repr(problem), "".join(traceback.format_exception(problem)).partition("Error")[2]]
    for text in shown:
        assert wrong not in text
        assert postgres.password not in text


# What the server says


@pytest.mark.parametrize(
    ("problem", "expected", "said"),
    [
        (errors.DataCorrupted("invalid page"), StoreCorrupt, "is damaged .*from a backup"),
        (errors.IndexCorrupted("bad"), StoreCorrupt, "is damaged"),
        (errors.DiskFull("no space"), StoreUnavailable, "its disk"),
        (errors.TooManyConnections("sorry"), StoreUnavailable, "sorry"),
        (errors.ReadOnlySqlTransaction("standby"), StoreUnavailable, "name the primary"),
        (errors.DeadlockDetected("deadlock"), StoreUnavailable, "deadlock"),
        (errors.LockNotAvailable("timeout"), StoreUnavailable, "locked by another program"),
        (errors.IdleInTransactionSessionTimeout("idle"), StoreUnavailable, "idle"),
        (errors.AdminShutdown("bye"), StoreUnavailable, "bye"),
        (psycopg.InterfaceError("the connection is closed"), StoreUnavailable, "closed"),
        (errors.InsufficientPrivilege("no"), StoreError, "refused: no"),
    ],
)
def test_the_servers_errors_become_the_stores(problem: psycopg.Error, expected: type[StoreError], said: str) -> None:
    translated = translate(problem, parse("postgresql://server/record"))
    assert type(translated) is expected
    assert re.search(said, str(translated))
    assert str(translated).startswith("the record postgresql://server/record")
