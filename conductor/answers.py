"""An answer to a person's comment as a small aggregate: requested by chat-ops, recorded by the effect executor. Pure.

Its stream's name follows from the comment, so that a comment is answered once however often it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from conductor.refusal import Decision, Refusal
from schemas import commands as cmd
from schemas import system as ev
from schemas.envelope import CommandEnvelope
from schemas.messages import Event

ANSWER = "answer-"
"""How the streams of answers begin; the other system streams are dead letters."""

LONGEST = 8_000
"""Characters an answer may have."""


@dataclass(frozen=True, slots=True)
class AnswerState:
    """Where an answer stands. `version` is the sequence of the last event folded."""

    id: str
    version: int = 0
    status: Literal["new", "requested", "recorded"] = "new"


def evolve_answer(state: AnswerState, event: Event, sequence: int) -> AnswerState:
    """The state after `event`."""
    state = replace(state, version=sequence)
    match event:
        case ev.AnswerRequested():
            return replace(state, status="requested")
        case ev.AnswerRecorded():
            return replace(state, status="recorded")
        case _:
            return state


def decide_answer(state: AnswerState, envelope: CommandEnvelope) -> Decision:
    """The event a command causes, or why it is refused."""
    command = envelope.command
    if envelope.sender not in command.message_type.senders:
        return Refusal("not_allowed", f"{envelope.sender} may not send {envelope.type}")
    if isinstance(command, cmd.RequestAnswer):
        if state.status != "new":
            return Refusal("answer_exists", f"answer {state.id} is {state.status} already")
        if len(command.text) > LONGEST:
            return Refusal("too_long", f"an answer has at most {LONGEST} characters, not {len(command.text)}")
        return (ev.AnswerRequested(**dict(command)),)
    if isinstance(command, cmd.RecordAnswer):
        if state.status != "requested":
            return Refusal("not_requested", f"answer {state.id} is {state.status}")
        return (ev.AnswerRecorded(reply=command.reply, problem=command.problem),)
    return Refusal("not_allowed", f"{envelope.type} is not for answers")
