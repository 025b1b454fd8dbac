"""What operators may do to a session: pause, resume, reassign, change its priority, retry, abort, roll back. Pure.

`decide.py` has the table of all rules.
"""

from __future__ import annotations

from typing import Literal

from conductor import gates, rests
from conductor.compensate import compensations
from conductor.gate_rules import superseded
from conductor.process import start_phase
from conductor.refusal import Decision, Refusal
from conductor.state import SessionState, Stage, Status
from schemas import commands as cmd
from schemas import session as ev
from schemas.envelope import CommandEnvelope


def pause(state: SessionState, command: cmd.PauseSession, at: CommandEnvelope) -> Decision:
    """No phase starts any more, nor a retry; what is at work may report, and gates may be decided."""
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if state.paused:
        return Refusal("already_paused", f"session {state.id} is paused already")
    return (ev.SessionPaused(by=at.actor, reason=command.reason),)


def resume(state: SessionState, command: cmd.ResumeSession, at: CommandEnvelope) -> Decision:
    """It goes on where it was; a retry that came due meanwhile starts at once."""
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if not state.paused:
        return Refusal("not_paused", f"session {state.id} is not paused; a blocked one is retried, not resumed")
    return (ev.SessionUnpaused(by=at.actor, reason=command.reason),)


def reassign(state: SessionState, command: cmd.ReassignAttempt, at: CommandEnvelope) -> Decision:
    """The attempt is over for its holder, whose late report is refused; a new one is given out at once."""
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if state.paused:
        return Refusal("paused", f"session {state.id} is paused; `valuetrain session resume {state.id}` first")
    phase = state.phases.get(command.phase)
    if phase is None or phase.stage is not Stage.WORKING:
        working = ", ".join(p.name for p in state.active if p.stage is Stage.WORKING) or "none"
        return Refusal("not_at_work", f"nobody works on {command.phase} of {state.id}; at work: {working}")
    taken = ev.AttemptReassigned(
        phase=phase.name, attempt=phase.attempt, holder=phase.holder, by=at.actor, reason=command.reason
    )
    return (taken, *start_phase(state, state.definition_of(phase.name), at.time))


def change_priority(state: SessionState, command: cmd.ChangePriority, at: CommandEnvelope) -> Decision:
    """How urgent the ticket is, whatever its labels say."""
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if state.priority == command.priority.value:
        return Refusal("same_priority", f"the priority of {state.id} is {state.priority} already")
    return (ev.PriorityChanged(priority=command.priority, by=at.actor, reason=command.reason),)


def retry(state: SessionState, command: cmd.RetryPhase, at: CommandEnvelope) -> Decision:
    """Another try of all blocked phases, or of the one a rollback went back to."""
    if state.status not in (Status.BLOCKED, Status.ROLLED_BACK) and not state.blocked:
        return Refusal("not_blocked", f"session {state.id} is {state.status.value}; only a blocked one can be retried")
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if state.paused:
        return Refusal("paused", f"session {state.id} is paused; `valuetrain session resume {state.id}` first")
    if [effect for effect in state.effects if not effect.aside]:
        return Refusal("effect_pending", "the rollback is still being carried out; try again in a moment")
    if state.unrestored:
        return Refusal("not_restored", f"the branch was not taken back; roll back to {state.phase} again first")
    phase = next((blocked.name for blocked in state.blocked), state.phase)
    return (ev.SessionResumed(phase=phase, by=at.actor, reason=command.reason),)


def abort(state: SessionState, command: cmd.AbortSession, at: CommandEnvelope) -> Decision:
    """The end, at any moment."""
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    return (*superseded(state, "the session was aborted"), ev.SessionAborted(by=at.actor, reason=command.reason))


def rollback(state: SessionState, command: cmd.RollbackSession, at: CommandEnvelope) -> Decision:
    """Back to the moment before a phase first started."""
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    mark = state.marks.get(command.phase)
    if mark is None:
        started = ", ".join(state.marks) or "none"
        return Refusal("unknown_phase", f"phase {command.phase} has not started in {state.id}; started: {started}")
    back = ev.SessionRolledBack(
        phase=command.phase, to_sequence=mark.version, by=at.actor, reason=command.reason, commit=mark.commit
    )
    undo = compensations(state, command.phase, mark.commit, mark.registered)
    return (*superseded(state, f"rolled back to {command.phase}"), back, *undo)


def restore(state: SessionState, command: cmd.RestoreSession, at: CommandEnvelope) -> Decision:
    """Back to where the session rested after an event."""
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    sequence = command.sequence
    if not 1 <= sequence <= state.version:
        return Refusal("unknown_event", f"{state.id} has events 1 to {state.version}, and no {sequence}")
    then = rests.find(state, sequence)
    if then is None:
        near = " and ".join(map(str, rests.nearest(state, sequence))) or "none"
        what = (
            f"{state.id} did not rest after event {sequence}, so that state cannot be brought back; the nearest: {near}"
        )
        return Refusal("not_at_rest", what)
    if rests.find(state, state.version) is then:
        return Refusal("already_there", f"nothing happened in {state.id} since event {sequence}")
    between = rests.starts_next(then) if then.status is Status.ACTIVE else ""
    phase = between or then.phase
    back = ev.SessionRestored(
        phase=phase,
        to_sequence=sequence,
        to_status=_RETURNS.get(then.status, "rolled_back"),
        by=at.actor,
        reason=command.reason,
        commit=then.commit,
    )
    undo = compensations(state, phase, then.commit, then.registered)
    return (*superseded(state, f"rolled back to event {sequence}"), back, *undo)


_RETURNS: dict[Status, Literal["waiting", "blocked", "completed"]] = {
    Status.WAITING: "waiting",
    Status.BLOCKED: "blocked",
    Status.COMPLETED: "completed",
}
"""What a session comes to by itself after going back; from anywhere else a retry goes on."""
