"""Which versions are in doubt: asked for, never heard of, and waited for by nobody."""

from __future__ import annotations

from autopilot.registrations import Registrations
from schemas import session as ev
from schemas.messages import Event
from schemas.values import Registered


def requested(effect: str, phase: str = "ship", back: str = "") -> ev.EffectRequested:
    done = Registered(effect=back, model="m", version="1", alias="candidate") if back else None
    return ev.EffectRequested(effect=effect, kind="register", phase=phase, attempt=1, target="m", registered=done)


def recorded(effect: str, made_by: str = "", phase: str = "ship") -> ev.EffectRecorded:
    done = Registered(effect=made_by or effect, model="m", version="1", alias="candidate")
    return ev.EffectRecorded(effect=effect, kind="register", phase=phase, attempt=1, registered=done)


RESTORED = ev.EffectRecorded(effect="r", kind="restore", phase="ship", attempt=1, commit="c")


def repeated(*phases: str) -> ev.PhaseRepeated:
    return ev.PhaseRepeated(
        phase="judge", attempt=1, to="ship", kind="iterate", iteration=1, iterations=2, phases=phases, reason="worse"
    )


def after(*events: tuple[Event, tuple[str, ...]]) -> Registrations:
    """What is left after events, each with what was waited for until then."""
    found = Registrations()
    for event, pending in events:
        found.apply(event, pending)
    return found


def test_what_is_waited_for_is_not_in_doubt_and_what_was_given_up_is() -> None:
    found = after((requested("a"), ()))
    assert found.doubtful({"a": None}) == ()
    assert found.doubtful({}) == ("a",)
    assert found.doubtful({}, "ship") == ("a",)
    assert found.doubtful({}, "other") == (), "each phase has packages of its own"


def test_a_receipt_ends_the_doubt_also_about_what_the_phase_had_before() -> None:
    events = (requested("a"), ()), (requested("x", "other"), ()), (requested("b"), ("x",))
    assert after(*events).doubtful({"b": None}) == ("a", "x")
    assert after(*events, (recorded("b"), ("b", "x"))).asked.keys() == {"x"}


def test_a_rollback_that_is_over_has_settled_everything_but_what_it_brings_back_after() -> None:
    events = (requested("a"), ()), (requested("c", back="z"), ())
    assert after(*events).doubtful({"c": None}) == ("a",)
    found = after(*events, (RESTORED, ("r", "c")))
    assert found.doubtful({"c": None}) == ()
    assert found.doubtful({}) == ("z",), "brought back perhaps, and nobody heard of it"
    found.apply(recorded("d", "z"), ("d",))
    assert found.asked == {}


def test_what_a_way_back_withdraws_the_session_knows_itself() -> None:
    """It counts it among its versions, and takes it back when it is rolled back."""
    withdrawn = after((requested("a"), ()), (repeated("ship"), ("a",)))
    assert withdrawn.doubtful({}) == ()
    given_up = after((requested("a"), ()), (repeated("ship"), ()))
    assert given_up.doubtful({}) == ("a",)
    elsewhere = after((requested("a"), ()), (repeated("other"), ("a",)))
    assert elsewhere.doubtful({"a": None}) == ()
    assert elsewhere.asked.keys() == {"a"}
