"""The rulebook as a table: every command in every kind of state is carried out or refused with a code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conductor.decide import _RULES, decide
from conductor.refusal import Refusal
from conductor.state import SessionState, Stage, Status
from schemas import commands as cmd
from schemas import model_messages as msg
from schemas.forking import ForkSession
from schemas.messages import Command
from schemas.registry import COMMANDS
from schemas.values import EffectKind, Measurement, Priority, TickedItem, Usage
from tests.conductor.rig import ADAM, ALICE, DANA, ERIK, MACHINE, OLGA, PIPELINE, POLICY, SYSTEM, TICKET, Rig, artifact


def blocked() -> Rig:
    rig = Rig().start()
    rig.fail("input")
    return rig


def rolled_back() -> Rig:
    rig = Rig().to("build-it").claim()
    rig.accepted(cmd.RollbackSession(phase="plan-it"), "operator", OLGA)
    return rig


def restored() -> Rig:
    rig = rolled_back()
    rig.effects()
    return rig


def unrestored() -> Rig:
    rig = rolled_back()
    effect = rig.state.effects[0]
    rig.accepted(cmd.RecordEffectFailure(effect=effect.id, kind="restore", reason="locked"), "autopilot")
    return rig


def aborted() -> Rig:
    rig = Rig().start()
    rig.accepted(cmd.AbortSession(reason="no longer wanted"), "operator", OLGA)
    return rig


def retrying() -> Rig:
    rig = Rig().start()
    rig.fail("transient")
    return rig


def committing() -> Rig:
    rig = Rig().start()
    rig.report()
    return rig


def signing() -> Rig:
    rig = Rig().to("build-it")
    rig.report()
    return rig


def waiting() -> Rig:
    rig = Rig().to("build-it")
    rig.work()
    return rig


def held() -> Rig:
    rig = waiting()
    assert rig.state.open_gate
    rig.accepted(cmd.HoldGate(gate=rig.state.open_gate.id), "operator", OLGA)
    return rig


def paused() -> Rig:
    """Between two attempts, with a priority."""
    rig = retrying()
    rig.accepted(cmd.PauseSession(reason="not now"), "operator", OLGA)
    rig.accepted(cmd.ChangePriority(priority=Priority.NOW), "operator", OLGA)
    return rig


STATES: dict[str, Callable[[], Rig]] = {
    "new": Rig,
    "unclaimed": lambda: Rig().start(),
    "claimed": lambda: Rig().start().claim(),
    "retrying": retrying,
    "committing": committing,
    "signing": signing,
    "waiting": waiting,
    "held": held,
    "paused": paused,
    "blocked": blocked,
    "restoring": rolled_back,
    "restored": restored,
    "unrestored": unrestored,
    "completed": lambda: Rig().complete(),
    "aborted": aborted,
}


def effect_of(rig: Rig) -> tuple[str, EffectKind]:
    return (rig.state.effects[0].id, rig.state.effects[0].kind) if rig.state.effects else ("none", "commit")  # type: ignore[return-value]


def gate_of(rig: Rig) -> str:
    return rig.state.open_gate.id if rig.state.open_gate else "none"


def report_of(rig: Rig) -> Command:
    if rig.state.phase:
        return rig.report_command()
    return cmd.ReportWork(phase="plan-it", attempt=1, lease=1, summary="", artifacts=(), ticked=(), measurements=())


ATTEMPT = {"phase": "plan-it", "attempt": 1}
SENT: dict[type[Command], Callable[[Rig], tuple[Command, str, object]]] = {
    cmd.StartSession: lambda r: (r.start_command(), "autopilot", MACHINE),
    cmd.ClaimAttempt: lambda r: (
        cmd.ClaimAttempt(phase=r.state.phase or "plan-it", attempt=r.state.attempt, holder="h"), agent(r), MACHINE),
    cmd.ReportWork: lambda r: (report_of(r), agent(r), MACHINE),
    cmd.ReportFailure: lambda r: (
        cmd.ReportFailure(phase=r.state.phase or "plan-it", attempt=r.state.attempt, lease=r.state.lease,
                          failure="transient", reason="x"), agent(r), MACHINE),
    cmd.ExpireAttempt: lambda r: (
        cmd.ExpireAttempt(phase=r.state.phase or "plan-it", attempt=r.state.attempt), "conductor", SYSTEM),
    cmd.StartRetry: lambda r: (
        cmd.StartRetry(phase=r.state.phase or "plan-it", attempt=r.state.attempt), "conductor", SYSTEM),
    cmd.RecordEffect: lambda r: (
        r.receipt_command() if r.state.effects else cmd.RecordEffect(effect="none", kind="commit", commit="x"),
        "autopilot", MACHINE),
    cmd.RecordEffectFailure: lambda r: (
        cmd.RecordEffectFailure(effect=effect_of(r)[0], kind=effect_of(r)[1], reason="disk full"),
        "autopilot", MACHINE),
    cmd.ReportEdits: lambda r: (cmd.ReportEdits(files=("checklist.md",), commit="c"), "autopilot", MACHINE),
    cmd.DecideGate: lambda r: (r.decide_command("approve"), "operator", DANA),
    cmd.SendBack: lambda r: (cmd.SendBack(gate=gate_of(r), phase="plan-it", reason="again"), "operator", DANA),
    cmd.HoldGate: lambda r: (cmd.HoldGate(gate=gate_of(r)), "operator", OLGA),
    cmd.UnholdGate: lambda r: (cmd.UnholdGate(gate=gate_of(r)), "operator", OLGA),
    cmd.CancelApproval: lambda r: (cmd.CancelApproval(gate=gate_of(r)), "operator", DANA),
    cmd.OverrideGate: lambda r: (cmd.OverrideGate(gate=gate_of(r), reason="must go"), "operator", ADAM),
    cmd.ExpireGate: lambda r: (cmd.ExpireGate(gate=gate_of(r)), "conductor", SYSTEM),
    cmd.ExtendAttempt: lambda r: (
        cmd.ExtendAttempt(phase=r.state.phase or "plan-it", attempt=r.state.attempt, lease=r.state.lease),
        agent(r), MACHINE),
    cmd.ExpireIdle: lambda r: (
        cmd.ExpireIdle(phase=r.state.phase or "plan-it", attempt=r.state.attempt, lease=r.state.lease, due=r.now),
        "conductor", SYSTEM),
    msg.RequestModelCall: lambda r: (
        msg.RequestModelCall(phase=r.state.phase or "plan-it", attempt=r.state.attempt, lease=r.state.lease,
                             agent=agent(r), number=1, prompt="1" * 64, model="m", input_tokens=1, gateway="g"),
        "gateway", MACHINE),
    msg.RecordModelCall: lambda r: (
        msg.RecordModelCall(call="none", reply="1" * 64, usage=None, seconds=1.0, model="m", provider="p",
                            finish="stop"), "gateway", MACHINE),
    msg.RecordModelFailure: lambda r: (
        msg.RecordModelFailure(call="none", failure="transient", reason="x", usage=None, seconds=1.0),
        "gateway", MACHINE),
    cmd.PauseSession: lambda r: (cmd.PauseSession(), "operator", OLGA),
    cmd.ResumeSession: lambda r: (cmd.ResumeSession(), "operator", OLGA),
    cmd.ReassignAttempt: lambda r: (cmd.ReassignAttempt(phase=r.state.phase or "plan-it"), "operator", OLGA),
    cmd.ChangePriority: lambda r: (cmd.ChangePriority(priority=Priority.NOW), "operator", OLGA),
    cmd.RetryPhase: lambda r: (cmd.RetryPhase(), "operator", OLGA),
    cmd.AbortSession: lambda r: (cmd.AbortSession(reason="x"), "operator", OLGA),
    cmd.RollbackSession: lambda r: (cmd.RollbackSession(phase="plan-it"), "operator", OLGA),
    cmd.RestoreSession: lambda r: (cmd.RestoreSession(sequence=1), "operator", OLGA),
    ForkSession: lambda r: (ForkSession(source="s12-other", sequence=1), "operator", OLGA),
}  # fmt: skip


def agent(rig: Rig) -> str:
    return rig.state.definition.agent.value if rig.state.phase else "lead"


OVER = {"new": "unknown_session", "completed": "session_over", "aborted": "session_over"}
NO_WORK = {
    "retrying",
    "held",
    "paused",
    "committing",
    "signing",
    "waiting",
    "blocked",
    "restoring",
    "restored",
    "unrestored",
}
STALE = OVER | dict.fromkeys(NO_WORK, "stale_attempt")
NO_EFFECT = {"held", "paused", "unclaimed", "claimed", "retrying", "waiting", "blocked", "restored", "unrestored"}
RUNNING = set(STATES) - set(OVER)
NO_GATE = OVER | dict.fromkeys(RUNNING - {"waiting", "held"}, "unknown_gate") | {"held": "gate_held"}

REFUSED: dict[type[Command], dict[str, str]] = {
    cmd.StartSession: dict.fromkeys(set(STATES) - {"new"}, "session_exists"),
    cmd.ClaimAttempt: STALE,
    cmd.ReportWork: STALE | {"unclaimed": "not_claimed"},
    cmd.ReportFailure: STALE | {"unclaimed": "not_claimed"},
    cmd.ExpireAttempt: STALE,
    cmd.StartRetry: OVER | dict.fromkeys(RUNNING - {"retrying"}, "stale_timer") | {"paused": "paused"},
    cmd.RecordEffect: OVER | {"completed": "unknown_effect"} | dict.fromkeys(NO_EFFECT, "unknown_effect"),
    cmd.RecordEffectFailure: OVER | dict.fromkeys(NO_EFFECT, "unknown_effect"),
    cmd.ReportEdits: OVER,
    cmd.DecideGate: NO_GATE,
    cmd.SendBack: NO_GATE | {"waiting": "no_way_back"},
    cmd.HoldGate: NO_GATE | {"held": "already_held"},
    cmd.UnholdGate: {name: code for name, code in NO_GATE.items() if name != "held"} | {"waiting": "not_held"},
    cmd.CancelApproval: NO_GATE | {"waiting": "no_approval", "held": "no_approval"},
    cmd.OverrideGate: NO_GATE,
    cmd.ExpireGate: NO_GATE | {"waiting": "no_expiry"},
    cmd.ExtendAttempt: STALE | {"unclaimed": "not_claimed"},
    cmd.ExpireIdle: STALE | {"unclaimed": "not_claimed", "claimed": "no_idle_time"},
    msg.RequestModelCall: STALE | {"unclaimed": "not_claimed", "claimed": "model_not_allowed"},
    msg.RecordModelCall: OVER | dict.fromkeys(RUNNING, "unknown_model_call"),
    msg.RecordModelFailure: OVER | dict.fromkeys(RUNNING, "unknown_model_call"),
    cmd.PauseSession: OVER | {"paused": "already_paused"},
    cmd.ResumeSession: OVER | dict.fromkeys(RUNNING - {"paused"}, "not_paused"),
    cmd.ReassignAttempt: OVER | dict.fromkeys(NO_WORK, "not_at_work") | {"paused": "paused"},
    cmd.ChangePriority: OVER | {"paused": "same_priority"},
    cmd.RetryPhase: OVER
    | dict.fromkeys(RUNNING - {"blocked", "restored"}, "not_blocked")
    | {"restoring": "effect_pending", "unrestored": "not_restored"},
    cmd.AbortSession: OVER,
    cmd.RollbackSession: {"new": "unknown_session", "aborted": "session_over"},
    cmd.RestoreSession: {"new": "unknown_session", "aborted": "session_over"},
    ForkSession: dict.fromkeys(STATES, "session_exists") | {"new": "unknown_session"},  # more in test_forking.py
}


def test_the_table_has_every_session_command() -> None:
    session = {t.cls for t in COMMANDS.values() if t.stream == "session"}
    assert set(REFUSED) == set(SENT) == set(_RULES) == session


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("kind", SENT, ids=lambda c: c.message_type.name)
def test_every_command_in_every_state(kind: type[Command], name: str) -> None:
    rig = STATES[name]()
    command, sender, actor = SENT[kind](rig)
    expected = REFUSED[kind].get(name)
    if expected is None:
        names = rig.accepted(command, sender, actor)  # type: ignore[arg-type]
        assert names or kind is cmd.ExtendAttempt
    else:
        refusal = rig.refused(command, sender, actor)  # type: ignore[arg-type]
        assert refusal.code == expected
        assert refusal.reason


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("kind", SENT, ids=lambda c: c.message_type.name)
def test_only_those_a_command_names_may_send_it(kind: type[Command], name: str) -> None:
    rig = STATES[name]()
    command, _, actor = SENT[kind](rig)
    allowed = kind.message_type.senders
    for sender in {"autopilot", "operator", "conductor", "lead", "risk", "nobody", ""} - set(allowed):
        refusal = decide(rig.state, rig.envelope(command, sender, actor))  # type: ignore[arg-type]
        assert isinstance(refusal, Refusal)
        assert refusal.code == "not_allowed"


def test_what_is_for_drives_is_not_for_sessions() -> None:
    command = cmd.EndDrive(completed=(), waiting=(), blocked=(), seconds=0.0, cost_usd=0.0, reason="")
    assert Rig().start().refused(command, "autopilot").code == "not_allowed"


# Starting


def test_a_session_starts_with_its_first_phase() -> None:
    rig = Rig()
    assert rig.accepted(rig.start_command(), "autopilot") == ["session_started", "phase_started"]
    started = rig.log[1].event
    assert started.model_dump() | {"phase": "plan-it", "agent": "lead", "attempt": 1, "skills": ("lead.scope",),
        "acceptance": TICKET.acceptance, "timeout_seconds": 60.0, "remaining_seconds": 600.0, "seed": 7,
        "started": rig.commands[0].time, "pipeline": "small"} == started.model_dump()  # fmt: skip


@pytest.mark.parametrize("criterion", ["metrics.recall >=", "[1].all(x, true)"])
def test_a_ticket_with_an_unusable_criterion_is_refused_and_leaves_no_trace(criterion: str) -> None:
    rig = Rig(ticket=TICKET.model_copy(update={"acceptance": ("true", criterion)}))
    refusal = rig.refused(rig.start_command(), "autopilot")
    assert refusal.code == "bad_criterion"
    assert criterion in refusal.reason
    assert rig.state.status is Status.NEW


def test_criteria_that_no_phase_would_hold_are_refused_and_none_at_all_are_fine() -> None:
    unjudging = PIPELINE.model_copy(
        update={"phases": tuple(p.model_copy(update={"acceptance": False}) for p in PIPELINE.phases)}
    )
    refusal = (rig := Rig(pipeline=unjudging)).refused(rig.start_command(), "autopilot")
    assert refusal.code == "acceptance_not_judged"
    assert refusal.reason.startswith("pipeline 'small' judges no acceptance criteria (no phase has `acceptance: true`)")
    rig = Rig(ticket=TICKET.model_copy(update={"acceptance": ()}), pipeline=unjudging)
    assert rig.accepted(rig.start_command(), "autopilot") == ["session_started", "phase_started"]


# Attempts and leases


def test_a_second_claim_takes_the_lease_and_the_first_report_is_refused() -> None:
    rig = Rig().start().claim()
    late = rig.report_command()
    rig.claim()
    assert rig.refused(late, "lead").code == "stale_lease"
    assert rig.report()[0] == "work_reported"


def test_a_lease_of_nobody_is_no_lease() -> None:
    rig = Rig().start()
    assert rig.refused(rig.report_command(lease=0), "lead").code == "not_claimed"


@pytest.mark.parametrize("make", [Rig.claim_command, Rig.report_command, lambda r: r.failure_command("agent")])
def test_a_phase_belongs_to_one_agent(make: Callable[[Rig], Command]) -> None:
    rig = Rig().start().claim()
    refusal = rig.refused(make(rig), "data")
    assert refusal.code == "wrong_agent"
    assert refusal.reason == "plan-it belongs to lead, not to data"


@pytest.mark.parametrize(("phase", "attempt"), [("plan-it", 2), ("plan-it", 0), ("build-it", 1)])
def test_only_the_current_attempt_counts(phase: str, attempt: int) -> None:
    rig = Rig().start().claim()
    command = cmd.ClaimAttempt(phase=phase, attempt=attempt, holder="h")
    refusal = rig.refused(command, "lead")
    assert refusal.code == "stale_attempt"
    assert "plan-it attempt 1 (working)" in refusal.reason


def test_a_report_is_folded_as_it_is() -> None:
    rig = Rig().start()
    assert rig.report(warnings=("thin data",)) == ["work_reported", "effect_requested"]
    phase = rig.state.phases["plan-it"]
    assert (phase.summary, phase.warnings) == ("plan-it done", ("thin data",))
    assert dict(phase.ticked) == {"planned": "seen"}
    assert dict(rig.state.artifacts) == {"plan.json": artifact("plan.json")}
    assert {s: dict(v) for s, v in rig.state.measured.items()} == {
        "metrics": {"rows": 20.0, "recall": 0.95}, "risk": {"tier": 0.0}}  # fmt: skip


def test_cpu_time_costs_what_the_policy_says() -> None:
    rig = Rig().start()
    rig.report(usage=Usage(cpu_seconds=1000.0, usd=0.5))
    assert rig.state.usage.usd == pytest.approx(0.5 + 1000.0 / 3600.0 * 3.6)
    assert rig.state.usage.cpu_seconds == 1000.0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ticked": ()}, "required checklist items of plan-it are not ticked: planned"),
        ({"ticked": (TickedItem(item="liked", evidence="e"),)}, "are not ticked: planned"),
        ({"ticked": tuple(TickedItem(item=i, evidence="e") for i in ("planned", "zeal", "also"))},
         "ticks items that plan-it does not have: also, zeal"),
        ({"artifacts": ()}, "required artifacts of plan-it are missing: plan.json"),
        ({"artifacts": (artifact("plan.json"), artifact("plan.json", "1"))}, "names artifacts twice: plan.json"),
        ({"artifacts": (artifact("plan.json"), artifact("plan.json.dsse.json"))},
         "signatures are made by the effect executor, not by an agent: plan.json.dsse.json"),
        ({"acceptance": ("true",)}, "the ticket's own acceptance criteria cannot be taken away: metrics.recall"),
        ({"acceptance": ("metrics.recall >= 0.9", "true &&")}, "'true &&' is not valid CEL"),
    ],
)  # fmt: skip
def test_a_report_that_lacks_or_claims_too_much_is_a_failed_attempt(changes: dict[str, object], why: str) -> None:
    rig = Rig().start()
    assert rig.report(**changes) == ["attempt_failed", "retry_scheduled"]
    failed = rig.log[-2].event
    assert failed.failure == "agent"  # type: ignore[attr-defined]
    assert why in failed.reason  # type: ignore[attr-defined]
    assert rig.state.usage.wall_seconds == 6.0
    assert not rig.state.artifacts
    assert not rig.state.phases["plan-it"].ticked


def test_scope_may_add_criteria_and_nobody_else_may() -> None:
    added = (*TICKET.acceptance, "metrics.rows > 10.0")
    rig = Rig().start()
    rig.work(acceptance=added)
    assert rig.state.acceptance == added
    assert rig.report(acceptance=added)[0] == "attempt_failed"
    assert "are set in mode scope, not in build" in rig.state.reason


def test_a_ticked_item_stays_ticked_with_its_first_evidence() -> None:
    rig = Rig().start()
    rig.report(ticked=(TickedItem(item="planned", evidence="first"),))
    effect = rig.state.effects[0]
    rig.accepted(cmd.RecordEffectFailure(effect=effect.id, kind="commit", reason="disk full"), "autopilot")
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)
    rig.report(ticked=(TickedItem(item="liked", evidence="second"), TickedItem(item="planned", evidence="other")))
    assert dict(rig.state.phases["plan-it"].ticked) == {"planned": "first", "liked": "second"}


def test_what_was_ticked_in_an_earlier_attempt_need_not_be_ticked_again() -> None:
    rig = Rig().to("build-it")
    rig.work(measurements=(Measurement(scope="metrics", name="rows", value=1.0),))
    assert rig.state.status is Status.BLOCKED
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)
    assert rig.report(ticked=())[0] == "work_reported"


def test_figures_and_artifacts_of_an_earlier_attempt_do_not_count() -> None:
    """Attempt 1 measured enough rows and left a file; attempt 2 says nothing of either."""
    rig = Rig().to("judge-it")
    recall = Measurement(scope="metrics", name="recall", value=0.1)
    left = (artifact("report.md"), artifact("left-over.txt"))
    rig.work(measurements=(recall, Measurement(scope="metrics", name="auc", value=0.9)), artifacts=left)
    assert rig.state.status is Status.BLOCKED
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)
    rig.report(measurements=())
    assert "auc" not in rig.state.measured["metrics"]
    assert rig.state.measured["metrics"]["recall"] == 0.95  # what the phases before measured is still so
    assert "left-over.txt" not in rig.state.artifacts
    assert "plan.json" in rig.state.artifacts


def test_the_newest_phase_that_measured_a_figure_counts() -> None:
    rig = Rig().to("build-it")
    rig.report(measurements=(Measurement(scope="metrics", name="recall", value=0.2),))
    assert rig.state.measured["metrics"] == {"rows": 20.0, "recall": 0.2}


# Effects


@pytest.mark.parametrize(
    ("make", "changes", "why"),
    [
        (committing, {"commit": ""}, "names no commit"),
        (committing, {"artifacts": (artifact("plan.json"),)}, "a commit makes no artifacts"),
        (signing, {"artifacts": ()}, "makes proof.json.dsse.json and nothing else"),
        (signing, {"artifacts": (artifact("model.bin"),)}, "makes proof.json.dsse.json and nothing else"),
        (rolled_back, {"commit": ""}, "names no commit"),
    ],
)
def test_a_receipt_names_what_was_made(make: Callable[[], Rig], changes: dict[str, object], why: str) -> None:
    rig = make()
    refusal = rig.refused(rig.receipt_command(**changes), "autopilot")
    assert refusal.code == "bad_receipt"
    assert why in refusal.reason
    assert rig.effects()


@pytest.mark.parametrize("changes", [{"effect": "other"}, {"kind": "sign"}, {"kind": "restore"}])
def test_a_receipt_for_something_else_is_refused(changes: dict[str, str]) -> None:
    rig = committing()
    assert rig.refused(rig.receipt_command(**changes), "autopilot").code == "unknown_effect"
    fields = {"effect": rig.state.effects[0].id, "kind": "commit", "reason": "x"} | changes
    assert rig.refused(cmd.RecordEffectFailure(**fields), "autopilot").code == "unknown_effect"


def test_a_receipt_counts_once() -> None:
    rig = committing()
    receipt = rig.receipt_command()
    rig.accepted(receipt, "autopilot")
    assert rig.refused(receipt, "autopilot").code == "unknown_effect"


def test_signatures_come_before_the_commit_that_holds_them() -> None:
    rig = signing()
    assert [(e.kind, e.target) for e in rig.state.effects] == [("sign", "proof.json")]
    rig.accepted(rig.receipt_command(), "autopilot")
    (commit,) = rig.state.effects
    assert commit.kind == "commit"
    assert [a.name for a in commit.artifacts] == ["model.bin", "proof.json", "proof.json.dsse.json"]
    assert rig.state.artifacts["proof.json.dsse.json"] == artifact("proof.json.dsse.json", "5")


def test_a_failed_effect_asks_a_person() -> None:
    rig = committing()
    effect = rig.state.effects[0]
    command = cmd.RecordEffectFailure(effect=effect.id, kind="commit", reason="disk full")
    assert rig.accepted(command, "autopilot") == ["effect_failed", "session_blocked"]
    assert (rig.state.status, rig.state.reason) == (Status.BLOCKED, "commit failed: disk full")
    assert rig.state.effects == ()
    assert rig.accepted(cmd.RetryPhase(reason="freed"), "operator", OLGA) == ["session_resumed", "phase_started"]


# Gates


def test_a_gate_waits_for_its_quorum_of_distinct_people() -> None:
    rig = waiting()
    assert rig.state.status is Status.WAITING
    assert rig.decide("approve", DANA) == ["approval_given"]
    assert rig.state.status is Status.WAITING
    assert rig.refused(rig.decide_command("approve"), "operator", DANA).code == "not_an_approver"
    assert rig.decide("approve", ERIK) == ["approval_given", "gate_passed", "phase_completed", "phase_started"]
    gate = rig.state.gates["s12-abcde.build-it.1"]
    assert (gate.status, gate.decided_by) == ("passed", "dana, erik")


def test_the_requester_does_not_count() -> None:
    rig = waiting()
    rig.decide("approve", DANA)
    assert "separation of duties" in rig.refused(rig.decide_command("approve"), "operator", ALICE).reason
    assert "separation of duties" in rig.refused(rig.decide_command("reject"), "operator", ALICE).reason


def test_one_no_is_a_no() -> None:
    rig = waiting()
    gate = rig.state.open_gate
    assert gate is not None
    rig.decide("approve", DANA)
    assert rig.decide("reject", ERIK, reason="not on my watch") == ["gate_rejected", "session_blocked"]
    assert rig.state.status is Status.BLOCKED
    assert rig.state.reason == f"gate {gate.id} was rejected by erik: not on my watch"
    refusal = rig.refused(rig.decide_command("approve", gate=gate.id), "operator", ERIK)
    assert (refusal.code, refusal.reason) == (
        "gate_closed", f"gate {gate.id} is rejected by erik; it cannot be decided again")  # fmt: skip


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_no_needs_a_reason(reason: str) -> None:
    assert waiting().refused(waiting().decide_command("reject", reason), "operator", DANA).code == "reason_missing"


def test_the_gate_of_a_new_attempt_is_a_new_gate_without_approvals() -> None:
    rig = waiting()
    rig.decide("approve", DANA)
    rig.decide("reject", ERIK)
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)
    rig.work()
    assert rig.state.open_gate is not None
    assert rig.state.open_gate.id == "s12-abcde.build-it.2"
    assert rig.state.open_gate.approvals == ()


@pytest.mark.parametrize("changes", [{"commit": "other"}, {"policy_version": "c" * 64}, {"artifacts": ()}])
def test_a_gate_is_bound_to_commit_policy_and_artifacts(changes: dict[str, object]) -> None:
    """No command brings a session here: the second lock on a door that is shut."""
    from dataclasses import replace

    rig = waiting()
    gate = rig.state.open_gate
    assert gate is not None
    rig.state = replace(rig.state, gates={gate.id: replace(gate, **changes)})  # type: ignore[arg-type]
    assert rig.refused(rig.decide_command("approve"), "operator", DANA).code == "gate_outdated"


def test_a_gate_between_approvals_survives_a_refused_one() -> None:
    rig = waiting()
    rig.refused(rig.decide_command("approve", gate="s12-abcde.build-it.9"), "operator", DANA)
    rig.decide("approve", DANA)
    rig.decide("approve", ERIK)
    assert rig.state.phase == "judge-it"


# Operating


@pytest.mark.parametrize("command", [
    cmd.RetryPhase(), cmd.AbortSession(reason="x"), cmd.RollbackSession(phase="plan-it")
])  # fmt: skip
@pytest.mark.parametrize("actor", [SYSTEM, MACHINE])
def test_programs_and_strangers_do_not_operate(command: Command, actor: object) -> None:
    from tests.conductor.rig import person

    for who in (actor, person("stranger")):
        assert blocked().refused(command, "operator", who).code == "not_an_operator"  # type: ignore[arg-type]


def test_an_abort_supersedes_the_open_gate_and_is_final() -> None:
    rig = waiting()
    gate = rig.state.open_gate
    assert gate is not None
    assert rig.accepted(cmd.AbortSession(reason="x"), "operator", DANA) == ["gate_superseded", "session_aborted"]
    assert rig.state.gates[gate.id].status == "superseded"
    assert (rig.state.status, rig.state.stage, rig.state.ended) == (Status.ABORTED, Stage.IDLE, True)


def test_decisions_of_people_are_counted() -> None:
    assert Rig().start().state.interventions == 0
    assert Rig().complete().state.interventions == 2
    rig = restored()
    before = rig.state.interventions
    rig.accepted(cmd.RetryPhase(), "operator", OLGA)
    assert rig.state.interventions == before + 1


def test_the_state_knows_what_it_lacks() -> None:
    state: SessionState = Rig().state
    with pytest.raises(KeyError, match="has not started"):
        _ = state.definition
    assert state.open_gate is None
    assert not state.ended


def test_there_is_no_budget_of_a_session_that_has_not_started() -> None:
    from conductor.process import start_phase

    with pytest.raises(ValueError, match="has not started"):
        start_phase(Rig().state, PIPELINE.phases[0], Rig().now)


def test_prices_of_nobody() -> None:
    from conductor.decide import _priced

    usage = Usage(cpu_seconds=3600.0, usd=1.0)
    assert _priced(Rig().state, usage) == usage
    assert _priced(Rig().start().state, usage).usd == pytest.approx(1.0 + POLICY.usd_per_cpu_hour)
