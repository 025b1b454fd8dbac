"""How effects and their receipts change a session; `evolve` folds these events with it. Pure."""

from __future__ import annotations

from conductor import fetching, forking, origin
from conductor.change import artifacts_of, with_phase
from conductor.goback import returned
from conductor.state import AtOrigin, Effect, SessionState, Stage, Status, replace
from schemas import session as ev
from schemas.values import Registered


def requested(state: SessionState, event: ev.EffectRequested) -> SessionState:
    """It waits for its receipt; so does its phase, unless it is about something else."""
    effect = Effect(
        event.effect, event.kind, event.phase, event.attempt, event.artifacts, event.target, event.registered
    )
    apart = effect.undoes or effect.aside or (effect.kind == "publish" and state.status is Status.COMPLETED)
    phases = state.phases if apart else with_phase(state, event.phase, stage=Stage.EFFECT)
    here = state.at_origin if event.posted is None else origin.asked(state.at_origin, effect)
    return replace(state, phases=phases, effects=(*state.effects, effect), at_origin=here)


def recorded(state: SessionState, event: ev.EffectRecorded) -> SessionState:
    """It was done, and what waited for it goes on."""
    left = tuple(e for e in state.effects if e.id != event.effect)
    phases = state.phases
    if event.kind == "sign":
        signed = (*phases[event.phase].artifacts, *event.artifacts)
        phases = with_phase(state, event.phase, stage=Stage.REPORTED, artifacts=signed)
    elif event.kind == "commit":
        stage = Stage.COMMITTED if origin.has_origin(state) else Stage.RECORDED
        phases = with_phase(state, event.phase, stage=stage, commit=event.commit)
    elif event.kind == "publish" and phases[event.phase].stage is Stage.EFFECT:
        phases = with_phase(state, event.phase, stage=Stage.RECORDED)
    elif event.kind == "register" and phases[event.phase].stage is Stage.EFFECT:
        phases = with_phase(state, event.phase, stage=Stage.REGISTERED)
    done = replace(
        state,
        effects=left,
        effects_done=state.effects_done + 1,
        commit=event.commit or state.commit,
        unrestored=state.unrestored and event.kind != "restore",
        registered=_registered(state, event),
        at_origin=_at_origin(state, event),
        artifacts=artifacts_of(phases) if event.artifacts else state.artifacts,
        phases=phases,
    )
    if event.kind == "branch":
        done = forking.branched(done, event.commit)
    if event.snapshot is not None:
        done = fetching.fetched(done, event.snapshot)
    return done if left else returned(done)


def _registered(state: SessionState, event: ev.EffectRecorded) -> tuple[Registered, ...]:
    """What the session has in the registry after a receipt."""
    if (done := event.registered) is None:
        return state.registered
    others = tuple(r for r in state.registered if r.effect != done.effect)
    return (*others, done) if event.kind == "register" else others


def _at_origin(state: SessionState, event: ev.EffectRecorded) -> AtOrigin:
    """What the session has at its ticket's origin after a receipt."""
    effect = next((e for e in state.effects if e.id == event.effect), None)
    if event.posted is None or effect is None:
        return state.at_origin
    return origin.done(state.at_origin, effect, event.posted)


def failed(state: SessionState, event: ev.EffectFailed) -> SessionState:
    """What is left of a rollback is withdrawn: out of order it would undo the wrong thing."""
    effect = next((e for e in state.effects if e.id == event.effect), None)
    left = tuple(e for e in state.effects if e.id != event.effect)
    if effect is not None and effect.kind == "fetch":
        return replace(state, effects=left)
    if effect is not None and (effect.aside or state.ended):
        here = replace(state.at_origin, failed=(*state.at_origin.failed, effect.kind))
        return replace(state, effects=left, at_origin=here)
    undoes = effect is not None and effect.undoes
    unrestored = state.unrestored or undoes
    phases = with_phase(state, event.phase, stage=Stage.STOPPED)
    return replace(state, effects=() if undoes else left, phases=phases, unrestored=unrestored, returning=None)
