"""Servers that die, connections that break, writers that meet or freeze: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from schemas.envelope import StreamId
from store import postgres_append, postgres_link
from store.port import (
    AlreadyHandled,
    Append,
    Appended,
    AppendResult,
    StoreUnavailable,
    VersionConflict,
)
from store.postgres import PostgresStore
from store.postgres_schema import schema_of
from tests.conformance.store import ONE, TWO, append, handled
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
        lambda: schema_of(url),
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


def test_no_more_readers_are_kept_than_need_be(store: PostgresStore) -> None:
    busy = [store._link.connect() for _ in range(postgres_link._MOST_IDLE + 1)]
    for each in busy:
        store._link._give(each)
    assert [each.closed for each in busy] == [False] * postgres_link._MOST_IDLE + [True]
    taken = store._link._take()
    assert taken is not None
    store.close()
    store._link._give(taken)
    assert all(each.closed for each in busy)


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
