"""What was given up: kept in VT_DEAD with the reason, and listed from there."""

from __future__ import annotations

import hashlib
from typing import Any

from bus.connection import Connection
from bus.messages import REQUEUED, Arrival, line, stored_headers, unline
from bus.port import BusError, ConsumerSpec
from bus.publishing import store
from bus.reading import Record, backwards, read_range, stream_state
from schemas.subjects import ROOT

STREAM = "VT_DEAD"
_PREFIX = "Vt-Dead-"
_PAGE = 64
_HOMES = {"cmd": "VT_COMMANDS", "evt": "VT_EVENTS"}


def dead_subject(arrival: Arrival, spec: ConsumerSpec) -> str:
    """`vt.<tenant>.dead.<consumer>`, the tenant taken from the message's own subject."""
    tokens = arrival.subject.split(".")
    tenant = tokens[1] if len(tokens) > 1 and tokens[0] == ROOT else "unknown"
    return f"{ROOT}.{tenant}.dead.{spec.name}"


async def bury(connection: Connection, spec: ConsumerSpec, arrival: Arrival, reason: str, trace: str = "") -> None:
    """Store a message among the dead letters. The same one twice is one. Raises as `store`."""
    # With a digest: after a power cut, or made anew, a stream may give the same sequence to another message.
    digest = hashlib.sha256(arrival.raw).hexdigest()[:16]
    headers = stored_headers(STREAM, f"{spec.stream}.{spec.name}.{arrival.sequence}.{digest}") | {
        f"{_PREFIX}Consumer": spec.name,
        f"{_PREFIX}Stream": spec.stream,
        f"{_PREFIX}Subject": arrival.subject,
        f"{_PREFIX}Sequence": str(arrival.sequence),
        f"{_PREFIX}Deliveries": str(arrival.attempt),
        f"{_PREFIX}Reason": line(reason, 1000),
        f"{_PREFIX}Trace": line(trace),
    }
    # Everything the bus stores leaves HEADROOM bytes free, so these headers fit.
    await store(connection, STREAM, dead_subject(arrival, spec), arrival.raw, headers, spare=0)


async def newest_dead_letters(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """See `bus.port.Bus.dead_letters`; newest first."""
    found: list[dict[str, Any]] = []
    if limit > 0:
        async for record in backwards(connection, STREAM):
            found.append(_shown(record))
            if len(found) == limit:
                break
    return found


async def dead_letters_from(connection: Connection, start: int) -> tuple[list[dict[str, Any]], int]:
    """See `bus.port.Bus.dead_letters_from`."""
    state = await stream_state(connection, STREAM)
    if start > state.last + 1:  # made anew: its sequences mean something else now
        start = 1
    if state.last < start:
        return [], start
    records, _ = await read_range(connection, STREAM, start, _PAGE)
    return [_shown(record) for record in records], (records[-1].sequence + 1 if records else state.last + 1)


async def put_back(connection: Connection, subject: str, raw: bytes, message_id: str) -> int:
    """See `bus.port.Bus.put_back`. Raises BusError for a subject that no consumer reads from."""
    tokens = subject.split(".")
    stream = _HOMES.get(tokens[2]) if len(tokens) > 3 and tokens[0] == ROOT else None
    if stream is None:
        raise BusError(f"{subject!r} is neither a command's nor an event's subject: nothing would read a message there")
    headers = stored_headers(stream, message_id) | {REQUEUED: message_id}
    return (await store(connection, stream, subject, raw, headers)).sequence


def _shown(record: Record) -> dict[str, Any]:
    """A dead letter as the port gives it. `message` is text that encodes back to the same bytes with the error handler
    `surrogateescape`, should they not be UTF-8."""
    headers = record.headers
    return {
        "id": record.sequence,
        "consumer": headers.get(f"{_PREFIX}Consumer", record.subject.rsplit(".", 1)[-1]),
        "stream": headers.get(f"{_PREFIX}Stream", ""),
        "subject": headers.get(f"{_PREFIX}Subject", ""),
        "sequence": int(headers.get(f"{_PREFIX}Sequence", "0")),
        "deliveries": int(headers.get(f"{_PREFIX}Deliveries", "0")),
        "reason": unline(headers.get(f"{_PREFIX}Reason", "")),
        "trace": unline(headers.get(f"{_PREFIX}Trace", "")),
        "time": record.time,
        "message": record.raw.decode("utf-8", "surrogateescape"),
    }
