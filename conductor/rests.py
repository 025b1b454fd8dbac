"""Where a session rests: the events it can be taken back to. Pure.

Work under way cannot be brought back (its agent is gone), so only states in which nothing goes on are kept: between two
phases, at a gate that waits for a person, blocked, rolled back, completed.
"""

from __future__ import annotations

from types import MappingProxyType

from conductor.state import NOTHING, SessionState, Stage, Status, replace
from schemas import session as ev
from schemas.messages import Event

_MID_ROLLBACK = (ev.SessionRolledBack, ev.SessionRestored)


def unrest(state: SessionState) -> str | None:
    """Why the session did not rest in `state`; None when it did."""
    if state.status is Status.NEW or state.pipeline is None:
        return "the session had not started"
    if state.effects:
        return f"the effect {state.effects[0].id} was under way"
    if state.unrestored:
        return "the branch could not be taken back"
    if state.status in (Status.BLOCKED, Status.ROLLED_BACK, Status.COMPLETED):
        return None
    if state.status is Status.ABORTED:
        return "the session was aborted"
    if state.status is Status.WAITING:
        gate = state.open_gate
        undecided = gate is not None and len(gate.approvals) < gate.quorum
        return None if undecided else "a gate was just being decided"
    if state.stage is Stage.WORKING:
        return f"attempt {state.attempt} of {state.phase} was being worked on"
    if state.stage is Stage.RETRYING:
        return f"attempt {state.attempt} of {state.phase} was about to start"
    if state.stage is Stage.IDLE and starts_next(state):
        return None
    return "the rules were in the middle of one decision"


def starts_next(state: SessionState) -> str:
    """The phase that follows by itself from a state between two phases; "" in any other."""
    if state.pipeline is None:
        return ""
    if not state.phase:
        return state.pipeline.phases[0].name
    following = state.pipeline.following(state.phase) if state.phases[state.phase].completed else None
    return following.name if following else ""


def kept(before: SessionState, event: Event, after: SessionState, sequence: int) -> SessionState:
    """`after` (what `event`, number `sequence`, made of `before`) at its version, with the resting points up to it."""
    resting = not isinstance(event, _MID_ROLLBACK) and unrest(after) is None  # there the branch has yet to follow
    if not (resting or before.resting):
        return replace(after, version=sequence, rests=before.rests, resting=False)
    rests = dict(before.rests)
    if before.resting:  # refused commands came meanwhile: it rested up to the last of them
        last = next(reversed(rests))
        rests[last] = replace(rests[last], version=before.version)
    if resting:
        rests[sequence] = replace(after, version=sequence, rests=NOTHING, resting=True)
    return replace(after, version=sequence, rests=MappingProxyType(rests), resting=resting)


def find(state: SessionState, sequence: int) -> SessionState | None:
    """The state after event `sequence`, if the session rested then."""
    first = max((key for key in state.rests if key <= sequence), default=None)
    if first is None:
        return None
    last = state.version if state.resting and first == max(state.rests) else state.rests[first].version
    return state.rests[first] if sequence <= last else None


def nearest(state: SessionState, sequence: int) -> tuple[int, ...]:
    """The resting points just before and after an event, as far as there are any."""
    before = [state.rests[key].version for key in state.rests if key < sequence]
    after = [key for key in state.rests if key > sequence]
    return (*([max(before)] if before else []), *([min(after)] if after else []))
