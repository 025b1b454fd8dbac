"""Read models: what lists and boards show, derived from a session's state. Pure; they can be made again at any time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from conductor.gates import eligible, missing, touched, who
from conductor.state import GateState, SessionState
from schemas.envelope import timestamp


def session_view(state: SessionState, at: datetime) -> dict[str, Any]:
    """One row of `valuetrain session list`."""
    ticket, gates = state.ticket, state.open_gates
    return {
        "session": state.id,
        "ticket": ticket.id if ticket else None,
        "title": ticket.title if ticket else "",
        "ticket_digest": state.ticket_digest,
        "risk": ticket.risk.value if ticket else "",
        "pipeline": state.pipeline.name if state.pipeline else "",
        "drive": state.drive,
        "status": state.status.value,
        "stage": state.stage.value,
        "phase": state.phase,
        "agent": state.definition.agent.value if state.phase and state.pipeline else "",
        "attempt": state.attempt,
        "reason": state.reason,
        "paused": state.paused,
        "priority": state.priority or None,
        "active": [{"phase": p.name, "stage": p.stage.value, "attempt": p.attempt} for p in state.active],
        "gate": gates[0].id if gates else None,
        "gates": [gate.id for gate in gates],
        "repository": state.repository,
        "branch": state.branch,
        "commit": state.commit,
        "pending_effects": len(state.effects),
        "phases": [
            {
                "phase": p.name,
                "completed": p.completed,
                "skipped": p.skipped,
                "attempt": p.attempt,
                "summary": p.summary,
                "blocked": p.blocked,
            }
            for p in state.phases.values()
        ],
        "measured": {scope: dict(values) for scope, values in state.measured.items()},
        "cost_usd": round(state.usage.usd, 6),
        "seconds": round(state.usage.wall_seconds, 3),
        "interventions": state.interventions,
        "version": state.version,
        "updated": timestamp(at),
        **_snapshot(state),
        **_at_origin(state),
        **_fork(state),
    }


def _snapshot(state: SessionState) -> dict[str, Any]:
    """For rows of a named source: what was read of it, and when."""
    if state.ticket is None or state.ticket.snapshot is None:
        return {}
    return {"snapshot": state.ticket.snapshot.model_dump(mode="json")}


def _fork(state: SessionState) -> dict[str, Any]:
    """For a fork: where it comes from and how it is planned."""
    if state.forked is None:
        return {}
    return {"forked_from": state.forked.model_dump(mode="json"), "guidance": state.guidance.model_dump(mode="json")}


def _at_origin(state: SessionState) -> dict[str, Any]:
    """For a ticket of a forge: where it is, who else has it, and the session's pull request."""
    if state.ticket is None or state.ticket.origin is None:
        return {}
    here = state.at_origin
    return {
        "origin": state.ticket.origin,
        "taken_by": here.taken_by,
        "pull": here.pull or None,
        "url": here.url or None,
        "not_done": list(here.failed),
    }


def gate_view(state: SessionState, gate: GateState) -> dict[str, Any]:
    """One row of `valuetrain gate list`."""
    phase = state.phases.get(gate.phase)
    return {
        "gate": gate.id,
        "session": state.id,
        "ticket": state.ticket.id if state.ticket else None,
        "title": state.ticket.title if state.ticket else "",
        "phase": gate.phase,
        "kind": gate.kind,
        "status": gate.status,
        "quorum": gate.quorum,
        "approvals": [a.by.name for a in gate.approvals],
        "decided_by": gate.decided_by,
        "held": gate.held,
        "escalated": gate.escalated,
        "overridden": gate.overridden,
        "expires": timestamp(phase.due) if phase and phase.due and gate.status == "open" else None,
        "may_decide": [who(a) for a in eligible(state, gate.phase, gate.escalated)],
        "problem": missing(state, gate) if gate.status == "open" else "",
        "reason": gate.reason,
        "commit": gate.commit,
        "touched": list(touched(state)),
        "artifacts": {a.name: a.sha256 for a in gate.artifacts},
        "opened": timestamp(gate.opened),
    }
