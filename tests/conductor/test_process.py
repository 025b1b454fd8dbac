"""What follows by itself: retries, blocks, budgets, criteria, gates, alarms."""

from __future__ import annotations

from datetime import timedelta

import pytest

from conductor import fold as folding
from conductor.process import Alarm, Calm, follow, timers
from conductor.state import SessionState, Stage, Status
from schemas import commands as cmd
from schemas import session as ev
from schemas.pipeline import PipelineDefinition, RetryPolicy
from schemas.ticket import Budget
from schemas.values import Measurement, RiskLevel, Usage
from tests.conductor.rig import OLGA, PIPELINE, POLICY, SYSTEM, TICKET, Rig

RETRIED = ["attempt_failed", "retry_scheduled"]
BLOCKED = ["attempt_failed", "session_blocked"]


def again(rig: Rig) -> list[str]:
    """The pause is over."""
    return rig.accepted(cmd.StartRetry(phase=rig.state.phase, attempt=rig.state.attempt), "conductor", SYSTEM)


@pytest.mark.parametrize(("failure", "tries"), [
    ("transient", 3), ("agent", 2), ("limit", 1), ("policy", 1), ("input", 1)
])  # fmt: skip
def test_how_often_a_failure_is_tried_again(failure: str, tries: int) -> None:
    rig = Rig().start()
    for _ in range(tries - 1):
        assert rig.fail(failure) == RETRIED
        assert again(rig) == ["phase_started"]
    assert rig.fail(failure) == BLOCKED
    blocked = rig.log[-1].event
    assert isinstance(blocked, ev.SessionBlocked)
    assert (blocked.phase, blocked.failure.value) == ("plan-it", failure)
    assert blocked.reason == "plan-it: it broke" + (f" ({tries} attempts)" if tries > 1 else "")
    assert rig.state.status is Status.BLOCKED


@pytest.mark.parametrize(
    ("failures", "ends"),
    [
        (("transient", "agent"), BLOCKED),  # the second failure, and of an agent's kind
        (("agent", "transient"), RETRIED),
        (("agent", "transient", "transient"), BLOCKED),
        (("transient", "transient", "input"), BLOCKED),
    ],
)
def test_mixed_failures_count_together(failures: tuple[str, ...], ends: list[str]) -> None:
    rig = Rig().start()
    for failure in failures[:-1]:
        assert rig.fail(failure) == RETRIED
        again(rig)
    assert rig.fail(failures[-1]) == ends


@pytest.mark.parametrize("failure", ["transient", "agent"])
def test_one_attempt_means_one(failure: str) -> None:
    phase = PIPELINE.phases[0].model_copy(update={"retry": RetryPolicy(max_attempts=1), "acceptance": True})
    rig = Rig(pipeline=PipelineDefinition(name="one", description="", phases=(phase,))).start()
    assert rig.fail(failure) == BLOCKED


def test_pauses_grow_up_to_the_cap() -> None:
    rig = Rig().start()
    pauses = []
    for _ in range(2):
        rig.claim()
        at = rig.now
        rig.fail("transient")
        scheduled = rig.log[-1].event
        assert isinstance(scheduled, ev.RetryScheduled)
        pauses.append((scheduled.due - at).total_seconds())
        again(rig)
    assert pauses == [2.0, 3.0]


def test_attempts_and_failures_are_counted_apart() -> None:
    rig = Rig().start()
    rig.fail("transient")
    assert (rig.state.stage, rig.state.attempt) == (Stage.RETRYING, 2)
    assert rig.state.phases["plan-it"].attempt == 1
    again(rig)
    assert (rig.state.attempt, rig.state.phases["plan-it"].attempt) == (2, 2)
    rig.work()
    assert (rig.state.phases["plan-it"].failures, rig.state.phases["plan-it"].attempt) == (0, 2)


def test_a_person_s_retry_starts_the_count_again() -> None:
    rig = Rig().start()
    rig.fail("input")
    assert rig.accepted(cmd.RetryPhase(), "operator", OLGA) == ["session_resumed", "phase_started"]
    assert rig.state.attempt == 2
    assert rig.fail("transient") == RETRIED


def test_an_expired_attempt_is_a_transient_failure() -> None:
    rig = Rig().start().claim()
    late = rig.report_command()
    assert rig.accepted(cmd.ExpireAttempt(phase="plan-it", attempt=1), "conductor", SYSTEM) == RETRIED
    assert rig.state.reason == "plan-it attempt 1 gave no report within 60 s"
    assert rig.refused(late, "lead").code == "stale_attempt"


def test_an_alarm_for_another_attempt_is_refused() -> None:
    rig = Rig().start()
    rig.fail("transient")
    assert rig.refused(cmd.StartRetry(phase="plan-it", attempt=1), "conductor", SYSTEM).code == "stale_timer"
    assert rig.refused(cmd.StartRetry(phase="build-it", attempt=2), "conductor", SYSTEM).code == "stale_timer"
    assert rig.refused(cmd.ExpireAttempt(phase="plan-it", attempt=1), "conductor", SYSTEM).code == "stale_attempt"


# Budget


@pytest.mark.parametrize(
    ("usage", "shown"),
    [
        (Usage(wall_seconds=600.0), "10.0 of 10 min and $0.0000 of $5"),
        (Usage(usd=5.0), "0.0 of 10 min and $5.0000 of $5"),
        (Usage(wall_seconds=900.0, usd=7.5), "15.0 of 10 min and $7.5000 of $5"),
    ],
)
def test_a_used_up_budget_blocks_before_the_next_phase(usage: Usage, shown: str) -> None:
    rig = Rig().start()
    assert rig.work(usage=usage)[-2:] == ["phase_completed", "session_blocked"]
    blocked = rig.log[-1].event
    assert isinstance(blocked, ev.SessionBlocked)
    assert (blocked.phase, blocked.failure.value) == ("build-it", "limit")
    assert blocked.reason == f"the ticket's budget is used up before build-it: {shown}"
    assert rig.state.phases["plan-it"].completed
    assert rig.state.phase == "build-it"


def test_retrying_cannot_mend_a_used_up_budget_nor_repeat_what_is_done() -> None:
    rig = Rig().start()
    rig.work(usage=Usage(usd=9.0))
    assert rig.accepted(cmd.RetryPhase(), "operator", OLGA) == ["session_resumed", "session_blocked"]
    assert rig.state.phases["plan-it"].completed
    assert rig.state.phases["build-it"].attempt == 0
    assert rig.log[-1].event.phase == "build-it"  # type: ignore[attr-defined]


def test_a_pause_may_outlive_the_budget() -> None:
    rig = Rig().start()
    rig.fail("transient", usage=Usage(usd=9.0))
    assert again(rig) == ["session_blocked"]
    assert (rig.state.status, rig.state.attempt) == (Status.BLOCKED, 1)


def test_what_is_left_of_the_budget_is_told_to_the_agent() -> None:
    rig = Rig(ticket=TICKET.model_copy(update={"budget": Budget(usd=5.0, minutes=1.0)})).start()
    rig.work(usage=Usage(wall_seconds=59.5))
    started = rig.log[-1].event
    assert isinstance(started, ev.PhaseStarted)
    assert started.remaining_seconds == 0.5
    assert started.spent.wall_seconds == 59.5


def test_an_attempt_is_told_which_hosts_the_policy_lists() -> None:
    listed = Rig(policy=POLICY.model_copy(update={"sandbox_hosts": ("pypi.example:443",)})).start()
    (started,) = [each.event for each in listed.log if isinstance(each.event, ev.PhaseStarted)]
    assert started.sandbox_hosts == ("pypi.example:443",)
    (plain,) = [each.event for each in Rig().start().log if isinstance(each.event, ev.PhaseStarted)]
    assert "sandbox_hosts" not in plain.model_dump(), "an empty list leaves what was recorded before as it was"


def test_no_report_can_make_a_sum_infinite() -> None:
    most = 10**15
    huge = Usage(wall_seconds=most, cpu_seconds=most, peak_rss_bytes=most, tokens=most, usd=most)
    rig = Rig().start()
    rig.fail("transient", usage=huge)
    assert rig.state.usage == huge == huge.plus(huge)
    assert again(rig) == ["session_blocked"]


# Criteria and gates


def test_unmet_criteria_block_and_name_figure_and_value() -> None:
    rig = Rig().to("build-it")
    names = rig.work(measurements=(Measurement(scope="metrics", name="rows", value=3.0),))
    assert names[-2:] == ["criteria_evaluated", "session_blocked"]
    evaluated = rig.log[-2].event
    assert isinstance(evaluated, ev.CriteriaEvaluated)
    assert not evaluated.passed
    assert rig.state.reason == "build-it: not met: metrics.rows >= 10.0 (measured metrics.rows = 3)"
    assert rig.state.phases["build-it"].criteria == evaluated.results


def test_a_figure_nobody_measured_blocks() -> None:
    pipeline = PipelineDefinition(name="last", description="", phases=(PIPELINE.phases[2],))
    rig = Rig(pipeline=pipeline).start()
    rig.work(measurements=())
    assert rig.state.reason == "judge-it: not met: metrics.recall >= 0.9 (metrics.recall was not measured)"


@pytest.mark.parametrize(("risk", "tier", "asked"), [
    ("low", 0.0, False), ("low", 1.0, True), ("medium", 0.0, True), ("high", 3.0, True)
])  # fmt: skip
def test_a_conditional_gate_asks_when_its_condition_holds(risk: str, tier: float, asked: bool) -> None:
    rig = Rig(ticket=TICKET.model_copy(update={"risk": RiskLevel(risk)})).to("judge-it")
    rig.work(measurements=(Measurement(scope="risk", name="tier", value=tier),))
    gate = rig.state.gates["s12-abcde.judge-it.1"]
    assert (gate.kind, gate.quorum) == (("human", 1) if asked else ("automatic", 0))
    assert (rig.state.status is Status.WAITING) == asked
    assert gate.commit == rig.state.commit
    assert [a.name for a in gate.artifacts] == ["report.md"]


def test_an_automatic_gate_is_decided_by_criteria() -> None:
    rig = Rig().to("build-it")
    gate = rig.state.gates["s12-abcde.plan-it.1"]
    assert (gate.status, gate.decided_by, gate.approvals) == ("passed", "criteria", ())


def test_later_phases_are_told_which_gates_passed_and_who_approved() -> None:
    started = Rig().to("judge-it").log[-1].event
    assert isinstance(started, ev.PhaseStarted)
    assert started.approvals == (
        "s12-abcde.plan-it.1: automatic, criteria hold",
        "s12-abcde.build-it.1: human, approved by dana (os:dana), erik (os:erik)",
    )
    assert [a.name for a in started.artifacts] == ["plan.json", "model.bin", "proof.json", "proof.json.dsse.json"]


def test_the_last_phase_completes_the_session() -> None:
    rig = Rig().complete()
    completed = rig.log[-1].event
    assert completed == ev.SessionCompleted(branch="phase/12", commit=rig.state.commit)
    assert follow(rig.state, rig.now) == ()


def test_rules_that_run_in_a_circle_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    again_and_again = ev.PhaseCompleted(phase="plan-it", attempt=1)
    monkeypatch.setattr(folding, "follow", lambda state, at: (again_and_again,))
    with pytest.raises(RuntimeError, match=r"session s12-abcde: the rules run in a circle after phase_completed"):
        Rig().start()


def test_nothing_follows_where_something_is_waited_for() -> None:
    for rig in (Rig(), Rig().start(), Rig().to("build-it")):
        assert follow(rig.state, rig.now) == ()


def test_folding_changes_nothing_for_events_of_other_kinds() -> None:
    state: SessionState = Rig().start().state
    refused = ev.CommandRefused(command="x", code="y", reason="z", by=OLGA)
    assert folding.evolve(state, refused, state.version) == state


# Alarms


def test_an_attempt_is_timed_from_its_start() -> None:
    rig = Rig()
    before = rig.state
    rig.start()
    expire = cmd.ExpireAttempt(phase="plan-it", attempt=1)
    due = rig.commands[0].time + timedelta(seconds=60.0)
    assert timers(before, rig.state) == (Alarm("attempt.plan-it", due, expire),)


def test_a_claim_does_not_wind_the_clock_again() -> None:
    rig = Rig().start()
    before = rig.state
    rig.claim()
    assert timers(before, rig.state) == ()


def test_a_retry_replaces_the_alarm() -> None:
    rig = Rig().start().claim()
    before, at = rig.state, rig.now
    rig.fail("transient")
    retry = cmd.StartRetry(phase="plan-it", attempt=2)
    assert timers(before, rig.state) == (Alarm("attempt.plan-it", at + timedelta(seconds=2.0), retry),)


@pytest.mark.parametrize("end", ["report", "block", "abort", "rollback"])
def test_whatever_ends_the_work_ends_the_alarm(end: str) -> None:
    rig = Rig().start().claim()
    before = rig.state
    if end == "report":
        rig.report()
    elif end == "block":
        rig.fail("input")
    elif end == "abort":
        rig.accepted(cmd.AbortSession(reason="x"), "operator", OLGA)
    else:
        rig.accepted(cmd.RollbackSession(phase="plan-it"), "operator", OLGA)
    assert timers(before, rig.state) == (Calm("attempt.plan-it"),)


def test_the_next_phase_has_an_alarm_of_its_own() -> None:
    rig = Rig().start()
    before = rig.state
    rig.work()
    forgotten, alarm = timers(before, rig.state)
    assert forgotten == Calm("attempt.plan-it")
    assert isinstance(alarm, Alarm)
    assert alarm.command == cmd.ExpireAttempt(phase="build-it", attempt=1)


def test_nothing_changed_no_alarms() -> None:
    state = Rig().start().state
    assert timers(state, state) == ()
