"""A backup made while the record is written to, restored into a new home, is whole."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cli.home import Home
from store import sqlite_backup
from store.migrate import HEAD
from tests.audit.homes import STREAM, Place


def restored(place: Place, file: Path, home: Path) -> Place:
    """What docs/operations.md says: the file under its name, artifacts and keys beside it."""
    new = Home(home)
    new.prepare()
    shutil.copy(file, new.record)
    shutil.copytree(place.home.blobs, new.blobs)
    shutil.copytree(place.home.record_key.parent, new.record_key.parent)
    return Place(new, place.rig)


def test_a_backup_restored_into_a_new_home_is_clean_and_replays(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "monday.db"
    code, document = place.run("db", "backup", file)
    assert (code, document["events"]) == (0, len(place.rig.log))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["monday.db"], "nothing beside it"
    new = restored(place, file, tmp_path / "new")
    assert new.findings() == []
    code, replayed = new.run("session", "replay", STREAM.name, "--verify")
    assert (code, replayed["difference"]) == (0, None)
    assert new.run("session", "show", STREAM.name) == place.run("session", "show", STREAM.name)
    new.rig.send(new.rig.claim_command(), "evaluation")  # and it can be written to
    new.recorded = len(new.rig.commands) - 1
    new.record()
    new.sign()
    assert new.findings() == []
    with closing(sqlite3.connect(new.home.record)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_it_is_of_one_moment_while_somebody_writes(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every page copied the conductor commits another command: the copy neither grows nor starts over."""
    before = len(place.rig.log)
    connect = sqlite_backup.connect
    written = 0

    class Watched(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **options: object) -> None:  # type: ignore[override]
            def progress(status: int, remaining: int, total: int) -> None:
                nonlocal written
                written += 1
                place.rig.send(place.rig.claim_command(), "evaluation")
                place.record()

            super().backup(target, pages=8, progress=progress)

    def watching(path: Path, *, read_only: bool, busy_timeout: float) -> sqlite3.Connection:
        if path != place.home.record:
            return connect(path, read_only=read_only, busy_timeout=busy_timeout)
        return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, factory=Watched)

    place.recorded = len(place.rig.commands)
    monkeypatch.setattr(sqlite_backup, "connect", watching)
    verified = sqlite_backup.backup(place.home.record, tmp_path / "busy.db")
    assert written > 3
    assert verified.events == before
    assert len(place.rig.log) == before + written
    assert place.run("audit", "verify")[1]["events"] == before + written


def test_nothing_is_overwritten_or_left_behind(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "kept.db"
    file.write_text("an older backup")
    code, document = place.run("db", "backup", file)
    assert code == 1
    assert "is there already" in document["error"]["message"]
    assert file.read_text() == "an older backup"
    assert place.run("db", "backup", tmp_path / "no" / "where.db")[0] == 1
    place.sql(f"DELETE FROM events WHERE stream = '{STREAM.name}' AND sequence = 7")
    code, document = place.run("db", "backup", tmp_path / "bad.db")
    assert code == 1
    assert "event 7" in document["error"]["message"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "kept.db"]


def test_upgrade_says_from_where_to_where(place: Place) -> None:
    code, document = place.run("db", "upgrade")
    assert (code, document["from"], document["to"]) == (0, HEAD, HEAD)
    assert "up to date" in place.say("db", "upgrade")
    place.sql("UPDATE alembic_version SET version_num = '9999'")
    code, document = place.run("db", "upgrade")
    assert code == 1
    assert "newer program" in document["error"]["message"]


def test_without_a_record_there_is_nothing_to_do(tmp_path: Path) -> None:
    from tests.conductor.rig import Rig

    empty = Place(Home(tmp_path / "empty"), Rig())
    for words in (["db", "backup", str(tmp_path / "x.db")], ["db", "upgrade"]):
        code, document = empty.run(*words)
        assert code == 1
        assert "nothing is recorded" in document["error"]["message"]
