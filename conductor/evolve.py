"""How each event changes a session. Pure: no clock, ids, randomness, IO.

`evolve(state, event, sequence)` is total over the session's event types; whatever it is given, it never refuses: what
is in the record happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import singledispatch
from types import MappingProxyType
from typing import Any

from conductor.rests import find, kept
from conductor.state import NOTHING, Effect, GateState, PhaseState, SessionState, Stage, Status
from schemas import session as ev
from schemas.messages import Event
from schemas.values import Approval, ArtifactRef


def evolve(state: SessionState, event: Event, sequence: int) -> SessionState:
    """The state after `event`, which is number `sequence` of the stream."""
    after = replace(_evolve(event, state), version=sequence)
    if after.status in (Status.ACTIVE, Status.WAITING):
        after = replace(after, status=_status(after))
    return after if isinstance(event, ev.CommandRefused) else kept(state, event, after)


def _put(mapping: Mapping[str, Any], key: str, value: Any) -> Mapping[str, Any]:
    return MappingProxyType({**mapping, key: value})


def _phase(state: SessionState, name: str, **changes: Any) -> Mapping[str, PhaseState]:
    return _put(state.phases, name, replace(state.phases.get(name, PhaseState(name)), **changes))


def _status(state: SessionState) -> Status:
    """A session waits when people must decide a gate and nothing else goes on."""
    gates = False
    for phase in state.phases.values():
        if phase.busy:
            return Status.ACTIVE
        gates = gates or bool(phase.gate)
    return Status.WAITING if gates else Status.ACTIVE


def _still(phase: PhaseState, **changes: Any) -> PhaseState:
    """The phase with nothing going on in it."""
    return replace(phase, stage=Stage.IDLE, lease=0, holder="", due=None, gate="", **changes)


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
    mark = replace(state, marks=NOTHING, rests=NOTHING)
    marks = state.marks if event.phase in state.marks else _put(state.marks, event.phase, mark)
    phases = _phase(
        state,
        event.phase,
        stage=Stage.WORKING,
        attempt=event.attempt,
        lease=0,
        holder="",
        due=event.started + timedelta(seconds=event.timeout_seconds),
        completed=False,
    )
    return replace(state, status=Status.ACTIVE, phase=event.phase, reason="", marks=marks, phases=phases)


@_evolve.register
def _(event: ev.AttemptClaimed, state: SessionState) -> SessionState:
    return replace(state, phases=_phase(state, event.phase, lease=event.lease, holder=event.holder))


@_evolve.register
def _(event: ev.WorkReported, state: SessionState) -> SessionState:
    before = state.phases[event.phase]
    ticked = {**before.ticked}
    for item in event.ticked:
        ticked.setdefault(item.item, item.evidence)  # once ticked, never changed
    phases = _phase(
        state,
        event.phase,
        stage=Stage.REPORTED,
        due=None,
        ticked=MappingProxyType(ticked),
        artifacts=event.artifacts,
        measurements=event.measurements,
        summary=event.summary,
        warnings=event.warnings,
    )
    return replace(
        state,
        artifacts=_artifacts(phases),
        measured=_measured(phases),
        acceptance=event.acceptance or state.acceptance,
        usage=state.usage.plus(event.usage),
        phases=phases,
    )


def _artifacts(phases: Mapping[str, PhaseState]) -> Mapping[str, ArtifactRef]:
    """What the newest report of each phase produced; a later phase's artifact of the same name counts."""
    return MappingProxyType({a.name: a for phase in phases.values() for a in phase.artifacts})


def _measured(phases: Mapping[str, PhaseState]) -> Mapping[str, Mapping[str, float]]:
    """What the newest report of each phase measured: a figure an attempt no longer gives must not pass a criterion."""
    measured: dict[str, dict[str, float]] = {}
    for phase in phases.values():
        for m in phase.measurements:
            measured.setdefault(m.scope, {})[m.name] = m.value
    return MappingProxyType({scope: MappingProxyType(values) for scope, values in measured.items()})


@_evolve.register
def _(event: ev.AttemptFailed, state: SessionState) -> SessionState:
    failures = state.phases[event.phase].failures + 1
    return replace(
        state,
        reason=event.reason,
        usage=state.usage.plus(event.usage),
        phases=_phase(state, event.phase, stage=Stage.STOPPED, lease=0, due=None, failures=failures),
    )


@_evolve.register
def _(event: ev.RetryScheduled, state: SessionState) -> SessionState:
    return replace(state, phases=_phase(state, event.phase, stage=Stage.RETRYING, due=event.due))


@_evolve.register
def _(event: ev.EffectRequested, state: SessionState) -> SessionState:
    effect = Effect(event.effect, event.kind, event.phase, event.attempt, event.artifacts, event.target)
    phases = state.phases if event.kind == "restore" else _phase(state, event.phase, stage=Stage.EFFECT)
    return replace(state, phases=phases, effects=(*state.effects, effect))


@_evolve.register
def _(event: ev.EffectRecorded, state: SessionState) -> SessionState:
    left = tuple(e for e in state.effects if e.id != event.effect)
    phases = state.phases
    if event.kind == "sign":
        signed = (*phases[event.phase].artifacts, *event.artifacts)
        phases = _phase(state, event.phase, stage=Stage.REPORTED, artifacts=signed)
    elif event.kind == "commit":
        phases = _phase(state, event.phase, stage=Stage.RECORDED, commit=event.commit)
    done = replace(
        state,
        effects=left,
        effects_done=state.effects_done + 1,
        commit=event.commit or state.commit,
        unrestored=state.unrestored and event.kind != "restore",
        artifacts=_artifacts(phases),
        phases=phases,
    )
    return _returned(done) if event.kind == "restore" else done


def _returned(state: SessionState) -> SessionState:
    """The branch has followed: the session is again what it was. A gate is bound to a commit, and this is a new one, so
    from `RECORDED` on the criteria are held and the gate is opened once more."""
    then = state.returning
    if then is None:
        return state
    phases = {
        name: replace(phase, stage=Stage.RECORDED, commit=state.commit) if then.phases[name].gate else phase
        for name, phase in state.phases.items()
    }
    waited = then.status is Status.WAITING
    return replace(
        state,
        status=Status.ACTIVE if waited else then.status,
        phases=MappingProxyType(phases),
        reason="" if waited else then.reason,
        returning=None,
    )


@_evolve.register
def _(event: ev.EffectFailed, state: SessionState) -> SessionState:
    left = tuple(e for e in state.effects if e.id != event.effect)
    unrestored = state.unrestored or event.kind == "restore"
    phases = _phase(state, event.phase, stage=Stage.STOPPED)
    return replace(state, effects=left, phases=phases, unrestored=unrestored, returning=None)


@_evolve.register
def _(event: ev.CriteriaEvaluated, state: SessionState) -> SessionState:
    stage = Stage.GATE if event.passed else Stage.STOPPED
    return replace(state, phases=_phase(state, event.phase, stage=stage, criteria=event.results))


@_evolve.register
def _(event: ev.GateOpened, state: SessionState) -> SessionState:
    gate = GateState(
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
    )
    phases = _phase(state, event.phase, stage=Stage.GATE, gate=gate.id if event.kind == "human" else "")
    return replace(state, phases=phases, gates=_put(state.gates, gate.id, gate))


@_evolve.register
def _(event: ev.ApprovalGiven, state: SessionState) -> SessionState:
    gate = state.gates[event.gate]
    gate = replace(gate, approvals=(*gate.approvals, Approval(by=event.by, reason=event.reason)))
    return replace(state, gates=_put(state.gates, gate.id, gate), interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.GatePassed, state: SessionState) -> SessionState:
    gate = state.gates[event.gate]
    by = ", ".join(a.by.name for a in gate.approvals) or "criteria"
    gates = _put(state.gates, gate.id, replace(gate, status="passed", decided_by=by))
    return replace(state, phases=_phase(state, event.phase, stage=Stage.PASSED, gate=""), gates=gates)


@_evolve.register
def _(event: ev.GateRejected, state: SessionState) -> SessionState:
    gate = replace(state.gates[event.gate], status="rejected", decided_by=event.by.name)
    gates = _put(state.gates, gate.id, gate)
    phases = _phase(state, event.phase, stage=Stage.STOPPED, gate="")
    return replace(state, phases=phases, gates=gates, interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.GateSuperseded, state: SessionState) -> SessionState:
    gate = replace(state.gates[event.gate], status="superseded")
    phases = _phase(state, event.phase, stage=Stage.STOPPED, gate="")
    return replace(state, phases=phases, gates=_put(state.gates, gate.id, gate))


@_evolve.register
def _(event: ev.PhaseCompleted, state: SessionState) -> SessionState:
    phase = _still(state.phases[event.phase], completed=True, failures=0)
    return replace(state, phases=_put(state.phases, event.phase, phase))


@_evolve.register
def _(event: ev.PhaseBlocked, state: SessionState) -> SessionState:
    return replace(state, phases=_blocked(state, event))


def _blocked(state: SessionState, event: ev.PhaseBlocked | ev.SessionBlocked) -> Mapping[str, PhaseState]:
    phase = _still(state.phases[event.phase], blocked=event.reason, failure=event.failure)
    return _put(state.phases, event.phase, phase)


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
    )


@_evolve.register
def _(event: ev.SessionCompleted, state: SessionState) -> SessionState:
    return replace(state, status=Status.COMPLETED)


@_evolve.register
def _(event: ev.SessionAborted, state: SessionState) -> SessionState:
    phases = MappingProxyType({name: _still(phase) for name, phase in state.phases.items()})
    return replace(state, status=Status.ABORTED, phases=phases, effects=(), reason=event.reason)


@_evolve.register
def _(event: ev.SessionRolledBack, state: SessionState) -> SessionState:
    """Back to the mark, except for what cannot be taken back: attempts made, money spent, decisions given, effects.

    What ran in parallel then is not at work again: a retry starts it anew, in an attempt of its own.
    """
    mark = state.marks[event.phase]
    phases = {
        name: _still(phase, attempt=state.phases[name].attempt, failures=0, blocked="", failure=None)
        for name, phase in mark.phases.items()
    }
    return replace(
        mark,
        status=Status.ROLLED_BACK,
        phase=event.phase,
        phases=MappingProxyType(phases),
        gates=state.gates,
        usage=state.usage,
        interventions=state.interventions + 1,
        effects=(),
        effects_done=state.effects_done,
        commit=state.commit,
        reason=f"rolled back to the start of {event.phase} by {event.by.name}",
        marks=MappingProxyType({n: m for n, m in state.marks.items() if m.version <= mark.version}),
    )


@_evolve.register
def _(event: ev.SessionRestored, state: SessionState) -> SessionState:
    """Back to where it rested, except for what cannot be taken back: attempts, money, decisions, effects."""
    then = find(state, event.to_sequence)
    if then is None:  # not by these rules; what is in the record happened all the same
        return state
    phases = {n: _still(p, attempt=state.phases[n].attempt) for n, p in then.phases.items()}
    return replace(
        then,
        status=Status.ROLLED_BACK,
        phase=event.phase,
        phases=MappingProxyType(phases),
        gates=state.gates,
        usage=state.usage,
        interventions=state.interventions + 1,
        effects_done=state.effects_done,
        commit=state.commit,
        reason=f"rolled back to event {event.to_sequence} by {event.by.name}",
        returning=then if event.to_status != "rolled_back" else None,
    )
