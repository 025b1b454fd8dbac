"""Handling a command as a whole: decide, then whatever follows by itself, folded into the new state. Pure.

`handle` is what the service calls, what `replay --verify` calls again on the recorded commands, and what the tests of
the rulebook call: there is no second path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conductor.decide import decide
from conductor.evolve import evolve
from conductor.forking import Past
from conductor.process import follow
from conductor.refusal import Refusal
from conductor.state import SessionState, replace
from schemas import session as ev
from schemas.envelope import CommandEnvelope, EventEnvelope
from schemas.messages import Event

FOLLOW_LIMIT = 1000
"""More automatic steps than any pipeline can have; reaching it means the rules run in a circle."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to: the new state, the events that lead there, and the refusal if it was refused."""

    state: SessionState
    events: tuple[Event, ...]
    refusal: Refusal | None = None


def handle(state: SessionState, envelope: CommandEnvelope, past: Past | None = None) -> Outcome:
    """Carry out `envelope` on `state`. A refused command on a known session is recorded as CommandRefused. `past` is
    the session that a fork is made of, as `loading.past_of` reads it."""
    decision = decide(state, envelope, past)
    if isinstance(decision, Refusal):
        if state.version == 0:
            return Outcome(state, (), decision)
        refused = ev.CommandRefused(
            command=envelope.type, code=decision.code, reason=decision.reason, by=envelope.actor
        )
        return Outcome(evolve(state, refused, state.version + 1), (refused,), decision)
    events: list[Event] = []
    batch = decision
    for _ in range(FOLLOW_LIMIT):
        for event in batch:
            state = evolve(state, event, state.version + 1)
            events.append(event)
        batch = follow(state, envelope.time)
        if not batch:
            return Outcome(state, tuple(events))
    raise RuntimeError(f"session {state.id}: the rules run in a circle after {events[-1].message_type.name}")


def fold(state: SessionState, envelopes: Iterable[EventEnvelope[Event]]) -> SessionState:
    """`state` after the recorded events."""
    refused = 0  # the last of some refusals in a row: each changes nothing but the version
    for envelope in envelopes:
        event = envelope.event
        if isinstance(event, ev.CommandRefused):
            refused = envelope.sequence
            continue
        if refused:
            state, refused = replace(state, version=refused), 0
        state = evolve(state, event, envelope.sequence)
    return replace(state, version=refused) if refused else state
