"""Folding in one go is the same as event by event, wherever it stops; and the quick copy of a state is a copy."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from conductor.evolve import evolve
from conductor.fold import fold, handle
from conductor.state import PhaseState, SessionState, initial, replace
from schemas.drive import DriveStarted
from schemas.envelope import decode_command, decode_event
from schemas.session import CommandRefused
from tests.golden.make_graph_history import HISTORY as GRAPH
from tests.golden.make_history import HISTORY, STORIES, STREAM

EVENTS = [decode_event(line) for line in HISTORY.read_bytes().splitlines() if b'"sender":' not in line[:600]]


def test_a_fold_that_stops_anywhere_is_the_same_as_event_by_event() -> None:
    assert any(isinstance(e.event, CommandRefused) for e in EVENTS)
    step = initial(STREAM.name)
    for count, envelope in enumerate(EVENTS, 1):
        step = evolve(step, envelope.event, envelope.sequence)
        assert fold(initial(STREAM.name), EVENTS[:count]) == step
        assert step.version == count


def test_refusals_in_a_row_change_the_version_only_once_and_only_that() -> None:
    refused = next(e for e in EVENTS if isinstance(e.event, CommandRefused))
    state = fold(initial(STREAM.name), EVENTS[:20])
    later = [dataclasses.replace(refused, sequence=n) for n in (21, 22, 23)]
    assert fold(state, later) == dataclasses.replace(state, version=23)
    assert fold(state, []) is state


def test_a_replaced_state_is_what_the_standard_library_makes_of_it() -> None:
    state = fold(initial(STREAM.name), EVENTS[:50])
    for old, new in (
        (state, replace(state, lease=7, reason="why")),
        (PhaseState("scope"), replace(PhaseState("scope"), attempt=2)),
    ):
        before = {f.name: getattr(old, f.name) for f in fields(old)}
        changed = {f.name: getattr(new, f.name) for f in fields(old) if getattr(new, f.name) != before[f.name]}
        assert changed
        assert new == dataclasses.replace(old, **changed)
        assert {f.name: getattr(old, f.name) for f in fields(old)} == before
    assert isinstance(replace(state), SessionState)


def picture(state: SessionState) -> dict[str, Any]:
    """All of a state, with copies of what it holds: were any of it changed in place, this would not change along."""
    held = {name: dict(value) if hasattr(value, "keys") else value for name, value in vars(state).items()}
    inner = {name: dict(vars(phase)) for name, phase in state.phases.items()}
    return held | {"each phase": inner, "each gate": {name: dict(vars(gate)) for name, gate in state.gates.items()}}


@pytest.mark.parametrize("path", [*STORIES, GRAPH], ids=lambda path: path.name.split(".")[-3])
def test_no_event_changes_a_state_that_somebody_has(path: Path) -> None:
    """`evolve` finishes the copy it has just made in place; nothing older may change with it."""
    commands = [line for line in path.read_bytes().splitlines() if b'"sender":' in line[:600]]
    state = initial(decode_command(commands[0]).stream.name)
    seen: dict[int, tuple[SessionState, dict[str, Any]]] = {}
    for line in commands:
        for event in handle(state, decode_command(line)).events:
            for held in (state, *state.marks.values(), *state.rests.values()):
                seen.setdefault(id(held), (held, picture(held)))
            state = evolve(state, event, state.version + 1)
    assert len(seen) > len(commands)
    for held, then in seen.values():
        assert picture(held) == then


def test_an_event_that_changes_nothing_gives_a_state_of_its_own() -> None:
    unknown = DriveStarted.model_construct()
    before = fold(initial(STREAM.name), EVENTS[:20])
    after = evolve(before, unknown, 21)
    assert after.version == 21
    assert before.version == 20
