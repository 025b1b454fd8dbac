"""A rollback takes state back to the start of a phase; what cannot be taken back stays."""

from __future__ import annotations

from dataclasses import fields

import pytest

from conductor.state import Stage, Status
from schemas import commands as cmd
from schemas import session as ev
from tests.conductor.rig import DANA, ERIK, OLGA, Rig, artifact

KEPT = {
    "version", "status", "attempt", "phase", "phases", "gates", "usage", "interventions", "effects", "effects_done",
    "commit", "reason", "marks", "rests", "resting", "registered",
}  # fmt: skip
"""What a rollback does not take from the mark; every other field must be as it was."""


def roll_back(rig: Rig, phase: str) -> list[str]:
    return rig.accepted(cmd.RollbackSession(phase=phase, reason="try again"), "operator", OLGA)


def retry(rig: Rig) -> list[str]:
    return rig.accepted(cmd.RetryPhase(), "operator", OLGA)


@pytest.mark.parametrize("phase", ["plan-it", "build-it", "judge-it"])
def test_the_state_is_the_mark_s_but_for_what_cannot_be_taken_back(phase: str) -> None:
    rig = Rig().complete()
    before, mark = rig.state, rig.state.marks[phase]
    assert roll_back(rig, phase) == ["session_rolled_back", "effect_requested"]
    after = rig.state
    for field in fields(after):
        if field.name not in KEPT:
            assert getattr(after, field.name) == getattr(mark, field.name), field.name
    assert (after.status, after.stage, after.phase) == (Status.ROLLED_BACK, Stage.IDLE, phase)
    assert (after.usage, after.gates, after.effects_done) == (before.usage, before.gates, before.effects_done)
    assert after.interventions == before.interventions + 1
    assert after.commit == before.commit
    assert after.reason == f"rolled back to the start of {phase} by olga"
    for name, was in mark.phases.items():
        now = after.phases[name]
        assert now.attempt == before.phases[name].attempt
        assert now.failures == 0
        for field in fields(now):
            if field.name not in ("attempt", "failures"):
                assert getattr(now, field.name) == getattr(was, field.name), (name, field.name)


def test_the_event_says_where_to_and_the_branch_is_asked_to_follow() -> None:
    rig = Rig().complete()
    mark = rig.state.marks["build-it"]
    roll_back(rig, "build-it")
    back, restore = rig.log[-2].event, rig.log[-1].event
    assert isinstance(back, ev.SessionRolledBack)
    assert isinstance(restore, ev.EffectRequested)
    assert (back.to_sequence, back.commit, back.by) == (mark.version, "commit-1", OLGA)
    assert (restore.kind, restore.target, restore.phase) == ("restore", "commit-1", "build-it")


@pytest.mark.parametrize("phase", ["plan-it", "build-it", "judge-it"])
def test_a_session_that_was_rolled_back_can_be_completed(phase: str) -> None:
    rig = Rig().complete()
    roll_back(rig, phase)
    rig.effects()
    restored = rig.state.commit
    assert retry(rig) == ["session_resumed", "phase_started"]
    started = rig.log[-1].event
    assert isinstance(started, ev.PhaseStarted)
    assert (started.phase, started.attempt) == (phase, 2)
    while rig.state.status is not Status.COMPLETED:
        rig.through()
    assert all(p.completed for p in rig.state.phases.values())
    assert rig.state.commit != restored
    gates = [g.id for g in rig.state.gates.values() if g.phase == phase]
    assert gates == [f"s12-abcde.{phase}.1", f"s12-abcde.{phase}.2"]


def test_the_agent_of_the_second_round_sees_what_the_first_saw() -> None:
    rig = Rig().to("build-it")
    first = rig.log[-1].event
    assert isinstance(first, ev.PhaseStarted)
    rig.through()
    roll_back(rig, "build-it")
    rig.effects()
    retry(rig)
    second = rig.log[-1].event
    assert isinstance(second, ev.PhaseStarted)
    assert (second.artifacts, second.measured, second.acceptance) == (
        first.artifacts, first.measured, first.acceptance)  # fmt: skip
    assert second.remaining_seconds < first.remaining_seconds


def test_an_open_gate_is_superseded() -> None:
    rig = Rig().to("build-it")
    rig.work()
    gate = rig.state.open_gate
    assert gate is not None
    rig.decide("approve", DANA)
    assert roll_back(rig, "build-it") == ["gate_superseded", "session_rolled_back", "effect_requested"]
    assert rig.state.gates[gate.id].status == "superseded"
    refusal = rig.refused(rig.decide_command("approve", gate=gate.id), "operator", ERIK)
    assert (refusal.code, refusal.reason) == (
        "gate_closed", f"gate {gate.id} is superseded; it cannot be decided again")  # fmt: skip


def test_what_comes_late_is_refused() -> None:
    rig = Rig().to("build-it").claim()
    report, failure = rig.report_command(), rig.failure_command("agent")
    roll_back(rig, "plan-it")
    for command in (report, failure):
        assert rig.refused(command, "training").code == "stale_attempt"
    rig.effects()
    retry(rig)
    assert rig.refused(report, "training").code == "stale_attempt"
    while rig.state.phase != "build-it":
        rig.through()
    assert rig.refused(report, "training").code == "stale_attempt"
    rig.claim()
    assert rig.refused(report, "training").code == "stale_attempt"


def test_the_receipt_of_an_effect_of_before_is_refused() -> None:
    rig = Rig().start()
    rig.report()
    receipt = rig.receipt_command()
    roll_back(rig, "plan-it")
    assert rig.refused(receipt, "autopilot").code == "unknown_effect"
    assert [e.kind for e in rig.state.effects] == ["restore"]


def test_work_waits_until_the_branch_has_followed() -> None:
    rig = Rig().complete()
    roll_back(rig, "build-it")
    assert rig.refused(cmd.RetryPhase(), "operator", OLGA).code == "effect_pending"
    rig.accepted(rig.receipt_command(commit="restored"), "autopilot")
    assert (rig.state.status, rig.state.stage, rig.state.commit) == (Status.ROLLED_BACK, Stage.IDLE, "restored")
    retry(rig)


def test_a_branch_that_did_not_follow_is_asked_again_and_keeps_the_session_back() -> None:
    """Otherwise the next phase would be committed on top of work that was taken back."""
    rig = Rig().to("build-it")
    roll_back(rig, "plan-it")
    effect = rig.state.effects[0]
    command = cmd.RecordEffectFailure(effect=effect.id, kind="restore", reason="index.lock")
    assert rig.accepted(command, "autopilot") == ["effect_failed", "session_blocked"]
    assert rig.state.reason == "restore failed: index.lock"
    refusal = rig.refused(cmd.RetryPhase(), "operator", OLGA)
    assert refusal.code == "not_restored"
    assert "roll back to plan-it again" in refusal.reason
    roll_back(rig, "plan-it")
    rig.effects()
    assert not rig.state.unrestored
    assert retry(rig) == ["session_resumed", "phase_started"]


def test_a_phase_can_be_rolled_back_to_twice_and_further_back() -> None:
    rig = Rig().complete()
    for phase in ("judge-it", "judge-it", "build-it", "plan-it"):
        roll_back(rig, phase)
        assert len(rig.state.effects) == 1
    assert list(rig.state.marks) == ["plan-it"]
    rig.effects()
    retry(rig)
    assert (rig.state.phase, rig.state.attempt) == ("plan-it", 2)


@pytest.mark.parametrize(("phase", "said"), [("judge-it", "plan-it, build-it"), ("nonsense", "plan-it, build-it")])
def test_only_what_was_started_can_be_gone_back_to(phase: str, said: str) -> None:
    refusal = Rig().to("build-it").refused(cmd.RollbackSession(phase=phase), "operator", OLGA)
    assert (refusal.code, refusal.reason) == (
        "unknown_phase", f"phase {phase} has not started in s12-abcde; started: {said}")  # fmt: skip


def test_the_future_is_forgotten() -> None:
    rig = Rig().complete()
    roll_back(rig, "build-it")
    assert list(rig.state.marks) == ["plan-it", "build-it"]
    assert rig.refused(cmd.RollbackSession(phase="judge-it"), "operator", OLGA).code == "unknown_phase"
    assert list(rig.state.artifacts) == ["plan.json"]


def test_ticks_and_figures_are_taken_back() -> None:
    rig = Rig().to("judge-it")
    assert rig.state.phases["build-it"].ticked
    roll_back(rig, "build-it")
    assert not rig.state.phases["build-it"].ticked
    assert not rig.state.phases["build-it"].artifacts
    rig.effects()
    retry(rig)
    assert rig.report(ticked=())[0] == "attempt_failed"


def test_the_first_round_s_artifacts_are_gone() -> None:
    rig = Rig().to("build-it")
    rig.work(artifacts=(artifact("model.bin"), artifact("proof.json"), artifact("extra.txt")))
    assert "extra.txt" in rig.state.artifacts
    roll_back(rig, "build-it")
    assert "extra.txt" not in rig.state.artifacts


def test_a_pause_is_called_off() -> None:
    rig = Rig().start()
    rig.fail("transient")
    roll_back(rig, "plan-it")
    assert rig.refused(cmd.StartRetry(phase="plan-it", attempt=2), "conductor", OLGA).code == "stale_timer"
    rig.effects()
    retry(rig)
    assert rig.state.attempt == 2
    assert rig.refused(cmd.StartRetry(phase="plan-it", attempt=2), "conductor", OLGA).code == "stale_timer"
