"""How fast the record is, in SQLite and in PostgreSQL: append at several batch sizes, replay, verify (`main()`).

Events are about 600 bytes. Appending includes encoding, hashing, the version check and the sync to disk; a *decision*
is one event with its inbox entry, each of its own session, many sharing a commit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from schemas.envelope import EventEnvelope, StreamId, encode_event
from schemas.ids import uuid7
from schemas.messages import Event
from schemas.session import CommandRefused
from schemas.values import Actor
from store.port import Append, Handled
from store.postgres import PostgresStore
from store.sqlite import SqliteStore
from tests.store.postgres_server import PostgresServer

_ACTOR = Actor(name="alice", channel="cli", verified_as="1000")
_EVENT = CommandRefused(command="decide_gate", code="stale", reason="r" * 108, by=_ACTOR)
_NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def session(number: int) -> StreamId:
    """The stream of the session `number`."""
    return StreamId("default", "session", f"s-{number}")


def event(stream: StreamId, sequence: int) -> EventEnvelope[Event]:
    """An event whose canonical bytes are about 600."""
    return EventEnvelope(uuid7(), stream, sequence, _NOW, _ACTOR, uuid7(), uuid7(), _EVENT)


def events(stream: StreamId, count: int, size: int) -> list[Append]:
    """`count` events of one stream as appends of `size` events each."""
    return [
        Append(stream, start, tuple(event(stream, start + n) for n in range(1, size + 1)))
        for start in range(0, count, size)
    ]


def decisions(count: int) -> list[Append]:
    """`count` decisions of different sessions."""
    return [
        Append(session(n), 0, (event(session(n), 1),), handled=Handled(uuid7(), b"c" * 400, True, {"verdict": "ok"}))
        for n in range(count)
    ]


Record = SqliteStore | PostgresStore
Empty = Callable[[], AbstractContextManager[Record]]
"""Gives a new record, closed and removed after the block."""


@contextmanager
def empty_sqlite() -> Iterator[Record]:
    """In a temporary folder of the working directory's disk (a RAM disk would flatter it)."""
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".rates-") as folder,
        closing(SqliteStore.open(Path(folder) / "record.db")) as store,
    ):
        yield store


@contextmanager
def empty_postgres(server: PostgresServer) -> Iterator[Record]:
    """In a new database of `server`."""
    name = server.create()
    with closing(PostgresStore.open(server.url(name))) as store:
        yield store
    server.drop(name)


def rate(count: int, work: Callable[[], object]) -> float:
    """How many per second, when `work` does `count`."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def append_rates(empty: Empty, size: int, count: int) -> tuple[float, float]:
    """Events a second in appends of `size` events, and decisions a second in commits of `size` decisions."""
    with empty() as store:
        appends = events(session(0), count, size)
        in_events = rate(count, lambda: [store.append(each) for each in appends])
    with empty() as store:
        several = decisions(count)
        groups = [several[start : start + size] for start in range(0, count, size)]
        in_decisions = rate(count, lambda: [store.append_batch(group) for group in groups])
    return in_events, in_decisions


def read_rates(empty: Empty, count: int) -> Iterator[tuple[str, float]]:
    """What is done with `count` events of one session, and how many a second."""
    with empty() as store:
        stream = session(0)
        for each in events(stream, count, 1_000):
            store.append(each)
        yield "stored bytes (read_raw)", rate(count, lambda: sum(1 for _ in store.read_raw(stream)))
        yield "checked and decoded (read)", rate(count, lambda: sum(1 for _ in store.read(stream)))
        yield "tail of 500 (read_all)", rate(500 * 100, lambda: [store.read_all(count // 2, 500) for _ in range(100)])
        yield "verify", rate(count, store.verify)


def main(count: int = 100_000) -> None:
    """Measure and print. `count` is the number of events replayed; appends use a part of it."""
    print(f"events of {len(encode_event(event(session(0), 1)))} bytes, each commit on the disk")
    with closing(PostgresServer(durable=True)) as server:
        show("SQLite, synchronous=FULL", empty_sqlite, count)
        show("PostgreSQL, synchronous_commit=on", partial(empty_postgres, server), count)


def show(what: str, empty: Empty, count: int) -> None:
    """Measure one kind of record and print it."""
    print(f"\n{what}\n{'append, a second':<28}{'events':>12}{'decisions':>12}")
    for size, share in ((1, 50), (100, 5), (1_000, 5)):
        in_events, in_decisions = append_rates(empty, size, max(size, count // share))
        print(f"{f'  {size} a commit':<28}{in_events:>12,.0f}{in_decisions:>12,.0f}")
    print(f"of {count:,} events of one session, a second")
    for name, per_second in read_rates(empty, count):
        print(f"  {name:<26}{per_second:>12,.0f}")


if __name__ == "__main__":
    main()
