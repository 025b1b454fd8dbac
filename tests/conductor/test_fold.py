"""Folding in one go is the same as event by event, wherever it stops; and the quick copy of a state is a copy."""

from __future__ import annotations

import dataclasses
from dataclasses import fields

from conductor.evolve import evolve
from conductor.fold import fold
from conductor.state import PhaseState, SessionState, initial, replace
from schemas.envelope import decode_event
from schemas.session import CommandRefused
from tests.golden.make_history import HISTORY, STREAM

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
