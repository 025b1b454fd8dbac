"""Rows of a named source: fetched before anything else, once, and the same for every attempt, rollback and fork."""

from __future__ import annotations

from typing import Any

import pytest

from conductor.fold import handle
from conductor.forking import Past
from conductor.snapshots import decode, encode
from conductor.state import Status, initial
from schemas import commands as cmd
from schemas import session as ev
from schemas.forking import ForkSession
from schemas.values import Posted, Snapshot
from tests.conductor.rig import OLGA, ORIGIN, PIPELINE, TICKET, Rig

NAMED = TICKET.model_copy(update={"data": "source:clinic/visits"})


def rig(**changes: Any) -> Rig:
    return Rig(ticket=NAMED.model_copy(update=changes))


def fail(r: Rig, reason: str = "clinic/visits cannot be reached") -> list[str]:
    effect = r.state.effects[0]
    return r.accepted(cmd.RecordEffectFailure(effect=effect.id, kind="fetch", reason=reason), "autopilot")


def handed(r: Rig) -> list[Snapshot | None]:
    """What each attempt was given, in order."""
    return [e.event.ticket.snapshot for e in r.log if isinstance(e.event, ev.PhaseStarted)]


def test_no_phase_starts_before_the_rows_are_there() -> None:
    r = rig()
    assert r.accepted(r.start_command(), "autopilot") == ["session_started", "effect_requested"]
    (effect,) = r.state.effects
    assert (effect.kind, effect.target) == ("fetch", "clinic/visits")
    assert r.refused(cmd.ClaimAttempt(phase="plan-it", attempt=1, holder="x"), "lead").code == "stale_attempt"
    assert r.accepted(r.receipt_command(), "autopilot") == ["effect_recorded", "phase_started"]
    (snapshot,) = handed(r)
    assert snapshot is not None
    assert (snapshot.source, snapshot.item, snapshot.sha256) == ("clinic", "visits", "9" * 64)
    assert decode(encode(r.state)) == r.state


@pytest.mark.parametrize("data", ["data/cells.csv", "sql:data/clinic.db/visits", "sklearn:wine", None])
def test_other_data_is_not_fetched(data: str | None) -> None:
    r = rig(data=data)
    assert r.accepted(r.start_command(), "autopilot") == ["session_started", "phase_started"]


def test_a_change_of_code_needs_no_rows() -> None:
    code = PIPELINE.phases[0].model_copy(update={"apply": "change.patch", "artifacts": ("plan.json", "change.patch")})
    pipeline = PIPELINE.model_copy(update={"phases": (code, *PIPELINE.phases[1:])})
    assert pipeline.changes_code
    r = Rig(ticket=NAMED, pipeline=pipeline)
    assert "effect_requested" not in r.accepted(r.start_command(), "autopilot")


def test_the_ticket_is_claimed_before_its_rows_are_read() -> None:
    """Two Auto-Pilots do not both read what only one of them works on."""
    r = rig(origin=ORIGIN)
    r.start()
    assert [effect.kind for effect in r.state.effects] == ["claim"]
    r.accepted(r.receipt_command(), "autopilot")
    assert [effect.kind for effect in r.state.effects] == ["fetch"]


def test_a_ticket_that_somebody_else_has_is_not_read_for() -> None:
    r = rig(origin=ORIGIN)
    r.start()
    r.accepted(r.receipt_command(posted=Posted(taken_by="another Auto-Pilot")), "autopilot")
    assert r.state.status is Status.ABORTED
    assert "fetch" not in [effect.kind for effect in r.state.effects]


def test_a_session_has_one_snapshot_whatever_happens_to_it() -> None:
    r = rig().to("build-it")
    r.fail("agent")
    r.accepted(cmd.StartRetry(phase="build-it", attempt=2), "conductor")
    r.accepted(cmd.RollbackSession(phase="plan-it"), "operator", OLGA)
    r.effects()
    r.accepted(cmd.RetryPhase(), "operator", OLGA)
    assert len(handed(r)) == 4
    assert len(set(handed(r))) == 1
    assert [e.event.kind for e in r.log if isinstance(e.event, ev.EffectRequested)].count("fetch") == 1


def test_going_back_to_before_the_rows_were_there_keeps_them() -> None:
    r = rig().start()
    fail(r)
    blocked = r.state.version
    r.accepted(cmd.RetryPhase(), "operator", OLGA)
    r.effects()
    r.fail("input")
    r.accepted(cmd.RestoreSession(sequence=blocked), "operator", OLGA)
    r.effects()
    assert r.state.status is Status.BLOCKED
    assert r.accepted(cmd.RetryPhase(), "operator", OLGA) == ["session_resumed", "phase_started"]
    assert len(set(handed(r))) == 1


def test_a_fork_works_on_the_same_rows() -> None:
    r = rig().to("build-it")
    r.fail("input")
    command = ForkSession(source=r.state.id, sequence=r.state.version)
    envelope = r.envelope(command, "operator", OLGA)
    forked = handle(initial("s12-forked"), envelope, Past(r.state, "f" * 64))
    started = next(e for e in forked.events if isinstance(e, ev.SessionStarted))
    assert r.state.ticket is not None
    assert started.ticket.snapshot == r.state.ticket.snapshot
    assert [e.kind for e in forked.events if isinstance(e, ev.EffectRequested)] == ["branch"]


def test_a_source_that_cannot_be_read_blocks_and_a_retry_asks_again() -> None:
    r = rig().start()
    assert fail(r) == ["effect_failed", "session_blocked"]
    assert r.state.reason == "fetch failed: clinic/visits cannot be reached"
    assert r.state.at_origin.failed == ()
    assert r.accepted(cmd.RetryPhase(), "operator", OLGA) == ["session_resumed", "effect_requested"]
    assert r.accepted(r.receipt_command(), "autopilot") == ["effect_recorded", "phase_started"]


def test_the_ticket_is_told_why_nothing_could_be_read() -> None:
    r = rig(origin=ORIGIN).start()
    r.accepted(r.receipt_command(), "autopilot")
    assert fail(r) == ["effect_failed", "session_blocked", "effect_requested"]
    (told,) = r.state.effects
    assert told.kind == "announce"
    assert "clinic/visits cannot be reached" in told.target


def test_a_paused_session_reads_nothing_until_it_goes_on() -> None:
    r = rig().start()
    fail(r)
    r.accepted(cmd.PauseSession(), "operator", OLGA)
    assert r.refused(cmd.RetryPhase(), "operator", OLGA).code == "paused"
    r.accepted(cmd.ResumeSession(), "operator", OLGA)
    assert r.accepted(cmd.RetryPhase(), "operator", OLGA)[-1] == "effect_requested"


def test_an_aborted_session_takes_no_rows() -> None:
    r = rig().start()
    receipt = r.receipt_command()
    r.accepted(cmd.AbortSession(reason="no more"), "operator", OLGA)
    assert r.refused(receipt, "autopilot").code == "session_over"


def test_a_receipt_says_what_was_asked_for_and_nothing_else() -> None:
    r = rig().start()
    snapshot = r.receipt_command().snapshot
    assert snapshot is not None
    other = snapshot.model_copy(update={"item": "patients"})
    for spoilt in ({"snapshot": None}, {"snapshot": other}, {"commit": "abc"}, {"artifacts": (snapshot.artifact,)}):
        assert r.refused(r.receipt_command(**spoilt), "autopilot").code == "bad_receipt"
    r.accepted(r.receipt_command(), "autopilot")
    r.report()
    assert r.refused(r.receipt_command(snapshot=snapshot), "autopilot").code == "bad_receipt"


def test_agents_and_people_hand_in_no_snapshot() -> None:
    r = rig().start()
    for sender in ("lead", "data", "operator", "chatops"):
        assert r.refused(r.receipt_command(), sender).code == "not_allowed"
