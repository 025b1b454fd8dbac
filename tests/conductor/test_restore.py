"""A rollback to an event brings back what was there when the session rested; a rollback is taken back the same way."""

from __future__ import annotations

from dataclasses import fields

import pytest

from autopilot.board import Board
from conductor import rests
from conductor.fold import fold
from conductor.process import Calm, timers
from conductor.state import SessionState, Stage, Status, initial
from conductor.undo import plan
from schemas import commands as cmd
from schemas import session as ev
from schemas.values import Actor
from tests.conductor.rig import DANA, ERIK, OLGA, SESSION, Rig

LASTING = {
    "version", "phases", "gates", "usage", "interventions", "effects_done", "commit", "rests",
}  # fmt: skip
"""What stays of the present; every other field must be what it was."""
OF_A_PHASE = {"attempt", "lease", "holder", "commit", "gate"}
"""And of a phase: a lease is of an attempt that is over, and a gate is opened anew, for the new commit."""


def back(rig: Rig, sequence: int) -> list[str]:
    return rig.accepted(cmd.RestoreSession(sequence=sequence, reason="back"), "operator", OLGA)


def at(rig: Rig, sequence: int) -> SessionState:
    return fold(initial(SESSION), rig.log[:sequence])


def exactly(now: SessionState, then: SessionState, but: frozenset[str] = frozenset()) -> None:
    for field in fields(now):
        if field.name not in LASTING | but:
            assert getattr(now, field.name) == getattr(then, field.name), field.name
    for name, phase in then.phases.items():
        for field in fields(phase):
            if field.name not in OF_A_PHASE:
                assert getattr(now.phases[name], field.name) == getattr(phase, field.name), (name, field.name)


def rejected() -> tuple[Rig, int]:
    rig = Rig().to("build-it")
    rig.work()
    gate = rig.state.version
    rig.decide("reject", DANA, "not yet")
    return rig, gate


def test_where_a_session_rests() -> None:
    rig = Rig().complete()
    kinds = {rig.log[key - 1].type for key in rig.state.rests}
    assert kinds == {"session_started", "phase_completed", "gate_opened", "approval_given", "session_completed"}
    for sequence in range(1, rig.state.version + 1):
        assert (rests.find(rig.state, sequence) is None) == (rests.unrest(at(rig, sequence)) is not None), sequence


def test_a_rollback_from_the_end_is_taken_back() -> None:
    rig = Rig().complete()
    end = rig.state
    rig.accepted(cmd.RollbackSession(phase="build-it"), "operator", OLGA)
    rig.effects()
    assert rig.state.status is Status.ROLLED_BACK
    assert back(rig, end.version) == ["session_restored", "effect_requested"]
    restore = rig.log[-1].event
    assert isinstance(restore, ev.EffectRequested)
    assert (restore.kind, restore.target) == ("restore", end.commit)
    assert rig.state.status is Status.ROLLED_BACK, "until the branch has followed"
    assert rig.refused(cmd.RetryPhase(), "operator", OLGA).code == "effect_pending"
    rig.effects()
    exactly(rig.state, end)
    assert rig.state.status is Status.COMPLETED
    assert rig.refused(cmd.RetryPhase(), "operator", OLGA).code == "session_over"
    rig.accepted(cmd.RollbackSession(phase="judge-it"), "operator", OLGA)


def test_a_rollback_to_an_event_is_taken_back_too() -> None:
    rig, gate = rejected()
    blocked = rig.state
    back(rig, gate)
    rig.effects()
    back(rig, blocked.version)
    rig.effects()
    exactly(rig.state, blocked)
    assert (rig.state.status, rig.state.reason) == (Status.BLOCKED, blocked.reason)
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)


def test_a_gate_that_waited_is_opened_anew_for_the_new_commit() -> None:
    rig, gate = rejected()
    back(rig, gate)
    assert rig.effects() == ["effect_recorded", "criteria_evaluated", "gate_opened"]
    exactly(rig.state, at(rig, gate))
    opened = rig.state.open_gate
    assert opened is not None
    assert opened.commit == rig.state.commit
    assert opened.id not in at(rig, gate).gates, "the first stays as it was decided"
    assert rig.state.gates[f"{SESSION}.build-it.1"].status == "rejected"
    for approver in (DANA, ERIK):
        rig.decide("approve", approver)
    assert rig.state.phase == "judge-it"


def test_between_two_phases_a_retry_goes_on_with_the_next() -> None:
    rig = Rig().to("judge-it")
    boundary = rig.state.marks["build-it"]
    rig.claim()
    back(rig, boundary.version)
    rig.effects()
    exactly(rig.state, at(rig, boundary.version), frozenset({"status", "phase", "reason"}))
    assert (rig.state.status, rig.state.stage, rig.state.phase) == (Status.ROLLED_BACK, Stage.IDLE, "build-it")
    assert rig.accepted(cmd.RetryPhase(), "operator", OLGA) == ["session_resumed", "phase_started"]
    assert (rig.state.phase, rig.state.attempt) == ("build-it", 2)
    back(rig, 1)
    rig.effects()
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)
    assert (rig.state.phase, rig.state.attempt) == ("plan-it", 2)
    while rig.state.status is not Status.COMPLETED:
        rig.through()


def test_refused_commands_do_not_end_a_rest() -> None:
    rig, gate = rejected()
    blocked = rig.state.version
    rig.refused(cmd.RestoreSession(sequence=gate + 100), "operator", OLGA)
    rig.refused(cmd.RetryPhase(), "operator", Actor(name="mallory", channel="cli", verified_as="os:mallory"))
    rig.accepted(cmd.RollbackSession(phase="plan-it"), "operator", OLGA)
    assert set(rig.state.rests) >= {gate, blocked}
    rig.effects()
    back(rig, blocked + 2)
    rig.effects()
    assert rig.state.status is Status.BLOCKED


@pytest.mark.parametrize(("offset", "code"), [(1, "not_at_rest"), (-1, "not_at_rest"), (0, None)])
def test_only_where_it_rested(offset: int, code: str | None) -> None:
    rig = Rig().to("judge-it")
    boundary = rig.state.marks["judge-it"].version
    if code is None:
        back(rig, boundary)
        return
    refusal = rig.refused(cmd.RestoreSession(sequence=boundary + offset), "operator", OLGA)
    assert refusal.code == code
    assert str(boundary) in refusal.reason


def test_what_is_refused() -> None:
    rig, gate = rejected()
    assert rig.refused(cmd.RestoreSession(sequence=rig.state.version), "operator", OLGA).code == "already_there"
    assert rig.refused(cmd.RestoreSession(sequence=0), "operator", OLGA).code == "unknown_event"
    assert rig.refused(cmd.RestoreSession(sequence=999), "operator", OLGA).code == "unknown_event"
    stranger = Actor(name="mallory", channel="cli", verified_as="os:mallory")
    assert rig.refused(cmd.RestoreSession(sequence=gate), "operator", stranger).code == "not_an_operator"


def test_between_the_rollback_and_the_branch_s_following_there_is_no_rest() -> None:
    rig = Rig().complete()
    rig.accepted(cmd.RollbackSession(phase="build-it"), "operator", OLGA)
    rolled = rig.state.version - 1
    rig.effects()
    back(rig, 1)
    rig.effects()
    assert rig.refused(cmd.RestoreSession(sequence=rolled), "operator", OLGA).code == "not_at_rest"


def test_a_branch_that_did_not_follow_blocks_until_it_is_asked_again() -> None:
    rig, gate = rejected()
    back(rig, gate)
    broken = cmd.RecordEffectFailure(effect=rig.state.effects[0].id, kind="restore", reason="index.lock")
    assert rig.accepted(broken, "autopilot") == ["effect_failed", "session_blocked"]
    assert rig.refused(cmd.RetryPhase(), "operator", OLGA).code == "not_restored"
    back(rig, gate)
    rig.effects()
    assert rig.state.status is Status.WAITING


def test_the_alarm_of_the_attempt_that_was_left_is_cleared() -> None:
    rig = Rig().to("judge-it").claim()
    before = rig.state
    back(rig, 1)
    assert timers(before, rig.state) == (Calm("attempt.judge-it"),)


def test_the_board_sees_what_the_conductor_sees() -> None:
    """Auto-Pilot renders the branch from its own fold of the same events."""
    for story in (_from_the_end, _to_the_gate, _between):
        rig = story()
        board = Board()
        for envelope in rig.log:
            board.apply(envelope)
        row, state = board.sessions[SESSION], rig.state
        assert (row.status, row.commit) == (state.status.value, state.commit)
        assert row.reason == state.reason
        assert {n: set(p.artifacts) for n, p in row.phases.items()} == {
            n: {a.name for a in p.artifacts} for n, p in state.phases.items()
        }
        assert {n: (p.attempt, p.summary, p.ticked) for n, p in row.phases.items()} == {
            n: (p.attempt, p.summary, dict(p.ticked)) for n, p in state.phases.items()
        }
        assert not row.pending_effects


def _from_the_end() -> Rig:
    rig = Rig().complete()
    end = rig.state.version
    rig.accepted(cmd.RollbackSession(phase="plan-it"), "operator", OLGA)
    rig.effects()
    back(rig, end)
    rig.effects()
    return rig


def _to_the_gate() -> Rig:
    rig, gate = rejected()
    back(rig, gate)
    rig.effects()
    return rig


def _between() -> Rig:
    rig = Rig().complete()
    back(rig, rig.state.marks["build-it"].version)
    rig.effects()
    return rig


def test_the_plan_says_what_would_change_and_what_stays() -> None:
    rig = Rig().complete()
    target = rig.state.marks["build-it"]
    envelope = rig.envelope(cmd.RestoreSession(sequence=target.version), "operator", OLGA)
    foreseen = plan(rig.state, envelope)
    assert (foreseen.refusal, foreseen.status) == (None, "rolled_back")
    gone = {d.name for d in foreseen.changes if d.kind == "artifact"}
    assert gone == {"model.bin", "proof.json", "proof.json.dsse.json", "report.md"}
    said = "\n".join(foreseen.lasting)
    for words in ("stay spent", "1 more attempts of build-it", "dana, erik decided", "stay in the history of phase/12",
                  "the signature proof.json.dsse.json was made", "outside"):  # fmt: skip
        assert words in said
    assert plan(rig.state, rig.envelope(cmd.RestoreSession(sequence=2), "operator", OLGA)).refusal is not None
    back(rig, target.version)
    rig.accepted(rig.receipt_command(commit=target.commit), "autopilot")
    from conductor.compare import differences

    assert differences(at(rig, rig.state.version - 3), rig.state) == foreseen.changes, "and that is what happens"


def test_the_plan_of_a_gate_says_that_it_opens_anew() -> None:
    rig, gate = rejected()
    foreseen = plan(rig.state, rig.envelope(cmd.RestoreSession(sequence=gate), "operator", OLGA))
    assert foreseen.status == "waiting"
    assert any("opened anew" in line for line in foreseen.lasting)
    assert any("dana decided" in line for line in foreseen.lasting)
