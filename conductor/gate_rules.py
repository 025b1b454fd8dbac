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

SHORTEST = 7
"""Digits a commit's abbreviation needs at least."""


def decide_gate(state: SessionState, command: cmd.DecideGate, at: CommandEnvelope) -> Decision:
    """An eligible person's yes or no."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if wrong := _undecidable(state, gate, at) or _other_commit(gate, command.commit):
        return wrong
    if command.decision == "reject":
        if not command.reason.strip():
            return Refusal("reason_missing", "a rejection needs a reason (--reason TEXT), so that it can be acted on")
        rejected, why = _rejected(gate, command.reason, at)
        return (rejected, block(state, gate.phase, FailureClass.POLICY, why))
    lapsed = [(a.by, said) for a in gate.approvals if (said := gates.unfit(state, gate, a.by))]
    events: list[Event] = [
        ev.ApprovalCancelled(gate=gate.id, phase=gate.phase, of=of, reason=why) for of, why in lapsed
    ]
    events.append(ev.ApprovalGiven(gate=gate.id, by=at.actor, reason=command.reason))
    if len(gate.approvals) - len(lapsed) + 1 < gate.quorum:
        return tuple(events)
    return (*events, ev.GatePassed(gate=gate.id, phase=gate.phase, kind="human"))


def cancel_approval(state: SessionState, command: cmd.CancelApproval, at: CommandEnvelope) -> Decision:
    """Who approved takes it back; also of a gate that is held."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if reason := gates.may_operate(state.policy, at.actor):
        return Refusal("not_an_approver", reason)
    given = next((a.by for a in gate.approvals if a.by.name == at.actor.name), None)
    if given is None:
        return Refusal("no_approval", f"{at.actor.name} has not approved gate {gate.id}: there is nothing to take back")
    return (ev.ApprovalCancelled(gate=gate.id, phase=gate.phase, of=given, reason=command.reason),)


def override(state: SessionState, command: cmd.OverrideGate, at: CommandEnvelope) -> Decision:
    """An admin's yes in place of everybody else's. What the gate is bound to is checked all the same."""
    gate = _open(state, command.gate)
    if isinstance(gate, Refusal):
        return gate
    if reason := gates.may_override(state, at.actor):
        return Refusal("not_an_admin", reason)
    if not command.reason.strip():
        return Refusal("reason_missing", "an override needs a reason, for the record")
    if wrong := _held(gate) if gate.held else _outdated(state, gate) or _other_commit(gate, command.commit):
        return wrong
    return (
        ev.GateOverridden(gate=gate.id, phase=gate.phase, by=at.actor, reason=command.reason),
        ev.GatePassed(gate=gate.id, phase=gate.phase, kind="human"),
    )


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
    return _outdated(state, gate)


def _outdated(state: SessionState, gate: GateState) -> Refusal | None:
    """Whether what the gate is bound to is still what would pass."""
    phase = state.phases[gate.phase]
    bound = (gate.commit, gate.policy_version, gate.artifacts)
    if bound != (phase.commit, state.policy_version, phase.artifacts):
        what = (
            f"gate {gate.id} was opened for commit {gate.commit[:12]}, its artifacts and policy, which are not current"
        )
        return Refusal("gate_outdated", what)
    return None


def _other_commit(gate: GateState, seen: str) -> Refusal | None:
    """Whether the person speaks of another commit than the gate's; a short one must be long enough to mean one."""
    if not seen or (len(seen) >= SHORTEST and gate.commit.startswith(seen.lower())):
        return None
    what = f"gate {gate.id} is for commit {gate.commit[:12]}, not for {seen[:40]}: look at that one, then decide"
    return Refusal("other_commit", what)


def _rejected(gate: GateState, reason: str, at: CommandEnvelope) -> tuple[Event, str]:
    event = ev.GateRejected(gate=gate.id, phase=gate.phase, by=at.actor, reason=reason)
    return event, f"gate {gate.id} was rejected by {at.actor.name}: {reason}"
