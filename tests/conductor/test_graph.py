"""Pipelines whose phases run in parallel: fan-out, join, and what one phase's trouble means for the others."""

from __future__ import annotations

from typing import Any

import pytest

from autopilot.board import Board
from conductor.fold import fold
from conductor.process import Alarm, Calm, timers
from conductor.state import Stage, Status, initial
from schemas import commands as cmd
from schemas import session as ev
from schemas.messages import Command
from schemas.pipeline import ChecklistItem, GateDefinition, PhaseDefinition, PipelineDefinition, RetryPolicy
from schemas.values import Measurement, Mode, Role, TickedItem, Usage
from tests.conductor.rig import DANA, ERIK, OLGA, SESSION, SYSTEM, TICKET, Rig, artifact


def phase(name: str, agent: Role, after: tuple[str, ...] | None = None, **fields: Any) -> PhaseDefinition:
    given: dict[str, Any] = {
        "name": name,
        "agent": agent,
        "mode": Mode.BUILD,
        "purpose": "",
        "skills": ("x.y",),
        "after": after,
        "artifacts": (f"{name}.json",),
        "checklist": (ChecklistItem(id=f"{name}-done", text=""),),
        "retry": RetryPolicy(max_attempts=2, base_seconds=5.0),
    }
    return PhaseDefinition(**(given | fields))


ASK = GateDefinition(human="always")
DIAMOND = PipelineDefinition(
    name="diamond",
    description="One phase, two at the same time, and one that needs both.",
    phases=(
        phase("plan-it", Role.LEAD),
        phase("left-it", Role.DATA, ("plan-it",), gate=ASK),
        phase("right-it", Role.FEATURE, ("plan-it",), gate=ASK),
        phase("join-it", Role.TRAINING, ("left-it", "right-it")),
    ),
)


class Graph(Rig):
    """A rig whose phases are named: several are at work."""

    def __init__(self, pipeline: PipelineDefinition = DIAMOND) -> None:
        super().__init__(ticket=TICKET.model_copy(update={"acceptance": ()}), pipeline=pipeline)

    def agent(self, name: str) -> str:
        return self.pipeline.phase(name).agent.value

    def took(self, name: str) -> Graph:
        claim = cmd.ClaimAttempt(phase=name, attempt=self.state.phases[name].attempt, holder=f"{name}-1")
        self.accepted(claim, self.agent(name))
        return self

    def result(self, name: str, **figures: float) -> cmd.ReportWork:
        definition, now = self.pipeline.phase(name), self.state.phases[name]
        return cmd.ReportWork(
            phase=name,
            attempt=now.attempt,
            lease=now.lease,
            summary=f"{name} done",
            artifacts=tuple(artifact(n) for n in definition.artifacts),
            ticked=tuple(TickedItem(item=i.id, evidence="seen") for i in definition.checklist),
            measurements=tuple(Measurement(scope="metrics", name=n, value=v) for n, v in figures.items()),
            usage=Usage(wall_seconds=1.0),
        )

    def reported(self, name: str, **figures: float) -> list[str]:
        if not self.state.phases[name].lease:
            self.took(name)
        return self.accepted(self.result(name, **figures), self.agent(name))

    def done(self, name: str, **figures: float) -> list[str]:
        """From claim to what follows the phase's commit."""
        return [*self.reported(name, **figures), *self.effects()]

    def failed(self, name: str, failure: str = "input") -> list[str]:
        if not self.state.phases[name].lease:
            self.took(name)
        now = self.state.phases[name]
        command = cmd.ReportFailure(
            phase=name, attempt=now.attempt, lease=now.lease, failure=failure, reason=f"{name} broke"  # type: ignore[arg-type]
        )  # fmt: skip
        return self.accepted(command, self.agent(name))

    def approved(self, name: str) -> list[str]:
        return self.decide("approve", DANA, gate=self.state.phases[name].gate)

    def operate(self, command: Command) -> list[str]:
        return self.accepted(command, "operator", OLGA)

    def both(self) -> Graph:
        """Both middle phases have been handed to their agents."""
        self.start()
        self.done("plan-it")
        return self

    def stages(self) -> dict[str, str]:
        return {p.name: p.stage.value for p in self.state.active}

    def board(self) -> Board:
        board = Board()
        for envelope in self.log:
            board.apply(envelope)
        return board


def test_a_fan_out_starts_all_and_a_join_waits_for_all() -> None:
    rig = Graph().both()
    assert rig.stages() == {"left-it": "working", "right-it": "working"}
    assert rig.done("left-it")[-1] == "gate_opened"
    assert rig.approved("left-it")[-1] == "phase_completed"
    assert rig.stages() == {"right-it": "working"}
    rig.done("right-it")
    assert rig.approved("right-it")[-2:] == ["phase_completed", "phase_started"]
    assert rig.stages() == {"join-it": "working"}
    assert rig.done("join-it")[-1] == "session_completed"
    assert fold(initial(SESSION), rig.log) == rig.state


def test_phases_without_a_predecessor_start_with_the_session() -> None:
    rig = Graph(PipelineDefinition(name="two", description="", phases=(
        phase("one-it", Role.LEAD), phase("two-it", Role.DATA, ())))).start()  # fmt: skip
    assert rig.stages() == {"one-it": "working", "two-it": "working"}


def test_a_report_counts_for_its_own_phase_only() -> None:
    rig = Graph().both().took("left-it").took("right-it")
    right = rig.result("right-it")
    assert rig.refused(right.model_copy(update={"phase": "left-it"}), "data").code == "stale_lease"
    assert rig.refused(right, "data").code == "wrong_agent"
    refusal = rig.refused(right.model_copy(update={"attempt": 7}), "feature")
    assert refusal.reason.endswith("the session is at left-it attempt 1 (working), right-it attempt 1 (working)")


def test_commits_go_onto_the_branch_one_after_the_other() -> None:
    rig = Graph().both()
    assert rig.reported("left-it") == ["work_reported", "effect_requested"]
    assert rig.reported("right-it") == ["work_reported"]
    assert [e.phase for e in rig.state.effects] == ["left-it"]
    names = rig.accepted(rig.receipt_command(), "autopilot")
    assert names == ["effect_recorded", "criteria_evaluated", "gate_opened", "effect_requested"]
    assert [e.phase for e in rig.state.effects] == ["right-it"]


def test_a_later_commit_of_another_phase_does_not_outdate_a_gate() -> None:
    rig = Graph().both()
    rig.done("left-it")
    gate = rig.state.open_gate
    assert gate is not None
    rig.done("right-it")
    assert rig.state.commit != gate.commit == rig.state.phases["left-it"].commit
    assert [g.commit for g in rig.state.open_gates] == ["commit-2", "commit-3"]
    assert rig.approved("left-it")[-1] == "phase_completed"


def test_a_session_waits_only_when_nothing_else_goes_on() -> None:
    rig = Graph().both()
    rig.done("left-it")
    assert rig.state.status is Status.ACTIVE
    assert rig.board().sessions[SESSION].status == "active"
    rig.done("right-it")
    assert rig.state.status is Status.WAITING
    row = rig.board().sessions[SESSION]
    assert (row.status, row.in_work, len(row.open_gates)) == ("waiting", False, 2)
    rig.approved("right-it")
    assert rig.state.status is Status.WAITING


def test_one_blocked_phase_lets_the_others_finish_and_then_blocks_the_session() -> None:
    rig = Graph().both()
    assert rig.failed("left-it") == ["attempt_failed", "phase_blocked"]
    assert rig.state.status is Status.ACTIVE
    assert rig.done("right-it")[-2:] == ["gate_opened", "session_blocked"]
    assert (rig.state.status, rig.state.phase) == (Status.BLOCKED, "left-it")
    assert rig.state.reason == "left-it: left-it broke"
    assert rig.approved("right-it") == ["approval_given", "gate_passed", "phase_completed"]
    assert rig.state.status is Status.BLOCKED
    assert rig.operate(cmd.RetryPhase()) == ["session_resumed", "phase_started"]
    assert rig.state.phases["left-it"].attempt == 2
    assert rig.board().sessions[SESSION].status == "active"


def test_a_retry_starts_every_blocked_phase() -> None:
    rig = Graph().both()
    rig.failed("left-it")
    assert rig.failed("right-it") == ["attempt_failed", "session_blocked"]
    assert rig.operate(cmd.RetryPhase()) == ["session_resumed", "phase_started", "phase_started"]
    assert rig.stages() == {"left-it": "working", "right-it": "working"}


def test_a_blocked_phase_may_be_retried_while_the_others_go_on() -> None:
    rig = Graph().both()
    rig.failed("left-it")
    assert rig.operate(cmd.RetryPhase()) == ["session_resumed", "phase_started"]
    assert rig.stages() == {"left-it": "working", "right-it": "working"}


def test_a_failed_commit_lets_the_next_one_go() -> None:
    rig = Graph().both()
    rig.reported("left-it")
    rig.reported("right-it")
    broken = cmd.RecordEffectFailure(effect=rig.state.effects[0].id, kind="commit", reason="disk full")
    assert rig.accepted(broken, "autopilot") == ["effect_failed", "phase_blocked", "effect_requested"]
    assert [e.phase for e in rig.state.effects] == ["right-it"]


def test_every_phase_has_its_own_alarm_and_pause() -> None:
    rig = Graph().both()
    before = rig.state
    assert rig.failed("left-it", "transient") == ["attempt_failed", "retry_scheduled"]
    (alarm,) = timers(before, rig.state)
    assert isinstance(alarm, Alarm)
    assert (alarm.key, alarm.command) == ("attempt.left-it", cmd.StartRetry(phase="left-it", attempt=2))
    expire = cmd.ExpireAttempt(phase="right-it", attempt=1)
    assert rig.accepted(expire, "conductor", SYSTEM) == ["attempt_failed", "retry_scheduled"]
    rig.accepted(cmd.StartRetry(phase="left-it", attempt=2), "conductor", SYSTEM)
    assert rig.stages() == {"left-it": "working", "right-it": "retrying"}
    before = rig.state
    rig.operate(cmd.AbortSession(reason="x"))
    assert timers(before, rig.state) == (Calm("attempt.left-it"), Calm("attempt.right-it"))


def test_an_abort_ends_everything_at_once() -> None:
    rig = Graph().both()
    rig.done("left-it")
    late = rig.took("right-it").result("right-it")
    assert rig.operate(cmd.AbortSession(reason="x")) == ["gate_superseded", "session_aborted"]
    assert rig.refused(late, "feature").code == "session_over"
    assert rig.stages() == {}


@pytest.mark.parametrize("to", ["left-it", "right-it", "plan-it"])
def test_a_rollback_takes_back_what_ran_in_parallel_too(to: str) -> None:
    """State and branch go back to one moment; what was at work then starts anew, in an attempt of its own."""
    rig = Graph().both()
    for name in ("left-it", "right-it"):
        rig.done(name)
        rig.approved(name)
    rig.operate(cmd.RollbackSession(phase=to))
    row = rig.board().sessions[SESSION]
    over = {n for n, p in rig.state.phases.items() if p.over}
    assert over == {n for n, p in row.phases.items() if p.status == "completed"} == ({"plan-it"} - {to})
    assert rig.stages() == {}
    rig.effects()
    names = rig.operate(cmd.RetryPhase())
    assert names == ["session_resumed", "phase_started"] + (["phase_started"] if to != "plan-it" else [])
    if to == "plan-it":
        rig.done("plan-it")
    for name in ("left-it", "right-it"):
        assert rig.state.phases[name].attempt == 2
        rig.done(name)
        rig.approved(name)
    assert rig.done("join-it")[-1] == "session_completed"


def test_a_session_that_waited_at_two_gates_waits_at_two_again_when_it_is_brought_back() -> None:
    rig = Graph().both()
    rig.done("left-it")
    rig.done("right-it")
    waited = rig.state.version
    rig.approved("left-it")
    rig.approved("right-it")
    rig.done("join-it")
    rig.operate(cmd.RestoreSession(sequence=waited))
    names = rig.effects()
    assert names.count("gate_opened") == 2
    assert rig.state.status is Status.WAITING
    assert {g.commit for g in rig.state.open_gates} == {rig.state.commit}
    assert rig.board().sessions[SESSION].status == "waiting"
    assert rig.decide("approve", ERIK, gate=rig.state.phases["right-it"].gate)[-1] == "phase_completed"


def test_a_blocked_session_that_is_brought_back_has_its_gates_and_its_block_again() -> None:
    rig = Graph().both()
    rig.failed("left-it")
    rig.done("right-it")
    blocked = rig.state.version
    rig.operate(cmd.RetryPhase())
    rig.operate(cmd.RestoreSession(sequence=blocked))
    assert rig.effects()[-1] == "gate_opened"
    assert (rig.state.status, rig.state.phases["right-it"].stage) == (Status.BLOCKED, Stage.GATE)
    assert rig.operate(cmd.RetryPhase()) == ["session_resumed", "phase_started"]
    assert rig.state.phases["left-it"].attempt == 3


def test_the_record_of_a_graph_is_decided_again_alike() -> None:
    from conductor.fold import handle
    from schemas.envelope import decode_command, encode_command

    rig = Graph().both()
    rig.failed("left-it")
    rig.done("right-it")
    state, events = initial(SESSION), []
    for command in rig.commands:
        outcome = handle(state, decode_command(encode_command(command)))
        state = outcome.state
        events += outcome.events
    assert [e.event for e in rig.log] == events
    assert state == rig.state
    assert isinstance(rig.log[-1].event, ev.SessionBlocked)
