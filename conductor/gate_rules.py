"""What people (and the clock) may do to a gate: approve, reject, send back, hold, release, let it expire. Pure.

Who may decide which gate is in `gates.py`; `decide.py` has the table of all rules.
"""

from __future__ import annotations

from conductor import gates
from conductor.process import block, send_back
from conductor.refusal import Decision, Refusal
from conductor.state import GateState, SessionState
from schemas import commands as cmd
from schemas import session as ev
from schemas.envelope import CommandEnvelope
from schemas.messages import Event
from schemas.pipeline import RepeatRule
from schemas.values import FailureClass


def decide_gate(state: SessionState, command: cmd.DecideGate, at: CommandEnvelope) -> Decision:
    """An eligible person's yes or no."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if wrong := _undecidable(state, gate, at):
        return wrong
    if command.decision == "reject":
        if not command.reason.strip():
            return Refusal("reason_missing", "a rejection needs a reason (--reason TEXT), so that it can be acted on")
        rejected, why = _rejected(gate, command.reason, at)
        return (rejected, block(state, gate.phase, FailureClass.POLICY, why))
    approval = ev.ApprovalGiven(gate=gate.id, by=at.actor, reason=command.reason)
    if len(gate.approvals) + 1 < gate.quorum:
        return (approval,)
    return (approval, ev.GatePassed(gate=gate.id, phase=gate.phase, kind="human"))


def send_gate_back(state: SessionState, command: cmd.SendBack, at: CommandEnvelope) -> Decision:
    """An eligible person's no, and a way back that the pipeline knows."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if wrong := _undecidable(state, gate, at):
        return wrong
    if not command.reason.strip():
        return Refusal("reason_missing", "sending back needs a reason (--reason TEXT), so that it can be acted on")
    rules: dict[str, RepeatRule] = {rule.to: rule for rule in state.definition_of(gate.phase).repeat}
    if (rule := rules.get(command.phase)) is None:
        ways = ", ".join(rules) or "no phase"
        return Refusal("no_way_back", f"the pipeline lets {gate.phase} go back to {ways}, not to {command.phase}")
    rejected, why = _rejected(gate, command.reason, at)
    return (rejected, *send_back(state, state.phases[gate.phase], rule, why))


def hold(state: SessionState, command: cmd.HoldGate, at: CommandEnvelope) -> Decision:
    """Nobody can decide the gate until it is released; nor does it expire."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if gate.held:
        return Refusal("already_held", f"gate {gate.id} is held already")
    return (ev.GateHeld(gate=gate.id, phase=gate.phase, by=at.actor, reason=command.reason),)


def unhold(state: SessionState, command: cmd.UnholdGate, at: CommandEnvelope) -> Decision:
    """The gate can be decided again."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_operator", reason)
    if not gate.held:
        return Refusal("not_held", f"gate {gate.id} is not held")
    return (ev.GateUnheld(gate=gate.id, phase=gate.phase, by=at.actor, reason=command.reason),)


def expire(state: SessionState, command: cmd.ExpireGate, at: CommandEnvelope) -> Decision:
    """The gate's time is over. It never passes by that: others are asked once, then the phase blocks."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if gate.held:
        return _held(gate)
    seconds = state.definition_of(gate.phase).gate.expires_seconds
    if seconds is None:
        return Refusal("no_expiry", f"gate {gate.id} does not expire")
    others = () if gate.escalated else tuple(a.name for a in gates.eligible(state, gate.phase, escalated=True))
    expired = ev.GateExpired(gate=gate.id, phase=gate.phase, escalated_to=others)
    if others:
        return (expired,)
    why = f"gate {gate.id} expired: nobody decided it within {seconds:g} s"
    return (expired, block(state, gate.phase, FailureClass.POLICY, why))


def superseded(state: SessionState, reason: str) -> tuple[Event, ...]:
    """All open gates lapse."""
    return tuple(ev.GateSuperseded(gate=gate.id, phase=gate.phase, reason=reason) for gate in state.open_gates)


def _open(state: SessionState, name: str) -> GateState | Refusal:
    gate = state.gates.get(name)
    if gate is None:
        return Refusal("unknown_gate", f"there is no gate {name}; `valuetrain gate list` shows the open ones")
    if gate.status != "open":
        by = f" by {gate.decided_by}" if gate.decided_by else ""
        return Refusal("gate_closed", f"gate {gate.id} is {gate.status}{by}; it cannot be decided again")
    return gate


def _held(gate: GateState) -> Refusal:
    return Refusal("gate_held", f"gate {gate.id} is held; release it first (`valuetrain gate unhold {gate.id}`)")


def _undecidable(state: SessionState, gate: GateState, at: CommandEnvelope) -> Refusal | None:
    """Why the sender may not decide the gate now."""
    if reason := gates.refusal(state, gate, at.actor):
        return Refusal("not_an_approver", reason)
    if gate.held:
        return _held(gate)
    phase = state.phases[gate.phase]
    bound = (gate.commit, gate.policy_version, gate.artifacts)
    if bound != (phase.commit, state.policy_version, phase.artifacts):
        what = (
            f"gate {gate.id} was opened for commit {gate.commit[:12]}, its artifacts and policy, which are not current"
        )
        return Refusal("gate_outdated", what)
    return None


def _rejected(gate: GateState, reason: str, at: CommandEnvelope) -> tuple[Event, str]:
    event = ev.GateRejected(gate=gate.id, phase=gate.phase, by=at.actor, reason=reason)
    return event, f"gate {gate.id} was rejected by {at.actor.name}: {reason}"
