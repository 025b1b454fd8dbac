"""What a command's sender is told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conductor.refusal import Refusal
from conductor.state import SessionState
from schemas import session as ev
from schemas.messages import Event

Verdict = dict[str, Any]


def pulse(events: Sequence[Event], state: SessionState) -> Verdict:
    """How long who claims an attempt may be silent, in seconds, if the pipeline sets a limit."""
    claimed = next((event.phase for event in events if isinstance(event, ev.AttemptClaimed)), None)
    seconds = state.definition_of(claimed).idle_seconds if claimed else None
    return {"idle_seconds": seconds} if seconds is not None else {}


def verdict_of(events: Sequence[Event], version: int, refusal: Refusal | None) -> Verdict:
    """What the sender is told: whether, why not, and which events (type and sequence) it caused."""
    verdict: Verdict = {
        "accepted": refusal is None,
        "version": version + len(events),
        "events": [[event.message_type.name, version + offset] for offset, event in enumerate(events, 1)],
    }
    if refusal is not None:
        verdict |= {"code": refusal.code, "reason": refusal.reason}
    lease = next((e.lease for e in events if isinstance(e, ev.AttemptClaimed)), None)
    return verdict | ({"lease": lease} if lease is not None else {})
