"""Whether a language model may be asked, and what becomes of the answer. Pure.

Everything is bounded before the call: the prompt by its bytes, the reply by the policy. What would overrun a limit is
refused, and that is final: nothing tries again by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from conductor.refusal import Decision, Refusal
from conductor.spending import pending
from conductor.state import ModelCall, ModelReply, SessionState
from conductor.verdict import Verdict
from schemas import model_messages as msg
from schemas.envelope import CommandEnvelope
from schemas.messages import Command, Event
from schemas.model_calls import TokenUsage
from schemas.model_policy import ModelLimit, ModelPolicy, ModelPrice, ModelSpend

LIMIT = "model_limit"
"""The code of the refusal when a limit is reached."""

UNDER_WAY = "model_call_under_way"
"""The code of the refusal while another gateway may still be waiting for the same reply: ask again later."""

SECONDS = 300.0
"""For a call, when the policy names no limit."""


def request(state: SessionState, command: msg.RequestModelCall, at: CommandEnvelope) -> Decision:
    """A call of the attempt that holds the lease. What is recorded already needs no other call: no event."""
    if recorded(state, command):
        return ()
    policy = state.policy.models if state.policy else None
    if policy is None:
        reason = "the policy lets no model be asked: name it with its price under `models` in policy.yaml"
        return Refusal("model_not_allowed", f"{reason}; sessions keep the policy they started with")
    model = state.guidance.model or command.model
    price = policy.prices.get(model)
    if price is None:
        known = ", ".join(policy.prices) or "no model"
        reason = f"the policy has no price for model {model}, it has {known}: add it under `models: prices`"
        return Refusal("model_not_allowed", f"{reason} (0 for one of your own) and start the session anew")
    before = [c for c in state.calls.values() if (c.phase, c.number) == (command.phase, command.number)]
    if others := [c for c in before if c.gateway != command.gateway and at.time < c.until]:
        until = f"{others[0].until:%H:%M:%S} UTC"
        return Refusal(UNDER_WAY, f"{others[0].id} waits for a reply at another gateway until {until}")
    call = _call(state, command, policy, price, at)
    if isinstance(call, Refusal):
        return call
    lost = [c.id for c in before if (c.attempt, c.prompt) == (command.attempt, command.prompt)]
    return (
        msg.ModelCallRequested(
            call=call.id,
            phase=call.phase,
            attempt=call.attempt,
            lease=command.lease,
            number=call.number,
            prompt=call.prompt,
            model=call.model,
            gateway=call.gateway,
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            usd=call.usd,
            seconds=call.seconds,
            requested=at.time,
            replaces=lost[-1] if lost else "",
        ),
    )


def recorded(state: SessionState, command: msg.RequestModelCall) -> ModelReply | None:
    """The recorded reply to the same question of the same attempt."""
    asked = (command.number, command.prompt)
    replies = state.phases[command.phase].replies
    return next((r for r in reversed(replies) if (r.number, r.prompt) == asked), None)


def _call(
    state: SessionState, command: msg.RequestModelCall, policy: ModelPolicy, price: ModelPrice, at: CommandEnvelope
) -> ModelCall | Refusal:
    """The call with its upper bounds. Tokens and money must fit into every limit; time is cut to what is left."""
    tokens = command.input_tokens + policy.output_tokens
    usd = price.most(command.input_tokens, policy.output_tokens)
    seconds = SECONDS if policy.call.seconds is None else policy.call.seconds
    for scope, limit, used in _limits(state, command, policy):
        if limit.tokens is not None and used.tokens + tokens > limit.tokens:
            return _reached(scope, f"{used.tokens} of {limit.tokens} tokens are used and this call may take {tokens}")
        if limit.usd is not None and used.usd + usd > limit.usd:
            return _reached(scope, f"${used.usd:.4f} of ${limit.usd:g} are used and this call may cost ${usd:.4f}")
        if limit.seconds is not None:
            seconds = min(seconds, limit.seconds - used.seconds)
            if seconds <= 0.0:
                return _reached(scope, f"{used.seconds:.1f} of {limit.seconds:g} s of waiting for models are used")
    return ModelCall(
        id=f"{state.id}.model.{state.version + 1}",
        phase=command.phase,
        attempt=command.attempt,
        number=command.number,
        prompt=command.prompt,
        model=state.guidance.model or command.model,
        gateway=command.gateway,
        input_tokens=command.input_tokens,
        output_tokens=policy.output_tokens,
        usd=usd,
        seconds=seconds,
        until=at.time + timedelta(seconds=seconds),
    )


def _limits(
    state: SessionState, command: msg.RequestModelCall, policy: ModelPolicy
) -> tuple[tuple[str, ModelLimit, ModelSpend], ...]:
    """Whose limit, the limit, and what is used of it; the day's figure came with the command."""
    if state.ticket is None:
        raise ValueError(f"session {state.id} has not started")
    attempt = state.phases[command.phase].spent.plus(pending(state, command.phase, command.attempt))
    waiting = pending(state)
    budget = ModelLimit(usd=state.ticket.budget.usd, seconds=state.ticket.budget.minutes * 60.0)
    whole = ModelSpend(usd=state.usage.usd, seconds=state.usage.wall_seconds).plus(waiting)
    return (
        ("the call", policy.call.model_copy(update={"seconds": None}), ModelSpend()),
        ("the attempt", policy.attempt, attempt),
        ("the ticket", policy.ticket, state.models.plus(waiting)),
        ("the ticket's budget", budget, whole),
        ("the day", policy.day, command.today),
    )


def _reached(scope: str, used: str) -> Refusal:
    where = "raise it on the ticket" if "budget" in scope else "the limits are in policy.yaml under `models`"
    return Refusal(LIMIT, f"no model may be asked: {scope} has reached its limit: {used}; {where}")


def record(state: SessionState, command: msg.RecordModelCall, at: CommandEnvelope) -> Decision:
    """What a call came to. It counts whatever became of the attempt meanwhile: it is paid for."""
    call = state.calls.get(command.call)
    if call is None:
        return _unknown(state, command.call)
    usage = command.usage or TokenUsage(input=call.input_tokens, output=call.output_tokens)
    return (
        msg.ModelCalled(
            call=call.id,
            phase=call.phase,
            attempt=call.attempt,
            number=call.number,
            prompt=call.prompt,
            reply=command.reply,
            usage=usage,
            usd=_cost(state, call, command.usage),
            seconds=command.seconds,
            model=command.model,
            provider=command.provider,
            finish=command.finish,
            counted="reported" if command.usage else "bound",
        ),
    )


def record_failure(state: SessionState, command: msg.RecordModelFailure, at: CommandEnvelope) -> Decision:
    """No whole reply: what is not known to be free is counted."""
    call = state.calls.get(command.call)
    if call is None:
        return _unknown(state, command.call)
    return (
        msg.ModelCallFailed(
            call=call.id,
            phase=call.phase,
            attempt=call.attempt,
            number=call.number,
            failure=command.failure,
            reason=command.reason,
            usage=command.usage or TokenUsage(input=call.input_tokens, output=call.output_tokens),
            usd=_cost(state, call, command.usage),
            seconds=command.seconds,
            counted="reported" if command.usage else "bound",
        ),
    )


def _unknown(state: SessionState, call: str) -> Refusal:
    return Refusal("unknown_model_call", f"session {state.id} does not wait for the record of model call {call}")


def _cost(state: SessionState, call: ModelCall, usage: TokenUsage | None) -> float:
    """At the policy's price, by which the call was let through."""
    prices = state.policy.models.prices if state.policy and state.policy.models else {}
    if usage is None or call.model not in prices:
        return call.usd
    return prices[call.model].usd(usage.input, usage.output, usage.cached)


def granted(command: Command, events: Sequence[Event], state: SessionState) -> Verdict:
    """What the gateway is told besides: the recorded reply, or the call's name and bounds; what a record came to."""
    if isinstance(command, msg.RequestModelCall) and (known := recorded(state, command)):
        return {"recorded": known.reply, "usage": known.usage.model_dump(), "usd": known.usd}
    for event in events:
        if isinstance(event, msg.ModelCallRequested):
            tokens = event.input_tokens + event.output_tokens
            most = ModelSpend(tokens=tokens, usd=event.usd, seconds=event.seconds)
            return {
                "call": event.call,
                "model": event.model,
                "output_tokens": event.output_tokens,
                "seconds": event.seconds,
                "most": most.model_dump(),
            }
        if isinstance(event, msg.ModelCalled | msg.ModelCallFailed):
            return {"usage": event.usage.model_dump(), "usd": event.usd}
    return {}
