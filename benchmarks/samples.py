"""The events that are measured, and empty records to put them into."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.envelope import EventEnvelope, StreamId, decode_event
from schemas.ids import uuid7
from schemas.messages import Event
from schemas.session import CommandRefused
from schemas.values import Actor
from store.port import Append, Appended
from store.postgres import PostgresStore
from store.sqlite import SqliteStore
from tests.golden.make_history import HISTORY
from tests.store.postgres_server import PostgresServer

ACTOR = Actor(name="alice", channel="cli", verified_as="1000")
REASON = "r" * 108
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)

Record = SqliteStore | PostgresStore
Empty = Callable[[], AbstractContextManager[Record]]
"""Gives a new record, closed and removed after the block."""
Make = Callable[[StreamId, int], EventEnvelope[Event]]
"""The event of a stream with this sequence."""


def session(name: object) -> StreamId:
    """The stream of the session `name`."""
    return StreamId("default", "session", f"s-{name}")


COMMAND = uuid7()
"""Where a session's commands come from: their correlation id."""
COMMANDS = tuple(uuid7() for _ in range(50_000))
EVENTS_A_COMMAND = 3
"""As in a session: so many events share a time and the id of the command that caused them."""


def alike(stream: StreamId, sequence: int) -> EventEnvelope[Event]:
    """A refused command of about 600 bytes; the id is its own, as every event's."""
    event = CommandRefused(command="decide_gate", code="stale", reason=REASON, by=ACTOR)
    number = sequence // EVENTS_A_COMMAND
    at, cause = NOW + timedelta(milliseconds=number), COMMANDS[number % len(COMMANDS)]
    return EventEnvelope(uuid7(), stream, sequence, at, ACTOR, COMMAND, cause, event)


GOLDEN = tuple(decode_event(line) for line in HISTORY.read_bytes().splitlines() if b'"sender":' not in line[:600])
"""What a whole session of the shipped pipeline recorded, retries, gates and rollbacks included."""


def mixed(stream: StreamId, sequence: int) -> EventEnvelope[Event]:
    """The golden history, over and over: about 1,100 bytes an event, 21 types."""
    return replace(GOLDEN[(sequence - 1) % len(GOLDEN)], id=uuid7(), stream=stream, sequence=sequence)


def appends(stream: StreamId, make: Make, count: int, size: int) -> list[Append]:
    """`count` events of a new stream, `size` at a time."""
    return [
        Append(stream, start, tuple(make(stream, n) for n in range(start + 1, min(start + size, count) + 1)))
        for start in range(0, count, size)
    ]


def fill(record: Record, stream: StreamId, make: Make, count: int, size: int = 1_000) -> None:
    """Append `count` events to a new stream, `size` at a time."""
    for each in appends(stream, make, count, size):
        assert isinstance(record.append(each), Appended)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder on the working directory's disk: a RAM disk would flatter everything."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        yield Path(folder)


@contextmanager
def empty_sqlite() -> Iterator[Record]:
    """A record in a file, each commit synced."""
    with scratch() as folder, closing(SqliteStore.open(folder / "record.db")) as record:
        yield record


@contextmanager
def empty_postgres(server: PostgresServer) -> Iterator[Record]:
    """A record in a new database of `server`."""
    name = server.create()
    try:
        with closing(PostgresStore.open(server.url(name))) as record:
            yield record
    finally:
        server.drop(name)


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that syncs each commit."""
    with closing(PostgresServer(durable=True)) as server:
        yield server
