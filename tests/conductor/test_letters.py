"""A dead letter is recorded once, and stays open until a person has decided what becomes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from conductor.letters import LetterState, decide_letter, evolve_letter, letter_id, letter_view
from conductor.refusal import Refusal
from schemas import commands as cmd
from schemas import system as ev
from schemas.envelope import CommandEnvelope, StreamId
from schemas.messages import Command, Event
from schemas.session import PhaseCompleted
from tests.conductor.rig import MACHINE

RECORD = cmd.RecordDeadLetter(
    consumer="conductor",
    source="VT_COMMANDS",
    subject="vt.default.cmd.s1.decide_gate.operator",
    sequence=7,
    deliveries=8,
    reason="ValueError: poison",
    trace="Traceback …",
    given_up=datetime(2026, 11, 21, 9, 0, 1, 250_000, tzinfo=UTC),
    sha256="a" * 64,
    size=12,
)
REQUEUE, DISCARD = cmd.RequeueDeadLetter(reason="updated"), cmd.DiscardDeadLetter(reason="a script that is gone")
DONE, FAILED = (
    cmd.RecordRequeue(message_id="requeue.dl-1.1"),
    cmd.RecordRequeue(message_id="requeue.dl-1.1", problem="no"),
)


def sent(command: Command, sender: str | None = None) -> CommandEnvelope:
    sender = sender or command.message_type.senders[0]
    stream = StreamId("default", "system", "dl-1")
    return CommandEnvelope("c", stream, datetime.now(UTC), MACHINE, sender, "dl-1", "", command)


def after(*commands: Command) -> LetterState:
    state = LetterState("dl-1")
    for command in commands:
        events = decide_letter(state, sent(command))
        assert not isinstance(events, Refusal), events
        for event in events:
            state = evolve_letter(state, event, state.version + 1)
    return state


@pytest.mark.parametrize(
    ("commands", "status", "reason"),
    [
        ((), "new", ""),
        ((RECORD,), "open", ""),
        ((RECORD, REQUEUE), "released", "updated"),
        ((RECORD, REQUEUE, DONE), "requeued", "updated"),
        ((RECORD, REQUEUE, FAILED), "open", "could not be put back: no"),
        ((RECORD, REQUEUE, FAILED, DISCARD), "discarded", "a script that is gone"),
        ((RECORD, DISCARD), "discarded", "a script that is gone"),
    ],
)
def test_the_ways_of_a_letter(commands: tuple[Command, ...], status: str, reason: str) -> None:
    state = after(*commands)
    assert (state.status, state.reason, state.version) == (status, reason, len(commands))


def test_each_way_back_has_a_message_id_of_its_own() -> None:
    assert after(RECORD, REQUEUE).message_id == "requeue.dl-1.1"
    assert after(RECORD, REQUEUE, FAILED, REQUEUE).message_id == "requeue.dl-1.2"


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        ((), REQUEUE, "unknown_letter"),
        ((), DISCARD, "unknown_letter"),
        ((), DONE, "not_released"),
        ((RECORD,), RECORD, "letter_exists"),
        ((RECORD,), DONE, "not_released"),
        ((RECORD,), cmd.DiscardDeadLetter(reason="  "), "reason_missing"),
        ((RECORD, REQUEUE), REQUEUE, "letter_closed"),
        ((RECORD, REQUEUE), DISCARD, "letter_closed"),
        ((RECORD, REQUEUE, FAILED, REQUEUE), DONE, "not_released"),
        ((RECORD, REQUEUE, DONE), DISCARD, "letter_closed"),
        ((RECORD, DISCARD), REQUEUE, "letter_closed"),
        ((RECORD,), cmd.RetryPhase(), "not_allowed"),
    ],
)
def test_what_is_refused(before: tuple[Command, ...], command: Command, code: str) -> None:
    refusal = decide_letter(after(*before), sent(command))
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


@pytest.mark.parametrize("command", [RECORD, REQUEUE, DISCARD, DONE])
def test_only_its_senders_may(command: Command) -> None:
    for sender in {"operator", "conductor", "autopilot", "lead"} - set(command.message_type.senders):
        refusal = decide_letter(after(RECORD), sent(command, sender))
        assert isinstance(refusal, Refusal)
        assert refusal.code == "not_allowed"


def test_events_of_others_only_count() -> None:
    other: Event = PhaseCompleted(phase="plan-it", attempt=1)
    assert evolve_letter(after(RECORD), other, 9) == evolve_letter(
        after(RECORD), ev.DeadLetterRecorded(**dict(RECORD)), 9
    )


def test_the_row_of_the_read_model() -> None:
    assert letter_view(after(RECORD, DISCARD)) == {
        "letter": "dl-1",
        "status": "discarded",
        "consumer": "conductor",
        "stream": "VT_COMMANDS",
        "subject": "vt.default.cmd.s1.decide_gate.operator",
        "sequence": 7,
        "deliveries": 8,
        "reason": "ValueError: poison",
        "trace": "Traceback …",
        "time": "2026-11-21T09:00:01.250000Z",
        "sha256": "a" * 64,
        "size": 12,
        "message_id": "",
        "decision": "a script that is gone",
    }
    assert letter_view(LetterState("dl-1"))["status"] == "new"


def test_a_letter_is_named_by_what_it_is() -> None:
    name = letter_id("VT_COMMANDS", "conductor", 7, "a" * 64)
    assert name == letter_id("VT_COMMANDS", "conductor", 7, "a" * 64)
    others = [("VT_EVENTS", "conductor", 7), ("VT_COMMANDS", "x", 7), ("VT_COMMANDS", "conductor", 8)]
    assert len({name, *(letter_id(*each, "a" * 64) for each in others)}) == 4
    assert name != letter_id("VT_COMMANDS", "conductor", 7, "b" * 64)
