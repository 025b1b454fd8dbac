"""Read models: what lists and boards show, derived from a session's state. Pure; they can be made again at any time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from conductor.gates import eligible, who
from conductor.state import GateState, SessionState
from schemas.envelope import timestamp


def session_view(state: SessionState, at: datetime) -> dict[str, Any]:
    """One row of `valuetrain session list`."""
    ticket, gate = state.ticket, state.open_gate
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
        "gate": gate.id if gate else None,
        "repository": state.repository,
        "branch": state.branch,
        "commit": state.commit,
        "pending_effects": len(state.effects),
        "phases": [
            {"phase": p.name, "completed": p.completed, "attempt": p.attempt, "summary": p.summary}
            for p in state.phases.values()
        ],
        "measured": {scope: dict(values) for scope, values in state.measured.items()},
        "cost_usd": round(state.usage.usd, 6),
        "seconds": round(state.usage.wall_seconds, 3),
        "interventions": state.interventions,
        "version": state.version,
        "updated": timestamp(at),
    }


def gate_view(state: SessionState, gate: GateState) -> dict[str, Any]:
    """One row of `valuetrain gate list`."""
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
        "may_decide": [who(a) for a in eligible(state, gate.phase)],
        "reason": gate.reason,
        "commit": gate.commit,
        "artifacts": {a.name: a.sha256 for a in gate.artifacts},
        "opened": timestamp(gate.opened),
    }
