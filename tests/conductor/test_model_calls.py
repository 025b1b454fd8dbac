"""Whether a model may be asked, and what is counted: rule by rule, and over any course of calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.compare import differences
from conductor.fold import fold, handle
from conductor.model_calls import granted
from conductor.snapshots import decode, encode
from conductor.spending import pending
from conductor.state import Status, initial
from schemas import commands as cmd
from schemas import model_messages as msg
from schemas.model_calls import TokenUsage
from schemas.model_policy import ModelLimit, ModelPolicy, ModelPrice, ModelSpend
from schemas.ticket import Budget
from schemas.values import FailureClass, Role, Usage
from tests.conductor.rig import OLGA, POLICY, SESSION, TICKET, Rig

PRICES = {"m": ModelPrice(input=2.0, output=10.0, cached=1.0), "free": ModelPrice(input=0.0, output=0.0)}
MODELS = ModelPolicy(prices=PRICES, output_tokens=100)
BOUND = 1100
"""Tokens of the upper bound of what `ask` asks."""


def rig(**limits: ModelLimit) -> Rig:
    """An attempt that is claimed, under a policy with these limits."""
    models = MODELS.model_copy(update=limits)
    return Rig(policy=POLICY.model_copy(update={"models": models})).start().claim()


def ask(at: Rig, number: int = 1, **changes: Any) -> msg.RequestModelCall:
    fields: dict[str, Any] = {
        "phase": at.state.phase,
        "attempt": at.state.attempt,
        "lease": at.state.lease,
        "agent": Role.LEAD,
        "number": number,
        "prompt": f"{number:x}" * 64,
        "model": "m",
        "input_tokens": 1000,
        "gateway": "one",
    }
    return msg.RequestModelCall(**(fields | changes))


def answer(call: str, tokens: int = 50, **changes: Any) -> msg.RecordModelCall:
    fields: dict[str, Any] = {
        "call": call,
        "reply": "ab" * 32,
        "usage": TokenUsage(input=tokens, output=0),
        "seconds": 2.0,
        "model": "m-2026",
        "provider": "p",
        "finish": "stop",
    }
    return msg.RecordModelCall(**(fields | changes))


def asked(at: Rig, number: int = 1, **changes: Any) -> str:
    """The id of a call that was let through."""
    assert at.accepted(ask(at, number, **changes), "gateway") == ["model_call_requested"]
    return list(at.state.calls)[-1]


def test_a_call_counts_at_its_upper_bound_until_it_is_recorded() -> None:
    at = rig()
    call = asked(at)
    assert pending(at.state) == ModelSpend(tokens=BOUND, usd=0.003, seconds=300.0)
    assert at.state.usage == Usage()
    assert at.accepted(answer(call, usage=TokenUsage(input=900, output=40, cached=500)), "gateway") == ["model_called"]
    usd = (400 * 2.0 + 500 * 1.0 + 40 * 10.0) / 1e6
    assert pending(at.state) == ModelSpend()
    assert at.state.models == ModelSpend(tokens=940, usd=usd, seconds=2.0)
    assert at.state.usage == Usage(tokens=940, usd=usd, wall_seconds=2.0)
    assert [d.name for d in differences(initial(SESSION), at.state) if d.kind == "cost"]


def test_the_gateway_is_told_what_it_may_use() -> None:
    at = rig(call=ModelLimit(seconds=30.0))
    command = ask(at)
    outcome = at.send(command, "gateway")
    assert granted(command, outcome.events, outcome.state) == {
        "call": f"{SESSION}.model.{outcome.state.version}",
        "model": "m",
        "output_tokens": 100,
        "seconds": 30.0,
        "most": {"tokens": BOUND, "usd": 0.003, "seconds": 30.0},
    }
    record = answer(next(iter(at.state.calls)))
    told = at.send(record, "gateway")
    assert granted(record, told.events, told.state)["usd"] == 0.0001
    again = at.send(command, "gateway")
    assert again.events == ()
    assert granted(command, again.events, again.state)["recorded"] == "ab" * 32


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "unknown"}, "model_not_allowed"),
        ({"lease": 1}, "stale_lease"),
        ({"attempt": 2}, "stale_attempt"),
        ({"phase": "build-it"}, "stale_attempt"),
        ({"agent": Role.RISK}, "wrong_agent"),
    ],
)
def test_who_may_not_ask(changes: dict[str, Any], code: str) -> None:
    at = rig()
    assert at.refused(ask(at, **changes), "gateway").code == code
    assert at.refused(ask(at), "lead").code == "not_allowed"


def test_without_models_in_the_policy_none_is_asked() -> None:
    at = Rig().start().claim()
    assert at.refused(ask(at), "gateway").code == "model_not_allowed"


def test_an_attempt_has_to_be_claimed_first() -> None:
    at = Rig(policy=POLICY.model_copy(update={"models": MODELS})).start()
    assert at.refused(ask(at), "gateway").code == "not_claimed"


@pytest.mark.parametrize("scope", ["call", "attempt", "ticket", "day"])
@pytest.mark.parametrize(
    "limit",
    [ModelLimit(tokens=BOUND), ModelLimit(usd=0.003), ModelLimit(seconds=10.0)],
    ids=["tokens", "usd", "seconds"],
)
def test_each_limit_holds_to_the_last_token(scope: str, limit: ModelLimit) -> None:
    at = rig(**{scope: limit})
    used = ModelSpend(tokens=1) if limit.tokens else ModelSpend(usd=1e-6) if limit.usd else ModelSpend(seconds=10.0)
    if scope == "day":
        assert at.refused(ask(at, today=used), "gateway").code == "model_limit"
    call = asked(at)
    assert at.state.calls[call].seconds == min(300.0, limit.seconds or 300.0)
    if scope == "call":
        if limit.seconds is None:
            assert at.refused(ask(at, 2, input_tokens=1001), "gateway").code == "model_limit"
        return
    if scope != "day":
        refusal = at.refused(ask(at, 2), "gateway")  # the first still counts at its bound
        assert refusal.code == "model_limit"
        assert f"the {scope} has reached its limit" in refusal.reason


def test_what_was_not_needed_is_free_again() -> None:
    at = rig(attempt=ModelLimit(tokens=BOUND + 50))
    call = asked(at)
    assert at.refused(ask(at, 2), "gateway").code == "model_limit"
    at.accepted(answer(call, 50), "gateway")
    call = asked(at, 2)
    at.accepted(answer(call, 1), "gateway")
    assert at.refused(ask(at, 3), "gateway").code == "model_limit"


def test_an_attempts_limit_begins_anew_with_the_next_and_the_tickets_does_not() -> None:
    at = rig(attempt=ModelLimit(tokens=BOUND), ticket=ModelLimit(tokens=2 * BOUND))
    at.accepted(answer(asked(at), BOUND), "gateway")
    at.fail("transient")
    at.accepted(cmd.StartRetry(phase=at.state.phase, attempt=2), "conductor")
    at.claim()
    at.accepted(answer(asked(at, 2), BOUND), "gateway")
    at.fail("transient")
    at.accepted(cmd.StartRetry(phase=at.state.phase, attempt=3), "conductor")
    at.claim()
    assert "the ticket has reached its limit" in at.refused(ask(at, 3), "gateway").reason


def test_the_tickets_own_budget_holds_besides() -> None:
    at = Rig(
        ticket=TICKET.model_copy(update={"budget": Budget(usd=0.0029, minutes=10.0)}),
        policy=POLICY.model_copy(update={"models": MODELS}),
    )
    at.start().claim()
    assert "the ticket's budget has reached its limit" in at.refused(ask(at), "gateway").reason
    assert asked(at, model="free")


def test_money_that_may_be_spent_starts_no_phase() -> None:
    at = Rig(
        ticket=TICKET.model_copy(update={"budget": Budget(usd=0.0035, minutes=10.0)}),
        policy=POLICY.model_copy(update={"models": MODELS, "usd_per_cpu_hour": 0.0}),
    )
    at.start().claim()
    asked(at)  # never recorded
    at.report(usage=Usage(usd=0.0006))
    at.effects()
    assert at.state.status is Status.BLOCKED
    assert "budget is used up" in at.state.reason


def test_a_call_its_gateway_lost_stays_counted_and_is_made_again() -> None:
    at = rig()
    lost = asked(at)
    at.accepted(ask(at), "gateway")
    made = list(at.state.calls)[-1]
    assert at.log[-1].event == at.log[-1].event.model_copy(update={"call": made, "replaces": lost})
    at.accepted(answer(made), "gateway")
    assert list(at.state.calls) == [lost]
    assert pending(at.state).tokens == BOUND
    at.accepted(answer(lost), "gateway")  # should it still be alive after all, what it really used is known
    assert pending(at.state).tokens == 0


def test_another_gateway_waits_for_the_first_ones_time() -> None:
    at = rig(call=ModelLimit(seconds=30.0))
    asked(at)
    assert at.refused(ask(at, gateway="two"), "gateway").code == "model_call_under_way"
    at.now += timedelta(seconds=30)
    assert asked(at, gateway="two")


@pytest.mark.parametrize("failure", [FailureClass.TRANSIENT, FailureClass.AGENT])
def test_a_lost_attempt_is_gone_on_with_and_one_that_went_wrong_is_not(failure: FailureClass) -> None:
    at = rig()
    at.accepted(answer(asked(at)), "gateway")
    at.fail(failure.value)
    at.accepted(cmd.StartRetry(phase=at.state.phase, attempt=2), "conductor")
    at.claim()
    assert at.accepted(ask(at), "gateway") == ([] if failure is FailureClass.TRANSIENT else ["model_call_requested"])


def test_another_prompt_or_number_is_another_call() -> None:
    at = rig()
    at.accepted(answer(asked(at)), "gateway")
    assert at.accepted(ask(at, prompt="e" * 64), "gateway") == ["model_call_requested"]
    assert at.accepted(ask(at, 2, prompt="1" * 64), "gateway") == ["model_call_requested"]


def test_a_record_that_comes_late_counts_and_answers_nobody() -> None:
    at = rig()
    call = asked(at)
    at.report()
    at.effects()
    assert at.accepted(answer(call), "gateway") == ["model_called"]
    assert at.state.models.tokens == 50
    assert all(not phase.replies for phase in at.state.phases.values())
    assert at.refused(answer(call), "gateway").code == "unknown_model_call"


def test_a_rollback_gives_no_money_back() -> None:
    at = rig()
    at.accepted(answer(asked(at)), "gateway")
    lost = asked(at, 2)
    at.report()
    at.effects()
    spent = at.state.models
    at.accepted(cmd.RollbackSession(phase="plan-it"), "operator", OLGA)
    at.effects()
    assert at.state.models == spent
    assert list(at.state.calls) == [lost]
    at.accepted(cmd.RetryPhase(), "operator", OLGA)
    at.claim()
    assert at.accepted(ask(at), "gateway") == ["model_call_requested"]  # what was undone is asked anew


def test_a_snapshot_keeps_calls_and_replies() -> None:
    at = rig()
    at.accepted(answer(asked(at)), "gateway")
    asked(at, 2)
    assert decode(encode(at.state)) == at.state


STEP = st.tuples(st.sampled_from(["ask", "record", "unreported", "fail", "claim"]), st.integers(0, 2000))


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=25), limit=st.integers(1, 12_000))
def test_no_course_of_calls_overruns_a_limit_or_loses_a_token(steps: list[tuple[str, int]], limit: int) -> None:
    """As long as endpoints keep to the bound, what counts never exceeds the limit, and the record tells it again."""
    at = rig(ticket=ModelLimit(tokens=limit))
    truth: dict[str, int] = {}
    number = 0
    for what, tokens in steps:
        waiting = list(at.state.calls)
        if what == "ask":
            number += 1
            outcome = at.send(ask(at, number % 15 + 1, prompt=f"{number:064x}", input_tokens=tokens), "gateway")
            if outcome.refusal is None:
                truth[list(at.state.calls)[-1]] = tokens + 100
        elif what == "claim":
            at.claim()
        elif waiting:
            call = waiting[tokens % len(waiting)]
            used = min(tokens, truth[call])
            if what == "record":
                at.accepted(answer(call, used), "gateway")
                truth[call] = used
            elif what == "unreported":
                at.accepted(answer(call, usage=None), "gateway")
            else:
                usage = TokenUsage(input=used, output=0)
                failed = msg.RecordModelFailure(
                    call=call, failure=FailureClass.TRANSIENT, reason="x", usage=usage, seconds=0.0
                )
                at.accepted(failed, "gateway")
                truth[call] = used
        assert at.state.models.plus(pending(at.state)).tokens == sum(truth.values()) <= limit
    assert fold(initial(SESSION), at.log) == at.state
    state = initial(SESSION)
    for envelope in at.commands:
        state = handle(state, envelope).state
    assert state == at.state
