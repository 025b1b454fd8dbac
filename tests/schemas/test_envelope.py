"""Envelopes: what is encoded is decoded, and nothing else is taken for a message."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas.commands import AbortSession
from schemas.envelope import (
    CommandEnvelope,
    EventEnvelope,
    StreamId,
    UnreadableMessage,
    decode_command,
    decode_event,
    encode_command,
    encode_event,
    encode_events,
    timestamp,
)
from schemas.messages import Event, MessageType
from schemas.registry import COMMANDS, EVENTS
from schemas.session import PhaseCompleted, SessionPaused
from schemas.values import Actor
from tests.schemas import strategies

ACTOR = Actor(name="dana", channel="cli", verified_as="os:dana")
TIME = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
STREAM = StreamId("default", "session", "s12-abcde")
EVENT: EventEnvelope[Event] = EventEnvelope(
    "e-1", STREAM, 7, TIME, ACTOR, "s12-abcde", "c-1", PhaseCompleted(phase="scope", attempt=1)
)
COMMAND = CommandEnvelope("c-1", STREAM, TIME, ACTOR, "operator", "s12-abcde", "", AbortSession(reason="no"))

ROUND_TRIPS = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # a whole pipeline takes minutes to shrink
)


@pytest.mark.untraced
@pytest.mark.parametrize("kind", EVENTS.values(), ids=lambda k: k.name)
def test_every_event_comes_back_as_it_was(kind: MessageType) -> None:
    @ROUND_TRIPS
    @given(strategies.events(kind))
    def check(envelope: EventEnvelope[Event]) -> None:
        raw = encode_event(envelope)
        assert decode_event(raw) == envelope
        assert encode_event(decode_event(raw)) == raw
        assert json.loads(raw)["type"] == kind.name

    check()


NEIGHBOURS: dict[str, list[Any]] = {
    "stream": [STREAM, replace(STREAM), replace(STREAM, name="s13-abcde"), replace(STREAM, tenant="other")],
    "time": [TIME, TIME.astimezone(timezone(timedelta(hours=2))), TIME + timedelta(microseconds=1)],
    "actor": [ACTOR, ACTOR.model_copy(), Actor(name="dana", channel="bus", verified_as="os:dana")],
    "correlation_id": ["s12-abcde", "s13-abcde"],
    "causation_id": ["c-1", "c-2", ""],
    "event": [
        PhaseCompleted(phase="scope", attempt=1),
        PhaseCompleted(phase="build", attempt=2),
        SessionPaused(by=ACTOR),
    ],
}


@given(st.lists(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in NEIGHBOURS.items()})))
def test_what_stands_beside_an_event_does_not_change_its_bytes(differences: list[dict[str, Any]]) -> None:
    envelopes = [replace(EVENT, id=f"e-{number}", **fields) for number, fields in enumerate(differences)]
    raws = encode_events(envelopes)
    assert raws == tuple(map(encode_event, envelopes))
    assert [decode_event(raw) for raw in raws] == envelopes


@pytest.mark.untraced
@pytest.mark.parametrize("kind", COMMANDS.values(), ids=lambda k: k.name)
def test_every_command_comes_back_as_it_was(kind: MessageType) -> None:
    @ROUND_TRIPS
    @given(strategies.commands(kind))
    def check(envelope: CommandEnvelope) -> None:
        raw = encode_command(envelope)
        assert decode_command(raw) == envelope
        assert encode_command(decode_command(raw)) == raw
        assert json.loads(raw)["sender"] == envelope.sender

    check()


def test_the_canonical_bytes_of_an_event() -> None:
    assert encode_event(EVENT) == (
        b'{"id":"e-1","type":"phase_completed","version":1,"tenant":"default","kind":"session",'
        b'"stream":"s12-abcde","sequence":7,"time":"2026-11-21T09:00:00.000000Z",'
        b'"actor":{"name":"dana","channel":"cli","verified_as":"os:dana"},"correlation_id":"s12-abcde",'
        b'"causation_id":"c-1","data":{"phase":"scope","attempt":1}}'
    )


def test_the_canonical_bytes_of_a_command() -> None:
    assert encode_command(COMMAND) == (
        b'{"id":"c-1","type":"abort_session","version":1,"tenant":"default","kind":"session",'
        b'"stream":"s12-abcde","time":"2026-11-21T09:00:00.000000Z",'
        b'"actor":{"name":"dana","channel":"cli","verified_as":"os:dana"},"sender":"operator",'
        b'"correlation_id":"s12-abcde","causation_id":"","data":{"reason":"no"}}'
    )


def test_text_is_escaped_and_not_mangled() -> None:
    reason = 'a "quote", a \\, a\nline, \x00, é, 漢, \U0001f682'
    command = replace(
        COMMAND, command=AbortSession(reason=reason), actor=Actor(name='"', channel="\\", verified_as="é")
    )
    again = decode_command(encode_command(command))
    assert again == command


def test_the_wire_name_is_the_type() -> None:
    assert (EVENT.type, COMMAND.type) == ("phase_completed", "abort_session")


def test_the_verified_sender_overrules_the_bytes() -> None:
    assert COMMAND.sent_by("lead") == replace(COMMAND, sender="lead")


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (TIME, "2026-11-21T09:00:00.000000Z"),
        (TIME.replace(microsecond=1), "2026-11-21T09:00:00.000001Z"),
        (datetime(2026, 11, 21, 9, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))), "2026-11-21T03:30:00.000000Z"),
        (datetime(476, 9, 4, tzinfo=UTC), "0476-09-04T00:00:00.000000Z"),
    ],
)
def test_times_are_utc_with_microseconds(moment: datetime, text: str) -> None:
    assert timestamp(moment) == text
    assert datetime.fromisoformat(text) == moment


def test_a_time_without_zone_is_no_time() -> None:
    with pytest.raises(ValueError, match="time without zone"):
        timestamp(TIME.replace(tzinfo=None))


# What is no message


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "event is not JSON"),
        (b"{", "event is not JSON"),
        (b"\xff\xfe", "event is not JSON"),
        (b'{"id": "\\ud800"}', "event is not JSON"),
        (b"[" * 100_000, "event is not JSON"),
        (b"[]", "event is not a JSON object"),
        (b"null", "event is not a JSON object"),
        (b'"text"', "event is not a JSON object"),
        (b"{}", "event header: id: Field required"),
    ],
)
def test_bytes_that_are_no_object(raw: bytes, why: str) -> None:
    with pytest.raises(UnreadableMessage, match=why):
        decode_event(raw)
    with pytest.raises(UnreadableMessage, match=why.replace("event", "command")):
        decode_command(raw)


def changed(path: str, value: Any, raw: bytes) -> bytes:
    body = json.loads(raw)
    *way, last = path.split(".")
    inner = body
    for part in way:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(body).encode()


HEADERS: list[tuple[str, Any]] = [
    ("id", ...), ("id", ""), ("id", 7), ("id", None), ("id", "two words"), ("id", "line\nline"), ("id", "x" * 201),
    ("type", ...), ("type", None), ("type", ["a"]), ("type", {}), ("type", 7),
    ("version", ...), ("version", "1"), ("version", True), ("version", 1.0), ("version", None), ("version", [1]),
    ("tenant", ...), ("tenant", ""), ("tenant", "Default"), ("tenant", "a.b"), ("tenant", "*"), ("tenant", 7),
    ("kind", ...), ("kind", "galaxy"), ("kind", None), ("kind", []),
    ("stream", ...), ("stream", ""), ("stream", "a.b"), ("stream", "*"), ("stream", ">"), ("stream", "../x"),
    ("stream", "a/b"), ("stream", "a b"), ("stream", "x" * 65), ("stream", "_x"), ("stream", 7), ("stream", "s\n"),
    ("time", ...), ("time", ""), ("time", "yesterday"), ("time", "2026-11-21T09:00:00"), ("time", None),
    ("time", "1969-12-31T23:59:59Z"), ("time", "9999-12-31T23:59:59Z"), ("time", "0001-01-01T00:00:00+14:00"),
    ("actor", ...), ("actor", "dana"), ("actor", {}), ("actor.name", ""), ("actor.name", "x" * 129), ("actor.age", 7),
    ("actor.channel", ...), ("actor.verified_as", None),
    ("correlation_id", ...), ("correlation_id", None), ("correlation_id", "a\r\nNats-Msg-Id: b"),
    ("causation_id", ...), ("causation_id", 7), ("causation_id", "a b"), ("causation_id", "x" * 201),
    ("data", ...), ("data", None), ("data", []), ("data", "text"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), [*HEADERS, ("sequence", ...), ("sequence", 0), ("sequence", "7"),
                                             ("sequence", 7.5), ("sequence", True), ("sequence", None)])  # fmt: skip
def test_an_event_with_a_bad_header(path: str, value: Any) -> None:
    raw = changed(path, value, encode_event(EVENT))
    with pytest.raises(UnreadableMessage, match=rf"^event header: {path}"):
        decode_event(raw)


@pytest.mark.parametrize(("path", "value"), [*HEADERS, ("sender", ...), ("sender", None), ("sender", 7)])
def test_a_command_with_a_bad_header(path: str, value: Any) -> None:
    raw = changed(path, value, encode_command(COMMAND))
    with pytest.raises(UnreadableMessage, match=rf"^command header: {path}"):
        decode_command(raw)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("type", "phase_vanished", "unknown event type 'phase_vanished'"),
        ("type", "abort_session", "unknown event type 'abort_session'"),
        ("version", 2, "event 'phase_completed' has version 2, this program knows up to 1: update it"),
        ("version", 0, "event 'phase_completed' has version 0"),
        ("version", -1, "event 'phase_completed' has version -1"),
        ("data", {}, "event 'phase_completed' version 1 does not fit its schema"),
        ("data.phase", ..., "phase\n  Field required"),
        ("data.phase", "No Phase", "phase\n  String should match pattern"),
        ("data.attempt", "many", "attempt\n  Input should be a valid integer"),
        ("data.mood", "good", "mood\n  Extra inputs are not permitted"),
    ],
)
def test_an_event_that_does_not_fit(path: str, value: Any, why: str) -> None:
    with pytest.raises(UnreadableMessage) as caught:
        decode_event(changed(path, value, encode_event(EVENT)))
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("type", "phase_completed", "unknown command type 'phase_completed'"),
        ("version", 2, "command 'abort_session' has version 2, this program knows up to 1: update it"),
        ("data.reason", 7, "command 'abort_session' version 1 does not fit its schema"),
    ],
)
def test_a_command_that_does_not_fit(path: str, value: Any, why: str) -> None:
    with pytest.raises(UnreadableMessage) as caught:
        decode_command(changed(path, value, encode_command(COMMAND)))
    assert why in str(caught.value)


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_figures_are_finite(figure: str) -> None:
    text = encode_event(replace(EVENT, event=EVENT.event)).decode()
    report = text.replace("phase_completed", "work_reported").replace(
        '{"phase":"scope","attempt":1}',
        '{"phase":"scope","attempt":1,"summary":"","artifacts":[],"ticked":[],'
        f'"measurements":[{{"scope":"metrics","name":"recall","value":{figure}}}]}}',
    )
    with pytest.raises(UnreadableMessage, match="does not fit its schema"):
        decode_event(report.encode())
    assert decode_event(report.replace(figure, "0.5").encode())


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
).map(lambda tree: json.dumps(tree).encode()))  # fmt: skip
def test_whatever_comes_is_a_message_or_unreadable(raw: bytes) -> None:
    for decode in (decode_event, decode_command):
        with pytest.raises(UnreadableMessage):
            decode(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*json.loads(encode_command(COMMAND))]), JSON)
def test_one_wrong_field_makes_it_unreadable_or_another_message(name: str, value: Any) -> None:
    raw = changed(name, value, encode_command(COMMAND))
    try:
        envelope = decode_command(raw)
    except UnreadableMessage:
        return
    assert decode_command(encode_command(envelope)) == envelope
