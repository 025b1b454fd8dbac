"""What each command does to a session, rule by rule. Pure: `decide(state, command)` gives events or a typed refusal.

It is total: every command in every state gives one or the other. Here are the table of all rules and those for
attempts and effects; those for gates are in `gate_rules.py`, those for operators in `operating.py`. What then follows
by itself (criteria, gates, the next phase) is in `process.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar, get_args

from conductor import criteria, fetching, forking, gate_rules, gates, model_calls, operating, origin
from conductor.process import block, fail, start_phase
from conductor.refusal import Decision, Refusal
from conductor.state import Effect, PhaseState, SessionState, Stage, Status
from schemas import commands as cmd
from schemas import model_messages as models
from schemas import session as ev
from schemas.envelope import CommandEnvelope
from schemas.forking import ForkSession
from schemas.messages import Command
from schemas.values import SIGNATURE, TAKEN_AWAY, FailureClass, Mode, OriginKind, Usage

_AFTER_THE_END = cmd.RollbackSession | cmd.RestoreSession | cmd.RecordEffect
_RECEIPT = cmd.RecordEffect | cmd.RecordEffectFailure
_Leased = cmd.ReportWork | cmd.ReportFailure | cmd.ExtendAttempt | cmd.ExpireIdle | models.RequestModelCall
C = TypeVar("C", bound=Command)


def decide(state: SessionState, envelope: CommandEnvelope, past: forking.Past | None = None) -> Decision:
    """The events `envelope` causes in `state`, or why it is refused. `past` is the session that a fork is made of."""
    command = envelope.command
    rule = _RULES.get(type(command))
    if rule is None or envelope.sender not in command.message_type.senders:
        return Refusal("not_allowed", f"{envelope.sender} may not send {envelope.type}")
    if wrong := gates.wrong_channel(envelope.sender, envelope.actor):
        return Refusal("not_allowed", wrong)
    if isinstance(command, ForkSession):
        return forking.fork(state, command, envelope, past)
    if isinstance(command, cmd.StartSession):
        return rule(state, command, envelope)
    if state.status is Status.NEW:
        return Refusal("unknown_session", f"there is no session {state.id}; `valuetrain session list` shows them")
    awaited = isinstance(command, _RECEIPT) and state.effects
    if state.status is Status.ABORTED and not awaited:
        return Refusal("session_over", f"session {state.id} was aborted; nothing can be done to it any more")
    if state.status is Status.COMPLETED and not (awaited or isinstance(command, _AFTER_THE_END)):
        return Refusal("session_over", f"session {state.id} is completed; only a rollback is possible")
    return rule(state, command, envelope)


def _start(state: SessionState, command: cmd.StartSession, at: CommandEnvelope) -> Decision:
    if state.status is not Status.NEW:
        return Refusal("session_exists", f"session {state.id} exists already")
    for expression in command.ticket.acceptance:
        try:
            criteria.check_syntax(expression)
        except criteria.CriterionError as problem:
            return Refusal("bad_criterion", str(problem))
    if reason := gates.unjudged(command.pipeline, command.ticket):
        return Refusal("acceptance_not_judged", reason)
    fields = {name: getattr(command, name) for name in cmd.StartSession.model_fields}
    return (ev.SessionStarted(**fields),)


def _stale(state: SessionState, phase: str, attempt: int, at: CommandEnvelope) -> Refusal | None:
    """The fence: an attempt is worked on only while it is the current one, by the agent that owns the phase."""
    known = state.phases.get(phase)
    if known is None or known.stage is not Stage.WORKING or known.attempt != attempt:
        now = ", ".join(_at(p) for p in state.active or (state.current,))
        return Refusal("stale_attempt", f"attempt {attempt} of {phase} is over; the session is at {now}")
    agent = state.definition_of(phase).agent.value
    if at.sender not in (agent, "conductor"):
        return Refusal("wrong_agent", f"{phase} belongs to {agent}, not to {at.sender}")
    return None


def _at(phase: PhaseState) -> str:
    attempt = phase.attempt + (phase.stage is Stage.RETRYING)
    return f"{phase.name} attempt {attempt} ({phase.stage.value})"


def _claim(state: SessionState, command: cmd.ClaimAttempt, at: CommandEnvelope) -> Decision:
    if stale := _stale(state, command.phase, command.attempt, at):
        return stale
    phase = state.phases[command.phase]
    if phase.barred == command.holder and phase.barred_until is not None and at.time < phase.barred_until:
        until = f"{phase.barred_until:%H:%M:%S} UTC"
        what = f"{phase.name} was taken away from {command.holder}: another replica may claim it, and it from {until}"
        return Refusal(TAKEN_AWAY, what)
    lease = state.version + 1  # the sequence of the event itself: never given twice
    return (ev.AttemptClaimed(phase=command.phase, attempt=command.attempt, lease=lease, holder=command.holder),)


def _fenced(state: SessionState, command: _Leased, at: CommandEnvelope) -> Refusal | None:
    if stale := _stale(state, command.phase, command.attempt, at):
        return stale
    lease = state.phases[command.phase].lease
    if not lease:
        return Refusal("not_claimed", f"attempt {command.attempt} of {command.phase} was not claimed: claim it first")
    if command.lease != lease:
        return Refusal("stale_lease", f"lease {command.lease} of {command.phase} was taken over by {lease}")
    return None


def _report(state: SessionState, command: cmd.ReportWork, at: CommandEnvelope) -> Decision:
    if stale := _fenced(state, command, at):
        return stale
    usage = _priced(state, command.usage)
    if wrong := _incomplete(state, command):
        return fail(state, command.phase, FailureClass.AGENT, wrong, "", usage, at.time)
    return (
        ev.WorkReported(
            phase=command.phase,
            attempt=command.attempt,
            summary=command.summary,
            artifacts=command.artifacts,
            ticked=command.ticked,
            measurements=command.measurements,
            acceptance=command.acceptance,
            warnings=command.warnings,
            usage=usage,
        ),
    )


def _incomplete(state: SessionState, command: cmd.ReportWork) -> str | None:
    """What a report lacks, or claims without right."""
    phase = state.definition_of(command.phase)
    items = {i.id for i in phase.checklist}
    ticks = {t.item for t in command.ticked}
    names = [a.name for a in command.artifacts]
    if not ticks <= items:
        return f"the report ticks items that {phase.name} does not have: {_listed(ticks - items)}"
    if doubled := [name for at, name in enumerate(names) if name in names[:at]]:
        return f"the report names artifacts twice: {_listed(doubled)}"
    if forged := [name for name in names if name.endswith(SIGNATURE)]:
        return f"signatures are made by the effect executor, not by an agent: {_listed(forged)}"
    ticked = ticks.union(state.phases[phase.name].ticked)
    if open_items := [i.id for i in phase.checklist if i.required and i.id not in ticked]:
        return f"required checklist items of {phase.name} are not ticked: {_listed(open_items)}"
    if missing := [name for name in phase.artifacts if name not in names]:
        return f"required artifacts of {phase.name} are missing: {_listed(missing)}"
    if command.acceptance and phase.mode is not Mode.SCOPE:
        return f"acceptance criteria are set in mode scope, not in {phase.mode.value}"
    asked = state.ticket.acceptance if state.ticket else ()
    if command.acceptance and (dropped := _listed(a for a in asked if a not in command.acceptance)):
        return f"the ticket's own acceptance criteria cannot be taken away: {dropped}"
    for expression in command.acceptance:
        try:
            criteria.check_syntax(expression)
        except criteria.CriterionError as problem:
            return str(problem)
    return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _priced(state: SessionState, usage: Usage) -> Usage:
    """CPU time at the policy's price on top of what the attempt paid for."""
    price = state.policy.usd_per_cpu_hour if state.policy else 0.0
    usd = usage.cpu_seconds / 3600.0 * price
    return usage.plus(Usage(usd=usd)) if usd else usage


def _failure(state: SessionState, command: cmd.ReportFailure, at: CommandEnvelope) -> Decision:
    if stale := _fenced(state, command, at):
        return stale
    usage = _priced(state, command.usage)
    return fail(state, command.phase, command.failure, command.reason, command.detail, usage, at.time)


def _expire(state: SessionState, command: cmd.ExpireAttempt, at: CommandEnvelope) -> Decision:
    if stale := _stale(state, command.phase, command.attempt, at):
        return stale
    limit = state.definition_of(command.phase).timeout_seconds
    reason = f"{command.phase} attempt {command.attempt} gave no report within {limit:g} s"
    return fail(state, command.phase, FailureClass.TRANSIENT, reason, "", Usage(), at.time)


def _extend(state: SessionState, command: cmd.ExtendAttempt, at: CommandEnvelope) -> Decision:
    """A sign of life is no event: it only puts the alarm off (see `process.heard`)."""
    return _fenced(state, command, at) or ()


def _expire_idle(state: SessionState, command: cmd.ExpireIdle, at: CommandEnvelope) -> Decision:
    """No sign of life in time is a failure, unless the alarm itself comes so late that nobody was there to hear one:
    then the holder has the same time once more."""
    if stale := _fenced(state, command, at):
        return stale
    seconds = state.definition_of(command.phase).idle_seconds
    if seconds is None:
        return Refusal("no_idle_time", f"{command.phase} has no limit for how long its agent may be silent")
    if at.time > command.due + timedelta(seconds=seconds):
        return ()
    reason = f"{command.phase} attempt {command.attempt} gave no sign of life for {seconds:g} s"
    return fail(state, command.phase, FailureClass.TRANSIENT, reason, "", Usage(), at.time)


def _retry_due(state: SessionState, command: cmd.StartRetry, at: CommandEnvelope) -> Decision:
    phase = state.phases.get(command.phase)
    if phase is None or phase.stage is not Stage.RETRYING or phase.attempt + 1 != command.attempt:
        return Refusal("stale_timer", f"attempt {command.attempt} of {command.phase} is not what is waited for")
    if state.paused:
        return Refusal("paused", f"session {state.id} is paused; attempt {command.attempt} waits until it goes on")
    return start_phase(state, state.definition_of(phase.name), at.time)


def _effect_done(state: SessionState, command: cmd.RecordEffect, at: CommandEnvelope) -> Decision:
    effect = next((e for e in state.effects if e.id == command.effect), None)
    if effect is None or effect.kind != command.kind:
        return Refusal("unknown_effect", f"session {state.id} does not wait for effect {command.effect}")
    if wrong := _incomplete_receipt(effect, command):
        return Refusal("bad_receipt", wrong)
    recorded = ev.EffectRecorded(
        effect=effect.id,
        kind=command.kind,
        phase=effect.phase,
        attempt=effect.attempt,
        commit=command.commit,
        artifacts=command.artifacts,
        registered=command.registered,
        posted=command.posted,
        snapshot=command.snapshot,
    )
    if command.posted is not None and command.posted.taken_by:
        reason = f"somebody else has the ticket: {command.posted.taken_by}"
        return (recorded, ev.SessionAborted(by=at.actor, reason=reason))
    return (recorded,)


def _incomplete_receipt(effect: Effect, command: cmd.RecordEffect) -> str | None:
    """What the receipt of an effect lacks; without it a gate would be bound to something else."""
    names = [a.name for a in command.artifacts]
    done = command.registered
    if effect.kind == "fetch":
        if names or command.commit or done is not None or command.posted is not None:
            return f"the receipt of {effect.id} says what was read and nothing else"
        return fetching.incomplete(effect, command.snapshot)
    if command.snapshot is not None:
        return f"a {effect.kind} reads no source, but the receipt of {effect.id} names a snapshot"
    if effect.kind in get_args(OriginKind):
        if names or command.commit or done is not None:
            return f"the receipt of {effect.id} says what was done at the ticket's origin and nothing else"
        return origin.incomplete(effect, command.posted)
    if command.posted is not None:
        return f"a {effect.kind} does nothing at the ticket's origin, but the receipt of {effect.id} says so"
    if effect.kind in ("register", "unregister"):
        made = effect.id if effect.registered is None else effect.registered.effect
        if done is None or (done.effect, done.model) != (made, effect.target) or names or command.commit:
            return f"the receipt of {effect.id} names the version that {made} made of {effect.target} and nothing else"
        may_be_none = effect.kind == "unregister" or (effect.registered is not None and not effect.registered.version)
        return None if done.version or may_be_none else f"the receipt of {effect.id} names no version"
    if done is not None:
        return f"a {effect.kind} registers nothing, but the receipt of {effect.id} names version {done.version}"
    if effect.kind == "sign":
        wanted = [effect.target + SIGNATURE]
        return None if names == wanted else f"effect {effect.id} makes {wanted[0]} and nothing else, not {names}"
    if names:
        return f"a {effect.kind} makes no artifacts, but the receipt of {effect.id} names {', '.join(names)}"
    return None if command.commit else f"the receipt of {effect.id} names no commit"


def _effect_failed(state: SessionState, command: cmd.RecordEffectFailure, at: CommandEnvelope) -> Decision:
    effect = next((e for e in state.effects if e.id == command.effect), None)
    if effect is None or effect.kind != command.kind:
        return Refusal("unknown_effect", f"session {state.id} does not wait for effect {command.effect}")
    failed = ev.EffectFailed(effect=effect.id, kind=command.kind, phase=effect.phase, reason=command.reason)
    if effect.kind == "branch" and not state.ended:  # it has done nothing yet: another fork costs nothing
        reason = f"the fork's branch cannot be made: {command.reason}"
        return (failed, ev.SessionAborted(by=at.actor, reason=reason))
    if state.ended or (effect.aside and effect.kind not in ("claim", "fetch")):
        return (failed,)  # it is told; what the session itself came to stays
    return (failed, block(state, effect.phase, FailureClass.POLICY, f"{command.kind} failed: {command.reason}"))


def _edited(state: SessionState, command: cmd.ReportEdits, at: CommandEnvelope) -> Decision:
    """Said once for everybody to see; it changes nothing."""
    if not command.files:
        return Refusal("no_edits", "a report of edits names no file")
    return (ev.HandEditsFound(files=command.files, commit=command.commit),)


def _request_model_call(state: SessionState, command: models.RequestModelCall, at: CommandEnvelope) -> Decision:
    """The gateway speaks for an agent, which is fenced as if it spoke itself."""
    return _fenced(state, command, at.sent_by(command.agent.value)) or model_calls.request(state, command, at)


def _rule(rule: Callable[[SessionState, C, CommandEnvelope], Decision]) -> Callable[..., Decision]:
    return rule


_RULES: dict[type[Command], Callable[..., Decision]] = {
    cmd.StartSession: _rule(_start),
    cmd.ClaimAttempt: _rule(_claim),
    cmd.ReportWork: _rule(_report),
    cmd.ReportFailure: _rule(_failure),
    cmd.ExpireAttempt: _rule(_expire),
    cmd.StartRetry: _rule(_retry_due),
    cmd.RecordEffect: _rule(_effect_done),
    cmd.RecordEffectFailure: _rule(_effect_failed),
    cmd.ReportEdits: _rule(_edited),
    cmd.ExtendAttempt: _rule(_extend),
    cmd.ExpireIdle: _rule(_expire_idle),
    models.RequestModelCall: _rule(_request_model_call),
    models.RecordModelCall: _rule(model_calls.record),
    models.RecordModelFailure: _rule(model_calls.record_failure),
    cmd.ExpireGate: _rule(gate_rules.expire),
    cmd.SendBack: _rule(gate_rules.send_gate_back),
    cmd.HoldGate: _rule(gate_rules.hold),
    cmd.UnholdGate: _rule(gate_rules.unhold),
    cmd.PauseSession: _rule(operating.pause),
    cmd.ResumeSession: _rule(operating.resume),
    cmd.ReassignAttempt: _rule(operating.reassign),
    cmd.ChangePriority: _rule(operating.change_priority),
    cmd.DecideGate: _rule(gate_rules.decide_gate),
    cmd.CancelApproval: _rule(gate_rules.cancel_approval),
    cmd.OverrideGate: _rule(gate_rules.override),
    cmd.RetryPhase: _rule(operating.retry),
    cmd.AbortSession: _rule(operating.abort),
    cmd.RollbackSession: _rule(operating.rollback),
    cmd.RestoreSession: _rule(operating.restore),
    ForkSession: forking.fork,
}
