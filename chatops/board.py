"""What chat-ops knows of every session, folded from the event stream that it follows. Pure.

Chat-ops has no access to the store. It shows and pre-selects; what counts is judged again by the conductor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from schemas import session as ev
from schemas.envelope import EventEnvelope
from schemas.forking import SessionForked
from schemas.messages import Event
from schemas.policy import Policy
from schemas.ticket import Ticket


@dataclass(slots=True)
class GateRow:
    """A gate that asked for a person. `artifacts` maps names to SHA-256."""

    id: str
    phase: str
    commit: str
    quorum: int
    opened: datetime
    reason: str
    artifacts: dict[str, str]
    status: str = "open"
    held: bool = False
    by: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Row:
    """One session."""

    id: str
    ticket: Ticket
    policy: Policy
    policy_version: str
    pipeline: tuple[str, ...]
    branch: str
    started: datetime
    status: str = "active"
    phase: str = ""
    reason: str = ""
    paused: str = ""
    commit: str = ""
    version: int = 0
    gates: dict[str, GateRow] = field(default_factory=dict)
    phases: dict[str, str] = field(default_factory=dict)
    """How far each phase is that was ever started."""

    @property
    def open_gates(self) -> tuple[GateRow, ...]:
        """The gates that wait for people."""
        return tuple(gate for gate in self.gates.values() if gate.status == "open")

    @property
    def over(self) -> bool:
        """Whether nothing but a rollback is possible any more."""
        return self.status in ("completed", "aborted")


class Board:
    """All sessions by id. Feed it events in stream order; events it saw already change nothing."""

    def __init__(self) -> None:
        self.sessions: dict[str, Row] = {}
        self._by_ticket: dict[tuple[str, int], str] = {}

    def of_ticket(self, origin: str, number: int) -> Row | None:
        """The newest session of a ticket of the backlog `origin` (`github:OWNER/REPO`, compared without case), which
        may also be named by the number of its pull request."""
        name = self._by_ticket.get((origin.casefold(), number))
        return self.sessions[name] if name is not None else None

    def apply(self, envelope: EventEnvelope[Event]) -> Row | None:
        """Fold one event; the row it changed, or None."""
        if envelope.stream.kind != "session":
            return None
        event, name = envelope.event, envelope.stream.name
        if isinstance(event, ev.SessionStarted) and name not in self.sessions:
            self.sessions[name] = Row(
                id=name,
                ticket=event.ticket,
                policy=event.policy,
                policy_version=event.policy_version,
                pipeline=tuple(phase.name for phase in event.pipeline.phases),
                branch=event.branch,
                started=envelope.time,
                commit=event.base_commit,
            )
            if event.ticket.origin is not None:
                self._by_ticket[event.ticket.origin.casefold(), event.ticket.id] = name
        row = self.sessions.get(name)
        if row is None or envelope.sequence <= row.version:
            return None
        row.version = envelope.sequence
        posted = event.posted if isinstance(event, ev.EffectRecorded) else None
        if posted is not None and posted.pull and row.ticket.origin is not None:
            # What is said on the pull request is said of its ticket.
            self._by_ticket[row.ticket.origin.casefold(), posted.pull] = name
        _gate(row, event)
        _session(row, event)
        return row


def _gate(row: Row, event: Event) -> None:
    match event:
        case ev.GateOpened() if event.kind == "human":
            row.gates[event.gate] = GateRow(
                id=event.gate,
                phase=event.phase,
                commit=event.commit,
                quorum=event.quorum,
                opened=event.opened,
                reason=event.reason,
                artifacts={artifact.name: artifact.sha256 for artifact in event.artifacts},
            )
        case ev.ApprovalGiven():
            row.gates[event.gate].by.append(event.by.name)
        case ev.ApprovalCancelled():
            row.gates[event.gate].by.remove(event.of.name)
        case ev.GateOverridden():
            row.gates[event.gate].by.append(f"{event.by.name} (override)")
        case ev.GatePassed() if event.kind == "human":
            row.gates[event.gate].status = "passed"
        case ev.GateRejected():
            row.gates[event.gate].status = "rejected"
        case ev.GateSuperseded():
            row.gates[event.gate].status = "superseded"
        case ev.GateExpired():
            row.gates[event.gate].status = "expired"
        case ev.GateHeld() | ev.GateUnheld():
            row.gates[event.gate].held = isinstance(event, ev.GateHeld)
        case _:
            pass


def _session(row: Row, event: Event) -> None:
    match event:
        case ev.PhaseStarted():
            row.status, row.phase, row.reason = "active", event.phase, ""
            row.phases[event.phase] = "at work"
        case ev.WorkReported():
            row.phases[event.phase] = "reported"
        case ev.AttemptFailed():
            row.phases[event.phase] = "failed"
            row.reason = event.reason
        case ev.PhaseCompleted():
            row.phases[event.phase] = "completed"
        case ev.PhaseSkipped():
            row.phases[event.phase] = "skipped"
        case ev.EffectRecorded():
            row.commit = event.commit or row.commit
        case ev.SessionBlocked() | ev.PhaseBlocked():
            row.status = "blocked" if isinstance(event, ev.SessionBlocked) else row.status
            row.reason = event.reason
        case ev.SessionResumed():
            row.status, row.reason = "active", ""
        case ev.SessionPaused():
            row.paused = event.by.name
        case ev.SessionUnpaused():
            row.paused = ""
        case SessionForked():
            row.commit = event.point.commit
            row.phases |= {p.phase: p.stands for p in event.phases if p.stands in ("completed", "skipped")}
        case ev.SessionRolledBack():
            row.status, row.phase = "rolled back", event.phase
        case ev.SessionRestored():
            row.status, row.phase = event.to_status.replace("_", " "), event.phase
        case ev.SessionCompleted():
            row.status, row.commit = "completed", event.commit
        case ev.SessionAborted():
            row.status, row.reason = "aborted", event.reason
        case _:
            pass
