"""Getting messages into a JetStream stream, with proof that the server holds them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bus.answers import ApiError, checked
from bus.connection import HEADROOM, Connection
from bus.messages import stored_headers
from bus.port import BusError, BusUnavailable, OutgoingEvent

BATCH_MESSAGES = 500
"""The server refuses more than 1,000."""
BATCH_BYTES = 8 * 1024 * 1024
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


async def publish_events(connection: Connection, events: Sequence[OutgoingEvent]) -> list[int]:
    """See `bus.port.Bus.publish_events`. Uses atomic batches: one fsync for all of a batch instead of one for each."""
    sequences: list[int] = []
    for chunk in _chunks(events):
        sequences += await _publish_chunk(connection, chunk)
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


async def _publish_chunk(connection: Connection, chunk: list[OutgoingEvent]) -> list[int]:
    """A batch; where the server refuses it (one duplicate fails a whole batch), one by one past the duplicates.

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
