"""What a session has used of language models: how its events are folded, and what counts. Pure.

A call counts at its upper bound from the moment it is asked for; its record puts what was really used in the place of
that. A call that is never recorded (its gateway died) therefore stays counted at its upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from conductor.change import copied, put, with_phase
from conductor.state import ModelCall, ModelReply, PhaseState, SessionState, replace
from schemas import model_messages as ev
from schemas import session
from schemas.messages import Event
from schemas.model_policy import ModelSpend
from schemas.values import FailureClass, Usage


def requested(event: ev.ModelCallRequested, state: SessionState) -> SessionState:
    """The bound counts from now on."""
    call = ModelCall(
        id=event.call,
        phase=event.phase,
        attempt=event.attempt,
        number=event.number,
        prompt=event.prompt,
        model=event.model,
        gateway=event.gateway,
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        usd=event.usd,
        seconds=event.seconds,
        until=event.requested + timedelta(seconds=event.seconds),
    )
    return replace(state, calls=put(state.calls, call.id, call))


def called(event: ev.ModelCalled, state: SessionState) -> SessionState:
    """The reply answers the same question of the same attempt from now on; one that comes too late only costs."""
    state = _counted(event, state)
    phase = state.phases.get(event.phase)
    if phase is None or phase.attempt != event.attempt or not phase.lease:
        return state
    reply = ModelReply(event.number, event.prompt, event.reply, event.usage, event.usd)
    return replace(state, phases=with_phase(state, event.phase, replies=(*phase.replies, reply)))


def _counted(event: ev.ModelCalled | ev.ModelCallFailed, state: SessionState) -> SessionState:
    calls = copied(state.calls)
    calls.pop(event.call, None)
    spend = ModelSpend(tokens=event.usage.total, usd=event.usd, seconds=event.seconds)
    phase, phases = state.phases.get(event.phase), state.phases
    if phase is not None and phase.attempt == event.attempt:
        phases = with_phase(state, event.phase, spent=phase.spent.plus(spend))
    used = Usage(wall_seconds=spend.seconds, tokens=spend.tokens, usd=spend.usd)
    return replace(
        state,
        calls=MappingProxyType(calls),
        models=state.models.plus(spend),
        usage=state.usage.plus(used),
        phases=phases,
    )


RECORDED: Mapping[type[Event], Callable[[Any, SessionState], SessionState]] = {
    ev.ModelCallRequested: requested,
    ev.ModelCalled: called,
    ev.ModelCallFailed: _counted,
}
"""How each event of a model call is folded."""


def kept_replies(phase: PhaseState, event: session.AttemptFailed) -> tuple[ModelReply, ...]:
    """What the next attempt need not ask again: an attempt that was lost goes on where it was, one that went wrong
    starts anew."""
    return phase.replies if event.failure is FailureClass.TRANSIENT else ()


def pending(state: SessionState, phase: str = "", attempt: int = 0) -> ModelSpend:
    """The upper bounds of the calls without a record: of the session, or of one attempt at a phase."""
    total = ModelSpend()
    for call in state.calls.values():
        if not phase or (call.phase, call.attempt) == (phase, attempt):
            total = total.plus(call.spend)
    return total
