"""A fork: a session of its own that begins as another one was after an event. Pure; `evolve` folds its events with it.

The rules are given the other session as the record has it up to that event (`Past`) and nothing that came later, so a
fork is decided the same for ever. Everything that goes on from there belongs to the fork alone: branch, budgets,
attempts, gates. At the other session's origin (an issue) it does nothing: see `docs/adr/0033`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from conductor import gates, rests
from conductor.change import artifacts_of, figures_of
from conductor.refusal import Decision, Refusal
from conductor.state import GateState, PhaseState, SessionState, Stage, Status, replace
from schemas import forking as fk
from schemas import session as ev
from schemas.envelope import CommandEnvelope
from schemas.messages import Event
from schemas.pipeline import PhaseDefinition
from schemas.values import Mode, TickedItem

_NAME = re.compile(r"s(?P<ticket>[0-9]+)-(?P<token>[a-z0-9]{4,16})")


@dataclass(frozen=True, slots=True)
class Past:
    """Another session as it was after an event, and that event's hash in the record; version 0 if it is not known."""

    state: SessionState
    hash: str


def fork(state: SessionState, command: fk.ForkSession, at: CommandEnvelope, past: Past | None) -> Decision:
    """Begin `state`, which is new, as the other session was."""
    if state.status is not Status.NEW:
        return Refusal("session_exists", f"session {state.id} exists already; a fork is a session of its own")
    if past is None or past.state.status is Status.NEW:
        return Refusal("unknown_session", f"there is no session {command.source} to fork")
    then = past.state
    if reason := gates.may_operate(then.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if wrong := _not_there(then, command.sequence) or _wrong_guidance(then, command.guidance):
        return wrong
    branch = _branch(state.id, then)
    if isinstance(branch, Refusal):
        return branch
    return (_started(then, branch), _forked(then, command, at, past.hash))


def _not_there(then: SessionState, sequence: int) -> Refusal | None:
    """Why nothing can begin at this event."""
    if not 1 <= sequence <= then.version:
        return Refusal("unknown_event", f"{then.id} has events 1 to {then.version}, and no {sequence}")
    if rests.find(then, sequence) is None:
        why = rests.unrest(then) or "the branch had yet to follow a rollback"
        before = " and ".join(map(str, rests.nearest(then, sequence))) or "none"
        what = f"{then.id} did not rest after event {sequence} ({why}), so nothing can begin there"
        return Refusal("not_at_rest", f"{what}; the nearest event before: {before}")
    if all(phase.over for phase in then.phases.values()):
        what = f"nothing of {then.id} is left to do after event {sequence}"
        return Refusal("nothing_left", f"{what}: fork it from an earlier one, `valuetrain tail --session {then.id}`")
    return None


def _wrong_guidance(then: SessionState, guidance: fk.Guidance) -> Refusal | None:
    """Why the rest of the session cannot be planned so. A choice that changes nothing is refused, never ignored."""
    if guidance.planner == "playbook" and (guidance.model or guidance.instructions):
        what = "the playbook asks no model and reads no instructions: leave out the model and the prompt, or choose llm"
        return Refusal("bad_guidance", what)
    if planner_of(guidance) != "llm":
        return None
    prices = then.policy.models.prices if then.policy and then.policy.models else {}
    if not prices or (guidance.model and guidance.model not in prices):
        asked = f"model {guidance.model}" if guidance.model else "any model"
        reason = f"the policy {then.id} started with has no price for {asked}, it has {', '.join(prices) or 'none'}"
        return Refusal("model_not_allowed", f"{reason}; a fork keeps that policy, a new session has today's")
    planned, reviewed = _asking(then)
    if guidance.instructions and not planned:
        return Refusal("nothing_planned", f"no phase that is left in {then.id} is planned by a model, so nobody would "
                       f"read the instructions: fork it from an earlier event")  # fmt: skip
    if not planned and not reviewed:
        return Refusal("nothing_planned", f"no phase that is left in {then.id} asks a model: fork it from an earlier "
                       f"event")  # fmt: skip
    return None


def _asking(then: SessionState) -> tuple[bool, bool]:
    """Whether a phase is left that a model plans, and one in which it reviews what a model planned."""
    if then.pipeline is None or then.ticket is None:
        return False, False
    left: list[PhaseDefinition] = [p for p in then.pipeline.phases if not then.phases[p.name].over]
    reviewed = any(p.mode is Mode.EVALUATE for p in left) and any(p.planned for p in then.pipeline.phases)
    return then.ticket.change is None and any(p.planned for p in left), reviewed


def planner_of(guidance: fk.Guidance) -> fk.Planner:
    """Who plans: a model or instructions are for the planner that asks one."""
    return guidance.planner or ("llm" if guidance.model or guidance.instructions else "")


def _branch(name: str, then: SessionState) -> str | Refusal:
    """The fork's branch, named like the other session's. It follows from the fork's own name, so that no two sessions
    share one and nobody can choose a branch of somebody else's."""
    known = _NAME.fullmatch(name)
    ticket = then.ticket.id if then.ticket else 0
    if known is None or int(known["ticket"]) != ticket:
        return Refusal("bad_name", f"a fork of {then.id} is named s{ticket}-… with letters and digits, not {name!r}")
    stem = then.branch.rpartition("-")[0] or then.branch
    return f"{stem}-{known['token']}"


def _started(then: SessionState, branch: str) -> ev.SessionStarted:
    """The fork's own start: the same ticket, pipeline and policy; without an origin, since a ticket has one claim and
    one pull request."""
    if then.ticket is None or then.pipeline is None or then.policy is None:
        raise ValueError(f"session {then.id} has not started")
    return ev.SessionStarted(
        ticket=then.ticket.model_copy(update={"origin": None}),
        ticket_digest=then.ticket_digest,
        drive=then.drive,
        pipeline=then.pipeline,
        policy=then.policy,
        policy_version=then.policy_version,
        repository=then.repository,
        base_commit=then.base_commit,
        branch=branch,
        roots=then.roots,
        seed=then.seed,
    )


def _forked(then: SessionState, command: fk.ForkSession, at: CommandEnvelope, hash_: str) -> fk.SessionForked:
    kept = {name: gate for name in then.phases if (gate := _standing(then, then.phases[name])) is not None}
    guidance = command.guidance.model_copy(update={"planner": planner_of(command.guidance)})
    return fk.SessionForked(
        point=fk.ForkPoint(session=then.id, sequence=command.sequence, hash=hash_, commit=then.commit),
        by=at.actor,
        reason=command.reason,
        acceptance=then.acceptance,
        phases=tuple(_phase(phase, phase.name in kept) for phase in then.phases.values()),
        gates=tuple(map(_kept, kept.values())),
        guidance=guidance,
    )


def _standing(then: SessionState, phase: PhaseState) -> GateState | None:
    """The gate by which a completed phase is over: passed for exactly the commit, artifacts and policy it has now."""
    bound = (phase.name, phase.commit, phase.artifacts, then.policy_version)
    return next(
        (
            gate
            for gate in reversed(tuple(then.gates.values()))
            if phase.completed
            and gate.status == "passed"
            and (gate.phase, gate.commit, gate.artifacts, gate.policy_version) == bound
        ),
        None,
    )


def _phase(phase: PhaseState, passed: bool) -> fk.ForkedPhase:
    ticked = tuple(TickedItem(item=item, evidence=evidence) for item, evidence in phase.ticked.items())
    if phase.skipped and not phase.completed:
        return fk.ForkedPhase(phase=phase.name, stands="skipped", ticked=ticked)
    if not phase.completed and not phase.gate:
        return fk.ForkedPhase(phase=phase.name, stands="open", ticked=ticked)
    return fk.ForkedPhase(
        phase=phase.name,
        stands="completed" if passed else "gate",
        attempt=phase.attempt,
        commit=phase.commit,
        summary=phase.summary,
        ticked=ticked,
        artifacts=phase.artifacts,
        measurements=phase.measurements,
        warnings=phase.warnings,
        criteria=phase.criteria,
    )


def _kept(gate: GateState) -> fk.KeptGate:
    return fk.KeptGate(
        gate=gate.id,
        phase=gate.phase,
        attempt=gate.attempt,
        kind="human" if gate.kind == "human" else "automatic",
        quorum=gate.quorum,
        reason=gate.reason,
        opened=gate.opened,
        decided_by=gate.decided_by,
        approvals=gate.approvals,
        escalated=gate.escalated,
        overridden=gate.overridden,
    )


def forked(event: fk.SessionForked, state: SessionState) -> SessionState:
    """What comes along. Nothing goes on before the branch is there."""
    phases = MappingProxyType({each.phase: _taken_over(each) for each in event.phases})
    return replace(
        state,
        phases=phases,
        artifacts=artifacts_of(phases),
        measured=figures_of(phases),
        acceptance=event.acceptance,
        gates=MappingProxyType({gate.gate: _gate(gate, phases[gate.phase], state) for gate in event.gates}),
        commit=event.point.commit,
        interventions=state.interventions + 1,
        forked=event.point,
        branched=False,
        guidance=event.guidance,
    )


def _taken_over(phase: fk.ForkedPhase) -> PhaseState:
    return PhaseState(
        name=phase.phase,
        stage=Stage.RECORDED if phase.stands == "gate" else Stage.IDLE,
        attempt=phase.attempt,
        commit=phase.commit,
        completed=phase.stands == "completed",
        skipped=phase.stands == "skipped",
        ticked=MappingProxyType({item.item: item.evidence for item in phase.ticked}),
        artifacts=phase.artifacts,
        measurements=phase.measurements,
        summary=phase.summary,
        warnings=phase.warnings,
        criteria=phase.criteria,
    )


def _gate(gate: fk.KeptGate, phase: PhaseState, state: SessionState) -> GateState:
    return GateState(
        id=gate.gate,
        phase=gate.phase,
        attempt=gate.attempt,
        kind=gate.kind,
        quorum=gate.quorum,
        commit=phase.commit,
        artifacts=phase.artifacts,
        policy_version=state.policy_version,
        reason=gate.reason,
        opened=gate.opened,
        status="passed",
        approvals=gate.approvals,
        decided_by=gate.decided_by,
        escalated=gate.escalated,
        overridden=gate.overridden,
    )


def unbranched(state: SessionState) -> bool:
    """Whether the fork needs its branch before anything else goes on."""
    return not state.branched and state.status in (Status.ACTIVE, Status.WAITING)


def branch(state: SessionState) -> tuple[Event, ...]:
    """Ask for the branch, unless that is under way."""
    if state.effects or state.forked is None:
        return ()
    phase = next(phase for phase in state.phases.values() if not phase.over)
    return (
        ev.EffectRequested(
            effect=f"{state.id}.branch.{state.version + 1}",
            kind="branch",
            phase=phase.name,
            attempt=phase.attempt,
            target=state.forked.commit,
        ),
    )


def branched(state: SessionState, commit: str) -> SessionState:
    """The branch is there. A gate is bound to a commit, and this is a new one: those that waited are for it."""
    phases = {
        name: replace(phase, commit=commit) if phase.stage is Stage.RECORDED else phase
        for name, phase in state.phases.items()
    }
    return replace(state, branched=True, phases=MappingProxyType(phases))


def not_kept(event: fk.SessionForked) -> Iterator[str]:
    """The phases whose work is done and whose gate is opened anew."""
    return (phase.phase for phase in event.phases if phase.stands == "gate")
