"""The relay against a bus that forgets, refuses and repeats. The real bus has its own tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from schemas.envelope import EventEnvelope, StreamId, decode_event
from store.fresh import MOST, Fresh
from store.port import Appended, StoreCorrupt, StoredEvent
from store.relay import LOOK_SECONDS, MAX_BATCH, Outgoing, Relay, headers, outgoing
from store.sqlite import SqliteStore
from tests.conformance.store import ALICE, ONE, TWO, append, event


class Bus:
    """Records what is published, like a JetStream stream that never forgets an id."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.batches: list[list[Outgoing]] = []
        self.fail_after: int | None = None

    async def publish(self, events: Sequence[Outgoing]) -> list[int]:
        """Takes `fail_after` events, then breaks."""
        self.batches.append(list(events))
        for number, each in enumerate(events):
            if number == self.fail_after:
                raise ConnectionError("gone")
            if each.id not in self.log:
                self.log.append(each.id)
        return [self.log.index(each.id) + 1 for each in events]

    async def last(self) -> tuple[int, str] | None:
        """The newest event."""
        return (len(self.log), self.log[-1]) if self.log else None


@pytest.fixture
def bus() -> Bus:
    """An empty bus."""
    return Bus()


@pytest.fixture
def relay(store: SqliteStore, bus: Bus) -> Relay:
    """Between the record and the bus; small batches."""
    return Relay(store, bus.publish, bus.last, batch=4)


def fill(store: SqliteStore) -> list[str]:
    """Ten events in two streams; their ids in commit order."""
    store.append(append(ONE, 0, 3))
    store.append(append(TWO, 0, 4))
    store.append(append(ONE, 3, 3))
    return [row.id for row in store.read_all(0, 100)]


async def drain(relay: Relay) -> int:
    """Step until nothing is left; how many were published."""
    total = 0
    while count := await relay.step():
        total += count
    return total


async def test_events_are_published_in_order_as_they_are_stored(store: SqliteStore, bus: Bus, relay: Relay) -> None:
    ids = fill(store)
    assert [await relay.step() for _ in range(4)] == [4, 4, 2, 0]
    assert bus.log == ids
    rows = {row.id: row for row in store.read_all(0, 100)}
    for each in bus.batches[0]:
        assert each.raw == rows[each.id].raw
        assert each.subject == f"vt.default.evt.{rows[each.id].stream.name}.session_resumed._"
    assert store.cursor("relay") == (10, ids[-1])


async def test_later_events_follow(store: SqliteStore, bus: Bus, relay: Relay) -> None:
    assert await relay.step() == 0
    fill(store)
    assert await drain(relay) == 10
    store.append(append(ONE, 6))
    assert await drain(relay) == 1
    assert len(bus.log) == 11


async def test_a_batch_has_a_bound(store: SqliteStore, bus: Bus) -> None:
    store.append(append(ONE, 0, MAX_BATCH + 1))
    relay = Relay(store, bus.publish, bus.last, batch=10_000)
    assert await relay.step() == MAX_BATCH


@pytest.mark.parametrize("taken", [0, 2])
async def test_a_failed_publish_is_repeated_with_the_same_ids(
    store: SqliteStore, bus: Bus, relay: Relay, taken: int
) -> None:
    ids = fill(store)
    await relay.step()
    bus.fail_after = taken
    with pytest.raises(ConnectionError):
        await relay.step()
    assert store.cursor("relay") == (4, ids[3])
    bus.fail_after = None
    assert await relay.reconcile() == 0
    await drain(relay)
    assert bus.log == ids
    assert [each.id for each in bus.batches[2]] == [each.id for each in bus.batches[1]] == ids[4:8]


async def test_a_crash_after_publishing_before_the_cursor_repeats(
    store: SqliteStore, bus: Bus, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(store)
    with monkeypatch.context() as crash:
        crash.setattr(store, "move_cursor", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            await relay.step()
    again = Relay(store, bus.publish, bus.last, batch=4)
    assert await again.reconcile() == 0
    await drain(again)
    assert [each.id for each in bus.batches[1]] == [each.id for each in bus.batches[0]] == ids[:4]
    assert bus.log == ids


async def test_a_cancelled_step_moves_nothing(store: SqliteStore, bus: Bus) -> None:
    fill(store)
    publishing = anyio.Event()

    async def never(_: Sequence[Outgoing]) -> None:
        publishing.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Relay(store, never, bus.last).step)
        await publishing.wait()
        tasks.cancel_scope.cancel()
    assert store.cursor("relay") == (0, "")


async def test_a_relay_that_was_suspended_moves_no_cursor_of_another(
    store: SqliteStore, bus: Bus, relay: Relay
) -> None:
    """While it published, it lost its lease, and the one that took over began anew for a bus that came back empty."""
    ids = fill(store)

    async def suspended(events: Sequence[Outgoing]) -> list[int]:
        store.move_cursor("relay", 1, ids[0])
        return []

    await relay.step()
    await Relay(store, suspended, bus.last, batch=4).step()
    assert store.cursor("relay") == (1, ids[0])


async def test_nothing_lost_nothing_repeated(store: SqliteStore, bus: Bus, relay: Relay) -> None:
    assert await relay.reconcile() == 0
    fill(store)
    await drain(relay)
    assert await relay.reconcile() == 0
    assert await drain(relay) == 0


@pytest.mark.parametrize("kept", [0, 1, 7, 9])
async def test_a_bus_that_lost_its_tail_gets_it_again(store: SqliteStore, bus: Bus, relay: Relay, kept: int) -> None:
    ids = fill(store)
    await drain(relay)
    del bus.log[kept:]
    assert await relay.reconcile() == 10 - kept
    assert await drain(relay) == 10 - kept
    assert bus.log == ids


async def test_a_bus_that_holds_something_unknown_gets_everything(store: SqliteStore, bus: Bus, relay: Relay) -> None:
    ids = fill(store)
    await drain(relay)
    bus.log[:] = ["from another life"]
    assert await relay.reconcile() == 10
    await drain(relay)
    assert bus.log[1:] == ids


async def test_a_bus_that_is_ahead_does_not_make_the_relay_skip(store: SqliteStore, bus: Bus, relay: Relay) -> None:
    """That event 8 is there does not prove that 5 to 7 are."""
    ids = fill(store)
    await relay.step()
    bus.log.append(ids[7])
    assert await relay.reconcile() == 0
    assert await drain(relay) == 6
    assert set(bus.log) == set(ids)


async def test_reconciling_waits_for_the_step_under_way(store: SqliteStore, bus: Bus) -> None:
    fill(store)
    publishing, lost = anyio.Event(), anyio.Event()
    steps: list[str] = []

    async def publish(events: Sequence[Outgoing]) -> None:
        publishing.set()
        await lost.wait()
        await bus.publish(events)
        steps.append("published")

    async def last() -> tuple[int, str] | None:
        steps.append("asked")
        return None

    relay = Relay(store, publish, last)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay.step)
        await publishing.wait()
        tasks.start_soon(relay.reconcile)
        await anyio.wait_all_tasks_blocked()
        lost.set()
    assert steps == ["published", "asked"]
    assert store.cursor("relay") == (0, ""), "the bus turned out empty after the step"


async def test_an_unreadable_event_stops_the_relay(store: SqliteStore, path: Path, bus: Bus, relay: Relay) -> None:
    fill(store)
    with closing(sqlite3.connect(path)) as db, db:
        other = "replace(CAST(raw AS TEXT), 'session_resumed', 'session_renamed')"
        db.execute(f"UPDATE events SET raw = CAST({other} AS BLOB) WHERE position = 6")
    assert [await relay.step(), await relay.step()] == [4, 1], "what stands before it is published"
    with pytest.raises(
        StoreCorrupt, match=r"event 3 of 's-two' \(position 6\) cannot be published: unknown event type"
    ):
        await relay.step()
    assert store.cursor("relay")[0] == 5


def test_headers_are_cloudevents_in_binary_mode() -> None:
    assert headers(event(ONE, 12, id="e-12")) == (
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "e-12"),
        ("ce-type", "session_resumed"),
        ("ce-source", "/valuetrain/default/session"),
        ("ce-subject", "s-one"),
        ("ce-time", "2026-11-21T12:00:00.000000Z"),
        ("ce-datacontenttype", "application/json"),
        ("ce-sequence", "0000000012"),
        ("ce-correlationid", "correlation"),
        ("ce-causationid", "causation"),
    )


def test_header_values_are_percent_encoded_and_empty_ones_left_out() -> None:
    plain = event(ONE, 1)
    odd = EventEnvelope("e", ONE, 1, plain.time, ALICE, 'Euro € 😀\r\nX: "100%"', "", plain.event)
    named = dict(headers(odd))
    assert named["ce-correlationid"] == "Euro%20%E2%82%AC%20%F0%9F%98%80%0D%0AX:%20%22100%25%22"
    assert "ce-causationid" not in named


def test_what_is_published_can_be_decoded(store: SqliteStore) -> None:
    fill(store)
    for row in store.read_all(0, 100):
        assert decode_event(row.raw).id == row.id


# What this process has just committed


class Reading(SqliteStore):
    """Counts how often all events are read."""

    reads = 0

    def read_all(self, after_position: int, limit: int) -> list[StoredEvent]:
        """Count."""
        self.reads += 1
        return super().read_all(after_position, limit)


@pytest.fixture
def reading(path: Path, store: SqliteStore) -> Iterator[Reading]:
    """The same record, as this process opened it."""
    opened = Reading.open(path)
    with closing(opened):
        assert isinstance(opened, Reading)
        yield opened


def commit(store: SqliteStore, fresh: Fresh, stream: StreamId, version: int, number: int = 1) -> None:
    """As a conductor in the relay's process."""
    appending = append(stream, version, number)
    done = store.append(appending)
    assert isinstance(done, Appended)
    fresh.add(appending, done)


async def test_what_was_just_committed_is_not_read_again(reading: Reading, bus: Bus) -> None:
    fresh = Fresh()
    relay = Relay(reading, bus.publish, bus.last, fresh=fresh)
    assert await relay.step() == 0
    assert reading.reads == 1
    for version in range(3):
        commit(reading, fresh, ONE, version)
        assert [await relay.step(), await relay.step()] == [1, 0]
    assert reading.reads == 1
    rows = reading.read_all(0, 10)
    assert [(each.id, each.raw) for batch in bus.batches for each in batch] == [(row.id, row.raw) for row in rows]
    assert [each for batch in bus.batches for each in batch] == [outgoing(row) for row in rows]


async def test_what_others_committed_in_between_is_read(reading: Reading, store: SqliteStore, bus: Bus) -> None:
    """Also when nobody told: a position is missing."""
    fresh = Fresh()
    relay = Relay(reading, bus.publish, bus.last, fresh=fresh)
    assert await relay.step() == 0
    commit(reading, fresh, ONE, 0)
    store.append(append(TWO, 0, 2))
    commit(reading, fresh, ONE, 1)
    await drain(relay)
    store.append(append(TWO, 2))
    fresh.others = True
    await drain(relay)
    assert bus.log == [row.id for row in store.read_all(0, 10)]
    assert len(bus.log) == 5


async def test_after_a_while_the_record_is_read_unasked(
    reading: Reading, store: SqliteStore, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(anyio, "current_time", lambda: now[0])
    relay = Relay(reading, bus.publish, bus.last, fresh=Fresh())
    assert await relay.step() == 0
    store.append(append(ONE, 0))
    assert await relay.step() == 0, "nobody told"
    now[0] += LOOK_SECONDS
    assert await relay.step() == 1


async def test_more_than_is_kept_is_read(reading: Reading, bus: Bus) -> None:
    fresh = Fresh()
    relay = Relay(reading, bus.publish, bus.last, fresh=fresh)
    assert await relay.step() == 0
    for version in range(0, MOST + 200, 100):
        commit(reading, fresh, ONE, version, 100)
    assert await drain(relay) == len(reading.read_all(0, 5_000)) == len(bus.log)
    assert [each.id for batch in bus.batches for each in batch] == [row.id for row in reading.read_all(0, 5_000)]


async def test_a_bus_that_lost_its_tail_gets_also_what_is_no_longer_kept(reading: Reading, bus: Bus) -> None:
    fresh = Fresh()
    relay = Relay(reading, bus.publish, bus.last, fresh=fresh, hold=60.0)
    for version in range(5):
        commit(reading, fresh, ONE, version)
        await drain(relay)
    del bus.log[2:]
    commit(reading, fresh, ONE, 5)
    assert await relay.reconcile() == 3
    assert await drain(relay) == 4
    assert bus.log == [row.id for row in reading.read_all(0, 10)]


# The cursor lags behind


async def test_the_cursor_is_moved_now_and_then(store: SqliteStore, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(anyio, "current_time", lambda: now[0])
    relay = Relay(store, bus.publish, bus.last, hold=0.5)
    positions = []
    for version in range(4):
        store.append(append(ONE, version))
        await drain(relay)
        positions.append(store.cursor("relay")[0])
        now[0] += 0.2
    await relay.step()
    assert [*positions, store.cursor("relay")[0]] == [0, 0, 0, 4, 4]
    store.append(append(ONE, 4))
    await drain(relay)
    assert store.cursor("relay")[0] == 4
    now[0] += 0.5
    assert await relay.step() == 0
    assert store.cursor("relay") == (5, bus.log[-1])


async def test_the_cursor_does_not_lag_behind_by_more_than_a_batch(store: SqliteStore, bus: Bus) -> None:
    relay = Relay(store, bus.publish, bus.last, batch=MAX_BATCH - 1, hold=3600.0)
    store.append(append(ONE, 0, MAX_BATCH + 5))
    await relay.step()
    assert store.cursor("relay")[0] == 0
    await relay.step()
    assert store.cursor("relay")[0] == MAX_BATCH + 5


async def test_at_rest_the_cursor_is_where_the_bus_is(store: SqliteStore, bus: Bus) -> None:
    relay = Relay(store, bus.publish, bus.last, hold=3600.0)
    await relay.rest()
    ids = fill(store)
    await drain(relay)
    assert store.cursor("relay") == (0, "")
    await relay.rest()
    assert store.cursor("relay") == (10, ids[-1])


async def test_a_crash_before_the_cursor_was_moved_repeats_and_skips_nothing(store: SqliteStore, bus: Bus) -> None:
    ids = fill(store)
    await drain(Relay(store, bus.publish, bus.last, batch=4, hold=3600.0))
    again = Relay(store, bus.publish, bus.last, batch=4, hold=3600.0)
    assert await again.reconcile() == 0
    assert await drain(again) == 10
    assert bus.log == ids


async def test_a_relay_that_leads_again_begins_where_the_other_stopped(store: SqliteStore, bus: Bus) -> None:
    """Its own place is out of date, and so is what it remembers of the cursor."""
    relay, other = (Relay(store, bus.publish, bus.last, hold=3600.0) for _ in range(2))
    store.append(append(ONE, 0, 3))
    await drain(relay)
    assert await other.reconcile() == 0
    store.append(append(ONE, 3, 3))
    await drain(other)
    await other.rest()
    bus.batches.clear()
    assert await relay.reconcile() == 0
    assert await drain(relay) == 0
    assert store.cursor("relay")[0] == 6
