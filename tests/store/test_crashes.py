"""Processes that die, disks that fill up, writers that meet: nothing acknowledged is lost, nothing is half written."""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.envelope import StreamId
from store import sqlite_file
from store.port import Appended, AppendResult, StoreUnavailable
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, TWO, append, handled
from tests.store import child
from tests.store.child import process, start


@pytest.mark.parametrize("acknowledged", [1, 150])
def test_what_a_killed_writer_was_promised_is_there(path: Path, acknowledged: int) -> None:
    with process("forever", str(path)) as writer:
        start(writer)
        assert writer.stdout is not None
        ids = [writer.stdout.readline().strip() for _ in range(acknowledged)]
        writer.kill()
        ids += [line.strip() for line in writer.stdout if line.endswith("\n")]
    store = SqliteStore.open(path)
    stored = [row.id for row in store.read_raw(ONE)]
    assert stored[: len(ids)] == ids
    assert [envelope.sequence for envelope in store.read(ONE)] == list(range(1, len(stored) + 1))
    assert store.verify().findings == ()
    assert len(store.commands(ONE)) == len([n for n in range(len(stored)) if store.handled(f"c-{n}")])
    assert isinstance(store.append(append(ONE, len(stored))), Appended)
    store.close()


def test_writers_of_several_processes_and_threads_lose_nothing(path: Path) -> None:
    conflicts: list[int] = []
    with process("contend", str(path), "p-1") as one, process("contend", str(path), "p-2") as two:
        threads = [
            threading.Thread(target=lambda name=name: conflicts.append(child.contend(str(path), name)))
            for name in ("t-1", "t-2")
        ]
        for running in (one, two):
            start(running)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for running in (one, two):
            assert running.stdout is not None
            conflicts.append(int(running.stdout.readline()))
            running.wait(60)
    store = SqliteStore.open(path)
    reasons = [envelope.event.model_dump()["reason"] for envelope in store.read(ONE)]
    for name in ("p-1", "p-2", "t-1", "t-2"):
        own = [reason for reason in reasons if reason.startswith(name)]
        assert own == [f"{name} {number}" for number in range(child.CONTENDED)]
    assert len(reasons) == 4 * child.CONTENDED
    assert sum(conflicts) > 0, "they never met: the test tested nothing"
    assert store.verify().findings == ()
    store.close()


def test_threads_of_one_process_share_a_store(store: SqliteStore) -> None:
    results: list[AppendResult] = []

    def work(number: int) -> None:
        for version in range(20):
            stream = StreamId("default", "session", f"s-{number}")
            results.append(store.append(append(stream, version, handled=handled(f"c-{number}-{version}"))))
            assert store.version(stream) == version + 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.last_position for result in results if isinstance(result, Appended)) == list(range(1, 81))
    assert store.verify().findings == ()


@contextmanager
def no_room(path: Path, spare: int) -> Iterator[None]:
    """No file may grow beyond `spare` bytes more than the record's log has now."""
    log = path.with_name(f"{path.name}-wal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("spare", [0, 6_000, 50_000])
def test_a_full_disk_writes_nothing_and_is_got_over(store: SqliteStore, path: Path, spare: int) -> None:
    store.append(append(ONE, 0, handled=handled("before")))
    too_much = [append(ONE, 1, 200, handled=handled("c")), append(TWO, 0, 200)]
    with no_room(path, spare), pytest.raises(StoreUnavailable, match=r"record\.db.*free space"):
        store.append_batch(too_much)
    assert store.last_position() == 1
    assert store.handled("c") is None
    assert store.append_batch(too_much) == [Appended(201, 2, 201), Appended(200, 202, 401)]
    assert store.verify().findings == ()


def test_a_locked_record_is_named(store: SqliteStore, path: Path) -> None:
    impatient = SqliteStore.open(path, busy_timeout=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"record\.db is locked by another program"):
        impatient.append(append(ONE, 0))
    assert impatient.version(ONE) == 0, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert impatient.append(append(ONE, 0)) == Appended(1, 1, 1)
    impatient.close()


def test_another_process_having_written_is_noticed(store: SqliteStore, path: Path) -> None:
    other = SqliteStore.open(path)
    store.append(append(ONE, 0, handled=handled("c-1")))
    other.append_batch([append(ONE, 1, handled=handled("c-2")), append(TWO, 0)])
    assert store.append(append(ONE, 2, handled=handled("c-3"))) == Appended(3, 4, 4)
    assert other.append(append(TWO, 1)) == Appended(2, 5, 5)
    assert [entry.command_id for entry in store.commands(ONE)] == ["c-1", "c-2", "c-3"]
    assert store.verify().findings == ()
    other.close()


def test_more_streams_than_are_remembered(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.sqlite._REMEMBERED_HEADS", 2)
    streams = [StreamId("default", "session", f"s-{number}") for number in range(5)]
    for version in range(3):
        for stream in streams:
            assert isinstance(store.append(append(stream, version)), Appended)
    assert store.verify().findings == ()


class Stubborn(sqlite3.Connection):
    """A connection whose disk fails at COMMIT, and at ROLLBACK too."""

    broken = True

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        if Stubborn.broken and sql in ("COMMIT", "ROLLBACK"):
            problem = sqlite3.OperationalError("disk I/O error")
            problem.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise problem
        return super().execute(sql, *values)


def test_a_writer_that_cannot_even_roll_back_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore.open(path)
    store.append(append(ONE, 0))
    store.close()
    monkeypatch.setattr(
        sqlite_file,
        "connect",
        lambda path, **_: sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Stubborn),
    )
    store = SqliteStore.open(path)
    with pytest.raises(StoreUnavailable, match="disk I/O error"):
        store.append(append(ONE, 1))
    monkeypatch.setattr(Stubborn, "broken", False)
    assert store.append(append(ONE, 1)) == Appended(2, 2, 2)
    store.close()


def test_an_interrupted_decision_leaves_no_trace(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(append(ONE, 0))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("store.sqlite_write.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.append(append(ONE, 1))
    assert store.append(append(ONE, 1)) == Appended(2, 2, 2)


def test_closing_while_a_reader_is_at_work(path: Path) -> None:
    file = sqlite_file.SqliteFile(path, read_only=False, busy_timeout=1.0, forget=lambda: None)
    with file.reader() as db:
        file.close()
        assert db.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        db.execute("SELECT 1")
