"""A session and its forks, recorded once, must be decided the same way for ever: each event byte by byte."""

from __future__ import annotations

import json
from dataclasses import replace

from conductor.fold import fold, handle
from conductor.forking import Past
from conductor.state import SessionState, Status, initial
from schemas.envelope import CommandEnvelope, EventEnvelope, decode_command, decode_event, encode_event
from schemas.forking import ForkSession
from schemas.messages import Event
from tests.conductor.forked import HASH
from tests.golden.make_fork_history import HISTORY, record
from tests.golden.test_history import FORKED

LINES = HISTORY.read_bytes().splitlines()
Recorded = dict[str, list[EventEnvelope[Event]]]


def past(command: CommandEnvelope, known: Recorded) -> Past | None:
    fork = command.command
    if not isinstance(fork, ForkSession):
        return None
    return Past(fold(initial(fork.source), known[fork.source][: fork.sequence]), HASH)


def test_every_recorded_command_is_decided_as_it_was() -> None:
    states: dict[str, SessionState] = {}
    known: Recorded = {}
    now = list[Event]()
    for line in LINES:
        if "sender" in json.loads(line):
            assert not now, "a command gives more events than were recorded"
            command = decode_command(line)
            name = command.stream.name
            outcome = handle(states.get(name, initial(name)), command, past(command, known))
            states[name], now = outcome.state, list(outcome.events)
        else:
            event = decode_event(line)
            known.setdefault(event.stream.name, []).append(event)
            assert encode_event(replace(event, event=now.pop(0))) == line
    assert [s.status for s in states.values()] == [Status.BLOCKED, Status.COMPLETED, Status.ROLLED_BACK]
    for name, events in known.items():
        assert fold(initial(name), events) == states[name]


def test_it_has_every_message_that_came_with_forks() -> None:
    told = {("command" if "sender" in body else "event", body["type"]) for body in map(json.loads, LINES)}
    assert FORKED - told == set()


def test_the_script_still_tells_this_story() -> None:
    assert record() == LINES
