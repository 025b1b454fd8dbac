"""Appending typed events beside the peer, on the same database, in turns: encode, hash, check, commit, sync.

Both get objects that were made before the clock started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from uuid import uuid4

from benchmarks import peer, samples
from benchmarks.measure import Figure
from store.port import Appended

ROUNDS = 7
SIZES = ((1, 150), (100, 3_000), (1_000, 5_000))
"""Events an append, and events a round."""


def figures() -> Iterator[Figure]:
    """Events a second, and how many times the peer's."""
    yield from _figures("SQLite FULL", samples.empty_sqlite, peer.sqlite)
    with samples.postgres() as server:
        yield from _figures("PostgreSQL", partial(samples.empty_postgres, server), partial(peer.postgres, server))


def _figures(
    where: str, ours: samples.Empty, theirs: Callable[[], AbstractContextManager[peer.Peer]]
) -> Iterator[Figure]:
    for size, total in SIZES:
        own: list[float] = []
        other: list[float] = []
        with ours() as record, theirs() as store:
            numbers = count()
            _append(record, next(numbers), size, size)  # both have opened their connections
            _put(store, size, size)
            for _ in range(ROUNDS):
                own.append(total / _append(record, next(numbers), size, total))
                other.append(total / _put(store, size, total))
        yield Figure(f"append, {where}, {size} an append", "ev/s", tuple(own))
        yield Figure(f"append, {where}, {size} an append: eventsourcing", "ev/s", tuple(other))
        pairs = tuple(a / b for a, b in zip(own, other, strict=True))
        yield Figure(f"append, {where}, {size} an append: ours / theirs", "x", pairs, f"{1.2 if size == 1 else 1.5}")


def _append(record: samples.Record, number: int, size: int, total: int) -> float:
    """Seconds for `total` events of a new stream."""
    appends = samples.appends(samples.session(number), samples.alike, total, size)
    began = time.perf_counter()
    for each in appends:
        assert isinstance(record.append(each), Appended)
    return time.perf_counter() - began


def _put(store: peer.Peer, size: int, total: int) -> float:
    """Seconds for `total` events of a new aggregate."""
    aggregate = uuid4()
    batches = [[peer.alike(aggregate, start + offset) for offset in range(size)] for start in range(1, total + 1, size)]
    began = time.perf_counter()
    for each in batches:
        store.put(each)
    return time.perf_counter() - began
