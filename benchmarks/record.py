"""Events per second appended, relayed to a real nats-server, and replayed to state with the hash chain checked."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import anyio

from benchmarks.measure import Figure
from bus.nats_bus import connect
from bus.server import EmbeddedServer
from conductor.fold import fold
from conductor.state import initial
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.envelope import EventEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Event
from schemas.session import CommandRefused
from schemas.values import Actor
from store.port import Append, Appended
from store.relay import Relay
from store.sqlite import SqliteStore

ACTOR = Actor(name="bench", channel="bench", verified_as="bench")
STREAM = StreamId("default", "session", "bench")
RUNS = 3
EVENTS = 10_000


def _event(sequence: int) -> EventEnvelope[Event]:
    """An event of about 600 bytes."""
    event = CommandRefused(command="report_work", code="stale_attempt", reason="x" * 200, by=ACTOR)
    return EventEnvelope(uuid7(), STREAM, sequence, datetime.now(UTC), ACTOR, "bench", "bench", event)


def _fill(store: SqliteStore, total: int, batch: int) -> float:
    """Append `total` events, `batch` to a transaction; events per second, building and encoding them included."""
    version = store.version(STREAM)
    began = time.perf_counter()
    for start in range(version, version + total, batch):
        events = tuple(_event(start + offset + 1) for offset in range(batch))
        result = store.append(Append(STREAM, start, events))
        assert isinstance(result, Appended)
    return total / (time.perf_counter() - began)


def figures() -> Iterator[Figure]:
    """Events per second on SQLite (synchronous=FULL) and through JetStream (sync_interval always)."""
    for batch, total in ((1, 1_000), (100, EVENTS), (1_000, EVENTS)):
        runs = tuple(_appended(batch, total) for _ in range(RUNS))
        yield Figure(f"append, SQLite FULL, {batch} an append", "ev/s", runs)
    relayed, replayed, verified = zip(*(anyio.run(_relayed_and_replayed) for _ in range(RUNS)), strict=True)
    yield Figure("relay to JetStream, sync_interval always", "ev/s", relayed)
    yield Figure("replay one session to state", "ev/s", replayed)
    yield Figure("verify the hash chain", "ev/s", verified)


def _appended(batch: int, total: int) -> float:
    with tempfile.TemporaryDirectory() as place:
        store = SqliteStore.open(Path(place) / "record.db")
        try:
            return _fill(store, total, batch)
        finally:
            store.close()


async def _relayed_and_replayed() -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as place:
        store = SqliteStore.open(Path(place) / "record.db")
        try:
            _fill(store, EVENTS, 1_000)
            async with EmbeddedServer(Path(place) / "bus") as server, await connect(server.login("conductor")) as bus:
                relay = Relay(store, bus.publish_events, bus.last_event)
                began = time.perf_counter()
                while await relay.step():
                    pass
                relayed = EVENTS / (time.perf_counter() - began)
            began = time.perf_counter()
            state = fold(initial(STREAM.name), store.read(STREAM))
            replayed = EVENTS / (time.perf_counter() - began)
            assert state.version == EVENTS
            began = time.perf_counter()
            assert not store.verify().findings
            return relayed, replayed, EVENTS / (time.perf_counter() - began)
        finally:
            store.close()
