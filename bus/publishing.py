"""Getting messages into a JetStream stream, with proof that the server holds them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from bus.answers import ApiError, NoResponders, checked, status
from bus.connection import HEADROOM, Connection
from bus.messages import stored_headers
from bus.port import BusError, BusUnavailable, OutgoingEvent
from bus.wire import Message

BATCH_MESSAGES = 500
"""The server refuses more than 1,000."""
BATCH_BYTES = 8 * 1024 * 1024
FEW = 8
"""Up to so many go out singly, with a sync each. A batch of any size costs the server six, and a dozen files."""

STORE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Stored:
    """The server holds the message at `sequence`; `duplicate` when it already did."""

    sequence: int
    duplicate: bool


async def store(
    connection: Connection,
    stream: str,
    subject: str,
    raw: bytes,
    headers: dict[str, str],
    *,
    timeout: float = STORE_SECONDS,
    spare: int = HEADROOM,
) -> Stored:
    """Publish one message and wait until the server has it. `headers` include `Nats-Msg-Id`.

    Raises BusUnavailable (it may or may not be stored), PermissionDenied, BusError when the server refuses it.
    """
    answer = await connection.request(subject, raw, headers=headers, timeout=timeout, spare=spare)
    try:
        body = checked(subject, answer)
    except ApiError as refused:
        if refused.code >= 500:
            raise BusUnavailable(f"{stream} cannot store {subject} now: {refused.description}") from refused
        raise
    return Stored(int(body["seq"]), bool(body.get("duplicate", False)))


class Publisher:
    """Puts events into VT_EVENTS in order, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._newest: int | None = None
        """The sequence of the newest message of VT_EVENTS, as far as we know; None when we do not."""

    async def publish(self, events: Sequence[OutgoingEvent]) -> list[int]:
        """See `bus.port.Bus.publish_events`."""
        sequences: list[int] = []
        for chunk in _chunks(events):
            before, self._newest = self._newest, None  # until this one is stored
            if len(chunk) > FEW:
                stored = await _publish_many(self._connection, chunk)
            else:
                stored = await self._publish_few(chunk, before)
            sequences += stored
            if stored == list(range(stored[0], stored[0] + len(stored))):
                self._newest = stored[-1]  # a guess where these were duplicates: then the next ones are refused
        return sequences

    async def _publish_few(self, chunk: list[OutgoingEvent], newest: int | None) -> list[int]:
        """All at once, each only behind the one before it; one by one from where the server refuses that."""
        sequences: list[int] = []
        if newest is None or len(chunk) == 1:
            stored = await _publish_one(self._connection, chunk[0])
            sequences.append(stored.sequence)
            newest = None if stored.duplicate else stored.sequence
        if newest is not None and len(sequences) < len(chunk):
            sequences += await _publish_row(self._connection, chunk[len(sequences) :], newest)
        for event in chunk[len(sequences) :]:
            sequences.append((await _publish_one(self._connection, event)).sequence)
        return sequences


def _chunks(events: Sequence[OutgoingEvent]) -> Iterator[list[OutgoingEvent]]:
    chunk: list[OutgoingEvent] = []
    size = 0
    for event in events:
        if chunk and (len(chunk) == BATCH_MESSAGES or size + len(event.raw) > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(event)
        size += len(event.raw)
    if chunk:
        yield chunk


async def _publish_many(connection: Connection, chunk: list[OutgoingEvent]) -> list[int]:
    """An atomic batch: one sync for all instead of one for each. Where the server refuses it (one duplicate fails a
    whole batch), one by one past the duplicates.

    One by one means waiting for each: were they pipelined and one failed, those behind it would be stored before it.
    """
    sequences: list[int] = []
    rest = chunk
    while len(rest) > 1:
        try:
            return sequences + await _publish_batch(connection, rest)
        except ApiError:
            duplicate = True
            while duplicate and rest:
                stored = await _publish_one(connection, rest[0])
                sequences.append(stored.sequence)
                duplicate, rest = stored.duplicate, rest[1:]
    for event in rest:
        sequences.append((await _publish_one(connection, event)).sequence)
    return sequences


async def _publish_row(connection: Connection, events: list[OutgoingEvent], newest: int) -> list[int]:
    """Send all and then wait for all. Each is refused unless it comes right behind the one before it (the first behind
    `newest`), so that after a refusal none is stored before its turn. The sequences of those before the first refusal.
    """
    answers: dict[int, Message] = {}
    all_there = connection.future()

    def receive(number: int, message: Message) -> None:
        answers[number] = message
        if len(answers) == len(events) and not all_there.done():
            all_there.set_result(None)

    with ExitStack() as stack:
        stack.enter_context(connection.failing(all_there, *(event.subject for event in events)))
        for number, event in enumerate(events):
            reply = stack.enter_context(connection.replies(partial(receive, number)))
            behind = {"Nats-Expected-Last-Sequence": str(newest + number)} | _headers(event)
            await connection.publish(event.subject, event.raw, reply=reply, headers=behind, spare=HEADROOM)
        await connection.answer(all_there, events[-1].subject, STORE_SECONDS)
    sequences: list[int] = []
    for number, event in enumerate(events):
        if status(answers[number]) == "503":
            raise NoResponders(f"nobody answers on {event.subject}: the JetStream stream does not exist (yet)")
        try:
            body: dict[str, Any] = checked(event.subject, answers[number])
        except ApiError:
            break  # whoever publishes these one by one learns why
        sequences.append(int(body["seq"]))
    return sequences


async def _publish_one(connection: Connection, event: OutgoingEvent) -> Stored:
    return await store(connection, "VT_EVENTS", event.subject, event.raw, _headers(event))


async def _publish_batch(connection: Connection, events: list[OutgoingEvent]) -> list[int]:
    """All or nothing. Raises ApiError when the server refuses the batch."""
    batch = secrets.token_hex(16)
    *others, last = events

    def headers(event: OutgoingEvent, number: int) -> dict[str, str]:
        return _headers(event) | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}

    for number, event in enumerate(others, 1):
        # No answer asked for: if one of these is refused, the batch is incomplete and the commit says so.
        await connection.publish(event.subject, event.raw, headers=headers(event, number), spare=HEADROOM)
    commit = headers(last, len(events)) | {"Nats-Batch-Commit": "1"}
    answer = await connection.request(last.subject, last.raw, headers=commit, timeout=STORE_SECONDS, spare=HEADROOM)
    body = checked(last.subject, answer)
    if int(body.get("count", 0)) != len(events):
        raise BusError(f"the server stored {body.get('count')} of {len(events)} events: is it older than 2.12?")
    first = int(body["seq"]) - len(events) + 1
    return list(range(first, first + len(events)))


def _headers(event: OutgoingEvent) -> dict[str, str]:
    return dict(event.headers) | stored_headers("VT_EVENTS", event.id)
