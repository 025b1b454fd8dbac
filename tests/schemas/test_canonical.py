"""The fast way of reading takes nothing that the models would read otherwise, and takes what is written every day."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas.commands import AbortSession
from schemas.envelope import (
    CommandEnvelope,
    EventEnvelope,
    StreamId,
    UnreadableMessage,
    _any_command,
    _any_event,
    _canonical_command,
    _canonical_event,
    decode_event,
    encode_command,
    encode_event,
)
from schemas.messages import Event, MessageType
from schemas.registry import COMMANDS, EVENTS
from schemas.session import CommandRefused
from schemas.values import Actor
from tests.golden.make_history import HISTORY, RESTORED
from tests.schemas import strategies

ACTOR = Actor(name="dana", channel="cli", verified_as="os:dana")
STREAM = StreamId("default", "session", "s12-abcde")
TIME = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
EVENT: EventEnvelope[Event] = EventEnvelope(
    "e-1", STREAM, 7, TIME, ACTOR, "s12", "c-1", CommandRefused(command="x", code="y", reason="why", by=ACTOR)
)
RAW = encode_event(EVENT)
RAW_COMMAND = encode_command(
    CommandEnvelope("c-1", STREAM, TIME, ACTOR, "operator", "s12", "", AbortSession(reason="no"))
)
LINES = [*HISTORY.read_bytes().splitlines(), *RESTORED.read_bytes().splitlines()]
FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # a whole pipeline takes minutes to shrink
)


def agree(raw: bytes) -> bool:
    """Whether the fast way took it; what it takes must be what the models read."""
    taken = False
    for fast, models in ((_canonical_event, _any_event), (_canonical_command, _any_command)):
        if (quick := fast(raw)) is not None:
            assert models(raw) == quick  # type: ignore[operator]
            taken = True
    return taken


def test_a_whole_history_is_read_the_fast_way() -> None:
    assert all(agree(line) for line in LINES)


@pytest.mark.untraced
@pytest.mark.parametrize("kind", EVENTS.values(), ids=lambda k: k.name)
def test_any_event_is_read_alike(kind: MessageType) -> None:
    @FEW
    @given(strategies.events(kind))
    def check(envelope: EventEnvelope[Event]) -> None:
        agree(encode_event(envelope))

    check()


@pytest.mark.untraced
@pytest.mark.parametrize("kind", COMMANDS.values(), ids=lambda k: k.name)
def test_any_command_is_read_alike(kind: MessageType) -> None:
    @FEW
    @given(strategies.commands(kind))
    def check(envelope: CommandEnvelope) -> None:
        agree(encode_command(envelope))

    check()


PIECES = (
    b'"',
    b"\\",
    b"{",
    b"}",
    b",",
    b"0",
    b"-",
    b" ",
    b"\n",
    b"\xff",
    b"\xc3\xa9",
    b"null",
    b'"id":"z",',
    b"NaN",
    b"",
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from((RAW, RAW_COMMAND)), st.data())
def test_bytes_that_were_tampered_with_are_read_alike(raw: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(start + 4, len(raw))))
    agree(raw[:start] + data.draw(st.sampled_from(PIECES) | st.binary(max_size=3)) + raw[end:])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sequence":7', b'"sequence":0'),
        (b'"sequence":7', b'"sequence":07'),
        (b"2026-11-21T", b"2026-13-21T"),
        (b"2026-11-21T", b"1969-11-21T"),
        (b"2026-11-21T", b"9000-11-21T"),
        (b'"name":"dana"', b'"name":""'),
        (b'"name":"dana"', b'"name":"da\x00na"'),
        (b'"name":"dana"', b'"name":"\xff"'),
        (b'"default"', b'"Default"'),
        (b'"version":1', b'"version":2'),
        (b"command_refused", b"command_unheard_of"),
        (b'"reason":"why"', b'"reason":7'),
        (b'"reason":"why"', b'"reason":"why","more":1'),
        (b'"data":{', b'"data":{}{'),
        (b'"id":"e-1"', b'"id":"e 1"'),
    ],
)
def test_what_is_no_event_is_not_taken(old: bytes, new: bytes) -> None:
    raw = RAW.replace(old, new)
    assert raw != RAW
    assert _canonical_event(raw) is None
    with pytest.raises(UnreadableMessage):
        decode_event(raw)


@pytest.mark.parametrize(
    ("id_", "cause", "taken"),
    [
        ("01a1fd25-4bc9-76ae-8fec-f944652a3f7f", "01a1fd25-4b91-7037-a5c8-9e045272845c", True),
        ("timer.attempt.scope.default.s1.7", "", True),
        ("-", "-", True),
        ("a" * 200, "b" * 200, True),
        ("a" * 201, "", False),
        ("a", "b" * 201, False),
        ("", "c-1", False),
        ("a b", "c-1", False),
        ("a", "b\u00e9", False),
    ],
)
def test_ids_are_taken_as_the_models_take_them(id_: str, cause: str, taken: bool) -> None:
    raw = encode_event(replace(EVENT, id=id_, causation_id=cause))
    assert (_canonical_event(raw) is not None) == taken
    if taken:
        assert agree(raw)
    else:
        with pytest.raises(UnreadableMessage):
            decode_event(raw)


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[st.text(max_size=8)] * 8))
def test_whatever_text_a_header_holds_it_is_written_as_json(texts: tuple[str, ...]) -> None:
    id_, tenant, stream, name, channel, verified_as, correlation, cause = texts
    actor = Actor.model_construct(name=name, channel=channel, verified_as=verified_as)
    place = StreamId(tenant, "session", stream)
    envelope = replace(EVENT, id=id_, stream=place, actor=actor, correlation_id=correlation, causation_id=cause)
    written = json.loads(encode_event(envelope))
    assert [written[field] for field in ("id", "tenant", "stream", "correlation_id", "causation_id")] == [
        id_, tenant, stream, correlation, cause,
    ]  # fmt: skip
    assert written["actor"] == {"name": name, "channel": channel, "verified_as": verified_as}
    assert list(written)[:9] == [
        "id", "type", "version", "tenant", "kind", "stream", "sequence", "time", "actor",
    ]  # fmt: skip


@pytest.mark.parametrize("end", [b"x", b" ", b"}", b'{"data":{}}'])
def test_what_follows_the_event_is_not_passed_over(end: bytes) -> None:
    assert _canonical_event(RAW + end) is None
    assert _canonical_event(RAW[:-1] + end[:1]) is None or end == b"}"


def test_an_older_version_goes_through_the_upcasters(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = EVENTS["command_refused"]
    newer = replace(refused, version=2, upcasters={1: lambda body: body | {"reason": "lifted"}})
    monkeypatch.setitem(EVENTS, "command_refused", newer)
    assert decode_event(RAW).event == EVENT.event.model_copy(update={"reason": "lifted"})
