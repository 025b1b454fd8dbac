"""A conductor with its relay in a process of its own: `python -m benchmarks.serve RECORD BUS_FOLDER`.

The parts are the real ones; checkpoints, dead letters and the lease of several conductors are left out. It says "ready"
and ends when its standard input does.
"""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from bus.nats_bus import NatsBus, connect
from bus.server import login
from bus.streams import CONDUCTOR
from cli.parts import RELAY_PAUSE, settle_memory
from conductor.service import Conductor
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.values import Sender
from store.port import Store
from store.postgres import PostgresStore
from store.relay import HOLD_SECONDS, Relay
from store.sqlite import SqliteStore


async def _relay(store: Store, bus: NatsBus, conductor: Conductor) -> None:
    relay = Relay(store, bus.publish_events, bus.last_event, fresh=conductor.fresh, hold=HOLD_SECONDS)
    await relay.reconcile()
    while True:
        committed = conductor.committed
        if not await relay.step():
            with anyio.move_on_after(RELAY_PAUSE):
                await committed.wait()


async def _serve(store: Store, folder: Path) -> None:
    async with await connect(login(folder, Sender.CONDUCTOR.value)) as bus, anyio.create_task_group() as tasks:
        conductor = Conductor(store)
        tasks.start_soon(_relay, store, bus, conductor)
        tasks.start_soon(conductor.run_timers)
        async with bus.consume_batches(CONDUCTOR, partial(conductor.handle_batch, bus)):
            settle_memory()
            print("ready", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


def main() -> None:
    """Serve until standard input ends."""
    where, folder = sys.argv[1:]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # standard output says "ready"
    )
    record = PostgresStore.open(where) if "://" in where else SqliteStore.open(where)
    with closing(record) as store:
        anyio.run(_serve, store, Path(folder))


if __name__ == "__main__":
    main()
