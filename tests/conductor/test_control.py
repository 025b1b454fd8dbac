"""Pause, hold, reassign, priority; skipping and going back; gates that expire: each a command with a verdict."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from conductor.fold import fold
from conductor.process import Alarm, Calm, alarms, awaited, heard, timers
from conductor.state import Status, initial
from conductor.views import gate_view
from schemas import commands as cmd
from schemas import session as ev
from schemas.messages import Command
from schemas.pipeline import GateDefinition, PipelineDefinition, RepeatRule, RetryPolicy
from schemas.policy import Approver, Policy
from schemas.values import Mode, Priority, Role
from tests.conductor.rig import DANA, ERIK, OLGA, SESSION, SYSTEM, Rig, person
from tests.conductor.test_graph import ASK, DIAMOND, Graph, phase


def loop(**of_the_last: Any) -> Graph:
    """design → build beside docs → judge, which may send back to both."""
    back = (
        RepeatRule(to="build-it", iterations=2),
        RepeatRule(to="design-it", when="metrics.drift > 0.5", iterations=1),
    )
    given: dict[str, Any] = {"repeat": back, "criteria": ("metrics.recall >= 0.9",), "artifacts": ("report.md",)}
    return Graph(
        PipelineDefinition(
            name="loop",
            description="",
            phases=(
                phase("design-it", Role.LEAD, mode=Mode.DESIGN),
                phase("build-it", Role.TRAINING),
                phase("docs-it", Role.DATA, ("design-it",)),
                phase("judge-it", Role.EVALUATION, ("build-it",), mode=Mode.EVALUATE, **(given | of_the_last)),
            ),
        )
    )


def to_judge(rig: Graph) -> Graph:
    rig.start()
    rig.done("design-it")
    rig.done("build-it", recall=0.1)
    return rig


GOOD, BAD, DRIFTED = {"recall": 0.95, "drift": 0.1}, {"recall": 0.5, "drift": 0.1}, {"recall": 0.5, "drift": 0.9}

# Going back


def test_unmet_criteria_send_back_to_build_and_what_came_after_starts_again() -> None:
    rig = to_judge(loop())
    names = rig.done("judge-it", **BAD)
    assert names[-3:] == ["criteria_evaluated", "phase_repeated", "phase_started"]
    event = rig.log[-2].event
    assert isinstance(event, ev.PhaseRepeated)
    assert (event.to, event.kind, event.iteration, event.iterations) == ("build-it", "iterate", 1, 2)
    assert event.phases == ("build-it", "judge-it")
    assert "recall = 0.5" in event.reason
    assert rig.stages() == {"build-it": "working", "docs-it": "working"}
    assert rig.state.phases["build-it"].attempt == 2
    assert dict(rig.state.phases["judge-it"].ticked) == {"judge-it-done": "seen"}
    assert "recall" not in rig.state.measured.get("metrics", {})
    assert set(rig.state.artifacts) == {"design-it.json"}


def test_a_criterion_sends_back_to_design_and_fences_whatever_comes_after() -> None:
    rig = to_judge(loop(repeat=(RepeatRule(to="design-it", when="metrics.drift > 0.5", iterations=1),)))
    late = rig.took("docs-it").result("docs-it")
    rig.done("judge-it", **DRIFTED)
    event = rig.log[-2].event
    assert isinstance(event, ev.PhaseRepeated)
    assert (event.kind, event.phases) == ("pivot", ("design-it", "build-it", "docs-it", "judge-it"))
    assert rig.stages() == {"design-it": "working"}
    assert rig.refused(late, "data").code == "stale_attempt"
    rig.done("design-it")
    assert rig.stages() == {"build-it": "working", "docs-it": "working"}
    assert rig.refused(late, "data").code == "stale_attempt"


def test_the_limit_reached_blocks_with_its_class() -> None:
    rig = to_judge(loop())
    for _ in range(2):
        rig.done("judge-it", **BAD)
        rig.done("build-it")
    rig.done("docs-it")
    assert rig.done("judge-it", **BAD)[-1] == "session_blocked"
    blocked = rig.log[-1].event
    assert isinstance(blocked, ev.SessionBlocked)
    assert blocked.failure.value == "limit"
    assert blocked.reason.startswith("judge-it went back to build-it 2 times, the most the pipeline allows; now again")
    assert dict(rig.state.repeats) == {"judge-it>build-it": 2}


def test_a_way_back_whose_figure_is_missing_blocks() -> None:
    rig = to_judge(loop(repeat=(RepeatRule(to="design-it", when="metrics.drift > 0.5", iterations=1),)))
    assert rig.done("judge-it", recall=0.95)[-1] == "phase_blocked"
    assert "metrics.drift was not measured" in rig.state.blocked[0].blocked


def test_what_goes_well_goes_on() -> None:
    rig = to_judge(loop())
    rig.done("docs-it")
    assert rig.done("judge-it", **GOOD)[-1] == "session_completed"


def test_an_approver_may_send_a_gate_back() -> None:
    rig = to_judge(loop(gate=ASK))
    rig.done("judge-it", **GOOD)
    gate = rig.state.phases["judge-it"].gate
    command = cmd.SendBack(gate=gate, phase="build-it", reason="too slow for the hot path")
    assert rig.refused(command, "operator", OLGA).code == "not_an_approver"
    assert rig.refused(command.model_copy(update={"phase": "docs-it"}), "operator", DANA).code == "no_way_back"
    assert rig.refused(command.model_copy(update={"reason": " "}), "operator", DANA).code == "reason_missing"
    assert rig.accepted(command, "operator", DANA) == ["gate_rejected", "phase_repeated", "phase_started"]
    assert rig.state.gates[gate].status == "rejected"
    assert (rig.state.status, rig.state.phases["build-it"].attempt) == (Status.ACTIVE, 2)
    assert rig.board().sessions[SESSION].phases["build-it"].status == "working"


def test_a_gate_that_comes_after_lapses_with_its_phase() -> None:
    pipeline = loop().pipeline
    docs = pipeline.phases[2].model_copy(update={"gate": ASK})
    phases = (*pipeline.phases[:2], docs, pipeline.phases[3])
    rig = Graph(PipelineDefinition(name="loop", description="", phases=phases))
    to_judge(rig)
    rig.done("docs-it")
    gate = rig.state.phases["docs-it"].gate
    assert "gate_superseded" in rig.done("judge-it", **DRIFTED | {"recall": 0.95})
    assert rig.state.gates[gate].status == "superseded"


def test_a_rollback_after_an_iteration_goes_back_to_the_newest_round() -> None:
    rig = to_judge(loop())
    rig.done("docs-it")
    rig.done("judge-it", **BAD)
    rig.done("build-it")
    rig.operate(cmd.RollbackSession(phase="judge-it"))
    assert rig.state.phases["build-it"].completed
    assert dict(rig.state.repeats) == {"judge-it>build-it": 1}


# Skipping


def skipping(when: str) -> Graph:
    extra = phase("extra-it", Role.DATA, skip_when=when)
    phases = (phase("plan-it", Role.LEAD), extra, phase("end-it", Role.RISK))
    return Graph(PipelineDefinition(name="skip", description="", phases=phases))


def test_a_phase_is_skipped_when_its_condition_holds() -> None:
    rig = skipping("metrics.rows < 100.0").start()
    assert isinstance(rig, Graph)
    assert rig.done("plan-it", rows=20.0)[-2:] == ["phase_skipped", "phase_started"]
    skipped = rig.log[-2].event
    assert isinstance(skipped, ev.PhaseSkipped)
    assert skipped.condition.measured == {"metrics.rows": 20.0}
    assert rig.done("end-it")[-1] == "session_completed"
    assert rig.board().sessions[SESSION].phases["extra-it"].status == "skipped"


@pytest.mark.parametrize("figures", [{"rows": 200.0}, {}])
def test_a_condition_that_fails_or_is_not_known_skips_nothing(figures: dict[str, float]) -> None:
    rig = skipping("metrics.rows < 100.0")
    rig.start()
    assert rig.done("plan-it", **figures)[-1] == "phase_started"
    assert rig.stages() == {"extra-it": "working"}


# Pause


def test_in_a_paused_session_work_ends_and_nothing_starts() -> None:
    rig = Graph().both().took("left-it")
    rig.operate(cmd.PauseSession(reason="the data is being replaced"))
    assert rig.done("left-it")[-1] == "gate_opened"
    rig.approved("left-it")
    rig.done("right-it")
    rig.approved("right-it")
    assert rig.stages() == {}
    row = rig.board().sessions[SESSION]
    assert (row.in_work, row.paused) == (False, "paused by olga: the data is being replaced")
    assert rig.operate(cmd.ResumeSession()) == ["session_unpaused", "phase_started"]
    assert rig.board().sessions[SESSION].in_work


def test_a_pause_stops_the_clock_of_a_retry_and_going_on_winds_it_again() -> None:
    rig = Graph().both()
    rig.failed("left-it", "transient")
    armed = alarms(rig.state)["attempt.left-it"]
    before = rig.state
    rig.operate(cmd.PauseSession())
    assert Calm("attempt.left-it") in timers(before, rig.state)
    assert rig.refused(armed.command, "conductor", SYSTEM).code == "paused"
    before = rig.state
    rig.operate(cmd.ResumeSession())
    assert timers(before, rig.state) == (armed,)
    assert rig.accepted(armed.command, "conductor", SYSTEM) == ["phase_started"]


def test_a_blocked_session_that_is_paused_is_resumed_before_it_is_retried() -> None:
    rig = Graph().start()
    assert isinstance(rig, Graph)
    rig.failed("plan-it")
    rig.operate(cmd.PauseSession())
    assert rig.refused(cmd.RetryPhase(), "operator", OLGA).code == "paused"
    assert rig.operate(cmd.ResumeSession()) == ["session_unpaused"]
    assert rig.operate(cmd.RetryPhase()) == ["session_resumed", "phase_started"]


def test_a_rollback_does_not_undo_a_pause_or_a_priority() -> None:
    rig = Graph().both()
    rig.operate(cmd.PauseSession())
    rig.operate(cmd.ChangePriority(priority=Priority.FUTURE))
    rig.operate(cmd.RollbackSession(phase="plan-it"))
    assert (rig.state.paused, rig.state.priority) == (True, "future")


# Hold


def test_a_held_gate_is_decided_by_nobody_until_it_is_released() -> None:
    rig = Graph().both()
    rig.done("left-it")
    gate = rig.state.phases["left-it"].gate
    rig.operate(cmd.HoldGate(gate=gate, reason="wait for legal"))
    for decision in ("approve", "reject"):
        assert rig.refused(rig.decide_command(decision, gate=gate), "operator", DANA).code == "gate_held"
    assert rig.board().sessions[SESSION].gates[gate].held
    rig.operate(cmd.UnholdGate(gate=gate))
    assert rig.approved("left-it")[-1] == "phase_completed"


# Reassign


def test_a_reassigned_attempt_is_given_out_anew_and_the_old_holder_is_fenced() -> None:
    rig = Graph().both().took("left-it")
    late, before = rig.result("left-it"), rig.state
    assert rig.operate(cmd.ReassignAttempt(phase="left-it", reason="hangs")) == ["attempt_reassigned", "phase_started"]
    taken = rig.log[-2].event
    assert isinstance(taken, ev.AttemptReassigned)
    assert (taken.attempt, taken.holder) == (1, "left-it-1")
    assert rig.refused(late, "data").code == "stale_attempt"
    assert rig.state.phases["left-it"].failures == before.phases["left-it"].failures
    rig.accepted(claim(rig, "left-it", "left-it-2"), "data")
    assert rig.done("left-it")[-1] == "gate_opened"


def claim(rig: Graph, name: str, holder: str) -> cmd.ClaimAttempt:
    return cmd.ClaimAttempt(phase=name, attempt=rig.state.phases[name].attempt, holder=holder)


def taken_away() -> Graph:
    rig = Graph().both().took("left-it")
    rig.operate(cmd.ReassignAttempt(phase="left-it"))
    return rig


def test_who_lost_an_attempt_may_not_claim_the_next_one_before_somebody_else_did() -> None:
    rig = taken_away()
    refusal = rig.refused(claim(rig, "left-it", "left-it-1"), "data")
    until = f"{rig.state.phases['left-it'].barred_until:%H:%M:%S} UTC"
    assert (refusal.code, refusal.reason) == (
        "taken_away",
        f"left-it was taken away from left-it-1: another replica may claim it, and it from {until}",
    )
    assert rig.accepted(claim(rig, "right-it", "left-it-1"), "feature") == ["attempt_claimed"], "only that phase"
    assert rig.accepted(claim(rig, "left-it", "left-it-2"), "data") == ["attempt_claimed"]
    assert rig.accepted(claim(rig, "left-it", "left-it-1"), "data") == ["attempt_claimed"], "as ever: a newer lease"


def test_with_nobody_else_who_lost_an_attempt_may_claim_again_after_half_a_minute() -> None:
    rig = taken_away()
    started = rig.log[-1].event
    assert isinstance(started, ev.PhaseStarted)
    rig.now = started.started + timedelta(seconds=29.9)
    assert rig.refused(claim(rig, "left-it", "left-it-1"), "data").code == "taken_away"
    rig.now = started.started + timedelta(seconds=30)
    assert rig.accepted(claim(rig, "left-it", "left-it-1"), "data") == ["attempt_claimed"]


def test_taking_away_twice_before_anybody_claims_bars_the_same_holder_for_the_whole_time_again() -> None:
    rig = taken_away()
    rig.now += timedelta(seconds=20)
    rig.operate(cmd.ReassignAttempt(phase="left-it"))
    rig.now += timedelta(seconds=20)
    assert rig.refused(claim(rig, "left-it", "left-it-1"), "data").code == "taken_away"
    rig.now += timedelta(seconds=10)
    assert rig.accepted(claim(rig, "left-it", "left-it-1"), "data") == ["attempt_claimed"]


def test_nobody_is_barred_where_nobody_had_claimed() -> None:
    rig = Graph().both()
    rig.operate(cmd.ReassignAttempt(phase="left-it"))
    assert rig.accepted(claim(rig, "left-it", ""), "data") == ["attempt_claimed"]


@pytest.mark.parametrize("command", [
    cmd.PauseSession(), cmd.ResumeSession(), cmd.ReassignAttempt(phase="left-it"),
    cmd.ChangePriority(priority=Priority.NOW),
])  # fmt: skip
def test_strangers_and_programs_control_nothing(command: Command) -> None:
    rig = Graph().both()
    for actor in (person("stranger"), SYSTEM, person("olga", channel="bus")):
        assert rig.refused(command, "operator", actor).code == "not_an_operator"


# Gates that expire

EXPIRING = GateDefinition(human="always", quorum=1, expires_seconds=3600.0)


def expiring(escalate_to: tuple[str, ...] = ()) -> Graph:
    rig = Graph(PipelineDefinition(name="wait", description="", phases=(
        phase("plan-it", Role.LEAD, gate=EXPIRING), phase("end-it", Role.RISK))))  # fmt: skip
    rig.policy = Policy(
        approvers=(Approver(name="dana"), Approver(name="erik", phases=("end-it",))),
        operators=("olga",),
        escalate_to=escalate_to,
    )
    rig.start()
    rig.done("plan-it")
    return rig


def expire(rig: Graph) -> cmd.ExpireGate:
    return cmd.ExpireGate(gate=rig.state.phases["plan-it"].gate)


def test_an_expired_gate_blocks_and_never_passes() -> None:
    rig = expiring()
    gate = rig.state.open_gate
    assert gate is not None
    assert alarms(rig.state) == {
        "gate.plan-it": Alarm("gate.plan-it", gate.opened + timedelta(hours=1), expire(rig))
    }  # fmt: skip
    assert rig.accepted(expire(rig), "conductor", SYSTEM) == ["gate_expired", "session_blocked"]
    assert rig.state.reason == f"gate {gate.id} expired: nobody decided it within 3600 s"
    assert rig.refused(rig.decide_command("approve", gate=gate.id), "operator", DANA).code == "gate_closed"
    assert awaited(rig.state) == frozenset()


def test_an_expired_gate_is_opened_anew_for_those_it_escalates_to_and_expires_once_more() -> None:
    rig = expiring(("erik",))
    first = rig.state.phases["plan-it"].gate
    assert rig.refused(rig.decide_command("approve"), "operator", ERIK).code == "not_an_approver"
    assert rig.accepted(expire(rig), "conductor", SYSTEM) == ["gate_expired", "gate_opened"]
    second = rig.state.open_gate
    assert second is not None
    assert second.id != first
    assert second.escalated
    assert rig.refused(rig.decide_command("approve"), "operator", DANA).code == "not_an_approver"
    assert rig.accepted(expire(rig), "conductor", SYSTEM) == ["gate_expired", "session_blocked"]
    rig.operate(cmd.RetryPhase())
    rig.done("plan-it")
    assert rig.decide("approve", DANA)[-1] == "phase_started"


def test_those_it_escalates_to_decide() -> None:
    rig = expiring(("erik",))
    rig.accepted(expire(rig), "conductor", SYSTEM)
    assert rig.decide("approve", ERIK)[-2:] == ["phase_completed", "phase_started"]


def test_a_held_gate_does_not_expire_and_a_released_one_does_at_once_when_its_time_is_over() -> None:
    rig = expiring()
    gate, before = rig.state.phases["plan-it"].gate, rig.state
    armed = alarms(before)["gate.plan-it"]
    rig.operate(cmd.HoldGate(gate=gate))
    assert timers(before, rig.state) == (Calm("gate.plan-it"),)
    assert rig.refused(expire(rig), "conductor", SYSTEM).code == "gate_held"
    before = rig.state
    rig.operate(cmd.UnholdGate(gate=gate))
    assert timers(before, rig.state) == (armed,)


# Signs of life


def breathing() -> Graph:
    rig = Graph(PipelineDefinition(name="idle", description="", phases=(
        phase("plan-it", Role.LEAD, idle_seconds=30.0, retry=RetryPolicy(jitter=0.5)),)))  # fmt: skip
    rig.start()
    return rig


def idle(rig: Graph, late: float = 0.0) -> cmd.ExpireIdle:
    now = rig.state.phases["plan-it"]
    return cmd.ExpireIdle(phase="plan-it", attempt=now.attempt, lease=now.lease, due=rig.now - timedelta(seconds=late))


def test_a_claim_and_each_sign_of_life_put_the_alarm_off_and_add_no_event() -> None:
    rig = breathing()
    claim = cmd.ClaimAttempt(phase="plan-it", attempt=1, holder="h")
    assert heard(rig.state, claim, rig.now) is None
    rig.took("plan-it")
    due = rig.now + timedelta(seconds=30)
    extend = cmd.ExtendAttempt(phase="plan-it", attempt=1, lease=rig.state.lease)
    expected = cmd.ExpireIdle(phase="plan-it", attempt=1, lease=rig.state.lease, due=due)
    assert heard(rig.state, extend, rig.now) == Alarm("idle.plan-it", due, expected)
    assert awaited(rig.state) == {"attempt.plan-it", "idle.plan-it"}
    version = rig.state.version
    assert rig.accepted(extend, "lead") == []
    assert rig.state.version == version
    assert rig.refused(extend.model_copy(update={"lease": 1}), "lead").code == "stale_lease"
    assert rig.refused(extend, "data").code == "wrong_agent"


def test_silence_ends_an_attempt_unless_nobody_was_there_to_hear() -> None:
    rig = breathing().took("plan-it")
    assert rig.accepted(idle(rig, late=31.0), "conductor", SYSTEM) == []
    assert rig.accepted(idle(rig, late=29.0), "conductor", SYSTEM) == ["attempt_failed", "retry_scheduled"]
    assert rig.state.reason == "plan-it attempt 1 gave no sign of life for 30 s"
    assert awaited(rig.state) == {"attempt.plan-it"}


def test_a_report_ends_the_watch() -> None:
    rig = breathing().took("plan-it")
    before = rig.state
    rig.reported("plan-it")
    assert set(timers(before, rig.state)) == {Calm("attempt.plan-it"), Calm("idle.plan-it")}


def test_jitter_is_the_same_for_the_same_attempt_and_another_for_another() -> None:
    pauses = []
    for _ in range(2):
        rig = breathing()
        at = rig.now
        rig.failed("plan-it", "transient")
        pauses.append((rig.state.phases["plan-it"].due or at) - at)
    assert pauses[0] == pauses[1]
    policy = RetryPolicy(base_seconds=8.0, jitter=0.5)
    assert [policy.delay(2, chance) for chance in (0.0, 0.5, 1.0)] == [8.0, 6.0, 4.0]
    assert RetryPolicy(base_seconds=8.0).delay(2, 1.0) == 8.0


# Quorums


def test_one_account_does_not_count_as_two_people() -> None:
    rig = Rig().to("build-it")
    rig.work()
    rig.decide("approve", person("dana", verified_as="os:shared"))
    refusal = rig.refused(rig.decide_command("approve"), "operator", person("erik", verified_as="os:shared"))
    assert refusal.reason == "os:shared has approved this gate already as dana; another person must"
    assert rig.decide("approve", ERIK)[1] == "gate_passed"


@pytest.mark.parametrize(("quorum", "said"), [(1, ""), (2, "only 1"), (3, "only 1")])
def test_a_quorum_nobody_can_reach_is_said_when_the_gate_opens(quorum: int, said: str) -> None:
    rig = Graph(PipelineDefinition(name="q", description="", phases=(
        phase("plan-it", Role.LEAD, gate=GateDefinition(human="always", quorum=quorum)),)))  # fmt: skip
    rig.policy = Policy(approvers=(Approver(name="dana"), Approver(name="alice"), Approver(name="x", paths=("pii/*",))))
    rig.start()
    rig.done("plan-it")
    gate = rig.state.open_gate
    assert gate is not None
    problem = gate_view(rig.state, gate)["problem"]
    assert problem.startswith(f"the gate needs {quorum} approvals and the policy names {said}") if said else not problem


@pytest.mark.parametrize(("path", "owns"), [("data/*", True), ("*.csv", True), ("pii/*", False)])
def test_an_owner_by_path_decides_what_lies_there(path: str, owns: bool) -> None:
    rig = Graph(DIAMOND)
    rig.policy = Policy(approvers=(Approver(name="dana", paths=(path,)),))
    rig.both()
    rig.done("left-it")
    outcome = rig.send(rig.decide_command("approve"), "operator", DANA)
    assert (outcome.refusal is None) == owns


def changing() -> Graph:
    """A patch that is built, then reviewed: who may decide depends on what the review found it to touch."""
    rig = Graph(PipelineDefinition(name="code", description="", phases=(
        phase("build-it", Role.DEVSECOPS, artifacts=("change.patch",), apply="change.patch", gate=ASK),
        phase("judge-it", Role.EVALUATION, artifacts=("review.json",), gate=ASK))))  # fmt: skip
    rig.policy = Policy(approvers=(
        Approver(name="dana", paths=("shop/*", "tests/*")), Approver(name="erik", paths=("docs/*",)),
        Approver(name="chief"),
    ))  # fmt: skip
    rig.start()
    return rig


def reviewed(rig: Graph, *paths: str) -> None:
    rig.took("judge-it")
    report = rig.result("judge-it")
    found = report.artifacts[0].model_copy(update={"paths": paths})
    rig.accepted(report.model_copy(update={"artifacts": (found,)}), "evaluation")
    rig.effects()


def may(rig: Graph, name: str) -> set[str]:
    gate = rig.state.gates[rig.state.phases[name].gate]
    return {text.partition(" ")[0] for text in gate_view(rig.state, gate)["may_decide"]}


@pytest.mark.parametrize(
    ("paths", "owners"),
    [
        (("shop/a.py", "tests/test_a.py"), {"dana", "chief"}),
        (("docs/index.md",), {"erik", "chief"}),
        (("shop/a.py", "docs/index.md"), {"chief"}),
        (("Makefile",), {"chief"}),
        ((), {"chief"}),
    ],
)
def test_owners_by_path_are_those_of_every_file_the_review_found_touched(
    paths: tuple[str, ...], owners: set[str]
) -> None:
    rig = changing()
    rig.done("build-it")
    assert may(rig, "build-it") == {"chief"}, "a patch is there, and nobody has said what it touches"
    rig.decide("approve", person("chief"), gate=rig.state.phases["build-it"].gate)
    reviewed(rig, *paths)
    gate = rig.state.gates[rig.state.phases["judge-it"].gate]
    assert gate.artifacts[0].paths == paths, "the gate is bound to them"
    assert gate_view(rig.state, gate)["touched"] == sorted(paths)
    assert may(rig, "judge-it") == owners
    for actor in (DANA, ERIK):
        if actor.name not in owners:
            refused = rig.refused(rig.decide_command("approve", gate=gate.id), "operator", actor)
            assert refused.code == "not_an_approver"
    chosen = next(actor for actor in (DANA, ERIK, person("chief")) if actor.name in owners)
    assert rig.decide("approve", chosen, gate=gate.id)[-1] == "session_completed"
    assert fold(initial(SESSION), rig.log) == rig.state
