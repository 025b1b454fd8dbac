"""Commits that are slow, cut off or in doubt: each append is there once or not at all, and no reader passes one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from store import postgres_append, postgres_link
from store.batch import Batch
from store.port import (
    AlreadyHandled,
    Append,
    Appended,
    AppendResult,
    StoreError,
    StoreUnavailable,
    TimerSet,
    VersionConflict,
    View,
)
from store.postgres import PostgresStore
from store.postgres_write import Condition
from tests.conformance.store import NOON, ONE, TWO, append, event, handled

Open = Callable[..., PostgresStore]


@pytest.fixture
def store(open_postgres: Open) -> PostgresStore:
    """An empty record, open."""
    return open_postgres()


def wait_for_waiting(url: str, count: int = 1) -> None:
    """Until so many sessions wait for an advisory lock of the record's database."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with psycopg.connect(url, autocommit=True) as db:
        while db.execute(query).fetchall() != [(count,)]:
            pass


# The connection breaks around the commit


@contextmanager
def breaks(monkeypatch: pytest.MonkeyPatch, store: PostgresStore, after_commit: bool) -> Iterator[list[str]]:
    """The connection of the next append breaks just before or just after its commit. Gives what happened."""
    happened: list[str] = []
    write, remember = postgres_append.write, postgres_append.Appender._remember

    def break_once(db: Any) -> None:
        if not happened:
            happened.append("broken")
            db.pgconn.finish()
            raise psycopg.OperationalError("the connection broke")

    def writing(cursor: Any, batch: Batch, condition: Condition) -> None:
        if not after_commit:
            break_once(cursor.connection)
        write(cursor, batch, condition)

    def remembering(self: postgres_append.Appender, batch: Batch) -> None:
        if after_commit:
            break_once(self._db)
        remember(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(postgres_append, "write", writing)
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


@pytest.mark.parametrize("appended_before", [1, 3], ids=["two trips", "one trip"])
def test_a_commit_that_the_server_refuses_is_none(store: PostgresStore, url: str, appended_before: int) -> None:
    """What fails at the very end of the transaction, when all statements have been answered."""
    for version in range(appended_before):
        store.append(append(ONE, version))
    with psycopg.connect(url) as db:
        db.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;"
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    try:
        with pytest.raises(StoreError, match="refused: not today"):
            store.append(append(ONE, appended_before, handled=handled("c")))
    finally:
        with psycopg.connect(url) as db:
            db.execute("DROP FUNCTION refuse CASCADE")
    assert store.version(ONE) == appended_before
    assert store.handled("c") is None
    position = appended_before + 1
    assert store.append(append(ONE, appended_before, handled=handled("c"))) == Appended(position, position, position)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("appended_before", [1, 3], ids=["two trips", "one trip"])
def test_a_driver_that_loses_count_of_the_answers(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, committed: bool, appended_before: int
) -> None:
    """As psycopg 3.3 does when a refused commit's answers come all at once: what they said is gone."""
    for version in range(appended_before):
        store.append(append(ONE, version))
    leave, left = psycopg.Pipeline.__exit__, []

    def leaving(self: Any, *problem: Any) -> None:
        left.append("left")
        miscounts = len(left) == (2 if appended_before == 1 else 1)
        if miscounts and not committed:
            self._conn.pgconn.finish()
        else:
            leave(self, *problem)
        if miscounts:
            raise IndexError("pop from an empty deque")

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Pipeline, "__exit__", leaving)
        done = store.append(append(ONE, appended_before, handled=handled("c")))
    position = appended_before + 1
    assert done == Appended(position, position, position)
    assert (store.version(ONE), store.handled("c")) == (position, handled("c"))
    assert store.append(append(ONE, position)) == Appended(position + 1, position + 1, position + 1)
    assert store.verify().findings == ()


def test_a_driver_that_loses_count_again_is_said(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaving(self: Any, *problem: Any) -> None:
        self._conn.pgconn.finish()
        raise IndexError("pop from an empty deque")

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Pipeline, "__exit__", leaving)
        with pytest.raises(StoreUnavailable, match=r"cannot be reached or written \(the driver lost count"):
            store.append(append(ONE, 0))
    assert store.append(append(ONE, 0)) == Appended(1, 1, 1)


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
            patched.setattr(postgres_append, "write", interrupt)
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


# A writer that takes its time


class Held:
    """An append of `store` that has written but not committed, until `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: PostgresStore, wanted: Append) -> None:
        self.results: list[AppendResult] = []
        self._written, self._go_on = threading.Event(), threading.Event()
        write, thread = postgres_append.write, threading.Thread(target=self._append, args=(store, wanted))

        def writing(cursor: Any, batch: Batch, condition: Condition) -> None:
            write(cursor, batch, condition)
            if threading.current_thread() is thread and not self._written.is_set():
                cursor.connection._pipeline.sync()  # the server has the rows
                self._written.set()
                assert self._go_on.wait(60)

        monkeypatch.setattr(postgres_append, "write", writing)
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
