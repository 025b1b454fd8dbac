"""Long streams are read while the server goes on: the same events as page by page, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from store.port import StoreCorrupt, StoreError
from store.postgres import PostgresStore
from tests.conformance.store import ONE, append
from tests.store.postgres_server import PostgresServer
from tests.store.test_postgres_crashes import end_sessions

Open = Callable[..., PostgresStore]
EVENTS = 23


@pytest.fixture
def store(open_postgres: Open, monkeypatch: pytest.MonkeyPatch) -> PostgresStore:
    """A record with a stream of 23 events, read as if they were many: 3, then 8 in twos, then 3 again …"""
    for name, value in (("PAGE", 3), ("CHUNK", 2), ("RUN", 8)):
        monkeypatch.setattr(f"store.postgres.{name}", value)
    store = open_postgres()
    store.append(append(ONE, 0, EVENTS))
    return store


def sequences(store: PostgresStore, after: int = 0, up_to: int | None = None) -> list[int]:
    return [envelope.sequence for envelope in store.read(ONE, after, up_to)]


def test_every_part_is_read_once(store: PostgresStore) -> None:
    for after in range(EVENTS + 2):
        assert sequences(store, after) == list(range(after + 1, EVENTS + 1))
        assert sequences(store, 2, after) == list(range(3, min(after, EVENTS) + 1))


def test_a_connection_lost_on_the_way_is_replaced(store: PostgresStore, url: str) -> None:
    for known in range(0, EVENTS, 3):
        reading = store.read(ONE)
        found = [next(reading).sequence for _ in range(known)]
        end_sessions(url)
        assert found + [envelope.sequence for envelope in reading] == list(range(1, EVENTS + 1))


def test_a_read_that_is_given_up_leaves_nothing_behind(
    store: PostgresStore, postgres: PostgresServer, database: str
) -> None:
    reading = store.read(ONE)
    assert [next(reading).sequence for _ in range(5)] == [1, 2, 3, 4, 5]
    reading.close()  # type: ignore[attr-defined]
    assert sequences(store) == list(range(1, EVENTS + 1))
    running = "datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
    assert postgres.run(f"SELECT count(*) FROM pg_stat_activity WHERE {running}", database) == [(0,)]


@pytest.mark.parametrize("bad", range(1, EVENTS + 1))
def test_the_first_bad_event_is_named(store: PostgresStore, url: str, bad: int) -> None:
    with psycopg.connect(url) as db:
        db.execute("UPDATE events SET raw = raw || ' '::bytea WHERE sequence = %s", (bad,))
    found: list[int] = []
    with pytest.raises(StoreCorrupt, match=rf"event {bad} of .*hash does not fit"):
        for envelope in store.read(ONE):
            found.append(envelope.sequence)
    assert found == list(range(1, bad)), "what was handed out is what comes before it"


def test_what_the_server_refuses_is_told(store: PostgresStore, url: str) -> None:
    reading = store.read(ONE)
    assert next(reading).sequence == 1
    with psycopg.connect(url) as db:
        db.execute("ALTER TABLE events RENAME TO elsewhere")
    try:
        with pytest.raises(StoreError, match="refused"):
            list(reading)
    finally:
        with psycopg.connect(url) as db:
            db.execute("ALTER TABLE elsewhere RENAME TO events")


def test_a_driver_that_cannot_reads_page_by_page(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.postgres_link.capabilities.has_stream_chunked", lambda: False)
    assert sequences(store) == list(range(1, EVENTS + 1))
