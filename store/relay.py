"""The relay: publishes the record's events on the bus, in order, each at least once, never skipping one.

It knows neither the database nor the bus: it works on the store port and two functions. The event table is the outbox;
a named cursor in the store says how far the bus is known to have come.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import quote

import anyio
from anyio import to_thread

from schemas.envelope import EventEnvelope, UnreadableMessage, decode_event, timestamp
from schemas.messages import Event
from schemas.subjects import event_subject
from store.fresh import Fresh
from store.port import Store, StoreCorrupt, StoredEvent

MAX_BATCH = 500
"""Events published at once: well inside JetStream's 1,000 a batch, and little to repeat after a crash."""

HOLD_SECONDS = 0.5
"""How long the cursor may lag behind what is published: moving it is a commit, with a sync of its own."""

LOOK_SECONDS = 0.9
"""How often the record is read although nobody said that another process committed something."""

# Printable ASCII except space, quote and percent stays as it is: CloudEvents NATS binding 1.0, section 3.1.3.2.
_HEADER_SAFE = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")
_NEEDS_NO_QUOTES = re.compile(r"[!#$&-~]+").fullmatch


class Outgoing(NamedTuple):
    """An event as `publish` gets it: the fields of the bus port's `OutgoingEvent`, which this folder may not import."""

    subject: str
    id: str
    raw: bytes
    headers: tuple[tuple[str, str], ...]


Publish = Callable[[Sequence[Any]], Awaitable[object]]
"""Gets `Outgoing`s; returns once the bus holds all of them. The bus port's `publish_events` fits."""

LastEvent = Callable[[], Awaitable[tuple[int, str] | None]]
"""JetStream sequence and event id of the newest published event; None when there is none. The bus's `last_event`."""


class Relay:
    """Moves events from `store` to `publish`. One relay at a time may run on a store."""

    def __init__(
        self,
        store: Store,
        publish: Publish,
        last_event: LastEvent,
        name: str = "relay",
        batch: int = MAX_BATCH,
        fresh: Fresh | None = None,
        hold: float = 0.0,
    ) -> None:
        """`name` is the cursor's name in the store, `batch` the most events published at once.

        `fresh` is told what this process commits; `hold` is how many seconds the cursor in the store may lag behind,
        by `MAX_BATCH` events at most: so many are published twice after a crash. Who gives it calls `rest` at the end.
        """
        self._store = store
        self._publish = publish
        self._last_event = last_event
        self._name = name
        self._batch = min(batch, MAX_BATCH)
        self._fresh = fresh
        self._hold = hold
        # A step under way must not move the cursor that `reconcile` has just set back.
        self._busy = anyio.Lock(fast_acquire=True)
        self._at: _Place | None = None  # how far the bus has come; None when only the store knows
        self._saved = 0  # the position of the cursor in the store, as we left or found it
        self._save_at = 0.0  # event loop time
        self._look_at = 0.0

    async def step(self) -> int:
        """Publish the next events after the cursor and move it; how many there were (0: all is published).

        Whatever `publish` raises goes to the caller, and the cursor stays: the same events come again, with the same
        ids. Raises StoreCorrupt at an event that cannot be read, since to go on would be to skip it.
        """
        async with self._busy:
            at = self._at or await self._found()
            events = self._from_memory(at.position) or await self._from_record(at.position)
            if events:
                await self._publish([event.outgoing for event in events])
                if self._saved == at.position:
                    self._save_at = anyio.current_time() + self._hold
                at = self._at = events[-1].place
            if at.position != self._saved and (
                anyio.current_time() >= self._save_at or at.position - self._saved >= MAX_BATCH
            ):
                await self._save()
            return len(events)

    async def rest(self) -> None:
        """Move the cursor in the store to where we are, if it is not there: before a pause, or at the end."""
        async with self._busy:
            await self._save()

    async def reconcile(self) -> int:
        """Hold the cursor to what the bus really has; call it on every connect, before the first `step`.

        A bus that lost its tail, or all, or that holds something unknown, gets everything from there on again. Returns
        by how many events the cursor went back. It never goes forward: that the newest event on the bus is a later
        one does not prove that those between got there.
        """
        async with self._busy:
            await self._save()
            self._at = None  # another relay may have led meanwhile
            held = await self._last_event()
            position, event_id = await to_thread.run_sync(self._store.cursor, self._name)
            if position == 0 or (held is not None and held[1] == event_id):
                return 0
            found = None
            if held is not None:
                found = await to_thread.run_sync(self._store.position_of, held[1])
            if held is None or found is None:
                target, target_id = 0, ""
            elif found < position:
                target, target_id = found, held[1]
            else:
                return 0
            await to_thread.run_sync(partial(self._store.move_cursor, self._name, target, target_id))
            return position - target

    async def _found(self) -> _Place:
        """Where the store's cursor stands."""
        self._at = at = _Place(*await to_thread.run_sync(self._store.cursor, self._name))
        self._saved = at.position
        self._look_at = 0.0
        return at

    async def _save(self) -> None:
        """Move the cursor in the store, unless somebody else has: a relay that was suspended for longer than it held
        its lease must not undo what the one that took over has done, going back to the beginning for an empty bus least
        of all."""
        if self._at is None or self._at.position == self._saved:
            return
        if await to_thread.run_sync(self._move, self._saved, self._at):
            self._saved = self._at.position
        else:
            self._at = None

    def _move(self, began: int, to: _Place) -> bool:
        if self._store.cursor(self._name)[0] != began:
            return False
        self._store.move_cursor(self._name, to.position, to.id)
        return True

    def _from_memory(self, position: int) -> list[_Ready]:
        """The events after `position`, if this process has just committed them."""
        if self._fresh is None:
            return []
        return [
            _Ready(_Place(at, envelope.id), _outgoing(envelope, raw))
            for at, envelope, raw in self._fresh.after(position, self._batch)
        ]

    async def _from_record(self, position: int) -> list[_Ready]:
        """The events after `position`, unless it is certain enough that there are none."""
        fresh = self._fresh
        if fresh is not None:
            if fresh.empty and anyio.current_time() < self._look_at:
                return []
            fresh.others = False  # before we look: what is committed from now on is told anew
        events = await to_thread.run_sync(self._next, position)
        self._look_at = 0.0 if events else anyio.current_time() + LOOK_SECONDS
        return events

    def _next(self, position: int) -> list[_Ready]:
        ready: list[_Ready] = []
        for stored in self._store.read_all(position, self._batch):
            try:
                ready.append(_Ready(_Place(stored.position, stored.id), outgoing(stored)))
            except StoreCorrupt:
                if not ready:
                    raise
                break  # what stands before it goes out; the next step begins with it, and raises
        return ready


class _Place(NamedTuple):
    """An event: its global position and its id; (0, "") before the first."""

    position: int
    id: str


class _Ready(NamedTuple):
    """An event to publish, and where it stands."""

    place: _Place
    outgoing: Outgoing


def outgoing(stored: StoredEvent) -> Outgoing:
    """The stored bytes with subject and headers. Raises StoreCorrupt when they cannot be read."""
    try:
        envelope = decode_event(stored.raw)
    except UnreadableMessage as problem:
        raise StoreCorrupt(
            f"event {stored.sequence} of {stored.stream.name!r} (position {stored.position}) cannot be published: "
            f"{problem}; verify the record"
        ) from problem
    return _outgoing(envelope, stored.raw)


def _outgoing(envelope: EventEnvelope[Event], raw: bytes) -> Outgoing:
    return Outgoing(event_subject(envelope), envelope.id, raw, headers(envelope))


def headers(envelope: EventEnvelope[Event]) -> tuple[tuple[str, str], ...]:
    """CloudEvents 1.0, binary mode: the attributes as headers, the message's body being the stored bytes."""
    stream = envelope.stream
    source, subject = _of_stream(stream.tenant, stream.kind, stream.name)
    named = (
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", _quoted(envelope.id)),
        ("ce-type", envelope.type),
        ("ce-source", source),
        ("ce-subject", subject),
        ("ce-time", timestamp(envelope.time)),
        ("ce-datacontenttype", "application/json"),
        # Extensions; `sequence` is a published one and wants a string that sorts like the number.
        ("ce-sequence", f"{envelope.sequence:010}"),
        ("ce-correlationid", _quoted(envelope.correlation_id)),
        ("ce-causationid", _quoted(envelope.causation_id)),
    )
    if envelope.causation_id and envelope.correlation_id and envelope.id:
        return named
    return tuple(pair for pair in named if pair[1])  # an attribute without a value is left out


@lru_cache(maxsize=4_096)
def _of_stream(tenant: str, kind: str, name: str) -> tuple[str, str]:
    """Source and subject of all events of a stream."""
    return _quoted(f"/valuetrain/{tenant}/{kind}"), _quoted(name)


def _quoted(value: str) -> str:
    return value if _NEEDS_NO_QUOTES(value) else quote(value, safe=_HEADER_SAFE)
