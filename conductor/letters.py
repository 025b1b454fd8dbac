"""A dead letter as a small aggregate: recorded, put back or discarded by a person. Pure.

`open` → released → `requeued`, or back to `open` when the bus refuses it; `open` → `discarded`. Nothing ends otherwise,
so a message that was given up stays listed until a person has said what becomes of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

from conductor.refusal import Decision, Refusal
from schemas import commands as cmd
from schemas import system as ev
from schemas.envelope import CommandEnvelope, timestamp
from schemas.messages import Event

LETTER = "dead."
"""How the ids of the commands begin that record a dead letter: once each, however often it is seen. Nobody else may use
it: an id taken before its time would keep a letter out of the record."""

LetterStatus = Literal["new", "open", "released", "requeued", "discarded"]


@dataclass(frozen=True, slots=True)
class LetterState:
    """Where a dead letter stands. `version` is the sequence of the last event folded; `releases` counts attempts to put
    it back, `message_id` is the newest one's."""

    id: str
    version: int = 0
    status: LetterStatus = "new"
    recorded: ev.DeadLetterRecorded | None = None
    releases: int = 0
    message_id: str = ""
    reason: str = ""
    """Why it was put back, could not be, or was discarded."""


def letter_id(source: str, consumer: str, sequence: int, sha256: str) -> str:
    """The name of a dead letter, from what it is: seen twice it is the same, and a bus made anew cannot reuse it."""
    text = f"{source}\n{consumer}\n{sequence}\n{sha256}"
    return f"dl-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"


def evolve_letter(state: LetterState, event: Event, sequence: int) -> LetterState:
    """The state after `event`."""
    state = replace(state, version=sequence)
    match event:
        case ev.DeadLetterRecorded():
            return replace(state, status="open", recorded=event)
        case ev.DeadLetterReleased():
            return replace(
                state,
                status="released",
                releases=state.releases + 1,
                message_id=event.message_id,
                reason=event.reason,
            )
        case ev.DeadLetterRequeued():
            return replace(state, status="requeued")
        case ev.DeadLetterReturned():
            return replace(state, status="open", reason=f"could not be put back: {event.reason}")
        case ev.DeadLetterDiscarded():
            return replace(state, status="discarded", reason=event.reason)
        case _:
            return state


def decide_letter(state: LetterState, envelope: CommandEnvelope) -> Decision:
    """The event a command causes, or why it is refused."""
    command = envelope.command
    if envelope.sender not in command.message_type.senders:
        return Refusal("not_allowed", f"{envelope.sender} may not send {envelope.type}")
    if isinstance(command, cmd.RecordDeadLetter):
        if state.status != "new":
            return Refusal("letter_exists", f"dead letter {state.id} is recorded already")
        return (ev.DeadLetterRecorded(**dict(command)),)
    if isinstance(command, cmd.RecordRequeue):
        if state.status != "released" or command.message_id != state.message_id:
            return Refusal("not_released", f"dead letter {state.id} is {state.status}")
        if command.problem:
            return (ev.DeadLetterReturned(message_id=command.message_id, reason=command.problem),)
        return (ev.DeadLetterRequeued(message_id=command.message_id),)
    if not isinstance(command, cmd.RequeueDeadLetter | cmd.DiscardDeadLetter):
        return Refusal("not_allowed", f"{envelope.type} is not for dead letters")
    if state.status == "new":
        return Refusal("unknown_letter", f"there is no dead letter {state.id}")
    if state.status != "open":
        return Refusal("letter_closed", f"dead letter {state.id} is {state.status} already")
    if isinstance(command, cmd.DiscardDeadLetter):
        if not command.reason.strip():
            return Refusal("reason_missing", "discarding a message needs a reason")
        return (ev.DeadLetterDiscarded(reason=command.reason),)
    message_id = f"requeue.{state.id}.{state.releases + 1}"
    return (ev.DeadLetterReleased(message_id=message_id, reason=command.reason),)


def letter_view(state: LetterState) -> dict[str, Any]:
    """The row of the read model; its own id stands under `letter`."""
    recorded = state.recorded
    row: dict[str, Any] = {"letter": state.id, "status": state.status}
    if recorded is not None:
        row |= recorded.model_dump(mode="json", exclude={"given_up", "source"})
        row |= {"time": timestamp(recorded.given_up), "stream": recorded.source}
    return row | {"message_id": state.message_id, "decision": state.reason}
