"""What a day has used, whatever order and however often its events are heard."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agents.llm.ledger import Ledger
from schemas.messages import Event
from schemas.model_calls import TokenUsage
from schemas.model_messages import ModelCalled, ModelCallFailed, ModelCallRequested
from schemas.model_policy import ModelSpend
from schemas.values import FailureClass

DAY = date(2026, 11, 21)


def requested(call: str, tokens: int, day: date = DAY) -> ModelCallRequested:
    return ModelCallRequested(
        call=call, phase="build", attempt=1, lease=3, number=1, prompt="1" * 64, model="m", gateway="g",
        input_tokens=tokens, output_tokens=10, usd=tokens / 1000, seconds=5.0,
        requested=datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
    )  # fmt: skip


def called(call: str, tokens: int) -> ModelCalled:
    return ModelCalled(
        call=call, phase="build", attempt=1, number=1, prompt="1" * 64, reply="2" * 64,
        usage=TokenUsage(input=tokens, output=0), usd=tokens / 1000, seconds=1.0, model="m", provider="p",
        finish="stop", counted="reported",
    )  # fmt: skip


def failed(call: str, tokens: int) -> ModelCallFailed:
    return ModelCallFailed(
        call=call, phase="build", attempt=1, number=1, failure=FailureClass.TRANSIENT, reason="x",
        usage=TokenUsage(input=tokens, output=0), usd=tokens / 1000, seconds=1.0, counted="reported",
    )  # fmt: skip


def ledger(*events: Event) -> Ledger:
    made = Ledger()
    for event in events:
        made.add(event)
    return made


def test_a_bound_counts_until_the_record_comes() -> None:
    assert ledger(requested("a", 90)).on(DAY) == ModelSpend(tokens=100, usd=0.09, seconds=5.0)
    assert ledger(requested("a", 90), called("a", 7)).on(DAY) == ModelSpend(tokens=7, usd=0.007, seconds=1.0)
    assert ledger(requested("a", 90), failed("a", 0)).on(DAY) == ModelSpend(seconds=1.0)


def test_a_new_day_begins_with_nothing_and_an_old_call_stays_with_its_day() -> None:
    tomorrow = DAY + timedelta(days=1)
    known = ledger(requested("a", 90), requested("b", 90, tomorrow), called("a", 7))
    assert known.on(tomorrow).tokens == 100
    assert ledger(requested("a", 90)).on(tomorrow) == ModelSpend()


def test_a_clock_that_goes_back_frees_nothing() -> None:
    assert ledger(requested("a", 90)).on(DAY - timedelta(days=1)).tokens == 100


@given(
    calls=st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["open", "called", "failed"])), max_size=8),
    data=st.data(),
)
def test_repeats_change_nothing(calls: list[tuple[int, str]], data: st.DataObject) -> None:
    """The gateway hears of its own calls twice: from the conductor's verdict, and from the event stream, later."""
    events: list[Event] = []
    total = 0
    for number, (tokens, what) in enumerate(calls):
        events.append(requested(f"c{number}", tokens))
        total += tokens + 10 if what == "open" else tokens
        if what != "open":
            events.append((called if what == "called" else failed)(f"c{number}", tokens))
    again = data.draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    assert ledger(*events, *again).on(DAY).tokens == total
