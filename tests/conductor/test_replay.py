"""Replay: the record decided again, and every way in which it can disagree with today's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conductor import fold as folding
from conductor import replay
from conductor.refusal import Refusal
from conductor.replay import sequence_at, state_at, verify_decisions
from conductor.service import Conductor
from schemas import commands as cmd
from schemas import session as ev
from schemas.envelope import EventEnvelope, StreamId
from schemas.messages import Event
from store.port import Handled
from store.sqlite import SqliteStore
from tests.conductor.rig import OLGA, TENANT, Rig, person
from tests.conductor.shell import STREAM


def record(store: SqliteStore) -> Rig:
    """A session with refusals, a failure, a rollback and an end, written by the shell."""
    rig = Rig()
    rig.refused(cmd.AbortSession(reason="too early"), "operator", OLGA)
    rig.start()
    rig.fail("transient")
    rig.accepted(cmd.StartRetry(phase="plan-it", attempt=2), "conductor")
    rig.through()
    rig.work()
    rig.refused(rig.decide_command("approve"), "operator", person("stranger"))
    rig.decide("approve", person("dana"))
    rig.accepted(cmd.RollbackSession(phase="build-it"), "operator", OLGA)
    rig.effects()
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)
    rig.through()
    rig.through()
    Conductor(store, TENANT)._handle(rig.commands)
    return rig


class Altered:
    """A record as somebody else would have left it: events or inbox entries changed on the way out."""

    def __init__(
        self,
        store: SqliteStore,
        events: Callable[[list[EventEnvelope[Event]]], list[EventEnvelope[Event]]] = list,
        inbox: Callable[[list[Handled]], list[Handled]] = list,
    ) -> None:
        self._store, self._events, self._inbox = store, events, inbox

    def read(self, stream: StreamId, after: int = 0, up_to: int | None = None) -> Iterator[EventEnvelope[Event]]:
        return iter(self._events(list(self._store.read(stream, after, up_to))))

    def commands(self, stream: StreamId) -> list[Handled]:
        return self._inbox(self._store.commands(stream))


def difference(store: Any) -> str:
    report = verify_decisions(store, STREAM)
    assert report.difference is not None
    return report.difference


def at(index: int, **changes: Any) -> Callable[[list[EventEnvelope[Event]]], list[EventEnvelope[Event]]]:
    """Changes to the envelope (or with `event__x` to the event) number `index`."""

    def alter(events: list[EventEnvelope[Event]]) -> list[EventEnvelope[Event]]:
        inner = {name.removeprefix("event__"): v for name, v in changes.items() if name.startswith("event__")}
        outer = {name: v for name, v in changes.items() if not name.startswith("event__")}
        old = events[index - 1]
        outer.setdefault("event", old.event.model_copy(update=inner))
        events[index - 1] = replace(old, **outer)
        return events

    return alter


def test_the_record_is_what_the_rules_give(store: SqliteStore) -> None:
    rig = record(store)
    report = verify_decisions(store, STREAM)
    assert report.difference is None
    assert (report.commands, report.events) == (len(rig.commands), len(rig.log))
    assert report.as_dict() == {"commands": report.commands, "events": report.events, "difference": None}


def test_the_state_at_any_point(store: SqliteStore) -> None:
    rig = record(store)
    state, when = state_at(store, STREAM)
    assert (state, when) == (rig.state, rig.log[-1].time)
    for sequence in (1, 2, 5, len(rig.log) - 1):
        state, when = state_at(store, STREAM, sequence)
        assert (state.version, when) == (sequence, rig.log[sequence - 1].time)
    nothing, never = state_at(store, StreamId(TENANT, "session", "s0-none"))
    assert (nothing.version, never) == (0, datetime.fromtimestamp(0, UTC))


def test_the_last_event_of_a_moment(store: SqliteStore) -> None:
    rig = record(store)
    first, last = rig.log[0].time, rig.log[-1].time
    assert sequence_at(store, STREAM, first - timedelta(microseconds=1)) == 0
    assert sequence_at(store, STREAM, first) == 2
    assert sequence_at(store, STREAM, last) == len(rig.log)
    assert sequence_at(store, STREAM, last + timedelta(days=1)) == len(rig.log)
    middle = rig.log[9]
    later = [e.sequence for e in rig.log if e.time <= middle.time]
    assert sequence_at(store, STREAM, middle.time) == max(later)
    ahead: Any = Altered(store, events=at(5, time=last + timedelta(days=1)))  # a sender's clock was wrong
    assert sequence_at(ahead, STREAM, last) == 4


def test_a_session_nobody_knows_has_nothing_to_differ(store: SqliteStore) -> None:
    assert verify_decisions(store, STREAM).as_dict() == {"commands": 0, "events": 0, "difference": None}


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (at(1, event__seed=8), "event 1: session_started differs: seed was 8, would be 7"),
        (at(4, event__reason="it was edited"), "event 4: attempt_failed differs: reason was it was edited, would be "),
        (at(3, causation_id="c-other"), "event 3: attempt_claimed differs: cause was c-other, would be c-3"),
        (at(3, actor=OLGA), "event 3: attempt_claimed differs: actor was "),
        (at(3, time=datetime(2020, 1, 1, tzinfo=UTC)), "event 3: attempt_claimed differs: time was 2020-01-01"),
        (at(3, event=ev.PhaseCompleted(phase="plan-it", attempt=1)),
         "event 3: the record has phase_completed, the rules now give attempt_claimed"),
        (lambda events: events[:-1], "the rules now add session_completed, which the record does not have"),
        (lambda events: [*events, events[-1]], "the record has session_completed, which no command explains"),
    ],
)  # fmt: skip
def test_an_event_that_was_changed(store: SqliteStore, alter: Any, said: str) -> None:
    record(store)
    assert said in difference(Altered(store, events=alter))


def test_a_command_that_was_removed(store: SqliteStore) -> None:
    record(store)
    found = difference(Altered(store, inbox=lambda handled: handled[:3] + handled[4:]))
    assert found.startswith("event 4: the record has attempt_failed, the rules now give ")


def test_a_command_that_was_changed(store: SqliteStore) -> None:
    record(store)

    def forge(handled: list[Handled]) -> list[Handled]:
        return [replace(h, raw=h.raw.replace(b'"dana"', b'"erik"')) for h in handled]

    assert "differs" in difference(Altered(store, inbox=forge))


def test_rules_that_became_stricter(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = record(store)

    def strict(state: Any, envelope: Any, past: Any) -> Any:
        if isinstance(envelope.command, cmd.RollbackSession):
            return Refusal("not_on_sundays", "come back tomorrow")
        return decide(state, envelope, past)

    decide = folding.decide
    monkeypatch.setattr(folding, "decide", strict)
    number = next(e.sequence for e in rig.log if e.type == "gate_superseded")
    assert difference(store) == f"event {number}: the record has gate_superseded, the rules now give command_refused"


def test_rules_that_give_fewer_events(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = record(store)
    number = next(e.sequence for e in rig.log if e.type == "retry_scheduled")

    def lenient(state: Any, envelope: Any, past: Any) -> Any:
        events = decide(state, envelope, past)
        return events[:1] if isinstance(envelope.command, cmd.ReportFailure) else events

    decide = folding.decide
    monkeypatch.setattr(folding, "decide", lenient)
    assert difference(store).startswith(f"event {number}: the record has retry_scheduled, the rules now give ")


def test_rules_that_give_other_figures(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record(store)
    real = replay.handle

    def dearer(state: Any, envelope: Any, past: Any) -> Any:
        outcome = real(state, replace(envelope, time=envelope.time + timedelta(days=1)), past)
        return replace(outcome)

    monkeypatch.setattr(replay, "handle", dearer)
    assert "event 2: phase_started differs: started was " in difference(store)
