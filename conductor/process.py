"""What follows by itself: after a report effects, criteria, gate, next phase; after a failure a retry or a block.

Pure. `follow` looks at a state and says the next events nobody has to ask for; the caller folds them and asks again
until nothing follows. `timers` says which alarms a run of events sets and clears.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from conductor import criteria, gates
from conductor.state import GateState, SessionState, Stage, Status
from schemas import commands as cmd
from schemas import session as ev
from schemas.messages import Command, Event
from schemas.pipeline import PhaseDefinition
from schemas.values import SIGNATURE, FailureClass, Usage


@dataclass(frozen=True, slots=True)
class Alarm:
    """Send `command` to the session at or after `due`."""

    key: str
    due: datetime
    command: Command


@dataclass(frozen=True, slots=True)
class Calm:
    """Forget the alarm `key`."""

    key: str


_CALMING = (
    ev.WorkReported, ev.AttemptFailed, ev.SessionBlocked, ev.SessionAborted, ev.SessionRolledBack, ev.SessionRestored,
)  # fmt: skip


def follow(state: SessionState, at: datetime) -> tuple[Event, ...]:
    """The events that follow from `state` at time `at`, or none."""
    if state.status is not Status.ACTIVE or state.pipeline is None:
        return ()
    if state.stage is Stage.IDLE and not state.phase:
        return start_phase(state, state.pipeline.phases[0], at)
    if state.stage is Stage.REPORTED:
        return (_next_effect(state),)
    if state.stage is Stage.RECORDED:
        return _hold_criteria(state)
    if state.stage is Stage.GATE and state.open_gate is None:
        return _open_gate(state, at)
    if state.stage is Stage.PASSED:
        return (ev.PhaseCompleted(phase=state.phase, attempt=state.attempt),)
    if state.stage is Stage.IDLE and state.phases[state.phase].completed:
        following = state.pipeline.following(state.phase)
        if following is None:
            return (ev.SessionCompleted(branch=state.branch, commit=state.commit),)
        return start_phase(state, following, at)
    return ()


def start_phase(state: SessionState, phase: PhaseDefinition, at: datetime) -> tuple[Event, ...]:
    """Hand the session to the phase's agent, unless the ticket's budget is used up."""
    if state.ticket is None or state.policy is None or state.pipeline is None:
        raise ValueError(f"session {state.id} has not started")
    budget = state.ticket.budget
    seconds = budget.minutes * 60.0 - state.usage.wall_seconds
    if seconds <= 0.0 or state.usage.usd >= budget.usd:
        minutes = state.usage.wall_seconds / 60.0
        spent = f"{minutes:.1f} of {budget.minutes:g} min and ${state.usage.usd:.4f} of ${budget.usd:g}"
        reason = f"the ticket's budget is used up before {phase.name}: {spent}"
        return (_blocked(phase.name, FailureClass.LIMIT, reason),)
    return (
        ev.PhaseStarted(
            phase=phase.name,
            agent=phase.agent,
            mode=phase.mode,
            attempt=state.phases[phase.name].attempt + 1,
            skills=phase.skills,
            ticket=state.ticket,
            acceptance=state.acceptance,
            artifacts=tuple(state.artifacts.values()),
            measured={scope: dict(values) for scope, values in state.measured.items()},
            roots=state.roots,
            max_data_bytes=state.policy.max_data_bytes,
            seed=state.seed,
            timeout_seconds=phase.timeout_seconds,
            remaining_seconds=seconds,
            started=at,
            pipeline=state.pipeline.name,
            approvals=tuple(_passed(gate) for gate in state.gates.values() if gate.status == "passed"),
            spent=state.usage,
        ),
    )


def _passed(gate: GateState) -> str:
    people = ", ".join(f"{a.by.name} ({a.by.verified_as})" for a in gate.approvals)
    return f"{gate.id}: {gate.kind}, approved by {people}" if people else f"{gate.id}: {gate.kind}, {gate.reason}"


def fail(
    state: SessionState, failure: FailureClass, reason: str, detail: str, usage: Usage, at: datetime
) -> tuple[Event, ...]:
    """The current attempt failed: by its class it is tried again after a pause, or the session blocks."""
    phase = state.definition
    failed = ev.AttemptFailed(
        phase=phase.name, attempt=state.attempt, failure=failure, reason=reason, detail=detail, usage=usage
    )
    made = state.phases[phase.name].failures + 1
    allowed = {FailureClass.TRANSIENT: phase.retry.max_attempts, FailureClass.AGENT: min(2, phase.retry.max_attempts)}
    if made >= allowed.get(failure, 1):
        times = f" ({made} attempts)" if made > 1 else ""
        return (failed, block(state, failure, f"{phase.name}: {reason}{times}"))
    attempt = state.attempt + 1
    due = at + timedelta(seconds=phase.retry.delay(made + 1))
    return (failed, ev.RetryScheduled(phase=phase.name, attempt=attempt, due=due))


def block(state: SessionState, failure: FailureClass, reason: str) -> ev.SessionBlocked:
    """The session cannot go on without a person."""
    return _blocked(state.phase, failure, reason)


def _blocked(phase: str, failure: FailureClass, reason: str) -> ev.SessionBlocked:
    return ev.SessionBlocked(phase=phase, failure=failure, reason=reason)


def _next_effect(state: SessionState) -> Event:
    """Signatures first, so that the commit holds them."""
    phase = state.definition
    produced = {a.name: a for a in state.phases[phase.name].artifacts}
    unsigned = next((n for n in phase.sign if n + SIGNATURE not in produced), None)
    kind, target = ("sign", unsigned) if unsigned else ("commit", "")
    return ev.EffectRequested(
        effect=f"{state.id}.{kind}.{state.version + 1}",
        kind="sign" if unsigned else "commit",
        phase=phase.name,
        attempt=state.attempt,
        artifacts=(produced[unsigned],) if unsigned else state.phases[phase.name].artifacts,
        target=target or "",
    )


def _hold_criteria(state: SessionState) -> tuple[Event, ...]:
    results = gates.exit_criteria(state, state.definition)
    failed = [r for r in results if not r.passed]
    evaluated = ev.CriteriaEvaluated(phase=state.phase, attempt=state.attempt, results=results, passed=not failed)
    if not failed:
        return (evaluated,)
    unmet = "; ".join(criteria.describe(r) for r in failed)
    return (evaluated, block(state, FailureClass.POLICY, f"{state.phase}: not met: {unmet}"))


def _open_gate(state: SessionState, at: datetime) -> tuple[Event, ...]:
    phase = state.definition
    person, reason = gates.needs_person(state, phase)
    name = f"{state.id}.{phase.name}.{state.attempt}"
    gate = ev.GateOpened(
        gate=name if name not in state.gates else f"{name}.{state.version + 1}",  # opened anew after a rollback
        phase=phase.name,
        attempt=state.attempt,
        kind="human" if person else "automatic",
        quorum=phase.gate.quorum if person else 0,
        commit=state.commit,
        artifacts=state.phases[phase.name].artifacts,
        policy_version=state.policy_version,
        reason=reason,
        opened=at,
    )
    return (gate,) if person else (gate, ev.GatePassed(gate=gate.gate, phase=phase.name, kind="automatic"))


def timers(events: Sequence[Event]) -> tuple[Alarm | Calm, ...]:
    """The alarms a run of a session's events sets and clears."""
    changes: dict[str, Alarm | Calm] = {}
    for event in events:
        if isinstance(event, ev.PhaseStarted):
            due = event.started + timedelta(seconds=event.timeout_seconds)
            command = cmd.ExpireAttempt(phase=event.phase, attempt=event.attempt)
            changes["attempt"] = Alarm("attempt", due, command)
        elif isinstance(event, ev.RetryScheduled):
            changes["attempt"] = Alarm("attempt", event.due, cmd.StartRetry(phase=event.phase, attempt=event.attempt))
        elif isinstance(event, _CALMING):
            changes["attempt"] = Calm("attempt")
    return tuple(changes.values())
