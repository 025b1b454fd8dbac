"""Where a session rests: the events it can be taken back to. Pure.

Work under way cannot be brought back (its agent is gone), so only states in which nothing goes on are kept: between two
phases, at a gate that waits for a person, blocked, rolled back, completed.
"""

from __future__ import annotations

from types import MappingProxyType

from conductor.change import copied
from conductor.state import NOTHING, GateState, SessionState, Stage, Status, finish, replace
from schemas import session as ev
from schemas.messages import Event

_IDLE = Stage.IDLE
_MID_ROLLBACK = (ev.SessionRolledBack, ev.SessionRestored)


def unrest(state: SessionState) -> str | None:
    """Why the session did not rest in `state`; None when it did."""
    if state.status is Status.NEW or state.pipeline is None:
        return "the session had not started"
    if state.effects:
        return f"the effect {state.effects[0].id} was under way"
    if state.unrestored:
        return "the branch could not be taken back"
    if not state.branched:
        return "the fork had no branch yet"
    if state.status is Status.ABORTED:
        return "the session was aborted"
    for phase in [p for p in state.phases.values() if p.stage is not _IDLE or p.gate]:
        if phase.stage is Stage.WORKING:
            return f"attempt {phase.attempt} of {phase.name} was being worked on"
        if phase.stage is Stage.RETRYING:
            return f"attempt {phase.attempt + 1} of {phase.name} was about to start"
        if phase.busy:
            return "the rules were in the middle of one decision"
        if phase.gate and _decided(state.gates[phase.gate]):
            return "a gate was just being decided"
    if state.status is not Status.ACTIVE or starts_next(state):
        return None
    return "the rules were in the middle of one decision"


def _decided(gate: GateState) -> bool:
    return gate.overridden or len(gate.approvals) >= gate.quorum


def starts_next(state: SessionState) -> str:
    """The (first) phase that starts by itself from a state between two phases; "" in any other."""
    if state.status is not Status.ACTIVE or state.active or state.blocked:
        return ""
    return next(iter(state.ready), "")


def kept(
    before: SessionState, event: Event, after: SessionState, status: Status, busy: bool, sequence: int
) -> SessionState:
    """`after` (what `event`, number `sequence`, has just made of `before`) at its version and status, with the resting
    points up to it. `busy`: something goes on in one of its phases."""
    finish(after, sequence, status, before.rests, False)
    # In the middle of a rollback the branch has yet to follow.
    resting = not busy and not isinstance(event, _MID_ROLLBACK) and unrest(after) is None
    if not (resting or before.resting):
        return after
    rests = copied(before.rests)
    if before.resting:  # refused commands came meanwhile, perhaps: it rested up to the last of them
        last = next(reversed(rests))
        if rests[last].version != before.version:
            rests[last] = replace(rests[last], version=before.version)
    if resting:
        rests[sequence] = replace(after, rests=NOTHING, resting=True)
    return finish(after, sequence, status, MappingProxyType(rests), resting)


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
