"""What a command cannot take less than: the server's disk, the record's disk, the server's disk, and nothing of ours.

A bare nats-py client publishes a message of a command's size into a JetStream stream (`sync_interval: always`) and
waits for the acknowledgement; a bare `sqlite3` connection inserts one row and commits (WAL, FULL); the client publishes
again. A command goes through these three one after the other before anybody can see its event.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import nats

from benchmarks import samples
from benchmarks.measure import Figure
from bus.nats_bus import connect
from bus.server import EmbeddedServer

ROUNDS = 3
TIMES = 300
BODY = b"x" * 600


def figures() -> Iterator[Figure]:
    """Milliseconds."""
    runs = []
    for _ in range(ROUNDS):
        with samples.scratch() as folder:
            runs.append(anyio.run(_measure, folder))
    published, committed, both = zip(*runs, strict=True)
    yield Figure("floor: one synced publication", "ms", published)
    yield Figure("floor: one commit", "ms", committed)
    yield Figure("floor: publication, commit, publication", "ms", both)


async def _measure(folder: Path) -> tuple[float, float, float]:
    async with EmbeddedServer(folder / "bus") as server:
        login = server.login("conductor")
        async with await connect(login):  # which makes the streams
            client = await nats.connect(login.url, nkeys_seed_str=login.seed, inbox_prefix="_INBOX.conductor")
            try:
                with closing(sqlite3.connect(folder / "floor.db", isolation_level=None)) as db:
                    db.execute("PRAGMA journal_mode=WAL")
                    db.execute("PRAGMA synchronous=FULL")
                    db.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, raw BLOB)")
                    return await _taken(client, db)
            finally:
                await client.close()


async def _taken(client: nats.NATS, db: sqlite3.Connection) -> tuple[float, float, float]:
    """Medians of one publication, of one commit, and of publication, commit, publication."""
    pieces: list[tuple[float, float, float]] = []
    for number in range(TIMES):
        began = time.perf_counter()
        await _publish(client, f"in-{number}")
        stored = time.perf_counter()
        db.execute("INSERT INTO events (raw) VALUES (?)", (BODY,))
        committed = time.perf_counter()
        await _publish(client, f"out-{number}")
        pieces.append((stored - began, committed - stored, time.perf_counter() - began))
    published, written, both = zip(*pieces, strict=True)
    return 1_000 * statistics.median(published), 1_000 * statistics.median(written), 1_000 * statistics.median(both)


async def _publish(client: nats.NATS, name: str) -> None:
    answer = await client.request(f"vt.default.evt.{name}.x._", BODY, timeout=10.0, headers={"Nats-Msg-Id": name})
    assert "error" not in json.loads(answer.data), answer.data
