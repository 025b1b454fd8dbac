"""Whether an event costs the same in a large record as in a small one, and how many bytes it takes on disk.

`python -m benchmarks flat` fills a record up to 1,000,000 events; `python -m benchmarks.flat 5000000` up to 5,000,000
(some ten minutes, and 1 GB of disk for each million). Events are about 600 bytes, in sessions of 200.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count

from benchmarks import samples
from benchmarks.measure import Figure
from conductor.fold import fold
from conductor.state import initial
from schemas.envelope import encode_event
from store.postgres import PostgresStore
from store.sqlite import SqliteStore

STEPS = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
MOST = 1_000_000
SESSION = 200
ROUNDS = 9
TAIL = 500


def figures(most: int | None = None) -> Iterator[Figure]:
    """Microseconds an event at each size of the record, and bytes an event, on both databases."""
    size = len(encode_event(samples.alike(samples.session(0), 1)))
    with samples.scratch() as folder:
        path = folder / "record.db"
        with closing(SqliteStore.open(path)) as record:
            yield from _growing(record, "SQLite", most or MOST)
            events = record.last_position()
        # Closed: what the write-ahead log held is in the file, so this is all there is.
        yield Figure(f"bytes on disk, SQLite, an event of {size} bytes", "B", (path.stat().st_size / events,), "1,300")
    with samples.postgres() as server:
        name = server.create()
        with closing(PostgresStore.open(server.url(name))) as record:
            yield from _growing(record, "PostgreSQL", most or MOST)
            events = record.last_position()
        ((taken,),) = server.run("SELECT pg_total_relation_size('events') + pg_total_relation_size('streams')", name)
        what = f"bytes on disk, PostgreSQL, an event of {size} bytes"
        yield Figure(what, "B", (float(taken) / events,), "1,300")


def _growing(record: samples.Record, name: str, most: int) -> Iterator[Figure]:
    numbers = count()
    for step in (each for each in STEPS if each <= most):
        while (missing := step - record.last_position()) > 0:
            samples.fill(record, samples.session(next(numbers)), samples.alike, min(SESSION, missing), SESSION)
        yield from _at(record, name, step, numbers)


def _at(record: samples.Record, name: str, step: int, numbers: Iterator[int]) -> Iterator[Figure]:
    """What things cost in a record of `step` events."""
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "append, 200 at a time": (
            SESSION,
            lambda: samples.fill(record, samples.session(next(numbers)), samples.alike, SESSION, SESSION),
        ),
        "tail of 500": (TAIL, lambda: record.read_all(record.last_position() - TAIL, TAIL)),
        "replay one session": (
            SESSION,
            lambda: fold(initial("s-1"), record.read(samples.session(step // SESSION // 2))),
        ),
    }
    for what, (events, do) in work.items():
        runs = tuple(1e6 * _seconds(do) / events for _ in range(ROUNDS))
        yield Figure(f"{name}: {what}, of {step:,} stored", "us", runs, "flat")
    checked = 1e6 * _seconds(record.verify) / record.last_position()
    yield Figure(f"{name}: verify, of {step:,} stored", "us", (checked,), "flat")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    for figure in figures(int(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(figure.line(), flush=True)
