"""Servers that die, connections that break, writers that meet or freeze: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from schemas.envelope import StreamId
from store import postgres_append, postgres_link
from store.batch import Batch
from store.port import (
    AlreadyHandled,
    Append,
    Appended,
    AppendResult,
    StoreUnavailable,
    TimerSet,
    VersionConflict,
    View,
)
from store.postgres import PostgresStore
from tests.conformance.store import NOON, ONE, TWO, append, event, handled
from tests.store import child
from tests.store.child import process, start
from tests.store.postgres_server import PostgresServer

Open = Callable[..., PostgresStore]


@pytest.fixture
def store(open_postgres: Open) -> PostgresStore:
    """An empty record, open."""
    return open_postgres()


@pytest.fixture
def mortal(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The server, which the test may stop."""
    yield postgres
    if not postgres.running:
        postgres.start()


def end_sessions(url: str) -> None:
    """End all sessions that work on the record, and wait until they are gone."""
    query = (
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(url) as db:
        db.execute(query)


def wait_for_waiting(url: str, count: int = 1) -> None:
    """Until so many sessions wait for an advisory lock of the record's database."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with psycopg.connect(url, autocommit=True) as db:
        while db.execute(query).fetchall() != [(count,)]:
            pass


def assert_one_is_whole(store: PostgresStore, ids: list[str]) -> None:
    """Stream ONE begins with `ids`, has no gap and nothing twice, and each command has its inbox entry."""
    stored = [row.id for row in store.read_raw(ONE)]
    assert stored[: len(ids)] == ids
    assert len(set(stored)) == len(stored)
    assert [row.position for row in store.read_all(0, len(stored) + 1)] == list(range(1, len(stored) + 1))
    assert store.verify().findings == ()
    assert len(store.commands(ONE)) == len([n for n in range(len(stored)) if store.handled(f"c-{n}")])


# The server goes away


def test_what_a_killed_writer_was_promised_is_there(url: str, open_postgres: Open) -> None:
    with process("forever", url) as writer:
        start(writer)
        assert writer.stdout is not None
        ids = [writer.stdout.readline().strip() for _ in range(100)]
        writer.kill()
        ids += [line.strip() for line in writer.stdout if line.endswith("\n")]
    assert_one_is_whole(open_postgres(), ids)


def test_a_server_restarted_while_appends_go_on(mortal: PostgresServer, url: str, open_postgres: Open) -> None:
    """Twice shut down, twice crashed; the writer is another process, as is whoever reads."""
    reader = open_postgres()
    with process("forever", url) as writer:
        start(writer)
        assert writer.stdout is not None
        ids = []
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT, signal.SIGQUIT):
            ids += [writer.stdout.readline().strip() for _ in range(60)]
            mortal.stop(how)
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                reader.last_position()
            mortal.start()
            assert reader.last_position() >= len(ids)
        ids += [writer.stdout.readline().strip() for _ in range(200)]  # more than a pipe holds back
        writer.kill()
    assert_one_is_whole(reader, ids)


def test_a_server_that_is_away_is_named_and_got_over(mortal: PostgresServer, url: str, store: PostgresStore) -> None:
    store.append(append(ONE, 0))
    mortal.stop()
    for work in (
        lambda: store.append(append(ONE, 1)),
        lambda: store.version(ONE),
        lambda: list(store.read(ONE)),
        lambda: store.move_cursor("relay", 1, "e"),
        lambda: store.verify(),
        lambda: PostgresStore.open(url),
    ):
        with pytest.raises(StoreUnavailable, match=r"postgresql://postgres@127\.0\.0\.1.*cannot be reached"):
            work()
    mortal.start()
    assert store.append(append(ONE, 1)) == Appended(2, 2, 2)
    assert store.verify().findings == ()


def test_lost_connections_are_replaced_without_a_word(store: PostgresStore, url: str) -> None:
    for version in range(4):  # the first appends take two trips, the later ones one
        assert store.append(append(ONE, version)) == Appended(version + 1, version + 1, version + 1)
        assert store.version(ONE) == version + 1
        end_sessions(url)
    assert len(list(store.read(ONE))) == 4


# The connection breaks around the commit


@contextmanager
def breaks(monkeypatch: pytest.MonkeyPatch, store: PostgresStore, after_commit: bool) -> Iterator[list[str]]:
    """The connection of the next append breaks just before or just after its commit. Gives what happened."""
    happened: list[str] = []
    write, remember = postgres_append._write, postgres_append.Appender._remember

    def break_once(db: Any) -> None:
        if not happened:
            happened.append("broken")
            db.pgconn.finish()
            raise psycopg.OperationalError("the connection broke")

    def writing(cursor: Any, batch: Batch) -> None:
        if not after_commit:
            break_once(cursor.connection)
        write(cursor, batch)

    def remembering(self: postgres_append.Appender, batch: Batch) -> None:
        if after_commit:
            break_once(self._db)
        remember(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(postgres_append, "_write", writing)
        patched.setattr(postgres_append.Appender, "_remember", remembering)
        yield happened


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("appended_before", [1, 3], ids=["two trips", "one trip"])
def test_a_connection_that_breaks_at_the_commit(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, after_commit: bool, appended_before: int
) -> None:
    for version in range(appended_before):
        store.append(append(ONE, version))
    position = appended_before + 1
    with breaks(monkeypatch, store, after_commit) as happened:
        done = store.append(append(ONE, appended_before, handled=handled("c")))
    assert happened == ["broken"]
    assert done == Appended(position, position, position)
    with breaks(monkeypatch, store, after_commit):
        assert store.append(Append(ONE, position, (), handled("d"))) == Appended(position, 0, 0)
    timer, view = TimerSet("t", NOON, b"t"), View("k", "a", {"n": 1})
    with breaks(monkeypatch, store, after_commit):
        assert store.append(Append(ONE, position, (), None, (timer,), (view,))) == Appended(position, 0, 0)
    assert [each.command_id for each in store.commands(ONE)] == ["c", "d"]
    assert store.last_position() == position
    assert len(store.timers()) == len(store.views("default", "k")) == 1
    assert store.append(append(ONE, position)) == Appended(position + 1, position + 1, position + 1)
    assert store.verify().findings == ()


def test_a_commit_lost_for_good_is_found_by_trying_again(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = append(ONE, 0, 2, handled=handled("c", note="first"))
    store.version(ONE)
    store.append(append(TWO, 0))
    with monkeypatch.context() as patched, breaks(patched, store, after_commit=True):
        patched.setattr(store._appender, "_append", once_then_unreachable(store))
        with pytest.raises(StoreUnavailable, match="still away"):
            store.append(wanted)
    assert store.append(wanted) == AlreadyHandled(handled("c", note="first"))
    assert tuple(store.read(ONE)) == wanted.events


def once_then_unreachable(store: PostgresStore) -> Callable[..., list[AppendResult]]:
    """The appender's own work the first time; then no connection can be made."""
    work, calls = store._appender._append, []

    def appending(*arguments: Any, **named: Any) -> list[AppendResult]:
        calls.append(1)
        if len(calls) > 1:
            raise psycopg.OperationalError("still away")
        return work(*arguments, **named)

    return appending


def test_an_interrupted_decision_leaves_no_trace(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for version in range(4):
        store.append(append(ONE, version))
        with monkeypatch.context() as patched:
            patched.setattr(postgres_append, "_write", interrupt)
            with pytest.raises(KeyboardInterrupt):
                store.append(append(ONE, version + 1))
    assert store.version(ONE) == 4


def test_an_interrupted_reader_is_replaced(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert store.version(ONE) == 0
    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "execute", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.version(ONE)
        with pytest.raises(KeyboardInterrupt):
            store.version(ONE)
    assert store.version(ONE) == 0


# Writers meet


def test_writers_of_several_processes_and_threads_lose_nothing(url: str, open_postgres: Open) -> None:
    store = open_postgres()
    conflicts: list[int] = []
    total = 4 * child.CONTENDED
    with process("contend", url, "p-1") as one, process("contend", url, "p-2") as two:
        threads = [
            threading.Thread(target=lambda name=name: conflicts.append(child.contend(url, name)))
            for name in ("t-1", "t-2")
        ]
        for running in (one, two):
            start(running)
        for thread in threads:
            thread.start()
        seen: list[int] = []
        while len(seen) < total and any(each.is_alive() for each in threads):  # as the relay reads: in small steps
            seen += [row.position for row in store.read_all(seen[-1] if seen else 0, 7)]
        for thread in threads:
            thread.join()
        for running in (one, two):
            assert running.stdout is not None
            conflicts.append(int(running.stdout.readline()))
            running.wait(60)
    seen += [row.position for row in store.read_all(seen[-1], total)]
    assert seen == list(range(1, total + 1)), "a reader that follows passes nothing"
    reasons = [envelope.event.model_dump()["reason"] for envelope in store.read(ONE)]
    for name in ("p-1", "p-2", "t-1", "t-2"):
        own = [reason for reason in reasons if reason.startswith(name)]
        assert own == [f"{name} {number}" for number in range(child.CONTENDED)]
    assert len(reasons) == total
    assert sum(conflicts) > 0, "they never met: the test tested nothing"
    assert store.verify().findings == ()


def test_threads_of_one_process_share_a_store(store: PostgresStore) -> None:
    results: list[AppendResult] = []

    def work(number: int) -> None:
        for version in range(20):
            stream = StreamId("default", "session", f"s-{number}")
            results.append(store.append(append(stream, version, handled=handled(f"c-{number}-{version}"))))
            assert store.version(stream) == version + 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.last_position for result in results if isinstance(result, Appended)) == list(range(1, 121))
    assert len(store._link._idle) <= postgres_link._MOST_IDLE
    assert store.verify().findings == ()


def test_another_process_having_written_is_noticed(store: PostgresStore, open_postgres: Open) -> None:
    other = open_postgres()
    for version in range(3):
        store.append(append(ONE, version, handled=handled(f"c-{version}")))
    other.append_batch([append(ONE, 3, handled=handled("d")), append(TWO, 0)])
    assert store.append(append(ONE, 3)) == VersionConflict(ONE, 3, 4)
    assert store.append(append(ONE, 4, handled=handled("d"))) == AlreadyHandled(handled("d"))
    assert store.append(append(ONE, 4, handled=handled("c-3"))) == Appended(5, 6, 6)
    for version in range(5, 8):
        assert store.append(append(ONE, version)) == Appended(version + 1, version + 2, version + 2)
    assert other.append(append(TWO, 1)) == Appended(2, 10, 10)
    assert other.append(Append(TWO, 2, (), handled("e"))) == Appended(2, 0, 0)
    assert store.append(append(ONE, 8, handled=handled("e"))) == AlreadyHandled(handled("e"))
    assert store.verify().findings == ()


def test_more_streams_than_are_remembered(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_append, "_REMEMBERED_HEADS", 2)
    streams = [StreamId("default", "session", f"s-{number}") for number in range(5)]
    for version in range(3):
        for stream in streams:
            assert isinstance(store.append(append(stream, version)), Appended)
    assert store.verify().findings == ()


# A writer that takes its time


class Held:
    """An append of `store` that has written but not committed, until `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: PostgresStore, wanted: Append) -> None:
        self.results: list[AppendResult] = []
        self._written, self._go_on = threading.Event(), threading.Event()
        write, thread = postgres_append._write, threading.Thread(target=self._append, args=(store, wanted))

        def writing(cursor: Any, batch: Batch) -> None:
            write(cursor, batch)
            if threading.current_thread() is thread and not self._written.is_set():
                cursor.connection._pipeline.sync()  # the server has the rows
                self._written.set()
                assert self._go_on.wait(60)

        monkeypatch.setattr(postgres_append, "_write", writing)
        self._thread = thread
        thread.start()
        assert self._written.wait(60)

    def _append(self, store: PostgresStore, wanted: Append) -> None:
        self.results.append(store.append(wanted))

    def release(self) -> AppendResult:
        """Let it commit; what came of it."""
        self._go_on.set()
        self._thread.join()
        return self.results[0]


def test_a_transaction_that_commits_late_is_not_passed(
    open_postgres: Open, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast, reader = open_postgres(), open_postgres(), open_postgres()
    reader.append(append(TWO, 0))
    held = Held(monkeypatch, slow, append(ONE, 0, 3))
    results: list[AppendResult] = []
    behind = threading.Thread(target=lambda: results.append(fast.append(append(TWO, 1, 2))))
    behind.start()
    wait_for_waiting(url)
    assert [row.position for row in reader.read_all(0, 10)] == [1], "neither is there yet, not the fast one before"
    assert held.release() == Appended(3, 2, 4)
    behind.join()
    assert results == [Appended(3, 5, 6)]
    assert [(row.position, row.stream) for row in reader.read_all(1, 10)] == [
        *((position, ONE) for position in (2, 3, 4)),
        *((position, TWO) for position in (5, 6)),
    ]


def test_another_programs_long_transaction_holds_nobody_up(store: PostgresStore, url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_current_xact_id()")
        store.append(append(ONE, 0))
        assert [row.position for row in store.read_all(0, 10)] == [1]


def test_a_writer_that_waits_too_long_says_so(
    store: PostgresStore, open_postgres: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = open_postgres(busy_timeout=0.01)
    held = Held(monkeypatch, store, append(ONE, 0))
    with pytest.raises(StoreUnavailable, match="locked by another program"):
        impatient.append(append(ONE, 0))
    assert impatient.version(ONE) == 0, "reading goes on"
    assert held.release() == Appended(1, 1, 1)
    assert impatient.append(append(ONE, 1)) == Appended(2, 2, 2)


def test_a_frozen_writer_loses_its_turn(open_postgres: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its process were suspended in the middle of a transaction."""
    monkeypatch.setattr(postgres_link, "IDLE_IN_TRANSACTION", 0.3)
    frozen, other = open_postgres(), open_postgres()
    held = Held(monkeypatch, frozen, append(ONE, 0, handled=handled("c")))
    assert other.append(append(ONE, 0, handled=handled("d"))) == Appended(1, 1, 1)
    assert held.release() == VersionConflict(ONE, 0, 1)
    assert frozen.append(append(ONE, 1, handled=handled("c"))) == Appended(2, 2, 2)
    assert other.verify().findings == ()


def test_events_of_one_batch_are_linked_to_what_others_wrote(store: PostgresStore, open_postgres: Open) -> None:
    other = open_postgres()
    batch = [Append(ONE, version, (event(ONE, version + 1),)) for version in range(0, 6, 2)]
    for number in (0, 2, 4):
        assert store.append(batch[number // 2]) == Appended(number + 1, number + 1, number + 1)
        assert other.append(append(ONE, number + 1)) == Appended(number + 2, number + 2, number + 2)
    assert [envelope.sequence for envelope in store.read(ONE)] == [1, 2, 3, 4, 5, 6]
