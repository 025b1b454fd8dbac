"""A session recorded once must be decided the same way for ever: each event byte by byte.

When this fails, a rule changed. Sessions that people have on record were decided by the old one, and `replay --verify`
will say so of each of them. If that is meant, say it in the changelog and record a second history beside this one.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from conductor.fold import fold, handle
from conductor.replay import verify_decisions
from conductor.service import Conductor
from conductor.state import Status, initial
from schemas.commands import StartSession
from schemas.envelope import (
    CommandEnvelope,
    EventEnvelope,
    decode_command,
    decode_event,
    encode_command,
    encode_event,
)
from schemas.messages import Event
from schemas.registry import COMMANDS, EVENTS
from store.sqlite import SqliteStore
from tests.golden.make_history import HISTORY, RESTORED, STREAM, record, record_restored

LINES = HISTORY.read_bytes().splitlines()
RESTORED_LINES = RESTORED.read_bytes().splitlines()
STORIES = pytest.mark.parametrize("lines", [LINES, RESTORED_LINES], ids=["first", "restored"])

LATER = {
    *(("event", name) for name in (
        "phase_blocked", "phase_skipped", "phase_repeated", "attempt_reassigned", "gate_held", "gate_unheld",
        "gate_expired", "session_paused", "session_unpaused", "priority_changed")),
    *(("command", name) for name in (
        "extend_attempt", "expire_idle", "expire_gate", "send_back", "hold_gate", "unhold_gate", "pause_session",
        "resume_session", "reassign_attempt", "change_priority")),
}  # fmt: skip
"""What came with the graph of phases: `test_graph_history.py` has it."""


def read(lines: list[bytes]) -> list[tuple[CommandEnvelope, list[tuple[bytes, EventEnvelope[Event]]]]]:
    """Each command with the events that were recorded for it."""
    story: list[tuple[CommandEnvelope, list[tuple[bytes, EventEnvelope[Event]]]]] = []
    for line in lines:
        if "sender" in json.loads(line):
            story.append((decode_command(line), []))
        else:
            story[-1][1].append((line, decode_event(line)))
    return story


@STORIES
def test_every_recorded_command_is_decided_as_it_was(lines: list[bytes]) -> None:
    state = initial(STREAM.name)
    for command, recorded in read(lines):
        outcome = handle(state, command)
        assert len(outcome.events) == len(recorded), (command.id, command.type, outcome.refusal)
        for (raw, then), now in zip(recorded, outcome.events, strict=True):
            assert then.causation_id == command.id
            assert encode_event(replace(then, event=now)) == raw, f"event {then.sequence} of {command.id}"
        state = outcome.state
    assert state.status is Status.COMPLETED
    assert all(phase.completed for phase in state.phases.values())


@STORIES
def test_the_record_alone_gives_the_same_state(lines: list[bytes]) -> None:
    events = [event for _, recorded in read(lines) for _, event in recorded]
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    state = initial(STREAM.name)
    for command, _ in read(lines):
        state = handle(state, command).state
    assert fold(initial(STREAM.name), events) == state


@STORIES
def test_the_shell_on_a_real_store_writes_the_same_events(store: SqliteStore, lines: list[bytes]) -> None:
    story = read(lines)
    Conductor(store, STREAM.tenant)._handle([command for command, _ in story])
    written = list(store.read(STREAM))
    recorded = [event for _, events in story for _, event in events]
    assert [encode_event(replace(w, id=r.id)) for w, r in zip(written, recorded, strict=True)] == [
        encode_event(r) for r in recorded
    ]
    assert [encode_command(decode_command(h.raw)) for h in store.commands(STREAM)] == [
        encode_command(command) for command, _ in story
    ]
    assert verify_decisions(store, STREAM).difference is None
    assert store.verify().findings == ()


def test_the_story_has_every_message_of_a_session() -> None:
    """So that no rule is left without a witness."""
    told = Counter(decode(line) for line in (*LINES, *RESTORED_LINES))
    expected = {("command", n) for n, c in COMMANDS.items() if c.stream == "session"}
    expected |= {("event", n) for n, e in EVENTS.items() if e.stream == "session"}
    # A session ends one way only.
    assert expected - set(told) == {("event", "session_aborted"), *LATER}
    refusals = {
        e.event.code for _, events in read([*LINES, *RESTORED_LINES]) for _, e in events if e.type == "command_refused"
    }  # type: ignore[attr-defined]
    assert refusals >= {
        "not_claimed", "wrong_agent", "stale_lease", "stale_attempt", "effect_pending", "not_restored",
        "not_an_approver", "reason_missing", "session_over",
    }  # fmt: skip


def decode(line: bytes) -> tuple[str, str]:
    body = json.loads(line)
    return ("command" if "sender" in body else "event"), body["type"]


def test_the_script_still_tells_this_story() -> None:
    """Else the committed file could not be made again after a change of format."""
    (start,) = [c.command for c, _ in read(LINES) if isinstance(c.command, StartSession)]
    assert record(start.pipeline).lines == LINES
    assert record_restored(start.pipeline).lines == RESTORED_LINES
