"""Opening a record: created whole and private, migrated, refused with a reason."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from store import filesystem, migrate, sqlite_file
from store.port import Appended, StoreCorrupt, StoreError, StoreUnavailable
from store.sqlite import SqliteStore
from store.tables import Table
from tests.conformance.store import ONE, append, handled

ROOT = Path(__file__).parents[2]


def test_a_new_record_is_private_and_syncs(tmp_path: Path) -> None:
    path = tmp_path / "data" / "record.db"
    store = SqliteStore.open(path)
    store.append(append(ONE, 0))
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {"record.db": 0o600, "record.db-wal": 0o600, "record.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with store._file.transaction() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
    store.close()
    assert [each.name for each in path.parent.iterdir()] == ["record.db"]


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    SqliteStore.open(tmp_path / "record.db").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_opening_an_up_to_date_record_loads_neither_alembic_nor_sqlalchemy(path: Path) -> None:
    code = (
        "import sys; from store.sqlite import SqliteStore; SqliteStore.open(sys.argv[1]).close();"
        "print([name for name in ('alembic', 'sqlalchemy', 'sqlmodel', 'cryptography') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_two_processes_creating_at_once_get_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.db"
    both_there = threading.Barrier(2)
    upgrade = sqlite_file._upgrade

    def together(db: sqlite3.Connection) -> None:
        upgrade(db)
        both_there.wait(30)

    monkeypatch.setattr(sqlite_file, "_upgrade", together)
    stores: list[SqliteStore] = []
    threads = [threading.Thread(target=lambda: stores.append(SqliteStore.open(path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, two = stores
    assert one.append(append(ONE, 0)) == Appended(1, 1, 1)
    assert two.version(ONE) == 1
    one.close()
    two.close()
    assert [each.name for each in tmp_path.iterdir()] == ["record.db"]


# Reading only


def test_a_reader_sees_each_commit_and_changes_nothing(store: SqliteStore, path: Path) -> None:
    reader = SqliteStore.open(path, read_only=True)
    for version in range(5):
        assert reader.version(ONE) == version
        store.append(append(ONE, version, handled=handled(f"c-{version}")))
        assert [envelope.sequence for envelope in reader.read(ONE)] == list(range(1, version + 2))
        assert reader.handled(f"c-{version}") is not None
    assert reader.verify().events == 5
    for write in (lambda: reader.append(append(ONE, 5)), lambda: reader.move_cursor("relay", 1, "e")):
        with pytest.raises(StoreError, match="for reading only"):
            write()
    reader.close()
    assert store.append(append(ONE, 5)) == Appended(6, 6, 6)


def test_a_reader_needs_no_writer(path: Path) -> None:
    reader = SqliteStore.open(path, read_only=True)
    assert reader.last_position() == 0
    reader.close()


def test_a_reader_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no record yet at .*record\.db"):
        SqliteStore.open(tmp_path / "data" / "record.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


# Schema versions


def test_migrations_make_what_the_tables_say(path: Path) -> None:
    with create_engine(f"sqlite:///{path}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_the_newest_migration_is_the_programs_version() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_record_is_refused(path: Path, read_only: bool) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '0999'")
    db.close()
    with pytest.raises(StoreError, match=r"record\.db has schema 0999.*knows up to .*update it"):
        SqliteStore.open(path, read_only=read_only)


def newer_program(folder: Path, monkeypatch: pytest.MonkeyPatch, upgrade: str) -> None:
    """As if this program had one more migration, whose upgrade does `upgrade`."""
    target = folder / "100% new" / "migrations"
    shutil.copytree(migrate.MIGRATIONS, target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "versions" / "v0003_next.py").write_text(
        f"from alembic import op\nrevision = '0003'\ndown_revision = '0002'\n\ndef upgrade():\n    {upgrade}\n"
    )
    monkeypatch.setattr(migrate, "MIGRATIONS", target)
    monkeypatch.setattr(migrate, "HEAD", "0003")


def test_an_older_record_is_migrated_at_open(
    store: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(append(ONE, 0, 2))
    newer_program(tmp_path, monkeypatch, "op.execute('CREATE TABLE next (a INTEGER)')")
    with pytest.raises(StoreError, match="has schema 0002, this program reads 0003"):
        SqliteStore.open(path, read_only=True)
    migrated = SqliteStore.open(path)
    assert migrated.append(append(ONE, 2)) == Appended(3, 3, 3)
    assert migrated.verify().findings == ()
    migrated.close()
    with sqlite3.connect(path) as db:
        assert db.execute(migrate.VERSION_QUERY).fetchone() == ("0003",)
        assert db.execute("SELECT * FROM next").fetchall() == []
    db.close()


def test_a_failing_migration_leaves_the_record_as_it_was(
    store: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(append(ONE, 0, 2))
    newer_program(tmp_path, monkeypatch, "op.execute('DROP TABLE events'); op.execute('not SQL')")
    with pytest.raises(StoreError, match=r"record\.db refused.*syntax error"):
        SqliteStore.open(path)
    monkeypatch.undo()
    again = SqliteStore.open(path)
    assert again.version(ONE) == 2
    assert again.verify().findings == ()
    again.close()


def test_a_migration_waits_for_the_writer_no_longer_than_told(
    store: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer_program(tmp_path, monkeypatch, "pass")
    with store._file.transaction(), pytest.raises(StoreUnavailable, match="locked"):
        SqliteStore.open(path, busy_timeout=0.01)


# What is no record


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    path.write_bytes(b"x" * 5_000)
    with pytest.raises(StoreCorrupt, match=r"record\.db is no readable record"):
        SqliteStore.open(path)


def test_an_empty_file_is_not_taken_for_a_new_record(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    path.touch()
    with pytest.raises(StoreCorrupt, match="is empty"):
        SqliteStore.open(path)


def test_a_damaged_record(path: Path) -> None:
    store = SqliteStore.open(path)
    store.append(append(ONE, 0, 200))
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8_192)
        file.write(b"\xff" * (size - 8_192))
    damaged = SqliteStore.open(path)
    with pytest.raises(StoreCorrupt, match=r"record\.db is no readable record"):
        damaged.verify()
    with pytest.raises(StoreCorrupt, match=r"record\.db is no readable record"):
        damaged.append(append(ONE, 200))
    damaged.close()


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    db.close()
    with pytest.raises(StoreError, match="some other program"):
        SqliteStore.open(path)


def test_a_log_without_its_record_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "record.db-wal").write_bytes(b"log")
    with pytest.raises(StoreCorrupt, match=r"record\.db is gone, but its log record\.db-wal is there"):
        SqliteStore.open(tmp_path / "record.db")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        SqliteStore.open(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"record\.db cannot be reached"):
        SqliteStore.open(tmp_path / "file" / "record.db")


def test_no_room_for_a_new_record_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        problem = sqlite3.OperationalError("database or disk is full")
        problem.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise problem

    monkeypatch.setattr(sqlite_file, "_upgrade", full)
    with pytest.raises(StoreUnavailable, match="full"):
        SqliteStore.open(tmp_path / "record.db")
    assert list(tmp_path.iterdir()) == []


# File systems


def mounts(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What the kernel says is mounted."""
    table = folder / "mounts"
    table.write_text("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(filesystem, "MOUNTS", table)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    share = tmp_path / "the share"
    mounts(
        tmp_path,
        monkeypatch,
        "/dev/vda / ext4 rw 0 0",
        f"server:/x {os.fspath(share).replace(' ', chr(92) + '040')} {kind} rw 0 0",
    )
    with pytest.raises(StoreError, match=rf"the share.*network file system \({kind}, mounted at .*the share\)"):
        SqliteStore.open(share / "data" / "record.db")
    assert not share.exists()
    SqliteStore.open(tmp_path / "record.db").close()


def test_what_is_mounted_last_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(tmp_path, monkeypatch, "s:/ / nfs rw 0 0", "/dev/vda / ext4 rw 0 0", "s:/x /elsewhere nfs rw 0 0")
    assert filesystem.file_system(tmp_path) == ("/", "ext4")
    SqliteStore.open(tmp_path / "record.db").close()


def test_the_innermost_mount_counts_wherever_it_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(tmp_path, monkeypatch, f"/dev/vdb {tmp_path} xfs rw 0 0", "s:/ / nfs rw 0 0")
    assert filesystem.file_system(tmp_path / "data") == (str(tmp_path), "xfs")


def test_a_sandboxs_own_root_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(tmp_path, monkeypatch, "none / 9p rw 0 0")
    SqliteStore.open(tmp_path / "record.db").close()


def test_a_system_without_a_mount_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "none")
    assert filesystem.file_system(tmp_path) is None
    SqliteStore.open(tmp_path / "record.db").close()
