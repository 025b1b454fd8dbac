"""Rows of a named source (`data: source:NAME/ITEM`): fetched once, before anything else of the session begins. Pure.

The session has one snapshot: every attempt, retry, rollback and fork works on it, whatever the source holds meanwhile.
"""

from __future__ import annotations

from conductor.state import Effect, SessionState, Status, replace
from schemas import session as ev
from schemas.messages import Event
from schemas.values import Snapshot

SCHEME = "source"


def unfetched(state: SessionState) -> bool:
    """Whether the session needs rows that nobody read yet."""
    ticket, pipeline = state.ticket, state.pipeline
    if ticket is None or ticket.data is None or not ticket.data.startswith(SCHEME):  # nearly always
        return False
    if ticket.snapshot is not None or pipeline is None or ticket.data_scheme != SCHEME:
        return False
    return (state.status is Status.ACTIVE or state.status is Status.WAITING) and not pipeline.changes_code


def fetch(state: SessionState) -> tuple[Event, ...]:
    """Ask for the rows, unless that is under way or the session is paused."""
    if state.ticket is None or state.paused or [effect for effect in state.effects if effect.kind == "fetch"]:
        return ()
    name = state.phase or next(iter(state.phases))
    return (
        ev.EffectRequested(
            effect=f"{state.id}.fetch.{state.version + 1}",
            kind="fetch",
            phase=name,
            attempt=state.phases[name].attempt,
            target=(state.ticket.data or "").partition(":")[2],
        ),
    )


def fetched(state: SessionState, snapshot: Snapshot) -> SessionState:
    """From now on the ticket's data is this snapshot."""
    if state.ticket is None:
        return state
    return replace(state, ticket=state.ticket.model_copy(update={"snapshot": snapshot}))


def incomplete(effect: Effect, snapshot: Snapshot | None) -> str | None:
    """What the receipt of a fetch lacks."""
    if snapshot is None:
        return f"the receipt of {effect.id} names no snapshot"
    if f"{snapshot.source}/{snapshot.item}" != effect.target:
        return f"effect {effect.id} fetches {effect.target}, not {snapshot.source}/{snapshot.item}"
    return None
