"""Events a second from the record to a real nats-server, which syncs each batch (`sync_interval: always`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import anyio

from benchmarks import samples
from benchmarks.measure import Figure
from bus.nats_bus import connect
from bus.server import EmbeddedServer
from store.relay import HOLD_SECONDS, Relay

ROUNDS = 3
EVENTS = 10_000


def figures() -> Iterator[Figure]:
    """Events a second."""
    runs = []
    for _ in range(ROUNDS):
        with samples.scratch() as folder, samples.empty_sqlite() as record:
            samples.fill(record, samples.session("relayed"), samples.alike, EVENTS)
            runs.append(anyio.run(_relayed, record, folder))
    yield Figure("relay to JetStream, sync_interval always", "ev/s", tuple(runs))


async def _relayed(record: samples.Record, folder: Path) -> float:
    async with EmbeddedServer(folder / "bus") as server, await connect(server.login("conductor")) as bus:
        relay = Relay(record, bus.publish_events, bus.last_event, hold=HOLD_SECONDS)
        began = time.perf_counter()
        while await relay.step():
            pass
        await relay.rest()
        return EVENTS / (time.perf_counter() - began)
