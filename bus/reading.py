"""Reading a JetStream stream by direct get: ranges of messages, in order, leaving nothing behind on the server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from bus.answers import ApiError, description, status
from bus.connection import ANSWER_SECONDS, Connection
from bus.messages import MSG_ID, is_first
from bus.port import BusUnavailable
from bus.wire import Message

_NOT_FOUND = 10037
_MOST_BYTES = 8 * 1024 * 1024
_PAGE = 256


@dataclass(frozen=True, slots=True)
class Record:
    """A message as it lies in a JetStream stream."""

    subject: str
    raw: bytes
    headers: dict[str, str]
    sequence: int
    time: str


@dataclass(frozen=True, slots=True)
class State:
    """What a JetStream stream holds. `created` changes when it is made anew."""

    created: str
    first: int
    last: int
    messages: int


async def stream_state(connection: Connection, stream: str) -> State:
    """Raises BusUnavailable, PermissionDenied, ApiError."""
    answer = await connection.api(f"STREAM.INFO.{stream}")
    state = answer["state"]
    return State(str(answer["created"]), int(state["first_seq"]), int(state["last_seq"]), int(state["messages"]))


async def read_range(
    connection: Connection, stream: str, start: int, most: int, pattern: str | None = None
) -> tuple[list[Record], bool]:
    """At most `most` messages from sequence `start` on (on subjects of `pattern`), and whether there are more.

    Raises BusUnavailable when the answer was cut off: then nothing is returned, so nothing can be missing in between.
    """
    body: dict[str, Any] = {"seq": max(start, 1), "batch": most, "max_bytes": _MOST_BYTES}
    if pattern is not None:
        body["next_by_subj"] = pattern
    subject = f"$JS.API.DIRECT.GET.{stream}"
    records: list[Record] = []
    end: asyncio.Future[Message] = connection.future()

    def receive(message: Message) -> None:
        if end.done():
            return
        if status(message):
            end.set_result(message)
            return
        record = record_of(message)
        # The server names each one's predecessor in this answer: a message dropped on the way shows.
        if int(message.headers["Nats-Last-Sequence"]) != (records[-1].sequence if records else 0):
            end.set_exception(BusUnavailable(f"messages of {stream} before {record.sequence} were lost on the way"))
            return
        records.append(record)

    with connection.replies(receive) as reply, connection.failing(end, subject):
        await connection.publish(subject, json.dumps(body).encode(), reply=reply)
        final = await connection.answer(end, subject, ANSWER_SECONDS)
    if status(final) == "404":
        return [], False
    if status(final) != "204":
        raise BusUnavailable(f"{stream} cannot be read now: {status(final)} {description(final)}")
    return records, int(final.headers["Nats-Num-Pending"]) > 0


async def backwards(connection: Connection, stream: str) -> AsyncIterator[Record]:
    """All messages, newest first, read in pages from the end; deleted ones leave holes."""
    state = await stream_state(connection, stream)
    end = state.last if state.messages else 0
    while end >= max(state.first, 1):
        start, more = max(end - _PAGE + 1, state.first), True
        page: list[Record] = []
        while more:
            records, more = await read_range(connection, stream, page[-1].sequence + 1 if page else start, _PAGE)
            page += records
            more = more and page[-1].sequence < end
        for record in reversed(page):
            if record.sequence <= end:
                yield record
        end = start - 1


def record_of(message: Message) -> Record:
    """A message as the server shows what is stored: in an answer to a direct get, or repeated after it was stored."""
    headers = message.headers
    return Record(
        headers["Nats-Subject"], message.data, headers, int(headers["Nats-Sequence"]), headers["Nats-Time-Stamp"]
    )


async def newest(connection: Connection, stream: str) -> tuple[int, str] | None:
    """Sequence and message id of the newest message the bus published there; None when there is none. One that was put
    back counts as little as a stray answer.

    Asks the stream's leader, not a direct get, which a replica that lags may answer.
    """
    state = await stream_state(connection, stream)
    for sequence in range(state.last, state.first - 1, -1) if state.messages else ():
        try:
            found = (await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence}))["message"]
        except ApiError as refused:
            if refused.err_code != _NOT_FOUND:
                raise
            continue  # a hole
        headers = _stored(found.get("hdrs", ""))
        if is_first(headers, stream):
            return sequence, headers[MSG_ID]
    return None


async def is_there(connection: Connection, stream: str, sequence: int) -> bool:
    """Whether a stream holds the message with this sequence; asks the stream's leader. Raises as `newest`."""
    try:
        await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
    except ApiError as refused:
        if refused.err_code != _NOT_FOUND:
            raise
        return False
    return True


def _stored(encoded: str) -> dict[str, str]:
    """Headers as JetStream's API shows them: base64 of `NATS/1.0`, then `Name: value` lines."""
    lines = base64.b64decode(encoded).decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
