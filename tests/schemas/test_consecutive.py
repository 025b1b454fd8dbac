"""Reading a stream's events one after the other takes nothing that `decode_event` would read otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.consecutive import Consecutive
from schemas.envelope import EventEnvelope, StreamId, decode_event, encode_event
from schemas.messages import Event, MessageType
from schemas.registry import EVENTS
from tests.golden.make_history import HISTORY, RESTORED
from tests.schemas import strategies
from tests.schemas.test_canonical import EVENT, FEW, PIECES, STREAM

Envelopes = list[EventEnvelope[Event]]


def read(stream: StreamId, first: int, ids: list[str], raws: list[bytes]) -> tuple[Envelopes, int]:
    """The events, and the number that was returned."""
    events: Envelopes = []
    reading = Consecutive(stream).read(first, ids, raws)
    while True:
        try:
            events.append(next(reading))
        except StopIteration as end:
            return events, end.value


def three(middle: EventEnvelope[Event] = EVENT) -> Envelopes:
    """Three events in a row, the first two of one command."""
    return [
        EVENT,
        replace(middle, id="e-2", sequence=8),
        replace(EVENT, id="e-3", sequence=9, time=EVENT.time + timedelta(seconds=1), causation_id=""),
    ]


def agree(ids: list[str], raws: list[bytes]) -> int:
    """How many were taken: exactly the first ones that are in the right place, and as `decode_event` reads them."""
    expected: Envelopes = []
    for number, (id_, raw) in enumerate(zip(ids, raws, strict=True), 7):
        try:
            envelope = decode_event(raw)
        except ValueError:
            break
        if (envelope.stream, envelope.sequence, envelope.id) != (STREAM, number, id_):
            break
        expected.append(envelope)
    events, taken = read(STREAM, 7, ids, raws)
    assert (events, taken) == (expected, len(expected))
    return taken


@pytest.mark.parametrize("history", [HISTORY, RESTORED], ids=lambda path: path.stem)
def test_a_whole_history_is_read_alike(history: Path) -> None:
    raws = [line for line in history.read_bytes().splitlines() if b'"sender":' not in line[:600]]
    recorded = [decode_event(raw) for raw in raws]
    assert read(recorded[0].stream, 1, [event.id for event in recorded], raws) == (recorded, len(raws))


@pytest.mark.untraced
@pytest.mark.parametrize("kind", EVENTS.values(), ids=lambda k: k.name)
def test_any_event_is_read_alike(kind: MessageType) -> None:
    @FEW
    @given(strategies.events(kind))
    def check(envelope: EventEnvelope[Event]) -> None:
        raw = encode_event(replace(envelope, id="e-1"))
        assert read(envelope.stream, envelope.sequence, ["e-1"], [raw]) == ([decode_event(raw)], 1)
        raws = [encode_event(each) for each in three(replace(envelope, stream=STREAM))]
        assert agree(["e-1", "e-2", "e-3"], raws) == 3

    check()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_bytes_that_were_tampered_with_are_read_alike(data: st.DataObject) -> None:
    raws = [encode_event(event) for event in three()]
    which = data.draw(st.integers(0, 2))
    start = data.draw(st.integers(0, len(raws[which])))
    end = data.draw(st.integers(start, min(start + 4, len(raws[which]))))
    piece = data.draw(st.sampled_from(PIECES) | st.binary(max_size=3))
    raws[which] = raws[which][:start] + piece + raws[which][end:]
    agree(["e-1", "e-2", "e-3"], raws)


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        (b'"id":"e-2"', b'"id": "e-2"', 3),
        (b'"causation_id":"c-1"', b'"causation_id":"c-1" ', 3),
        (b'"id":"e-2"', b'"id":"e-1"', 1),
        (b'"causation_id":"c-1","data"', b'"causation_id":","data"', 1),
        (b'"time":"', b'"time":"-', 1),
        (b'Z","actor"', b'Z-","actor"', 1),
        (b'"sequence":8', b'"sequence":08', 1),
        (b'"sequence":8', b'"sequence":9', 1),
        (b'"s12-abcde"', b'"s12-abcdf"', 1),
        (b"command_refused", b"command_renamed", 1),
        (b'"version":1', b'"version":2', 1),
        (b'"causation_id":"c-1"', b'"causation_id":"c 1"', 1),
        (b'"reason":"why"', b'"reason":7', 1),
        (b'"name":"dana"', b'"name":""', 1),
        (b'"data":{', b'"data":{}{', 1),
        (b"}}}", b"}}", 1),
        (b"}}}", b"}}x", 1),
        (b"}}}", b"}}} ", 3),
    ],
)
def test_where_reading_stops(old: bytes, new: bytes, taken: int) -> None:
    first, second, third = (encode_event(event) for event in three())
    changed = second.replace(old, new)
    assert changed != second
    assert agree(["e-1", "e-2", "e-3"], [first, changed, third]) == taken


@pytest.mark.parametrize("place", [0, 27], ids=["time", "after the time"])
@pytest.mark.parametrize("up_to", [b'","data":', b'"data":{'], ids=["before the body", "all of it"])
@pytest.mark.parametrize("filler", [b"-", b'"', b" "])
def test_nothing_is_taken_for_granted(place: int, up_to: bytes, filler: bytes) -> None:
    """Neither by the first event nor after one that was read by itself: both compare with nothing."""
    first, second, _ = (encode_event(event) for event in three())
    start, end = first.index(b'"time":"') + len(b'"time":"') + place, first.index(up_to)
    end += len(b'"data":') if up_to.startswith(b'"d') else 0
    spoilt = first[:start] + filler * (end - start) + first[end:]
    assert agree(["e-1"], [spoilt]) == 0
    unusual = second.replace(b'"id":"e-2"', b'"id": "e-2"')
    later = spoilt.replace(b'"e-1"', b'"e-3"').replace(b'"sequence":7', b'"sequence":9')
    assert agree(["e-1", "e-2", "e-3"], [first, unusual, later]) == 2


@pytest.mark.parametrize("id_", ["", "a b", 'a"b', "a\\b", "\u00e9", "a" * 201])
def test_ids_are_taken_as_the_models_take_them(id_: str) -> None:
    events = three()
    events[1] = replace(events[1], id=id_)
    raws = [encode_event(event) for event in events]
    events_read, taken = read(STREAM, 7, [event.id for event in events], raws)
    assert (events_read, taken) == ([], 0), "the whole page is looked at event by event"


def test_an_older_version_goes_through_the_upcasters(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = EVENTS["command_refused"]
    newer = replace(refused, version=2, upcasters={1: lambda body: body | {"reason": "lifted"}})
    raws = [encode_event(event) for event in three()]
    monkeypatch.setitem(EVENTS, "command_refused", newer)
    assert agree(["e-1", "e-2", "e-3"], raws) == 3
    assert {event.event.reason for event in read(STREAM, 7, ["e-1"], raws[:1])[0]} == {"lifted"}  # type: ignore[attr-defined]
