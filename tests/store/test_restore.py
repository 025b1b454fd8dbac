"""A backup restored into either kind of record is the same record, and the work goes on there."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from cli.checkpointing import Checkpointing
from cli.home import Home
from conductor.service import Conductor
from store import migrate, postgres_backup, sqlite_backup
from store.copying import KEYS, TABLES, Row, copy
from store.port import Appended, NoRecord, StoreCorrupt, StoreError, TimerSet, View
from store.postgres import PostgresStore
from store.sqlite import SqliteStore
from store.tables import Table
from tests.audit.homes import STREAM, Place, completed
from tests.conductor.rig import TENANT
from tests.conformance.store import FOREIGN, NOON, ONE, append, handled
from tests.store.child import ROOT, process, start
from tests.store.postgres_server import PostgresServer

CACHES = {"snapshots"}
"""Tables that a copy leaves out: they are made again from the events."""

Rows = dict[str, list[Row]]


def open_store(where: str) -> SqliteStore | PostgresStore:
    return PostgresStore.open(where) if "://" in where else SqliteStore.open(where)


def back_up(where: str, file: Path) -> int:
    made = postgres_backup.backup(where, file) if "://" in where else sqlite_backup.backup(Path(where), file)
    return made.events


def restore(file: Path, where: str) -> int:
    made = postgres_backup.restore(file, where) if "://" in where else sqlite_backup.restore(file, Path(where))
    return made.events


def rows_of(where: str) -> Rows:
    """Every row of every table that counts, by a reader of the test's own."""
    if "://" in where:
        with psycopg.connect(where) as db:
            return {t: db.execute(_select(t, ' COLLATE "C"').encode()).fetchall() for t in TABLES}
    with closing(sqlite3.connect(where)) as db:
        return {t: db.execute(_select(t, "")).fetchall() for t in TABLES}


def _select(table: str, collation: str) -> str:
    order = ", ".join(k + collation * (TABLES[table][k] == "text") for k in KEYS[table])
    return f"SELECT {', '.join(TABLES[table])} FROM {table} ORDER BY {order}"


def fill(where: str, place: Place) -> None:
    """A session from start to end, another tenant, timers, views in gaps, a cursor, and a checkpoint over it all."""
    with closing(open_store(where)) as store:
        Conductor(store, TENANT)._handle(place.rig.commands)
        views = tuple(View("note", name, {"text": name}) for name in ("b", "a", "é", "Z"))
        timers = tuple(TimerSet(key, NOON, key.encode()) for key in ("b", "a", "é", "Z"))
        store.append(append(FOREIGN, 0, 3, handled=handled("c-other", accepted=False), timers=timers, views=views))
        store.append(append(FOREIGN, 3, 0, handled=handled("c-less"), views=(View("note", "a", None),)))
        store.move_cursor("relay", 2, "e-2")
        assert Checkpointing(store, place.home.record_key).sign() is not None


@pytest.fixture
def another(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a second database with nothing in it."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def origin(request: pytest.FixtureRequest, path: Path, place: Place) -> str:
    """Where a filled record is: in SQLite, or as the test asks."""
    where = request.getfixturevalue("url") if getattr(request, "param", "sqlite") == "postgres" else str(path)
    fill(where, place)
    return where


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where there is nothing yet."""
    wanted = getattr(request, "param", "sqlite")
    return request.getfixturevalue("another") if wanted == "postgres" else str(tmp_path / "target" / "record.db")


@pytest.fixture
def place(tmp_path: Path, blank: Path) -> Place:
    """A home with artifacts and keys of the session that `origin` holds."""
    return completed(tmp_path / "home", blank)


FROM_BOTH = pytest.mark.parametrize("origin", ["sqlite", "postgres"], indirect=True)
TO_BOTH = pytest.mark.parametrize("target", ["sqlite", "postgres"], indirect=True)


def test_every_table_and_column_is_copied() -> None:
    tables = {name: table for name, table in Table.metadata.tables.items() if name not in CACHES}
    assert list(TABLES) == list(tables)
    kinds = {"BIGINT": "int8", "INTEGER": "int4", "TEXT": "text", "BLOB": "bytea"}
    for name, table in tables.items():
        assert TABLES[name] == {c.name: kinds[str(c.type)] for c in table.columns}
        assert KEYS[name] == tuple(c.name for c in table.primary_key.columns)


@FROM_BOTH
@TO_BOTH
def test_the_copy_is_the_same_and_the_work_goes_on(origin: str, target: str, place: Place, tmp_path: Path) -> None:
    """Here and back into a new one: all four ways, each row the same, positions, ids and hashes too."""
    before = rows_of(origin)
    assert all(before.values()), "every table has something to lose"
    file = tmp_path / "monday.db"
    events = back_up(origin, file)
    assert events == len(before["events"]) == restore(file, target)
    assert rows_of(str(file)) == rows_of(target) == before
    assert not list(tmp_path.glob("monday.db?*")) + list(tmp_path.glob(".*")), "nothing beside it"

    new = Place(Home(tmp_path / "new"), place.rig)
    new.home.prepare()
    shutil.copytree(place.home.blobs, new.home.blobs)
    shutil.copytree(place.home.record_key.parent, new.home.record_key.parent)
    if "://" in target:
        new.home.config.write_text(f"store_url: {target}\n")
    else:
        shutil.copy(target, new.home.record)
        target = str(new.home.record)
    assert new.findings() == []
    code, replayed = new.run("session", "replay", STREAM.name, "--verify")
    assert (code, replayed["difference"]) == (0, None)
    with closing(open_store(target)) as store:
        rig = place.rig
        rig.send(rig.claim_command(), "evaluation")  # refused, which is an event too
        Conductor(store, TENANT)._handle(rig.commands[-1:])
        assert store.append(append(FOREIGN, 3, views=(View("note", "new", {"text": "new"}),))) == Appended(
            4, events + 2, events + 2
        )
        assert [row["text"] for row in store.views("other", "note")] == ["b", "é", "Z", "new"]
        assert Checkpointing(store, place.home.record_key).sign() is not None
    assert new.findings() == []
    assert new.run("audit", "verify")[1]["checkpoints"]["unsigned_events"] == 0
    assert new.run("session", "replay", STREAM.name, "--verify")[1]["difference"] is None
    again = tmp_path / "tuesday.db"
    assert new.run("db", "backup", again)[0] == 0
    assert rows_of(str(again)) == rows_of(target)


@TO_BOTH
def test_a_record_that_holds_something_is_left_alone(origin: str, target: str, place: Place, tmp_path: Path) -> None:
    file = tmp_path / "monday.db"
    back_up(origin, file)
    new = Place(Home(tmp_path / "new"), place.rig)
    new.home.prepare()
    if "://" in target:
        new.home.config.write_text(f"store_url: {target}\n")
    else:
        target = str(new.home.record)
    with closing(open_store(target)) as store:
        store.move_cursor("relay", 0, "")  # what a drive that had nothing to do leaves behind
    code, document = new.run("db", "restore", file)
    assert (code, document["events"]) == (0, len(rows_of(origin)["events"]))
    before = rows_of(target)
    code, document = new.run("db", "restore", file)
    assert code == 1
    assert "holds a record already" in document["error"]["message"]
    assert rows_of(target) == before
    with new.home.locked("drive"):
        code, document = new.run("db", "restore", file)
    assert "drive (process" in document["error"]["message"]
    with closing(open_store(target)) as store:
        store.append(append(ONE, 0))
    assert rows_of(target) != before


@pytest.mark.parametrize("one", [{"timers": (TimerSet("t", NOON, b"c"),)}, {"views": (View("note", "a", {}),)}])
def test_whatever_was_recorded_counts(origin: str, target: str, tmp_path: Path, one: dict[str, Any]) -> None:
    back_up(origin, tmp_path / "monday.db")
    with closing(open_store(target)) as store:
        store.append(append(ONE, 0, 0, **one))
    with pytest.raises(StoreError, match="holds a record already"):
        restore(tmp_path / "monday.db", target)


def test_an_older_backup_is_brought_up_to_date_in_a_copy(
    origin: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "monday.db"
    back_up(origin, file)
    before = file.read_bytes()
    older = SimpleNamespace(VERSION_QUERY=migrate.VERSION_QUERY, needs_upgrade=lambda found, where: True)
    monkeypatch.setattr(sqlite_backup, "migrate", older)
    restore(file, target)
    assert rows_of(target) == rows_of(origin)
    assert file.read_bytes() == before
    assert not list(tmp_path.glob("monday.db?*"))


# Others are writing


@pytest.mark.parametrize("origin", ["postgres"], indirect=True)
def test_a_copy_from_a_server_is_of_one_moment(origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every table another conductor commits to each of them."""
    before = rows_of(origin)
    read = postgres_backup.PostgresRows.rows
    with closing(open_store(origin)) as store:

        def busy(self: postgres_backup.PostgresRows, table: str) -> Iterator[Row]:
            yield from read(self, table)
            version = store.version(ONE)
            more = {"timers": (TimerSet(table, NOON, b"c"),), "views": (View("note", table, {}),)}
            store.append(append(ONE, version, handled=handled(f"c-{table}"), **more))
            store.move_cursor(table, version, "e")

        monkeypatch.setattr(postgres_backup.PostgresRows, "rows", busy)
        assert back_up(origin, tmp_path / "busy.db") == len(before["events"])
    assert rows_of(str(tmp_path / "busy.db")) == before
    assert len(rows_of(origin)["events"]) == len(before["events"]) + len(TABLES)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_while_a_writer_process_appends(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    where = str(request.getfixturevalue("path")) if kind == "sqlite" else request.getfixturevalue("url")
    with process("forever", where) as writer:
        start(writer)
        assert writer.stdout is not None
        ids = [writer.stdout.readline().strip() for _ in range(100)]
        made = [back_up(where, tmp_path / f"{n}.db") for n in range(3)]
        ids += [writer.stdout.readline().strip() for _ in range(100)]
        writer.kill()
    assert 100 <= made[0] <= made[1] <= made[2]
    for n, events in enumerate(made):
        restored = str(tmp_path / f"restored-{n}.db")
        assert restore(tmp_path / f"{n}.db", restored) == events
        stored = [row[list(TABLES["events"]).index("id")] for row in rows_of(restored)["events"]]
        assert stored[:100] == ids[:100]


# It ends in the middle

DYING = """
import os, signal, sys
from pathlib import Path
from store import copying, sqlite_backup
task, where, file = sys.argv[1:]
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
over = copying._Digest.over
def dying(self, rows):
    for row in over(self, rows):
        if len(row) == len(copying.TABLES["checkpoints"]) and isinstance(row[1], bytes): die()
        yield row
copying._Digest.over = dying
if "://" in where:
    from store import postgres_backup
    postgres_backup.restore(Path(file), where) if task == "restore" else postgres_backup.backup(where, Path(file))
elif task == "restore":
    sqlite_backup.restore(Path(file), Path(where))
else:
    sqlite_backup.verify_file = die
    sqlite_backup.backup(Path(where), Path(file))
"""
"""The last table is being written when the process dies; a copy of pages is being verified."""


def killed(task: str, where: str, file: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, task, where, str(file)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


@FROM_BOTH
def test_a_backup_that_was_killed_is_none(origin: str, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "monday.db"
    file.parent.mkdir()
    killed("backup", origin, file)
    assert not file.exists()
    assert all(p.name.startswith(".monday.db.") for p in file.parent.iterdir())
    assert back_up(origin, file) == len(rows_of(origin)["events"])


@TO_BOTH
def test_a_restore_that_was_killed_left_nothing(origin: str, target: str, tmp_path: Path) -> None:
    file = tmp_path / "monday.db"
    back_up(origin, file)
    killed("restore", target, file)
    assert not any(rows_of(target).values())
    restore(file, target)
    assert rows_of(target) == rows_of(origin)


# What is no backup


def spoilt(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


SPOILERS: dict[str, tuple[Callable[[Path], object], type[StoreError], str]] = {
    "changed": (
        lambda f: spoilt(f, "UPDATE events SET hash = zeroblob(32) WHERE sequence = 7"), StoreCorrupt, "event 7 of"),
    "cut off": (lambda f: spoilt(f, "DELETE FROM events WHERE position > 20"), StoreCorrupt, "truncated"),
    "half": (lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]), StoreCorrupt, "restore it from"),
    "another file": (lambda f: f.write_text("no database, but long enough for one"), StoreCorrupt, "no readable"),
    "another program's": (lambda f: (f.unlink(), spoilt(f, "CREATE TABLE a (b)")), StoreError, "no backup of a record"),
    "newer": (lambda f: spoilt(f, "UPDATE alembic_version SET version_num = '9999'"), StoreError, "newer program"),
    "not there": (lambda f: f.unlink(), NoRecord, "there is no backup"),
    "in use": (lambda f: f.with_name(f"{f.name}-wal").write_bytes(b"x"), StoreError, "a record in use"),
}  # fmt: skip


@pytest.mark.parametrize("how", list(SPOILERS))
def test_what_is_no_backup_is_refused_and_writes_nothing(how: str, origin: str, target: str, tmp_path: Path) -> None:
    file = tmp_path / "monday.db"
    back_up(origin, file)
    spoil, kind, said = SPOILERS[how]
    spoil(file)
    with pytest.raises(kind, match=said):
        restore(file, target)
    assert not Path(target).exists()


class Forgetful:
    """A record that loses one row of one table."""

    where = "the disk"

    def __init__(self, table: str) -> None:
        self._table = table
        self._kept: Rows = {table: [] for table in TABLES}

    def rows(self, table: str) -> Iterator[Row]:
        yield from self._kept[table][1 if table == self._table else 0 :]

    def replace(self, table: str, rows: Iterable[Row]) -> None:
        self._kept[table] = list(rows)


def test_what_does_not_come_back_as_written_is_found(origin: str, tmp_path: Path) -> None:
    back_up(origin, tmp_path / "monday.db")
    with sqlite_backup.opened(tmp_path / "monday.db") as source:
        for table in TABLES:
            with pytest.raises(StoreCorrupt, match=f"the disk does not give back .* table {table} "):
                copy(source, Forgetful(table))
