"""A session decided in comments, recorded once, must be decided the same way for ever: each event byte by byte."""

from __future__ import annotations

import json
from dataclasses import replace

from conductor.fold import fold, handle
from conductor.state import Status, initial
from schemas.envelope import EventEnvelope, decode_command, decode_event, encode_event
from schemas.messages import Event
from tests.golden.make_chatops_history import HISTORY, record
from tests.golden.test_history import SAID

LINES = HISTORY.read_bytes().splitlines()


def test_every_recorded_command_is_decided_as_it_was() -> None:
    state, now, events = initial("s12-abcde"), list[Event](), list[EventEnvelope[Event]]()
    for line in LINES:
        if "sender" in json.loads(line):
            assert not now, "a command gives more events than were recorded"
            outcome = handle(state, decode_command(line))
            state, now = outcome.state, list(outcome.events)
        else:
            events.append(decode_event(line))
            assert encode_event(replace(events[-1], event=now.pop(0))) == line
    assert state.status is Status.ROLLED_BACK
    assert fold(initial("s12-abcde"), events) == state


def test_it_has_every_message_that_came_with_chat_ops() -> None:
    told = {("command" if "sender" in body else "event", body["type"]) for body in map(json.loads, LINES)}
    assert SAID - told == set()


def test_the_script_still_tells_this_story() -> None:
    assert record() == LINES
