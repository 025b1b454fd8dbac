"""The store port: the record. Synchronous on purpose (a database call is one), called from worker threads.

One conformance suite (`tests/conformance/store.py`) holds every backend to what is said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from schemas.envelope import EventEnvelope, StreamId
from schemas.messages import Event


class StoreError(Exception):
    """Base of the store's errors; the message names the thing, the reason and what to do."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked by another program, or its disk is full. Nothing was written.

    One exception: a database server that went away in the middle of a commit may find, when it is back, that it did
    write. Whoever tries again, with the same command id and version, learns it.
    """


class NoRecord(StoreError):
    """There is nothing to read yet."""


class StoreCorrupt(StoreError):
    """What is stored is not what was written."""


@dataclass(frozen=True, slots=True)
class TimerSet:
    """Arm a durable timer: at or after `due` the command in `command` (encoded envelope) is to be handled once."""

    key: str
    due: datetime
    command: bytes


@dataclass(frozen=True, slots=True)
class TimerCleared:
    """Disarm a timer; nothing happens if it is not armed."""

    key: str


@dataclass(frozen=True, slots=True)
class View:
    """A row of a read model, replaced whole, written in the transaction of the events it is derived from.

    `body` None removes the row. Views are caches: `rebuild` of the conductor can write them again from the events.
    """

    kind: str
    id: str
    body: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Handled:
    """The inbox entry of a command: which command, and the verdict its sender gets (again, however often it asks)."""

    command_id: str
    raw: bytes
    """The encoded command envelope, kept for replay."""
    accepted: bool
    verdict: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Append:
    """All that one decision writes, atomically: events, inbox entry, timers, views.

    `expected_version` is the sequence of the stream's last event the decision was made on (0 for a new stream). The
    events' sequences are `expected_version + 1 …` without a gap. `events` may be empty (then only the rest is written).
    """

    stream: StreamId
    expected_version: int
    events: tuple[EventEnvelope[Event], ...]
    handled: Handled | None = None
    timers: tuple[TimerSet | TimerCleared, ...] = ()
    views: tuple[View, ...] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """It is committed. `first_position` and `last_position` are global positions (0, 0 when there were no events),
    `raws` the events as they are stored."""

    version: int
    first_position: int
    last_position: int
    raws: tuple[bytes, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class VersionConflict:
    """Somebody else appended first: `actual` is the stream's version. Nothing of this Append was written."""

    stream: StreamId
    expected: int
    actual: int


@dataclass(frozen=True, slots=True)
class AlreadyHandled:
    """The inbox knows this command. Nothing was written; `handled` holds the verdict given the first time."""

    handled: Handled


AppendResult = Appended | VersionConflict | AlreadyHandled


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it lies in the table: global position, stream, sequence, id, the canonical bytes, and the chain.

    `hash` is SHA-256(previous hash of the stream ‖ raw); the first event's previous hash is 32 zero bytes.
    """

    position: int
    stream: StreamId
    sequence: int
    id: str
    raw: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class ArmedTimer:
    """A timer that is due or will be."""

    stream: StreamId
    key: str
    due: datetime
    command: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stream's state as of the event `sequence`, whose link in the chain is `hash`. A cache, never evidence.

    `form` names the code that wrote `body` and can read it.
    """

    stream: StreamId
    sequence: int
    hash: bytes
    form: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """What `verify` found wrong: the first bad event of a stream and how it is bad.

    `problem` is one of `changed`, `removed`, `inserted`, `reordered`, `truncated`, `unreadable`.
    """

    stream: StreamId
    sequence: int
    problem: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`: how much was checked, and what is wrong (empty: nothing is)."""

    streams: int
    events: int
    findings: tuple[Finding, ...] = field(default=())


class Lease(Protocol):
    """Something that one process at a time holds. Blocking calls, from one thread at a time."""

    def acquire(self) -> bool:
        """Take it if it is free; whether it is held. Raises StoreUnavailable."""

    def renew(self) -> None:
        """Say, every few seconds, that the holder is alive. Raises StoreUnavailable when the lease is lost."""

    def release(self) -> None:
        """Let go of it, if it is held. Never raises."""


class Store(Protocol):
    """The record of everything that happened."""

    def append_batch(self, appends: Sequence[Append]) -> list[AppendResult]:
        """Write many decisions in one transaction (group commit), each with its own result, in order.

        A conflict or an already handled command leaves the others untouched. A later Append of the batch may build on
        an earlier one of the same stream. Raises StoreUnavailable when the transaction as a whole could not commit.
        """

    def append(self, append: Append) -> AppendResult:
        """`append_batch` for one."""

    def version(self, stream: StreamId) -> int:
        """The sequence of the stream's last event; 0 when there is none."""

    def read(self, stream: StreamId, after: int = 0, up_to: int | None = None) -> Iterator[EventEnvelope[Event]]:
        """The stream's events with `after < sequence <= up_to`, in order. Each link of the hash chain is checked on the
        way: raises StoreCorrupt for changed, missing or unreadable events instead of handing them on."""

    def read_raw(self, stream: StreamId, after: int = 0, up_to: int | None = None) -> Iterator[StoredEvent]:
        """The same, as stored."""

    def read_all(self, after_position: int, limit: int) -> list[StoredEvent]:
        """At most `limit` events of all streams with `position > after_position`, in commit order, never skipping one
        that commits late."""

    def last_position(self) -> int:
        """The global position of the newest event; 0 when there is none."""

    def position_of(self, event_id: str) -> int | None:
        """The global position of the event with this id; None when the store does not hold it."""

    def streams(self, tenant: str, kind: str | None = None) -> list[StreamId]:
        """All streams of the tenant (of one kind), in order of their first event."""

    def handled(self, command_id: str) -> Handled | None:
        """The inbox entry of a command, or None."""

    def handled_among(self, command_ids: Sequence[str]) -> dict[str, Handled]:
        """The inbox entries of those commands that have one, by id: one question for a whole batch."""

    def commands(self, stream: StreamId) -> list[Handled]:
        """All handled commands of a stream in the order they were handled, for replay."""

    def timers(self, due_before: datetime | None = None) -> list[ArmedTimer]:
        """Armed timers (due at a moment or before it), soonest first."""

    def next_due(self) -> datetime | None:
        """When the soonest armed timer is due; None when none is armed. Costs the same however many are."""

    def cursor(self, name: str) -> tuple[int, str]:
        """A named cursor: position and the id of the event there; (0, "") when it was never moved."""

    def move_cursor(self, name: str, position: int, event_id: str) -> None:
        """Set a named cursor (backwards too: the relay rewinds)."""

    def view(self, tenant: str, kind: str, id: str) -> dict[str, Any] | None:
        """One row of a read model."""

    def views(self, tenant: str, kind: str) -> list[dict[str, Any]]:
        """All rows of a read model, oldest first."""

    def snapshot(self, stream: StreamId) -> Snapshot | None:
        """The stream's snapshot if there is one. Whether it still fits the record is for the caller to see."""

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Put it in the place of the stream's earlier one. Raises StoreUnavailable."""

    def forget_snapshots(self) -> int:
        """Delete all snapshots; how many there were. Nothing but time is lost. Raises StoreUnavailable."""

    def verify(self, tenant: str | None = None) -> Verification:
        """Walk every hash chain and say what is wrong, naming each stream's first bad event."""

    def lease(self, name: str) -> Lease:
        """The lease called `name`, among all processes that have this record open. Not held yet."""

    def close(self) -> None:
        """Release the database. Idempotent."""
