"""People in capacity planning: decisions and waiting from recorded sessions, and forecasts that keep them apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.skills.lead.history import FEW
from agents.skills.lead.people import people, told
from cli.past import past_session
from cli.reports import estimates
from schemas import session as ev
from schemas.history import Decision, PastSession, Wait
from schemas.ticket import Ticket
from tests.audit.homes import Place
from tests.audit.test_past import GOLDEN, TODAY, past, recorded


def with_people(number: int, decisions: int, hours: float, by: str = "dana", **more: Any) -> PastSession:
    """A session with so many decisions, each asked for so many hours before."""
    asked = TODAY - timedelta(hours=hours)
    return past(
        number, decisions=decisions, waited_seconds=decisions * hours * 3600,
        decided=(Decision(phase="risk-review", by=by, asked=asked, decided=TODAY),) * decisions,
        waits=(Wait(phase="risk-review", seconds=hours * 3600),) * decisions, **more,
    )  # fmt: skip


@pytest.mark.parametrize("path", GOLDEN, ids=[path.name.split(".history")[0] for path in GOLDEN])
def test_a_recorded_session_says_who_decided_and_how_long_it_waited(path: Path) -> None:
    """Against the events, counted another way."""
    envelopes = recorded(path)
    found = past_session(envelopes)
    assert found is not None
    kinds = (ev.ApprovalGiven, ev.GateRejected, ev.GateOverridden)
    deciding = [each for each in envelopes if isinstance(each.event, kinds)]
    assert [each.by for each in found.decided] == [each.event.by.name for each in deciding if hasattr(each.event, "by")]
    opened = {each.event.gate: each.time for each in envelopes if isinstance(each.event, ev.GateOpened)}
    gates = [each.event for each in envelopes if isinstance(each.event, ev.GateOpened)]
    human = {each.gate for each in gates if each.kind == "human"}
    for decision, envelope in zip(found.decided, deciding, strict=True):
        assert decision.decided == envelope.time
        assert decision.decided >= decision.asked
        gate = getattr(envelope.event, "gate", "")
        if gate in human:
            assert decision.asked == opened[gate]
            assert decision.phase
    assert len(found.waits) + found.open_gates == sum(each.kind == "human" for each in gates)
    assert found.waited_seconds == pytest.approx(sum(each.seconds for each in found.waits))


def test_the_ticket_may_state_hours_of_work() -> None:
    [begin, *rest] = recorded(next(path for path in GOLDEN if path.name == "ml-delivery.history.jsonl"))
    assert isinstance(begin.event, ev.SessionStarted)

    def stated(body: str) -> float | None:
        assert isinstance(begin.event, ev.SessionStarted)
        ticket = Ticket.model_validate(begin.event.ticket.model_dump() | {"body": body})
        event = begin.event.model_copy(update={"ticket": ticket})
        found = past_session([replace(begin, event=event), *rest])
        assert found is not None
        return found.stated_hours

    assert stated("Hours of people: 3") == 3.0
    assert stated("Hours of people: a day or two") is None
    assert stated("Nothing") is None


def test_waiting_and_working_are_told_apart() -> None:
    sessions = [with_people(n, 2, 3.0) for n in range(FEW)]
    found = people(sessions, 10)
    assert found["forecast"]["decisions"] == {"least": 20.0, "half": 20.0, "most": 20.0}
    assert found["forecast"]["waiting_hours"]["half"] == pytest.approx(60.0)
    assert found["forecast"]["working_hours"] is None, "nobody said how long a decision takes"
    assert found["by_person"] == [{"person": "dana", "decisions": 10, "hours": {"half": 3.0, "most": 3.0}}]
    lines = "\n".join(told(found))
    assert (
        "10 tickets need 20 to 20 (half below 20) decisions of people and wait 60 h to 60 h (half below 60 h)" in lines
    )
    assert "not known, waiting is not working; say --minutes-per-decision" in lines
    said = people(sessions, 10, minutes_per_decision=15.0)
    assert said["forecast"]["working_hours"] == {"least": 5.0, "half": 5.0, "most": 5.0}
    assert "hours of work at 15 minutes a decision, as you say: 5 to 5 (half below 5)" in "\n".join(told(said))


def test_hours_that_tickets_state_are_summed_and_marked() -> None:
    sessions = [with_people(n, 1, 1.0, stated_hours=4.0) for n in range(FEW)]
    found = people([*sessions, past(9)], 3)
    assert (found["stated_by"], found["stated_hours_a_ticket"]) == (FEW, {"half": 4.0, "most": 4.0})
    assert found["forecast"]["stated_hours"]["half"] == 12.0
    assert "hours of work that 5 tickets state (not verified)" in "\n".join(told(found))
    assert people([*sessions[1:], past(9)], 3)["forecast"]["stated_hours"] is None, "too few state it"


def test_too_few_sessions_give_no_forecast_and_open_ones_do_not_count() -> None:
    few = [with_people(n, 1, 1.0) for n in range(FEW - 1)]
    waiting = with_people(90, 1, 1.0, ending="open", ended=None, open_gates=2)
    found = people([*few, waiting], 3)
    assert (found["sessions"], found["forecast"], found["open_gates"]) == (FEW - 1, None, 2)
    assert "no forecast for people from fewer than 5 sessions" in "\n".join(told(found))
    stopped = with_people(91, 1, 1.0, ending="aborted")
    assert people([*few, stopped], 3)["forecast"] is not None, "people decided there, too"
    assert people([], 3)["decisions_a_ticket"] is None
    assert estimates(few, TODAY, 3, None, 5.0)["people"]["minutes_per_decision"] == 5.0


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 500)), min_size=FEW, max_size=9), st.integers(1, 9),
       st.floats(0.1, 600))  # fmt: skip
@settings(max_examples=30, deadline=None)
@pytest.mark.untraced
def test_a_forecast_lies_between_the_easiest_and_the_hardest_past(
    pasts: list[tuple[int, float]], tickets: int, minutes: float
) -> None:
    sessions = [with_people(n, decisions, hours) for n, (decisions, hours) in enumerate(pasts)]
    found = people(sessions, tickets, minutes)
    assert people(sessions, tickets, minutes) == found, "the same past gives the same forecast"
    forecast = found["forecast"]
    for name, values in (
        ("decisions", [float(each.decisions) for each in sessions]),
        ("waiting_hours", [each.waited_seconds / 3600 for each in sessions]),
    ):
        marks = forecast[name]
        assert tickets * min(values) - 1e-6 <= marks["least"] <= marks["half"] <= marks["most"]
        assert marks["most"] <= tickets * max(values) + 1e-6
    assert forecast["working_hours"]["most"] == pytest.approx(forecast["decisions"]["most"] * minutes / 60)
    assert sum(row["decisions"] for row in found["by_person"]) == found["decisions"]


def test_the_command_says_it(place: Place) -> None:
    plain = place.say("report", "estimate", "--tickets", "3", "--minutes-per-decision", "15")
    assert "people: " in plain
    assert "3 tickets: no forecast for people from fewer than 5 sessions that ended" in plain
    code, found = place.run("report", "estimate", "--tickets", "3")
    assert code == 0
    assert (found["people"]["minutes_per_decision"], found["people"]["forecast"]) == (None, None)
    assert found["people"]["sessions"] == 1
    assert "--minutes-per-decision" in place.say("report", "estimate", "--minutes-per-decision", "0")


def test_short_waits_are_told_in_minutes() -> None:
    lines = "\n".join(told(people([with_people(n, 1, 0.4 / 60) for n in range(FEW)], 0)))
    assert "time it waited for people: half below 0.4 min, eight in ten below 0.4 min" in lines
    assert "dana: 5 decisions, from asked to decided: half below 0.4 min, eight in ten below 0.4 min" in lines
