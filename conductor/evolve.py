"""How each event changes a session. Pure: no clock, ids, randomness, IO.

`evolve(state, event, sequence)` is total over the session's event types; whatever it is given, it never refuses: what
is in the record happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import singledispatch
from types import MappingProxyType

from conductor import effect_rules, forking
from conductor.change import artifacts_of, copied, figures_of, put, still, with_phase
from conductor.goback import repeated, restored, rolled_back
from conductor.rests import kept
from conductor.spending import RECORDED, kept_replies
from conductor.state import NO_SPEND, NOTHING, GateState, PhaseState, SessionState, Stage, Status, replace
from schemas import session as ev
from schemas.forking import SessionForked
from schemas.messages import Event
from schemas.values import Approval

BARRED_SECONDS = 30.0
"""How long the holder from whom an attempt was taken away may not claim the phase again, if no other one does."""


def evolve(state: SessionState, event: Event, sequence: int) -> SessionState:
    """The state after `event`, which is number `sequence` of the stream."""
    if isinstance(event, ev.CommandRefused):
        return replace(state, version=sequence)
    after = _RULES.get(type(event), _evolve)(event, state)
    if after is state:
        after = replace(state)
    busy, status = _busy(after), after.status
    if status is Status.ACTIVE or status is Status.WAITING:
        status = Status.WAITING if not busy and after.open_gates else Status.ACTIVE
    return kept(state, event, after, status, busy, sequence)


def _busy(state: SessionState) -> bool:
    """Whether something goes on without a person: if not, a session with open gates waits."""
    latest = state.phases.get(state.phase)
    if latest is not None and latest.busy:  # as a rule
        return True
    return bool([phase for phase in state.phases.values() if phase.stage is not _IDLE and not phase.gate])


@singledispatch
def _evolve(event: Event, state: SessionState) -> SessionState:
    """Events that change nothing but the version (refusals)."""
    return state


@_evolve.register
def _(event: ev.SessionStarted, state: SessionState) -> SessionState:
    return replace(
        state,
        status=Status.ACTIVE,
        drive=event.drive,
        ticket=event.ticket,
        ticket_digest=event.ticket_digest,
        pipeline=event.pipeline,
        policy=event.policy,
        policy_version=event.policy_version,
        repository=event.repository,
        base_commit=event.base_commit,
        branch=event.branch,
        roots=event.roots,
        seed=event.seed,
        commit=event.base_commit,
        acceptance=event.ticket.acceptance,
        phases=MappingProxyType({p.name: PhaseState(p.name) for p in event.pipeline.phases}),
    )


@_evolve.register
def _(event: ev.PhaseStarted, state: SessionState) -> SessionState:
    before = state.phases[event.phase]
    until = before.barred_until
    if before.barred and until is None:
        until = event.started + timedelta(seconds=BARRED_SECONDS)
    phases = with_phase(
        state,
        event.phase,
        stage=Stage.WORKING,
        attempt=event.attempt,
        lease=0,
        holder="",
        barred_until=until,
        due=event.started + timedelta(seconds=event.timeout_seconds),
        completed=False,
        skipped=False,
        escalated=False,
        spent=NO_SPEND,
    )
    marks = _marked(state, event.phase)
    return replace(state, status=Status.ACTIVE, phase=event.phase, reason="", marks=marks, phases=phases)


def _marked(state: SessionState, phase: str) -> Mapping[str, SessionState]:
    """The state before a phase first started is where a rollback goes back to."""
    if phase in state.marks:
        return state.marks
    return put(state.marks, phase, replace(state, marks=NOTHING, rests=NOTHING))


@_evolve.register
def _(event: ev.PhaseSkipped, state: SessionState) -> SessionState:
    return replace(state, marks=_marked(state, event.phase), phases=with_phase(state, event.phase, skipped=True))


@_evolve.register
def _(event: ev.AttemptReassigned, state: SessionState) -> SessionState:
    barred = event.holder or state.phases[event.phase].barred
    phases = with_phase(
        state, event.phase, stage=Stage.STOPPED, lease=0, holder="", due=None, barred=barred, barred_until=None
    )
    return replace(state, phases=phases, interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.AttemptClaimed, state: SessionState) -> SessionState:
    phase = {"lease": event.lease, "holder": event.holder, "barred": "", "barred_until": None}
    return replace(state, phases=with_phase(state, event.phase, **phase))


@_evolve.register
def _(event: ev.WorkReported, state: SessionState) -> SessionState:
    before = state.phases[event.phase]
    ticked = copied(before.ticked)
    for item in event.ticked:
        ticked.setdefault(item.item, item.evidence)  # once ticked, never changed
    phases = with_phase(
        state,
        event.phase,
        stage=Stage.REPORTED,
        due=None,
        ticked=MappingProxyType(ticked),
        artifacts=event.artifacts,
        measurements=event.measurements,
        summary=event.summary,
        warnings=event.warnings,
        replies=(),
    )
    return replace(
        state,
        artifacts=artifacts_of(phases),
        measured=figures_of(phases),
        acceptance=event.acceptance or state.acceptance,
        usage=state.usage.plus(event.usage),
        phases=phases,
    )


@_evolve.register
def _(event: ev.AttemptFailed, state: SessionState) -> SessionState:
    before = state.phases[event.phase]
    changes = {"failures": before.failures + 1, "replies": kept_replies(before, event)}
    return replace(
        state,
        reason=event.reason,
        usage=state.usage.plus(event.usage),
        phases=with_phase(state, event.phase, stage=Stage.STOPPED, lease=0, due=None, **changes),
    )


@_evolve.register
def _(event: ev.RetryScheduled, state: SessionState) -> SessionState:
    return replace(state, phases=with_phase(state, event.phase, stage=Stage.RETRYING, due=event.due))


@_evolve.register
def _(event: ev.EffectRequested, state: SessionState) -> SessionState:
    return effect_rules.requested(state, event)


@_evolve.register
def _(event: ev.EffectRecorded, state: SessionState) -> SessionState:
    return effect_rules.recorded(state, event)


@_evolve.register
def _(event: ev.EffectFailed, state: SessionState) -> SessionState:
    return effect_rules.failed(state, event)


@_evolve.register
def _(event: ev.CriteriaEvaluated, state: SessionState) -> SessionState:
    stage = Stage.GATE if event.passed else Stage.STOPPED
    return replace(state, phases=with_phase(state, event.phase, stage=stage, criteria=event.results))


@_evolve.register
def _(event: ev.GateOpened, state: SessionState) -> SessionState:
    phase = state.phases[event.phase]
    gate = replace(
        _GATE,
        id=event.gate,
        phase=event.phase,
        attempt=event.attempt,
        kind=event.kind,
        quorum=event.quorum,
        commit=event.commit,
        artifacts=event.artifacts,
        policy_version=event.policy_version,
        reason=event.reason,
        opened=event.opened,
        escalated=phase.escalated,
    )
    gates = put(state.gates, gate.id, gate)
    if event.kind == "automatic":
        return replace(state, phases=with_phase(state, event.phase, stage=Stage.GATE), gates=gates)
    seconds = state.definition_of(event.phase).gate.expires_seconds
    due = None if seconds is None else event.opened + timedelta(seconds=seconds)
    return replace(state, phases=with_phase(state, event.phase, stage=Stage.GATE, gate=gate.id, due=due), gates=gates)


@_evolve.register
def _(event: ev.ApprovalGiven, state: SessionState) -> SessionState:
    gate = state.gates[event.gate]
    gate = replace(gate, approvals=(*gate.approvals, Approval(by=event.by, reason=event.reason)))
    return replace(state, gates=put(state.gates, gate.id, gate), interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.ApprovalCancelled, state: SessionState) -> SessionState:
    gate = state.gates[event.gate]
    gate = replace(gate, approvals=tuple([a for a in gate.approvals if a.by != event.of]))
    return replace(state, gates=put(state.gates, gate.id, gate), interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.GateOverridden, state: SessionState) -> SessionState:
    gate = state.gates[event.gate]
    approval = Approval(by=event.by, reason=f"override: {event.reason}")
    gate = replace(gate, approvals=(*gate.approvals, approval), overridden=True)
    return replace(state, gates=put(state.gates, gate.id, gate), interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.GatePassed, state: SessionState) -> SessionState:
    gate = state.gates[event.gate]
    by = ", ".join(a.by.name for a in gate.approvals) or "criteria"
    gates = put(state.gates, gate.id, replace(gate, status="passed", decided_by=by))
    return replace(state, phases=with_phase(state, event.phase, stage=Stage.PASSED, gate="", due=None), gates=gates)


@_evolve.register
def _(event: ev.GateRejected, state: SessionState) -> SessionState:
    gate = replace(state.gates[event.gate], status="rejected", decided_by=event.by.name)
    gates = put(state.gates, gate.id, gate)
    phases = with_phase(state, event.phase, stage=Stage.STOPPED, gate="", due=None)
    return replace(state, phases=phases, gates=gates, interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.GateSuperseded, state: SessionState) -> SessionState:
    gate = replace(state.gates[event.gate], status="superseded")
    phases = with_phase(state, event.phase, stage=Stage.STOPPED, gate="", due=None)
    return replace(state, phases=phases, gates=put(state.gates, gate.id, gate))


@_evolve.register
def _(event: ev.GateExpired, state: SessionState) -> SessionState:
    """With somebody to escalate to, the phase stands before its gate again, which is then opened for them."""
    gate = replace(state.gates[event.gate], status="expired")
    stage, escalated = (Stage.GATE, True) if event.escalated_to else (Stage.STOPPED, False)
    phases = with_phase(state, event.phase, stage=stage, gate="", due=None, escalated=escalated)
    return replace(state, phases=phases, gates=put(state.gates, gate.id, gate))


@_evolve.register
def _(event: ev.GateHeld, state: SessionState) -> SessionState:
    return _held(state, event.gate, True)


@_evolve.register
def _(event: ev.GateUnheld, state: SessionState) -> SessionState:
    return _held(state, event.gate, False)


def _held(state: SessionState, gate: str, held: bool) -> SessionState:
    gates = put(state.gates, gate, replace(state.gates[gate], held=held))
    return replace(state, gates=gates, interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.PhaseCompleted, state: SessionState) -> SessionState:
    phase = still(state.phases[event.phase], completed=True, failures=0)
    return replace(state, phases=put(state.phases, event.phase, phase))


@_evolve.register
def _(event: ev.PhaseBlocked, state: SessionState) -> SessionState:
    return replace(state, phases=_blocked(state, event))


def _blocked(state: SessionState, event: ev.PhaseBlocked | ev.SessionBlocked) -> Mapping[str, PhaseState]:
    phase = still(state.phases[event.phase], blocked=event.reason, failure=event.failure)
    return put(state.phases, event.phase, phase)


@_evolve.register
def _(event: ev.SessionBlocked, state: SessionState) -> SessionState:
    """The phase may be one that could not even start: then it is what a retry starts."""
    phases = _blocked(state, event)
    return replace(state, status=Status.BLOCKED, phase=event.phase, phases=phases, reason=event.reason)


@_evolve.register
def _(event: ev.SessionResumed, state: SessionState) -> SessionState:
    phases = {
        name: replace(phase, blocked="", failure=None, failures=0) if phase.blocked or name == event.phase else phase
        for name, phase in state.phases.items()
    }
    return replace(
        state,
        status=Status.ACTIVE,
        reason="",
        interventions=state.interventions + 1,
        phases=MappingProxyType(phases),
        at_origin=state.at_origin if not state.at_origin.failed else replace(state.at_origin, failed=()),
    )


@_evolve.register
def _(event: ev.SessionCompleted, state: SessionState) -> SessionState:
    return replace(state, status=Status.COMPLETED)


@_evolve.register
def _(event: ev.SessionAborted, state: SessionState) -> SessionState:
    phases = MappingProxyType({name: still(phase) for name, phase in state.phases.items()})
    return replace(state, status=Status.ABORTED, phases=phases, effects=(), reason=event.reason, returning=None)


@_evolve.register
def _(event: ev.HandEditsFound, state: SessionState) -> SessionState:
    return state  # what is in the folder follows from events, never the other way


@_evolve.register
def _(event: ev.SessionPaused, state: SessionState) -> SessionState:
    return replace(state, paused=True, interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.SessionUnpaused, state: SessionState) -> SessionState:
    return replace(state, paused=False, interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.PriorityChanged, state: SessionState) -> SessionState:
    return replace(state, priority=event.priority.value)


@_evolve.register
def _(event: ev.PhaseRepeated, state: SessionState) -> SessionState:
    return repeated(state, event)


@_evolve.register
def _(event: ev.SessionRolledBack, state: SessionState) -> SessionState:
    return rolled_back(state, event)


@_evolve.register
def _(event: ev.SessionRestored, state: SessionState) -> SessionState:
    return restored(state, event)


@_evolve.register
def _(event: SessionForked, state: SessionState) -> SessionState:
    return forking.forked(event, state)


_GATE = GateState(
    id="", phase="", attempt=0, kind="", quorum=0, commit="", artifacts=(), policy_version="", reason="",
    opened=datetime.min.replace(tzinfo=UTC),
)  # fmt: skip
"""Changing a copy costs half of what the constructor of a frozen class does."""
_IDLE = Stage.IDLE
for _kind, _rule in RECORDED.items():
    _evolve.register(_kind, _rule)
_RULES = _evolve.registry  # calling a singledispatch function costs ten times looking up a class here
