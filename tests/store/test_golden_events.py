"""Bytes and hashes that must never change: every record ever written depends on them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from schemas.drive import DriveEnded
from schemas.envelope import EventEnvelope, StreamId, decode_event, encode_event
from schemas.messages import Event
from schemas.session import AttemptFailed, CommandRefused, SessionResumed
from schemas.values import Actor, FailureClass, Usage
from store.chain import GENESIS, link

FILE = Path(__file__).parent / "golden_events.jsonl"
LINES = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
"""Each line: the canonical bytes as text (`raw`) and the chain's hash (`hash`, hex), of one stream in order."""

BOB = Actor(name="Bob Ångström", channel="github", verified_as="583231")
EVENTS: list[Event] = [
    SessionResumed(phase="build", by=BOB, reason=""),
    CommandRefused(command="decide_gate", code="stale", reason='“new” \\ "commit"\n\t\u2028 😀 \x7f', by=BOB),
    AttemptFailed(
        phase="evaluate",
        attempt=3,
        failure=FailureClass.LIMIT,
        reason="budget",
        usage=Usage(wall_seconds=0.1, cpu_seconds=1e-07, peak_rss_bytes=2**40, tokens=0, usd=1234567.25),
    ),
    DriveEnded(completed=("s-1", "s-2"), waiting=(), blocked=("s-3",), seconds=3.0, cost_usd=1e22, reason="done"),
]


def envelopes() -> list[EventEnvelope[Event]]:
    """What the lines of the file were made from."""
    stream = StreamId("default", "session", "s-golden")
    time = datetime(2026, 11, 21, 23, 59, 59, 7, tzinfo=timezone(timedelta(hours=-5)))
    return [
        EventEnvelope(f"0193c0de-0000-7000-8000-{n:012}", stream, n, time, BOB, f"c{n}", "", each)
        for n, each in enumerate(EVENTS, start=1)
    ]


def test_hashes_never_change() -> None:
    previous = GENESIS
    for line in LINES:
        previous = link(previous, line["raw"].encode())
        assert previous.hex() == line["hash"]


@pytest.mark.parametrize(("line", "envelope"), list(zip(LINES, envelopes(), strict=True)))
def test_bytes_never_change(line: dict[str, str], envelope: EventEnvelope[Event]) -> None:
    """If the event's class moved on to a newer version, keep the line and add one for the new version."""
    written = json.loads(line["raw"])["version"]
    if written == envelope.event.message_type.version:
        assert encode_event(envelope).decode() == line["raw"]


@pytest.mark.parametrize(("line", "envelope"), list(zip(LINES, envelopes(), strict=True)))
def test_old_bytes_are_read(line: dict[str, str], envelope: EventEnvelope[Event]) -> None:
    decoded = decode_event(line["raw"].encode())
    assert decoded.time == envelope.time.astimezone(UTC)
    assert (decoded.id, decoded.stream, decoded.sequence) == (envelope.id, envelope.stream, envelope.sequence)
    assert type(decoded.event) is type(envelope.event)
