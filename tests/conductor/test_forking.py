"""A fork begins as another session was, keeps nothing that is not bound to exactly that, and never touches it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.board import Board
from conductor import rests
from conductor.fold import fold, handle
from conductor.forking import Past
from conductor.model_calls import granted
from conductor.replay import verify_decisions
from conductor.snapshots import decode, encode
from conductor.state import Stage, Status, initial
from conductor.views import session_view
from schemas import commands as cmd
from schemas import session as ev
from schemas.envelope import StreamId
from schemas.forking import ForkSession, Guidance, SessionForked
from schemas.model_messages import ModelCallRequested, RequestModelCall
from schemas.policy import Policy
from schemas.values import FailureClass, Role
from store.sqlite import SqliteStore
from tests.conductor.forked import FORK, HASH, PLANNED, PRICED, Fork, at, before
from tests.conductor.rig import (
    DANA,
    ERIK,
    MACHINE,
    OLGA,
    ORIGIN,
    SESSION,
    TENANT,
    TICKET,
    Rig,
    person,
)
from tests.conductor.shell import Shell


def test_a_fork_has_the_work_of_before_and_goes_on_in_an_attempt_of_its_own() -> None:
    source = Rig().complete()
    fork = Fork(source, before(source, "judge-it"))
    assert fork.names == ["session_started", "session_forked", "effect_requested"]
    then = at(source, fork.sequence)
    point = fork.event.point
    assert (point.session, point.sequence, point.hash, point.commit) == (SESSION, fork.sequence, HASH, then.commit)
    assert fork.state.status is Status.ACTIVE
    assert not fork.state.phases["judge-it"].attempt, "nothing starts before the branch is there"
    assert fork.effects() == ["effect_recorded", "phase_started"]
    now = fork.state
    assert (now.artifacts, now.measured, now.acceptance) == (then.artifacts, then.measured, then.acceptance)
    assert [p.name for p in now.phases.values() if p.completed] == ["plan-it", "build-it"]
    assert (now.phase, now.attempt, now.commit) == ("judge-it", 1, "fork-commit")
    assert (now.branch, now.base_commit) == ("phase/12-fghij", then.base_commit)
    assert now.usage.usd == now.models.usd == now.usage.wall_seconds == 0.0, "budgets are the fork's own"
    assert now.interventions == 1
    fork.through()
    assert fork.state.status.value == "completed"


def test_gates_passed_before_count_for_the_same_commit_artifacts_and_policy() -> None:
    source = Rig().complete()
    fork = Fork(source, before(source, "judge-it"))
    fork.effects()
    (human,) = [gate for gate in fork.state.gates.values() if gate.kind == "human"]
    assert (human.id, human.status) == (f"{SESSION}.build-it.1", "passed")
    assert human == replace(source.state.gates[human.id], held=False)
    started = fork.log[-1].event
    assert isinstance(started, ev.PhaseStarted)
    assert any(line.startswith(f"{human.id}: human") and "dana" in line for line in started.approvals)


@pytest.mark.parametrize("bound", ["commit", "artifacts", "policy_version"])
def test_a_gate_bound_to_anything_else_is_opened_anew(bound: str) -> None:
    source = Rig().complete()
    then = at(source, before(source, "judge-it"))
    (gate,) = [gate for gate in then.gates.values() if gate.kind == "human"]
    other = {"commit": "another", "artifacts": (), "policy_version": "f" * 64}[bound]
    gates = {**then.gates, gate.id: replace(gate, **{bound: other})}
    fork = Fork(source, then.version, then=replace(then, gates=gates))
    assert [p.phase for p in fork.event.phases if p.stands == "gate"] == ["build-it"]
    assert fork.effects() == ["effect_recorded", "criteria_evaluated", "gate_opened"]
    assert [g.id for g in fork.state.open_gates] == [f"{FORK}.build-it.1"]
    assert fork.state.open_gates[0].approvals == ()


def test_a_gate_that_waited_is_asked_again_for_the_forks_own_commit() -> None:
    source = Rig().to("build-it")
    source.work()
    source.decide("approve", DANA)
    fork = Fork(source, source.state.version)
    assert [p.phase for p in fork.event.phases if p.stands == "gate"] == ["build-it"]
    assert fork.effects() == ["effect_recorded", "criteria_evaluated", "gate_opened"]
    (gate,) = fork.state.open_gates
    assert (gate.commit, gate.approvals, gate.attempt) == ("fork-commit", (), 1)
    assert fork.state.status is Status.WAITING
    for approver in (DANA, ERIK):
        fork.decide("approve", approver)
    assert fork.state.phase == "judge-it"
    assert source.state.open_gate is not None, "the other one waits as before"


def test_what_was_blocked_is_tried_again_with_nothing_but_its_ticks() -> None:
    source = Rig().to("build-it")
    source.work()
    source.decide("reject", DANA, "not like this")
    assert source.state.status is Status.BLOCKED
    fork = Fork(source, source.state.version)
    fork.effects()
    assert (fork.state.phase, fork.state.attempt, fork.state.reason) == ("build-it", 1, "")
    phase = fork.state.phases["build-it"]
    assert dict(phase.ticked) == dict(source.state.phases["build-it"].ticked)
    assert phase.artifacts == ()
    assert set(fork.state.artifacts) == {"plan.json"}
    assert all(gate.phase == "plan-it" for gate in fork.state.gates.values())


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"actor": person("mallory")}, "not_an_operator", "mallory"),
        ({"actor": MACHINE}, "not_an_operator", "program"),
        ({"sequence": 0}, "unknown_event", "events 1 to"),
        ({"sequence": 10_000}, "unknown_event", "and no 10000"),
        ({"name": "s13-fghij"}, "bad_name", "s12-"),
        ({"name": "main"}, "bad_name", "s12-"),
        ({"guidance": Guidance(planner="playbook", model="small")}, "bad_guidance", "playbook"),
        ({"guidance": Guidance(planner="llm")}, "model_not_allowed", "no price"),
    ],
)
def test_what_is_refused(change: dict[str, Any], code: str, words: str) -> None:
    source = Rig().complete()
    fields = {"sequence": before(source, "judge-it"), **change}
    then = at(source, min(max(fields["sequence"], 1), source.state.version))
    refusal = Fork(source, then=then, **fields).refusal
    assert refusal.code == code
    assert words in refusal.reason


def test_nothing_begins_in_the_middle_of_a_phase() -> None:
    source = Rig().to("build-it")
    source.claim()
    refusal = Fork(source, source.state.version).refusal
    assert refusal.code == "not_at_rest"
    assert "being worked on" in refusal.reason
    assert f"the nearest event before: {before(source, 'build-it')}" in refusal.reason


def test_nothing_is_left_after_the_end() -> None:
    source = Rig().complete()
    refusal = Fork(source, source.state.version).refusal
    assert refusal.code == "nothing_left"


def test_only_a_new_session_can_be_a_fork_and_only_of_a_known_one() -> None:
    source = Rig().complete()
    command = ForkSession(source=SESSION, sequence=1)
    for past in (None, Past(initial("s12-other"), "")):
        envelope = source.envelope(command, "operator", OLGA)
        outcome = handle(initial(FORK), envelope, past)
        assert outcome.refusal is not None
        assert outcome.refusal.code == "unknown_session"
    outcome = handle(source.state, source.envelope(command, "operator", OLGA), Past(at(source, 1), HASH))
    assert outcome.refusal is not None
    assert outcome.refusal.code == "session_exists"
    outcome = handle(initial(FORK), source.envelope(command, "chatops", OLGA), Past(at(source, 1), HASH))
    assert outcome.refusal is not None
    assert outcome.refusal.code == "not_allowed"


def test_a_fork_of_an_issues_session_leaves_the_issue_alone() -> None:
    source = Rig(TICKET.model_copy(update={"origin": ORIGIN})).to("judge-it")
    fork = Fork(source, before(source, "judge-it"))
    while fork.state.status is not Status.COMPLETED:
        fork.effects()
        fork.through()
    kinds = {e.event.kind for e in fork.log if isinstance(e.event, ev.EffectRequested)}
    assert kinds == {"branch", "commit"}
    assert fork.state.ticket is not None
    assert fork.state.ticket.origin is None
    assert session_view(fork.state, fork.now)["forked_from"]["session"] == SESSION


def test_a_branch_that_cannot_be_made_ends_the_fork() -> None:
    source = Rig().complete()
    fork = Fork(source, before(source, "judge-it"))
    (effect,) = fork.state.effects
    failed = cmd.RecordEffectFailure(effect=effect.id, kind="branch", reason="the commit is gone")
    assert fork.accepted(failed, "autopilot") == ["effect_failed", "session_aborted"]
    assert fork.state.status is Status.ABORTED
    assert "the commit is gone" in fork.state.reason
    assert fork.state.effects == ()


def planned(policy: Policy = PRICED, **ticket: Any) -> Rig:
    return Rig(TICKET.model_copy(update=ticket), policy, PLANNED).complete()


def test_the_model_and_the_instructions_go_with_every_phase() -> None:
    source = planned()
    guidance = Guidance(model="large", instructions="use splitlines")
    fork = Fork(source, before(source, "build-it"), guidance=guidance)
    fork.effects()
    started = fork.log[-1].event
    assert isinstance(started, ev.PhaseStarted)
    assert started.guidance == guidance.model_copy(update={"planner": "llm"})
    assert all(e.event.guidance is None for e in source.log if isinstance(e.event, ev.PhaseStarted))
    plain = Fork(source, before(source, "build-it"))
    plain.effects()
    assert isinstance(plain.log[-1].event, ev.PhaseStarted)
    assert plain.log[-1].event.guidance is None


def test_the_forks_model_is_asked_and_priced_whatever_the_gateway_is_set_to() -> None:
    source = planned()
    fork = Fork(source, before(source, "build-it"), guidance=Guidance(model="large"))
    fork.effects()
    fork.claim()
    command = RequestModelCall(
        phase="build-it", attempt=1, lease=fork.state.lease, agent=Role.TRAINING, number=1, prompt="1" * 64,
        model="small", input_tokens=100_000, gateway="g-one",
    )  # fmt: skip
    outcome = fork.send(command, "gateway", MACHINE)
    (asked,) = outcome.events
    assert isinstance(asked, ModelCallRequested), outcome.refusal
    assert (asked.model, asked.usd) == ("large", pytest.approx(9 * (100_000 + 4096) / 1e6))
    assert granted(command, outcome.events, outcome.state)["model"] == "large"


@pytest.mark.parametrize(
    ("phase", "guidance", "ticket", "code"),
    [
        ("build-it", Guidance(model="free"), {}, "model_not_allowed"),
        ("judge-it", Guidance(instructions="do it well"), {}, "nothing_planned"),
        ("build-it", Guidance(instructions="do it well"), {"change": "fix.patch"}, "nothing_planned"),
        ("judge-it", Guidance(model="small"), {}, None),  # it reviews
        ("build-it", Guidance(planner="playbook"), {}, None),
    ],
)
def test_a_choice_nobody_would_follow_is_refused(
    phase: str, guidance: Guidance, ticket: dict[str, Any], code: str | None
) -> None:
    source = planned(**ticket)
    fork = Fork(source, before(source, phase), guidance=guidance)
    assert (fork.outcome.refusal.code if fork.outcome.refusal else None) == code


def test_a_fork_can_be_rolled_back_and_forked_but_not_before_it_began() -> None:
    source = Rig().complete()
    fork = Fork(source, before(source, "build-it"))
    branched = fork.state.version + 1
    fork.effects()
    fork.through()
    assert fork.refused(cmd.RestoreSession(sequence=2), "operator", OLGA).code == "not_at_rest"
    assert fork.refused(cmd.RollbackSession(phase="plan-it"), "operator", OLGA).code == "unknown_phase"
    assert fork.accepted(cmd.RestoreSession(sequence=branched), "operator", OLGA)[-1] == "effect_requested"
    fork.effects()
    fork.accepted(cmd.RetryPhase(), "operator", OLGA)
    assert (fork.state.phase, fork.state.attempt) == ("build-it", 2)
    fork.through()
    fork.through()
    assert fork.state.status is Status.COMPLETED


def test_a_snapshot_holds_a_fork_and_the_board_shows_it() -> None:
    source = planned()
    fork = Fork(source, before(source, "judge-it"), guidance=Guidance(model="small"))
    fork.effects()
    assert decode(encode(fork.state)) == fork.state
    board = Board()
    for envelope in fork.log:
        board.apply(envelope)
    row = board.sessions[FORK]
    assert row.forked == fork.event.point
    assert (row.commit, row.branch, row.status, row.phase) == ("fork-commit", fork.state.branch, "active", "judge-it")
    assert {n: p.status for n, p in row.phases.items()} == {
        "plan-it": "completed", "build-it": "completed", "judge-it": "working",
    }  # fmt: skip
    kept = {p.name: tuple(p.artifacts.values()) for p in row.phases.values()}
    assert kept == {p.name: p.artifacts for p in fork.state.phases.values()}
    assert row.interventions == 1


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.untraced
def test_from_any_point_it_begins_as_it_was_or_says_why_not(data: st.DataObject) -> None:
    """Whatever happened before: a rejection, failures, rollbacks. What is over has a gate that was passed for it."""
    source = Rig().to("build-it")
    for step in data.draw(
        st.lists(st.sampled_from(["work", "fail", "reject", "retry", "back", "restore"]), max_size=8)
    ):
        state = source.state
        if state.ended:
            break
        working = state.stage is Stage.WORKING
        if step == "work" and working:
            source.through()
        elif step == "fail" and working:
            source.fail(FailureClass.INPUT.value)
        elif step == "reject" and working:
            source.work()
            if source.state.open_gate:
                source.decide("reject", DANA)
        elif step == "retry" and state.status in (Status.BLOCKED, Status.ROLLED_BACK):
            source.accepted(cmd.RetryPhase(), "operator", OLGA)
        elif step == "back":
            source.send(cmd.RollbackSession(phase="build-it"), "operator", OLGA)
            source.effects()
        elif step == "restore":
            sequence = data.draw(st.sampled_from(sorted(state.rests)))
            source.send(cmd.RestoreSession(sequence=sequence), "operator", OLGA)
            source.effects()
    sequence = data.draw(st.integers(1, source.state.version))
    then = at(source, sequence)
    fork = Fork(source, sequence)
    if fork.outcome.refusal is not None:
        over = all(phase.over for phase in then.phases.values())
        assert fork.refusal.code == ("nothing_left" if rests.find(then, sequence) else "not_at_rest")
        assert rests.find(then, sequence) is None or over
        return
    assert {n: p.completed for n, p in fork.state.phases.items()} == {n: p.completed for n, p in then.phases.items()}
    for phase in [p for p in fork.state.phases.values() if p.completed]:
        (gate,) = [g for g in fork.state.gates.values() if g.phase == phase.name]
        assert (gate.status, gate.commit, gate.artifacts) == ("passed", phase.commit, phase.artifacts)
    assert fold(initial(FORK), fork.log) == fork.state
    for _ in range(4):
        fork.effects()
        if fork.state.status is Status.WAITING:
            for approver in (DANA, ERIK):
                if fork.state.open_gate:
                    fork.decide("approve", approver)
        elif not fork.state.ended:
            fork.through()
    assert fork.state.status is Status.COMPLETED
    assert fold(initial(FORK), fork.log) == fork.state


async def test_the_shell_reads_the_other_session_and_decides_the_same_again(store: SqliteStore) -> None:
    rig = Rig().to("judge-it")
    shell = Shell(store)
    source = StreamId(TENANT, "session", SESSION)
    for envelope in rig.commands:
        await shell.handle(envelope)
    assert shell.types(source) == [e.type for e in rig.log]
    stream = StreamId(TENANT, "session", FORK)
    command = ForkSession(source=SESSION, sequence=before(rig, "judge-it"))
    asked = replace(shell.envelope(command, "operator", OLGA, stream), id="fork-1")  # the rig's are c-1, c-2 …
    verdict = await shell.verdict(asked)
    assert verdict["accepted"], verdict
    recorded = [e.event for e in store.read(stream)]
    (forked,) = [e for e in recorded if isinstance(e, SessionForked)]
    (stored,) = store.read_raw(source, command.sequence - 1, command.sequence)
    assert forked.point.hash == stored.hash.hex()
    assert verify_decisions(store, stream).difference is None
    assert store.version(source) == len(rig.log), "the other session is not touched"
    assert store.verify().findings == ()
    unknown = ForkSession(source="s12-nobody", sequence=1)
    other = StreamId(TENANT, "session", "s12-zzzzz")
    verdict = await shell.verdict(replace(shell.envelope(unknown, "operator", OLGA, other), id="fork-2"))
    assert verdict["code"] == "unknown_session"
    assert store.version(other) == 0
