"""Replaying one session to its state, each link of the hash chain checked, beside the peer, which checks nothing.

The peer makes plain objects of the rows; a session's state is more than that, and both figures say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from uuid import uuid4

from benchmarks import peer, samples
from benchmarks.measure import Figure
from conductor.fold import fold
from conductor.state import initial

ROUNDS = 5
EVENTS = 100_000
PER_SESSION = len(samples.GOLDEN)


def figures() -> Iterator[Figure]:
    """Events a second."""
    yield from _figures("SQLite", samples.empty_sqlite, peer.sqlite, "150,000")
    with samples.postgres() as server:
        ours, theirs = partial(samples.empty_postgres, server), partial(peer.postgres, server)
        yield from _figures("PostgreSQL", ours, theirs, "90,000")


def _figures(
    where: str, ours: samples.Empty, theirs: Callable[[], AbstractContextManager[peer.Peer]], aim: str
) -> Iterator[Figure]:
    runs: dict[str, list[float]] = {"one type": [], "checked and decoded": [], "mix": [], "peer": [], "verify": []}
    sessions = EVENTS // 10 // PER_SESSION
    aggregate = uuid4()
    with ours() as record, theirs() as store:
        samples.fill(record, samples.session("one"), samples.alike, EVENTS)
        for number in range(sessions):
            samples.fill(record, samples.session(number), samples.mixed, PER_SESSION)
        for start in range(1, EVENTS, 1_000):
            store.put([peer.alike(aggregate, start + offset) for offset in range(1_000)])
        for _ in range(ROUNDS):
            runs["one type"].append(EVENTS / _seconds(lambda: _replay(record, "one", EVENTS)))
            runs["checked and decoded"].append(
                EVENTS / _seconds(lambda: sum(1 for _ in record.read(samples.session("one"))))
            )
            runs["mix"].append(
                sessions
                * PER_SESSION
                / _seconds(lambda: [_replay(record, number, PER_SESSION) for number in range(sessions)])
            )
            runs["peer"].append(EVENTS / _seconds(lambda: sum(1 for _ in store.get(aggregate))))
            runs["verify"].append((EVENTS + sessions * PER_SESSION) / _seconds(record.verify))
    yield Figure(f"replay to state, {where}, {EVENTS:,} events of one session", "ev/s", tuple(runs["one type"]), aim)
    yield Figure(f"  the same, read, checked and decoded only, {where}", "ev/s", tuple(runs["checked and decoded"]))
    yield Figure(f"  to objects, unchecked, {where}: eventsourcing", "ev/s", tuple(runs["peer"]))
    yield Figure(f"replay to state, {where}, real mix, sessions of {PER_SESSION}", "ev/s", tuple(runs["mix"]))
    yield Figure(f"verify the hash chains, {where}", "ev/s", tuple(runs["verify"]))


def _replay(record: samples.Record, session: object, events: int) -> None:
    stream = samples.session(session)
    assert fold(initial(stream.name), record.read(stream)).version == events


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
