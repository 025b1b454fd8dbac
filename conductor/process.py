"""What follows by itself: after a report effects, criteria, gate, next phase; after a failure a retry or a block.

Pure. `follow` looks at a state and says the next events nobody has to ask for; the caller folds them and asks again
until nothing follows. `timers` says which alarms a run of events sets and clears.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from conductor import criteria, fetching, forking, gates, origin
from conductor.spending import pending
from conductor.state import GateState, PhaseState, SessionState, Stage, Status
from schemas import commands as cmd
from schemas import session as ev
from schemas.forking import Guidance
from schemas.messages import Command, Event
from schemas.pipeline import PhaseDefinition, RepeatRule
from schemas.values import SIGNATURE, FailureClass, Mode, Usage


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


ATTEMPT = "attempt"
GATE = "gate"
IDLE = "idle"
"""How the keys of a phase's alarms begin: its attempt's time is over, or the pause before the next one; the time for
its gate; no sign of life from its agent."""


def follow(state: SessionState, at: datetime) -> tuple[Event, ...]:
    """The events that follow from `state` at time `at`, or none. At a ticket's origin the rest of the world is told
    once the session itself has come to a stand."""
    if origin.unclaimed(state):
        return origin.claim(state)
    if forking.unbranched(state):
        return forking.branch(state)
    if fetching.unfetched(state):
        return fetching.fetch(state)
    return _follow(state, at) or origin.due(state)


def _follow(state: SessionState, at: datetime) -> tuple[Event, ...]:
    if state.status not in _GOES_ON or state.pipeline is None:
        return ()
    for phase in state.phases.values():
        if phase.stage is not _IDLE and phase.stage in _FOLLOWED and (events := _go_on(state, phase, at)):
            return events
    if state.status is Status.BLOCKED:
        return ()
    ready = state.ready
    if state.paused and ready:
        return ()
    if blocked := state.blocked:
        return () if any(phase.busy for phase in state.phases.values()) else (_all_blocked(blocked),)
    if ready:
        return _begin(state, state.pipeline.phase(ready[0]), at)
    if not [phase for phase in state.phases.values() if not (phase.completed or phase.skipped)]:
        return (ev.SessionCompleted(branch=state.branch, commit=state.commit),)
    return ()


_GOES_ON = (Status.ACTIVE, Status.WAITING, Status.BLOCKED)
"""In a blocked session nothing starts, but a gate that was open can still be decided."""


_AS_SET = Guidance()
_IDLE = Stage.IDLE  # most phases are, and looking a stage up costs more than a glance
_FOLLOWED = (Stage.REPORTED, Stage.COMMITTED, Stage.RECORDED, Stage.GATE, Stage.PASSED, Stage.REGISTERED)


def _go_on(state: SessionState, phase: PhaseState, at: datetime) -> tuple[Event, ...]:
    """What follows in one phase."""
    match phase.stage:
        case Stage.REPORTED:
            return _next_effect(state, phase)
        case Stage.COMMITTED:
            return origin.publish(state, phase)
        case Stage.RECORDED:
            return _hold_criteria(state, phase)
        case Stage.GATE if not phase.gate:
            return _open_gate(state, phase, at)
        case Stage.PASSED if registers := state.definition_of(phase.name).registers:
            return (_register(state, phase, registers),)
        case Stage.PASSED | Stage.REGISTERED:
            return (ev.PhaseCompleted(phase=phase.name, attempt=phase.attempt),)
    return ()


def _begin(state: SessionState, phase: PhaseDefinition, at: datetime) -> tuple[Event, ...]:
    """The phase's turn has come. A condition that is not known skips nothing."""
    if phase.skip_when is not None:
        condition = criteria.evaluate(phase.skip_when, gates.context(state))
        if condition.passed:
            return (ev.PhaseSkipped(phase=phase.name, condition=condition),)
    return start_phase(state, phase, at)


def start_phase(state: SessionState, phase: PhaseDefinition, at: datetime) -> tuple[Event, ...]:
    """Hand the session to the phase's agent, unless the ticket's budget is used up."""
    if state.ticket is None or state.policy is None or state.pipeline is None:
        raise ValueError(f"session {state.id} has not started")
    budget = state.ticket.budget
    seconds = budget.minutes * 60.0 - state.usage.wall_seconds
    if seconds <= 0.0 or state.usage.usd + pending(state).usd >= budget.usd:
        minutes = state.usage.wall_seconds / 60.0
        spent = f"{minutes:.1f} of {budget.minutes:g} min and ${state.usage.usd:.4f} of ${budget.usd:g}"
        reason = f"the ticket's budget is used up before {phase.name}: {spent}"
        return (block(state, phase.name, FailureClass.LIMIT, reason),)
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
            approvals=tuple([_passed(gate) for gate in state.gates.values() if gate.status == "passed"]),
            spent=state.usage,
            planned=phase.planned,
            guidance=state.guidance if state.guidance != _AS_SET else None,
            sandbox_hosts=state.policy.sandbox_hosts,
        ),
    )


def _passed(gate: GateState) -> str:
    if not gate.approvals:
        return f"{gate.id}: {gate.kind}, {gate.reason}"
    people = ", ".join(f"{a.by.name} ({a.by.verified_as})" for a in gate.approvals)
    if gate.overridden:
        return f"{gate.id}: {gate.kind}, {gate.approvals[-1].reason}, by {people.split(', ')[-1]}"
    return f"{gate.id}: {gate.kind}, approved by {people}"


def fail(
    state: SessionState, name: str, failure: FailureClass, reason: str, detail: str, usage: Usage, at: datetime
) -> tuple[Event, ...]:
    """The attempt at phase `name` failed: by its class it is tried again after a pause, or the phase blocks."""
    phase, attempt = state.phases[name], state.phases[name].attempt
    failed = ev.AttemptFailed(phase=name, attempt=attempt, failure=failure, reason=reason, detail=detail, usage=usage)
    made = phase.failures + 1
    retry = state.definition_of(name).retry
    allowed = {FailureClass.TRANSIENT: retry.max_attempts, FailureClass.AGENT: min(2, retry.max_attempts)}
    if made >= allowed.get(failure, 1):
        times = f" ({made} attempts)" if made > 1 else ""
        return (failed, block(state, name, failure, f"{name}: {reason}{times}"))
    due = at + timedelta(seconds=retry.delay(made + 1, _chance(f"{state.id}.{name}.{attempt}")))
    return (failed, ev.RetryScheduled(phase=name, attempt=attempt + 1, due=due))


def _chance(of: str) -> float:
    """From 0 to 1, always the same for the same text: replay must give the same pauses."""
    return int(sha256(of.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def block(state: SessionState, phase: str, failure: FailureClass, reason: str) -> Event:
    """The phase cannot go on without a person; nor can the session, unless others are still at work."""
    others = any(other.busy for other in state.phases.values() if other.name != phase)
    return (ev.PhaseBlocked if others else ev.SessionBlocked)(phase=phase, failure=failure, reason=reason)


def _all_blocked(phases: tuple[PhaseState, ...]) -> Event:
    """The last of the others finished: now the session waits for a person."""
    first = phases[0]
    reason = "; ".join(phase.blocked for phase in phases)
    return ev.SessionBlocked(phase=first.name, failure=first.failure or FailureClass.POLICY, reason=reason)


def _next_effect(state: SessionState, phase: PhaseState) -> tuple[Event, ...]:
    """Signatures first, so that the commit holds them. One commit after the other: they go onto one branch."""
    produced = {a.name: a for a in phase.artifacts}
    sign = state.definition_of(phase.name).sign
    unsigned = next((n for n in sign if n + SIGNATURE not in produced), None) if sign else None
    if not unsigned and [effect for effect in state.effects if effect.kind == "commit"]:
        return ()
    definition = state.definition_of(phase.name)
    kind, target = ("sign", unsigned) if unsigned else ("commit", definition.apply)
    effect = ev.EffectRequested(
        effect=f"{state.id}.{kind}.{state.version + 1}",
        kind="sign" if unsigned else "commit",
        phase=phase.name,
        attempt=phase.attempt,
        artifacts=(produced[unsigned],) if unsigned else phase.artifacts,
        target=target or "",
    )
    return (effect,)


def _register(state: SessionState, phase: PhaseState, name: str) -> Event:
    """Only now that the gate has passed: nobody may be served what was not approved. The model is named after the
    ticket's title, so tickets of one title make versions of one model."""
    return ev.EffectRequested(
        effect=f"{state.id}.register.{state.version + 1}",
        kind="register",
        phase=phase.name,
        attempt=phase.attempt,
        artifacts=tuple(a for a in phase.artifacts if a.name == name),
        target=state.ticket.slug if state.ticket else "",
    )


def _hold_criteria(state: SessionState, phase: PhaseState) -> tuple[Event, ...]:
    definition = state.definition_of(phase.name)
    results = gates.exit_criteria(state, definition)
    failed = [r for r in results if not r.passed]
    unmet = f"{phase.name}: not met: {'; '.join(map(criteria.describe, failed))}" if failed else ""
    evaluated = ev.CriteriaEvaluated(phase=phase.name, attempt=phase.attempt, results=results, passed=not failed)
    for rule in definition.repeat:
        if rule.when is None:
            if failed:
                return (evaluated, *send_back(state, phase, rule, unmet))
            continue
        result = criteria.evaluate(rule.when, gates.context(state))
        why = criteria.describe(result)
        if result.error:
            unknown = f"{phase.name}: whether to go back to {rule.to} is not known: {why}"
            return (evaluated, block(state, phase.name, FailureClass.POLICY, unknown))
        if result.passed:
            return (evaluated, *send_back(state, phase, rule, why))
    return (evaluated, block(state, phase.name, FailureClass.POLICY, unmet)) if failed else (evaluated,)


def send_back(state: SessionState, phase: PhaseState, rule: RepeatRule, why: str) -> tuple[Event, ...]:
    """Back to the phase the rule names, unless the pipeline's limit is reached: then a person has to decide."""
    if state.pipeline is None:
        raise ValueError(f"session {state.id} has not started")
    made = state.repeats.get(f"{phase.name}>{rule.to}", 0)
    if made >= rule.iterations:
        reason = f"{phase.name} went back to {rule.to} {made} times, the most the pipeline allows; now again: {why}"
        return (block(state, phase.name, FailureClass.LIMIT, reason),)
    again = {rule.to, *state.pipeline.descendants[rule.to]}
    repeated = ev.PhaseRepeated(
        phase=phase.name,
        attempt=phase.attempt,
        to=rule.to,
        kind="pivot" if state.definition_of(rule.to).mode is Mode.DESIGN else "iterate",
        iteration=made + 1,
        iterations=rule.iterations,
        phases=tuple(name for name in state.phases if name in again),
        reason=why,
    )
    lapsed = [g for g in state.open_gates if g.phase in again and g.phase != phase.name]
    reason = f"{phase.name} went back to {rule.to}"
    return (*(ev.GateSuperseded(gate=g.id, phase=g.phase, reason=reason) for g in lapsed), repeated)


def _open_gate(state: SessionState, phase: PhaseState, at: datetime) -> tuple[Event, ...]:
    definition = state.definition_of(phase.name)
    person, reason = gates.needs_person(state, definition)
    if phase.escalated:
        person, reason = True, "nobody decided the gate before in time, so it goes to those the policy escalates to"
    name = f"{state.id}.{phase.name}.{phase.attempt}"
    gate = ev.GateOpened(
        gate=name if name not in state.gates else f"{name}.{state.version + 1}",  # opened anew after a rollback
        phase=phase.name,
        attempt=phase.attempt,
        kind="human" if person else "automatic",
        quorum=definition.gate.quorum if person else 0,
        commit=phase.commit,
        artifacts=phase.artifacts,
        policy_version=state.policy_version,
        reason=reason,
        opened=at,
    )
    return (gate,) if person else (gate, ev.GatePassed(gate=gate.gate, phase=phase.name, kind="automatic"))


class _Wait(NamedTuple):
    """What tells an alarm from another of its key; its command is made only when it has to be set."""

    due: datetime
    command: type[cmd.ExpireAttempt | cmd.StartRetry] | None
    """None: `ExpireGate`."""
    phase: str
    attempt: int
    gate: str

    def alarm(self, key: str) -> Alarm:
        if self.command is None:
            return Alarm(key, self.due, cmd.ExpireGate(gate=self.gate))
        return Alarm(key, self.due, self.command(phase=self.phase, attempt=self.attempt))


def _waits(state: SessionState, phases: Iterable[PhaseState]) -> dict[str, _Wait]:
    found: dict[str, _Wait] = {}
    for phase in phases:
        name, due, attempt = phase.name, phase.due, phase.attempt
        if due is None:
            continue
        if phase.gate and not state.gates[phase.gate].held:
            found[f"{GATE}.{name}"] = _Wait(due, None, name, attempt, phase.gate)
        elif phase.stage is Stage.WORKING:
            found[f"{ATTEMPT}.{name}"] = _Wait(due, cmd.ExpireAttempt, name, attempt, "")
        elif phase.stage is Stage.RETRYING and not state.paused:
            found[f"{ATTEMPT}.{name}"] = _Wait(due, cmd.StartRetry, name, attempt + 1, "")
    return found


def alarms(state: SessionState) -> dict[str, Alarm]:
    """What a session waits for by the clock, by key."""
    return {key: wait.alarm(key) for key, wait in _waits(state, state.phases.values()).items()}


def timers(before: SessionState, after: SessionState) -> tuple[Alarm | Calm, ...]:
    """The alarms to set and to forget when a session goes from one state to another."""
    if before.phases is after.phases and before.gates is after.gates and before.paused == after.paused:
        return ()
    old, new = _changed(before, after)
    was, now = _waits(before, old), _waits(after, new)
    watched = _watched(after, new)
    forgotten = [Calm(key) for key in (*was, *_watched(before, old)) if key not in now and key not in watched]
    return (*forgotten, *[wait.alarm(key) for key, wait in now.items() if was.get(key) != wait])


def _changed(before: SessionState, after: SessionState) -> tuple[Collection[PhaseState], Collection[PhaseState]]:
    """The phases whose alarms may differ, as they were and as they are. A phase that did not change is the same object
    in both states; its alarms depend on these parts of the session besides."""
    old, new = before.phases, after.phases
    if before.gates is not after.gates or before.paused != after.paused or before.pipeline is not after.pipeline:
        return old.values(), new.values()
    return (
        [phase for name, phase in old.items() if new.get(name) is not phase],
        [phase for name, phase in new.items() if old.get(name) is not phase],
    )


def awaited(state: SessionState) -> frozenset[str]:
    """The keys of all alarms a session waits for."""
    phases = state.phases.values()
    return frozenset((*_waits(state, phases), *_watched(state, phases)))


def _watched(state: SessionState, phases: Iterable[PhaseState]) -> tuple[str, ...]:
    """The keys of the alarms that signs of life put off. They are not part of the state: a sign of life is no event."""
    return tuple(
        [
            f"{IDLE}.{phase.name}"
            for phase in phases
            if phase.lease and phase.stage is Stage.WORKING and state.definition_of(phase.name).idle_seconds is not None
        ]
    )


def heard(state: SessionState, command: Command, at: datetime) -> Alarm | None:
    """The alarm that a sign of life puts off, once it was accepted: a claim, an extension, or an alarm that fired so
    late that nobody can have been heard meanwhile."""
    if not isinstance(command, cmd.ClaimAttempt | cmd.ExtendAttempt | cmd.ExpireIdle):
        return None
    key, phase = f"{IDLE}.{command.phase}", state.phases[command.phase]
    seconds = state.definition_of(command.phase).idle_seconds
    if seconds is None or not _watched(state, (phase,)):
        return None
    due = at + timedelta(seconds=seconds)
    return Alarm(key, due, cmd.ExpireIdle(phase=phase.name, attempt=phase.attempt, lease=phase.lease, due=due))
