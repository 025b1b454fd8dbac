"""How a session goes back: by a rollback to the start of a phase or to an event, and by the pipeline's own ways back.

Pure; `evolve` folds these events with it.
"""

from __future__ import annotations

from types import MappingProxyType

from conductor.change import artifacts_of, figures_of, put, still
from conductor.compensate import held
from conductor.origin import has_origin
from conductor.rests import find
from conductor.state import SessionState, Stage, Status, replace
from schemas import session as ev


def rolled_back(state: SessionState, event: ev.SessionRolledBack) -> SessionState:
    """Back to the mark, except for what cannot be taken back: attempts made, money spent, decisions given, effects.

    What ran in parallel then is not at work again: a retry starts it anew, in an attempt of its own.
    """
    mark = state.marks[event.phase]
    phases = {
        name: still(phase, attempt=state.phases[name].attempt, failures=0, blocked="", failure=None)
        for name, phase in mark.phases.items()
    }
    return replace(
        mark,
        status=Status.ROLLED_BACK,
        phase=event.phase,
        phases=MappingProxyType(phases),
        gates=state.gates,
        usage=state.usage,
        calls=state.calls,
        models=state.models,
        paused=state.paused,
        priority=state.priority,
        interventions=state.interventions + 1,
        effects=(),
        effects_done=state.effects_done,
        registered=held(state),
        at_origin=replace(state.at_origin, failed=()),
        commit=state.commit,
        reason=f"rolled back to the start of {event.phase} by {event.by.name}",
        marks=MappingProxyType({n: m for n, m in state.marks.items() if m.version <= mark.version}),
    )


def restored(state: SessionState, event: ev.SessionRestored) -> SessionState:
    """Back to where it rested, except for what cannot be taken back: attempts, money, decisions, effects."""
    then = find(state, event.to_sequence)
    if then is None:  # not by these rules; what is in the record happened all the same
        return state
    phases = {n: still(p, attempt=state.phases[n].attempt) for n, p in then.phases.items()}
    return replace(
        then,
        ticket=state.ticket,  # rows that were read stay read
        status=Status.ROLLED_BACK,
        phase=event.phase,
        phases=MappingProxyType(phases),
        gates=state.gates,
        usage=state.usage,
        calls=state.calls,
        models=state.models,
        paused=state.paused,
        priority=state.priority,
        interventions=state.interventions + 1,
        effects_done=state.effects_done,
        registered=held(state),
        at_origin=replace(state.at_origin, failed=()),
        commit=state.commit,
        reason=f"rolled back to event {event.to_sequence} by {event.by.name}",
        returning=then if event.to_status != "rolled_back" else None,
    )


def returned(state: SessionState) -> SessionState:
    """The branch has followed: the session is again what it was. A gate is bound to a commit, and this is a new one, so
    from `RECORDED` on the criteria are held and the gate is opened once more."""
    then = state.returning
    if then is None:
        return state
    phases = dict(state.phases)
    stage = Stage.COMMITTED if has_origin(state) else Stage.RECORDED
    for gate in then.open_gates:
        phases[gate.phase] = replace(phases[gate.phase], stage=stage, commit=state.commit, escalated=gate.escalated)
    waited = then.status is Status.WAITING
    return replace(
        state,
        status=Status.ACTIVE if waited else then.status,
        phases=MappingProxyType(phases),
        reason="" if waited else then.reason,
        returning=None,
    )


def repeated(state: SessionState, event: ev.PhaseRepeated) -> SessionState:
    """The phases start again with what they had ticked and nothing else; the branch goes on from where it is."""
    phases = dict(state.phases)
    for name in event.phases:
        phases[name] = still(
            phases[name],
            completed=False,
            skipped=False,
            failures=0,
            blocked="",
            failure=None,
            commit="",
            artifacts=(),
            measurements=(),
            summary="",
            warnings=(),
            criteria=(),
            replies=(),
        )
    after = MappingProxyType(phases)
    return replace(
        state,
        phases=after,
        artifacts=artifacts_of(after),
        measured=figures_of(after),
        effects=tuple(e for e in state.effects if e.aside or e.phase not in event.phases),
        registered=held(state),
        marks=MappingProxyType({n: m for n, m in state.marks.items() if n not in event.phases}),
        repeats=put(state.repeats, f"{event.phase}>{event.to}", event.iteration),
    )
