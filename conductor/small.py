"""The aggregates besides the session: drives, dead letters, answers. One decision a command, nothing that follows by
itself, no timers. Pure."""

from __future__ import annotations

from conductor.answers import ANSWER, AnswerState, decide_answer, evolve_answer
from conductor.drives import DriveState, decide_drive, evolve_drive
from conductor.letters import LetterState, decide_letter, evolve_letter
from conductor.refusal import Decision
from schemas.envelope import CommandEnvelope, StreamId
from schemas.messages import Event

Small = DriveState | LetterState | AnswerState


def begin(stream: StreamId) -> Small:
    """The state before the first event of a stream that is no session's."""
    if stream.kind == "drive":
        return DriveState(stream.name)
    return AnswerState(stream.name) if stream.name.startswith(ANSWER) else LetterState(stream.name)


def evolve_small(state: Small, event: Event, sequence: int) -> Small:
    """The state after `event`."""
    if isinstance(state, DriveState):
        return evolve_drive(state, event, sequence)
    return (
        evolve_letter(state, event, sequence)
        if isinstance(state, LetterState)
        else evolve_answer(state, event, sequence)
    )


def decide_small(state: Small, envelope: CommandEnvelope) -> Decision:
    """The events a command causes, or why it is refused."""
    if isinstance(state, DriveState):
        return decide_drive(state, envelope)
    return decide_letter(state, envelope) if isinstance(state, LetterState) else decide_answer(state, envelope)
