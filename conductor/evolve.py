"""How each event changes a session. Pure: no clock, ids, randomness, IO.

`evolve(state, event, sequence)` is total over the session's event types; whatever it is given, it never refuses: what
is in the record happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from types import MappingProxyType
from typing import Any

from conductor.rests import find, kept
from conductor.state import NOTHING, Effect, GateState, PhaseState, SessionState, Stage, Status, replace
from schemas import session as ev
from schemas.messages import Event
from schemas.values import Approval, ArtifactRef


def evolve(state: SessionState, event: Event, sequence: int) -> SessionState:
    """The state after `event`, which is number `sequence` of the stream."""
    after = _evolve.dispatch(type(event))(event, state)  # the call of a singledispatch function costs three times this
    if isinstance(event, ev.CommandRefused):
        return replace(after, version=sequence)
    return kept(state, event, after, sequence)


def _put(mapping: Mapping[str, Any], key: str, value: Any) -> Mapping[str, Any]:
    return MappingProxyType({**mapping, key: value})


def _phase(state: SessionState, name: str, **changes: Any) -> Mapping[str, PhaseState]:
    return _put(state.phases, name, replace(state.phases.get(name, PhaseState(name)), **changes))


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
    return replace(
        state,
        status=Status.ACTIVE,
        stage=Stage.WORKING,
        phase=event.phase,
        attempt=event.attempt,
        lease=0,
        holder="",
        reason="",
        marks=marks,
        phases=_phase(state, event.phase, attempt=event.attempt, completed=False),
    )


@_evolve.register
def _(event: ev.AttemptClaimed, state: SessionState) -> SessionState:
    return replace(state, lease=event.lease, holder=event.holder)


@_evolve.register
def _(event: ev.WorkReported, state: SessionState) -> SessionState:
    before = state.phases[event.phase]
    ticked = {**before.ticked}
    for item in event.ticked:
        ticked.setdefault(item.item, item.evidence)  # once ticked, never changed
    phases = _phase(
        state,
        event.phase,
        ticked=MappingProxyType(ticked),
        artifacts=event.artifacts,
        measurements=event.measurements,
        summary=event.summary,
        warnings=event.warnings,
    )
    return replace(
        state,
        stage=Stage.REPORTED,
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
        stage=Stage.IDLE,
        lease=0,
        reason=event.reason,
        usage=state.usage.plus(event.usage),
        phases=_phase(state, event.phase, failures=failures),
    )


@_evolve.register
def _(event: ev.RetryScheduled, state: SessionState) -> SessionState:
    return replace(state, stage=Stage.RETRYING, attempt=event.attempt)


@_evolve.register
def _(event: ev.EffectRequested, state: SessionState) -> SessionState:
    effect = Effect(event.effect, event.kind, event.phase, event.attempt, event.artifacts, event.target)
    stage = state.stage if event.kind == "restore" else Stage.EFFECT
    return replace(state, stage=stage, effects=(*state.effects, effect))


@_evolve.register
def _(event: ev.EffectRecorded, state: SessionState) -> SessionState:
    left = tuple(e for e in state.effects if e.id != event.effect)
    stage = Stage.REPORTED if event.kind == "sign" else Stage.RECORDED
    if event.kind == "restore":
        stage = state.stage
    phases = state.phases
    if event.artifacts:
        phases = _phase(state, event.phase, artifacts=(*state.phases[event.phase].artifacts, *event.artifacts))
    done = replace(
        state,
        stage=stage,
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
    if then.status is Status.WAITING:
        return replace(state, status=Status.ACTIVE, stage=Stage.RECORDED, reason="", returning=None)
    return replace(state, status=then.status, stage=then.stage, reason=then.reason, returning=None)


@_evolve.register
def _(event: ev.EffectFailed, state: SessionState) -> SessionState:
    left = tuple(e for e in state.effects if e.id != event.effect)
    unrestored = state.unrestored or event.kind == "restore"
    return replace(state, effects=left, stage=Stage.IDLE, unrestored=unrestored, returning=None)


@_evolve.register
def _(event: ev.CriteriaEvaluated, state: SessionState) -> SessionState:
    stage = Stage.GATE if event.passed else Stage.IDLE
    return replace(state, stage=stage, phases=_phase(state, event.phase, criteria=event.results))


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
    status = Status.WAITING if event.kind == "human" else state.status
    return replace(state, status=status, stage=Stage.GATE, gates=_put(state.gates, gate.id, gate))


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
    return replace(state, status=Status.ACTIVE, stage=Stage.PASSED, gates=gates)


@_evolve.register
def _(event: ev.GateRejected, state: SessionState) -> SessionState:
    gate = replace(state.gates[event.gate], status="rejected", decided_by=event.by.name)
    gates = _put(state.gates, gate.id, gate)
    return replace(state, stage=Stage.IDLE, gates=gates, interventions=state.interventions + 1)


@_evolve.register
def _(event: ev.GateSuperseded, state: SessionState) -> SessionState:
    gate = replace(state.gates[event.gate], status="superseded")
    return replace(state, gates=_put(state.gates, gate.id, gate))


@_evolve.register
def _(event: ev.PhaseCompleted, state: SessionState) -> SessionState:
    phases = _phase(state, event.phase, completed=True, failures=0)
    return replace(state, stage=Stage.IDLE, lease=0, phases=phases)


@_evolve.register
def _(event: ev.SessionBlocked, state: SessionState) -> SessionState:
    """The phase may be one that could not even start: then it is what a retry starts."""
    attempt = state.phases[event.phase].attempt
    return replace(
        state,
        status=Status.BLOCKED,
        stage=Stage.IDLE,
        phase=event.phase,
        attempt=attempt,
        lease=0,
        reason=event.reason,
    )


@_evolve.register
def _(event: ev.SessionResumed, state: SessionState) -> SessionState:
    return replace(
        state,
        status=Status.ACTIVE,
        stage=Stage.IDLE,
        reason="",
        interventions=state.interventions + 1,
        phases=_phase(state, event.phase, failures=0),
    )


@_evolve.register
def _(event: ev.SessionCompleted, state: SessionState) -> SessionState:
    return replace(state, status=Status.COMPLETED, stage=Stage.IDLE)


@_evolve.register
def _(event: ev.SessionAborted, state: SessionState) -> SessionState:
    return replace(state, status=Status.ABORTED, stage=Stage.IDLE, lease=0, effects=(), reason=event.reason)


@_evolve.register
def _(event: ev.SessionRolledBack, state: SessionState) -> SessionState:
    """Back to the mark, except for what cannot be taken back: attempts made, money spent, decisions given, effects."""
    mark = state.marks[event.phase]
    names = [p.name for p in state.pipeline.phases] if state.pipeline else []
    reached = set(names[: names.index(event.phase) + 1]) if event.phase in names else set()
    attempts = {n: replace(p, attempt=state.phases[n].attempt, failures=0) for n, p in mark.phases.items()}
    return replace(
        mark,
        status=Status.ROLLED_BACK,
        stage=Stage.IDLE,
        phase=event.phase,
        attempt=state.phases[event.phase].attempt,
        phases=MappingProxyType(attempts),
        gates=state.gates,
        usage=state.usage,
        interventions=state.interventions + 1,
        effects=(),
        effects_done=state.effects_done,
        commit=state.commit,
        reason=f"rolled back to the start of {event.phase} by {event.by.name}",
        marks=MappingProxyType({n: m for n, m in state.marks.items() if n in reached}),
    )


@_evolve.register
def _(event: ev.SessionRestored, state: SessionState) -> SessionState:
    """Back to where it rested, except for what cannot be taken back: attempts, money, decisions, effects."""
    then = find(state, event.to_sequence)
    if then is None:  # not by these rules; what is in the record happened all the same
        return state
    phases = {n: replace(p, attempt=state.phases[n].attempt) for n, p in then.phases.items()}
    return replace(
        then,
        status=Status.ROLLED_BACK,
        stage=Stage.IDLE,
        phase=event.phase,
        attempt=phases[event.phase].attempt,
        lease=0,
        holder="",
        phases=MappingProxyType(phases),
        gates=state.gates,
        usage=state.usage,
        interventions=state.interventions + 1,
        effects_done=state.effects_done,
        commit=state.commit,
        reason=f"rolled back to event {event.to_sequence} by {event.by.name}",
        returning=then if event.to_status != "rolled_back" else None,
    )
