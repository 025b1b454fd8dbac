"""The board: what Auto-Pilot knows of every session, folded from the event stream it follows. Pure.

Auto-Pilot has no access to the store; it sees what every observer sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, get_args

from autopilot.registrations import Registrations
from schemas import session as ev
from schemas.drive import DriveDraining, DriveStarted
from schemas.envelope import EventEnvelope
from schemas.forking import ForkPoint, SessionForked
from schemas.messages import Event
from schemas.pipeline import PipelineDefinition
from schemas.ticket import Ticket
from schemas.values import ASIDE, ArtifactRef, Measurement, OriginKind, Usage

RowStatus = Literal["active", "waiting", "blocked", "rolled_back", "completed", "aborted"]


@dataclass(slots=True)
class PhaseRow:
    """One phase of one session, as far as it got."""

    name: str
    agent: str
    status: Literal["pending", "working", "reported", "gate", "completed", "skipped", "failed"] = "pending"
    attempt: int = 0
    summary: str = ""
    ticked: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, ArtifactRef] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    warnings: tuple[str, ...] = ()
    wall_seconds: float = 0.0
    blocked: bool = False

    @property
    def busy(self) -> bool:
        """Whether the train itself goes on here."""
        return self.status in ("working", "reported", "failed") and not self.blocked


@dataclass(slots=True)
class GateRow:
    """One gate of one session."""

    id: str
    phase: str
    kind: str
    status: str = "open"
    held: bool = False
    by: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rest:
    """What of a row a rollback brings back."""

    phases: dict[str, PhaseRow]
    acceptance: tuple[str, ...]
    reason: str
    marks: dict[str, tuple[int, Rest]] = field(default_factory=dict)


_RESTING = (
    ev.SessionStarted, ev.PhaseCompleted, ev.GateOpened, ev.ApprovalGiven, ev.SessionBlocked, ev.SessionCompleted,
    ev.EffectRecorded, ev.PhaseSkipped, ev.PhaseRepeated, ev.ApprovalCancelled, SessionForked,
)  # fmt: skip
"""The events after which a session may rest; more than needed do no harm."""


_INTERVENTIONS = (
    ev.ApprovalGiven, ev.GateRejected, ev.GateHeld, ev.GateUnheld, ev.SessionResumed, ev.SessionPaused,
    ev.SessionUnpaused, ev.AttemptReassigned, ev.SessionRolledBack, ev.SessionRestored, ev.ApprovalCancelled,
    ev.GateOverridden, SessionForked,
)  # fmt: skip
"""What people do to a session; the automation rate counts the completed ones with none."""


def _copied(phases: dict[str, PhaseRow]) -> dict[str, PhaseRow]:
    return {n: replace(p, ticked=dict(p.ticked), artifacts=dict(p.artifacts)) for n, p in phases.items()}


@dataclass(slots=True)
class SessionRow:
    """One session, as far as the stream was read."""

    id: str
    ticket: Ticket
    digest: str
    pipeline: PipelineDefinition
    branch: str
    repository: str
    base_commit: str
    drive: str
    signing_key: str | None = None
    max_pushed_bytes: int = 0
    status: RowStatus = "active"
    phase: str = ""
    version: int = 0
    reason: str = ""
    commit: str = ""
    updated: datetime | None = None
    started: datetime | None = None
    acceptance: tuple[str, ...] = ()
    phases: dict[str, PhaseRow] = field(default_factory=dict)
    gates: dict[str, GateRow] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    pending_effects: dict[str, None] = field(default_factory=dict)
    """In the order in which they were asked for; those of a rollback are carried out in it."""
    effects: dict[str, str] = field(default_factory=dict)
    """The phase of every effect that was asked for."""
    registrations: Registrations = field(default_factory=Registrations)
    pull: int = 0
    url: str = ""
    """Its pull request at the forge the ticket came from."""
    taken_by: str = ""
    """Who else has the ticket there: then the session ended before it began."""
    not_done: dict[str, str] = field(default_factory=dict)
    """By kind of effect, why it could not be done there."""
    paused: str = ""
    """By whom and why no phase starts."""
    priority: str = ""
    interventions: int = 0
    line: str = ""
    """The newest line of live progress."""
    back: str = ""
    """Where the newest rollback goes to, in words."""
    returning: RowStatus | None = None
    """What the session is once the branch has followed a rollback to an event."""
    before: str = ""
    """And its reason then."""
    rests: dict[int, Rest] = field(default_factory=dict)
    """What the row held after each event at which a session may rest."""
    marks: dict[str, tuple[int, Rest]] = field(default_factory=dict)
    """And before each phase first started, with the number of the event before."""
    forked: ForkPoint | None = None
    """What it was forked from: its branch begins at that commit."""

    @property
    def open_gates(self) -> tuple[GateRow, ...]:
        """The gates waiting for people."""
        return tuple(g for g in self.gates.values() if g.status == "open" and g.kind == "human")

    @property
    def in_work(self) -> bool:
        """Whether the train itself still has something to do here."""
        runs = self.status == "active" and (not self.paused or any(phase.busy for phase in self.phases.values()))
        return runs or bool(self.pending_effects)


class Board:
    """All sessions by id. Feed it events in stream order; events it saw already change nothing."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionRow] = {}
        self.draining: dict[str, str] = {}
        """Drives that were asked to take no more tickets, and by whom and why."""
        self.backlogs: dict[str, str] = {}
        """The backlog of each drive."""

    def apply(self, envelope: EventEnvelope[Event]) -> SessionRow | None:
        """Fold one event; the row it changed, or None."""
        if isinstance(envelope.event, DriveStarted):
            self.backlogs[envelope.stream.name] = envelope.event.backlog
        if isinstance(envelope.event, DriveDraining):
            by, why = envelope.event.by.name, envelope.event.reason
            self.draining[envelope.stream.name] = f"drained by {by}" + (f": {why}" if why else "")
        if envelope.stream.kind != "session":
            return None
        event, name = envelope.event, envelope.stream.name
        if isinstance(event, ev.SessionStarted) and name not in self.sessions:
            self.sessions[name] = SessionRow(
                id=name,
                ticket=event.ticket,
                digest=event.ticket_digest,
                pipeline=event.pipeline,
                branch=event.branch,
                repository=event.repository,
                base_commit=event.base_commit,
                drive=event.drive,
                signing_key=event.policy.signing_key,
                max_pushed_bytes=event.policy.max_pushed_bytes,
                commit=event.base_commit,
                started=envelope.time,
                acceptance=event.ticket.acceptance,
                phases={p.name: PhaseRow(p.name, p.agent.value) for p in event.pipeline.phases},
            )
        row = self.sessions.get(name)
        if row is None or envelope.sequence <= row.version:
            return None
        if isinstance(event, ev.PhaseStarted | ev.PhaseSkipped) and event.phase not in row.marks:
            row.marks[event.phase] = row.version, Rest(_copied(row.phases), row.acceptance, row.reason)
        row.version, row.updated = envelope.sequence, envelope.time
        row.registrations.apply(event, row.pending_effects)
        self._work(row, event)
        self._gates(row, event)
        self._control(row, event)
        self._ends(row, event)
        self._returns(row, event)
        self._at_origin(row, event)
        if isinstance(event, SessionForked):
            _forked(row, event)
        if row.status in ("active", "waiting"):
            busy = any(phase.busy for phase in row.phases.values())
            row.status = "waiting" if row.open_gates and not busy else "active"
        if isinstance(event, _RESTING):
            row.rests[row.version] = Rest(_copied(row.phases), row.acceptance, row.reason, dict(row.marks))
        return row

    def _work(self, row: SessionRow, event: Event) -> None:
        match event:
            case ev.PhaseStarted():
                row.status, row.phase, row.reason, row.line = "active", event.phase, "", ""
                phase = row.phases[event.phase]
                phase.status, phase.attempt, phase.blocked = "working", event.attempt, False
            case ev.WorkReported():
                phase = row.phases[event.phase]
                phase.status, phase.summary, phase.warnings = "reported", event.summary, event.warnings
                phase.artifacts = {a.name: a for a in event.artifacts}
                phase.measurements = event.measurements
                for item in event.ticked:
                    phase.ticked.setdefault(item.item, item.evidence)
                phase.wall_seconds += event.usage.wall_seconds
                row.acceptance = event.acceptance or row.acceptance
                row.usage = row.usage.plus(event.usage)
            case ev.AttemptFailed():
                row.phases[event.phase].status = "failed"
                row.phases[event.phase].wall_seconds += event.usage.wall_seconds
                row.usage = row.usage.plus(event.usage)
                row.reason = event.reason
            case ev.AttemptReassigned():
                row.phases[event.phase].status = "pending"
            case ev.PhaseSkipped():
                row.phases[event.phase].status = "skipped"
                row.phases[event.phase].summary = f"skipped: {event.condition.expression}"
            case ev.PhaseRepeated():
                for name in event.phases:
                    phase = row.phases[name]
                    row.phases[name] = PhaseRow(
                        name, phase.agent, attempt=phase.attempt, ticked=phase.ticked, wall_seconds=phase.wall_seconds
                    )
                    row.marks.pop(name, None)
                for effect in [e for e in row.pending_effects if row.effects[e] in event.phases]:
                    del row.pending_effects[effect]
            case ev.EffectRequested():
                row.effects[event.effect] = "" if event.kind in ASIDE else event.phase
                row.pending_effects[event.effect] = None
            case ev.EffectRecorded():
                row.pending_effects.pop(event.effect, None)
                row.commit = event.commit or row.commit
                row.phases[event.phase].artifacts.update({a.name: a for a in event.artifacts})
            case ev.EffectFailed():
                row.pending_effects.pop(event.effect, None)
                if row.status == "rolled_back":  # the rest of the rollback is withdrawn with it
                    row.pending_effects.clear()
            case ev.PhaseCompleted():
                row.phases[event.phase].status = "completed"
            case _:
                pass

    def _gates(self, row: SessionRow, event: Event) -> None:
        match event:
            case ev.GateOpened():
                row.gates[event.gate] = GateRow(event.gate, event.phase, event.kind, reason=event.reason)
                row.phases[event.phase].status = "gate"
            case ev.ApprovalGiven():
                row.gates[event.gate].by = (*row.gates[event.gate].by, event.by.name)
            case ev.ApprovalCancelled():
                row.gates[event.gate].by = tuple(name for name in row.gates[event.gate].by if name != event.of.name)
            case ev.GateOverridden():
                row.gates[event.gate].by = (*row.gates[event.gate].by, f"{event.by.name} (override)")
            case ev.GatePassed():
                row.gates[event.gate].status = "passed"
            case ev.GateRejected():
                row.gates[event.gate].status, row.gates[event.gate].by = "rejected", (event.by.name,)
            case ev.GateSuperseded():
                row.gates[event.gate].status = "superseded"
            case ev.GateExpired():
                row.gates[event.gate].status = "expired"
            case ev.GateHeld() | ev.GateUnheld():
                row.gates[event.gate].held = isinstance(event, ev.GateHeld)
            case _:
                pass

    def _control(self, row: SessionRow, event: Event) -> None:
        if isinstance(event, _INTERVENTIONS):
            row.interventions += 1
        match event:
            case ev.SessionPaused():
                row.paused = f"paused by {event.by.name}" + (f": {event.reason}" if event.reason else "")
            case ev.SessionUnpaused():
                row.paused = ""
            case ev.PriorityChanged():
                row.priority = event.priority.value
            case _:
                pass

    def _ends(self, row: SessionRow, event: Event) -> None:
        match event:
            case ev.PhaseBlocked():
                row.phases[event.phase].blocked = True
            case ev.SessionBlocked():
                row.status, row.reason = "blocked", event.reason
                row.phases[event.phase].blocked = True
            case ev.SessionResumed():
                row.status = "active"
                for phase in row.phases.values():
                    phase.blocked = False
            case ev.SessionCompleted():
                row.status, row.commit, row.phase = "completed", event.commit, ""
            case ev.SessionAborted():
                row.status, row.reason, row.returning = "aborted", event.reason, None
                row.pending_effects.clear()
            case ev.SessionRolledBack():
                row.status = "rolled_back"
                row.back = f"the start of {event.phase}"
                row.reason = f"rolled back to {row.back} by {event.by.name}"
                row.phase = event.phase
                row.returning = None
                row.pending_effects.clear()
                reached, mark = row.marks[event.phase]
                attempts = {name: phase.attempt for name, phase in row.phases.items()}
                row.acceptance, row.phases = mark.acceptance, _copied(mark.phases)
                for name, phase in row.phases.items():
                    phase.attempt, phase.blocked = attempts[name], False
                    if phase.status not in ("completed", "skipped"):
                        phase.status = "pending"
                row.marks = {name: kept for name, kept in row.marks.items() if kept[0] <= reached}
            case _:
                pass

    def _at_origin(self, row: SessionRow, event: Event) -> None:
        match event:
            case ev.EffectRecorded(posted=posted) if posted is not None:
                row.not_done.pop(event.kind, None)
                row.taken_by = posted.taken_by or row.taken_by
                if event.kind == "publish":
                    row.pull, row.url = posted.pull, posted.url
                elif event.kind == "withdraw":
                    row.pull, row.url = 0, ""
            case ev.EffectFailed() if event.kind in get_args(OriginKind):
                row.not_done[event.kind] = event.reason
            case ev.SessionResumed() | ev.SessionRolledBack() | ev.SessionRestored():
                row.not_done.clear()
            case _:
                pass

    def _returns(self, row: SessionRow, event: Event) -> None:
        match event:
            case ev.SessionRestored():
                row.status, row.phase, row.back = "rolled_back", event.phase, f"event {event.to_sequence}"
                row.reason = f"rolled back to {row.back} by {event.by.name}"
                row.returning = event.to_status
                row.pending_effects.clear()
                rest = row.rests[max(n for n in row.rests if n <= event.to_sequence)]
                attempts = {name: phase.attempt for name, phase in row.phases.items()}
                row.acceptance, row.phases, row.marks = rest.acceptance, _copied(rest.phases), dict(rest.marks)
                for name, phase in row.phases.items():
                    phase.attempt = attempts[name]
                row.before = rest.reason
            case ev.EffectRecorded() if row.returning is not None and not row.pending_effects:
                # A gate opens anew with the next events; between two phases it stays rolled back.
                row.status = "active" if row.returning == "waiting" else row.returning
                if row.returning != "rolled_back":
                    row.reason = row.before
                row.returning = None
            case ev.EffectFailed():
                row.returning = None
            case _:
                pass


_STANDS: dict[str, Literal["pending", "reported", "completed", "skipped"]] = {
    "completed": "completed", "skipped": "skipped", "gate": "reported", "open": "pending",
}  # fmt: skip


def _forked(row: SessionRow, event: SessionForked) -> None:
    """What comes along from the other session."""
    row.forked, row.commit, row.acceptance = event.point, event.point.commit, event.acceptance
    for each in event.phases:
        phase = row.phases[each.phase]
        phase.status, phase.attempt, phase.summary, phase.warnings = (
            _STANDS[each.stands], each.attempt, each.summary, each.warnings
        )  # fmt: skip
        phase.ticked = {item.item: item.evidence for item in each.ticked}
        phase.artifacts = {artifact.name: artifact for artifact in each.artifacts}
        phase.measurements = each.measurements
    for gate in event.gates:
        people = tuple(approval.by.name for approval in gate.approvals)
        row.gates[gate.gate] = GateRow(gate.gate, gate.phase, gate.kind, "passed", by=people, reason=gate.reason)
