"""A session recorded once must be decided the same way for ever: each event byte by byte.

When this fails, a rule changed. Sessions that people have on record were decided by the old one, and `replay --verify`
will say so of each of them. If that is meant, say it in the changelog and record a second history beside this one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conductor.fold import fold, handle
from conductor.pipelines import load
from conductor.replay import verify_decisions
from conductor.service import Conductor
from conductor.state import Status, initial
from schemas import session as ev
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
from schemas.pipeline import PipelineDefinition
from schemas.registry import COMMANDS, EVENTS
from schemas.values import FailureClass
from store.sqlite import SqliteStore
from tests.golden import (
    make_change_history,
    make_data_histories,
    make_engagement_history,
    make_history,
    make_model_history,
    make_origin_history,
    make_source_history,
)
from tests.golden.make_history import HISTORY, RESTORED, STREAM

TOLD = (
    make_history.STORIES
    | make_change_history.STORIES
    | make_data_histories.STORIES
    | make_engagement_history.STORIES
    | make_model_history.STORIES
    | make_origin_history.STORIES
    | make_source_history.STORIES
)
LINES = {path: path.read_bytes().splitlines() for path in TOLD}
STORIES = pytest.mark.parametrize("lines", LINES.values(), ids=[path.name.split(".history")[0] for path in LINES])

LATER = {
    *(("event", name) for name in (
        "phase_blocked", "phase_skipped", "phase_repeated", "attempt_reassigned", "gate_held", "gate_unheld",
        "gate_expired", "session_paused", "session_unpaused", "priority_changed")),
    *(("command", name) for name in (
        "extend_attempt", "expire_idle", "expire_gate", "send_back", "hold_gate", "unhold_gate", "pause_session",
        "resume_session", "reassign_attempt", "change_priority")),
}  # fmt: skip
"""What came with the graph of phases: `test_graph_history.py` has it."""

SAID = {
    ("event", "approval_cancelled"), ("event", "gate_overridden"),
    ("command", "cancel_approval"), ("command", "override_gate"),
}  # fmt: skip
"""What came with chat-ops: `test_chatops_history.py` has it."""

FORKED = {("event", "session_forked"), ("command", "fork_session")}
"""What came with forks: `test_fork_history.py` has it."""


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
    ended = any(lines is LINES[path] for path in LINES if ".aborted." in path.name)
    assert state.status is (Status.ABORTED if ended else Status.COMPLETED)
    assert all(phase.completed for phase in state.phases.values()) == (state.status is Status.COMPLETED)


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


def test_the_stories_have_every_message_of_a_session() -> None:
    """So that no rule is left without a witness."""
    every = [line for lines in LINES.values() for line in lines]
    told = Counter(decode(line) for line in every)
    expected = {("command", n) for n, c in COMMANDS.items() if c.stream == "session"}
    expected |= {("event", n) for n, e in EVENTS.items() if e.stream == "session"}
    assert expected - set(told) == LATER | SAID | FORKED
    refusals = {e.event.code for _, events in read(every) for _, e in events if isinstance(e.event, ev.CommandRefused)}
    assert refusals >= {
        "not_claimed", "wrong_agent", "stale_lease", "stale_attempt", "effect_pending", "not_restored", "model_limit",
        "model_not_allowed", "model_call_under_way", "unknown_model_call",
        "not_an_operator", "not_an_approver", "reason_missing", "session_over", "unknown_effect",
    }  # fmt: skip


Recorded = list[EventEnvelope[Event]]


def took_back_a_rollback(events: Recorded) -> bool:
    """To an event before which, and after which, the session was taken back."""
    rollbacks = [e.sequence for e in events if isinstance(e.event, ev.SessionRolledBack)]
    restores = [(e.event.to_sequence, e.sequence) for e in events if isinstance(e.event, ev.SessionRestored)]
    return any(to < sequence < at for to, at in restores for sequence in rollbacks)


def some(kind: type[Event], /, **fields: Any) -> Callable[[Recorded], bool]:
    """One of the events is a `kind` with these fields."""
    return lambda events: any(
        isinstance(e.event, kind) and all(getattr(e.event, name) == value for name, value in fields.items())
        for e in events
    )


def followed(first: Callable[[Event], bool], second: type[Event]) -> Callable[[Recorded], bool]:
    """An event that `first` holds of comes right before a `second`."""
    return lambda events: any(first(one.event) and isinstance(two.event, second) for one, two in pairwise(events))


SITUATIONS: dict[str, Callable[[Recorded], bool]] = {
    "a gate passed by itself": some(ev.GatePassed, kind="automatic"),
    "a gate approved by a person": followed(lambda e: isinstance(e, ev.ApprovalGiven), ev.GatePassed),
    "a gate rejected": some(ev.GateRejected),
    "a gate superseded": some(ev.GateSuperseded),
    "a retry after the agent failed": followed(
        lambda e: isinstance(e, ev.AttemptFailed) and e.failure is FailureClass.AGENT, ev.RetryScheduled
    ),
    "blocked and resumed": lambda es: some(ev.SessionBlocked)(es) and some(ev.SessionResumed)(es),
    "rolled back to a phase": some(ev.SessionRolledBack),
    "rolled back to an event, a gate": some(ev.SessionRestored, to_status="waiting"),
    "a rollback taken back": took_back_a_rollback,
    "completed": some(ev.SessionCompleted),
    "aborted": some(ev.SessionAborted),
    **{f"a {kind} that failed": some(ev.EffectFailed, kind=kind) for kind in ("commit", "sign", "restore")},
}


def is_runnable(pipeline: PipelineDefinition) -> bool:
    """Whether each of its phases has skills, and all of them are there (looked up without importing them)."""
    return all(phase.skills and all(map(is_there, phase.skills)) for phase in pipeline.phases)


def is_there(skill: str) -> bool:
    """Whether somebody has this skill: its name is that of its file."""
    try:
        return find_spec(f"agents.skills.{skill}") is not None
    except ModuleNotFoundError:  # nor its folder
        return False


SHIPPED = sorted(item.name for item in resources.files("pipelines").iterdir() if item.name.endswith(".yaml"))
RUNNABLE = [name for name in (file.removesuffix(".yaml") for file in SHIPPED) if is_runnable(load(name))]


@pytest.mark.parametrize("pipeline", RUNNABLE)
def test_every_pipeline_has_histories_of_all_that_can_happen(pipeline: str) -> None:
    assert "ml-delivery" in RUNNABLE
    paths = [
        HISTORY.with_name(f"{pipeline}.history.jsonl"),
        *sorted(HISTORY.parent.glob(f"{pipeline}.*.history.jsonl")),
    ]
    assert set(paths) <= set(LINES), f"a pipeline that can be driven needs its histories: see {make_history.__name__}"
    told = [[event for _, recorded in read(LINES[path]) for _, event in recorded] for path in paths]
    for events in told:
        (started,) = [e.event for e in events if isinstance(e.event, ev.SessionStarted)]
        assert started.pipeline.name == pipeline
    assert [what for what, holds in SITUATIONS.items() if not any(map(holds, told))] == []


def test_the_situations_can_be_missed() -> None:
    """Else the test above would say nothing."""
    events = [event for _, recorded in read(LINES[RESTORED]) for _, event in recorded]
    assert [what for what, holds in SITUATIONS.items() if holds(events[:60])] == ["a gate passed by itself"]


def decode(line: bytes) -> tuple[str, str]:
    body = json.loads(line)
    return ("command" if "sender" in body else "event"), body["type"]


@pytest.mark.parametrize("path", LINES, ids=[path.name for path in LINES])
def test_the_script_still_tells_this_story(path: Path) -> None:
    """Else the committed file could not be made again after a change of format."""
    (start,) = [c.command for c, _ in read(LINES[path]) if isinstance(c.command, StartSession)]
    assert TOLD[path](start.pipeline).lines == LINES[path]
