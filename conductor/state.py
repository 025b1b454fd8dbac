"""What a session is: the fold of its events. Pure: no clock, ids, randomness, IO.

`evolve(state, event, sequence)` is total over the session's event types and refuses nothing that the rules recorded:
what is in the record happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from schemas.pipeline import PhaseDefinition, PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Ticket
from schemas.values import Approval, ArtifactRef, Measurement, Usage

NOTHING: Mapping[Any, Any] = MappingProxyType({})

if TYPE_CHECKING:
    from dataclasses import replace as replace  # so that names and types of the fields are checked
else:

    def replace(state, **changes):
        """`dataclasses.replace` for the states that have no slots, at a seventh of its cost: it is most of a fold."""
        after = object.__new__(type(state))
        after.__dict__.update(state.__dict__, **changes)
        return after


def _nothing() -> Mapping[Any, Any]:
    return NOTHING


class Status(StrEnum):
    """Where a session stands, for people and for the drive."""

    NEW = "new"
    ACTIVE = "active"
    WAITING = "waiting"
    BLOCKED = "blocked"
    ROLLED_BACK = "rolled_back"
    COMPLETED = "completed"
    ABORTED = "aborted"


class Stage(StrEnum):
    """What the current phase is waiting for."""

    IDLE = "idle"
    WORKING = "working"
    RETRYING = "retrying"
    REPORTED = "reported"
    EFFECT = "effect"
    RECORDED = "recorded"
    GATE = "gate"
    PASSED = "passed"


@dataclass(frozen=True)
class PhaseState:
    """What one phase has come to."""

    name: str
    attempt: int = 0
    completed: bool = False
    ticked: Mapping[str, str] = field(default_factory=_nothing)
    artifacts: tuple[ArtifactRef, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    summary: str = ""
    warnings: tuple[str, ...] = ()
    failures: int = 0
    criteria: tuple[Any, ...] = ()


@dataclass(frozen=True)
class GateState:
    """A gate: `open`, then `passed`, `rejected` or `superseded` for ever."""

    id: str
    phase: str
    attempt: int
    kind: str
    quorum: int
    commit: str
    artifacts: tuple[ArtifactRef, ...]
    policy_version: str
    reason: str
    opened: datetime
    status: str = "open"
    approvals: tuple[Approval, ...] = ()
    decided_by: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect that was requested and has no receipt yet."""

    id: str
    kind: str
    phase: str
    attempt: int
    artifacts: tuple[ArtifactRef, ...]
    target: str


@dataclass(frozen=True)
class SessionState:
    """A session. `version` is the sequence of the last event folded."""

    id: str
    version: int = 0
    status: Status = Status.NEW
    stage: Stage = Stage.IDLE
    drive: str = ""
    ticket: Ticket | None = None
    ticket_digest: str = ""
    pipeline: PipelineDefinition | None = None
    policy: Policy | None = None
    policy_version: str = ""
    repository: str = ""
    base_commit: str = ""
    branch: str = ""
    roots: tuple[str, ...] = ()
    seed: int = 0
    phase: str = ""
    attempt: int = 0
    lease: int = 0
    holder: str = ""
    phases: Mapping[str, PhaseState] = field(default_factory=_nothing)
    artifacts: Mapping[str, ArtifactRef] = field(default_factory=_nothing)
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=_nothing)
    acceptance: tuple[str, ...] = ()
    gates: Mapping[str, GateState] = field(default_factory=_nothing)
    effects: tuple[Effect, ...] = ()
    effects_done: int = 0
    commit: str = ""
    unrestored: bool = False
    """Whether the branch could not be taken back after a rollback: then it holds more than this state."""
    usage: Usage = field(default_factory=Usage)
    reason: str = ""
    interventions: int = 0
    """How often a person decided something: the automation rate counts sessions with none."""
    marks: Mapping[str, SessionState] = field(default_factory=_nothing)
    """For each started phase the state just before it first started: where a rollback goes back to."""
    rests: Mapping[int, SessionState] = field(default_factory=_nothing, repr=False)
    """The states in which nothing was going on, by the event they began with; see `conductor.rests`."""
    resting: bool = False
    """Whether this is one of them."""
    returning: SessionState | None = field(default=None, repr=False)
    """What a rollback to an event brings back as soon as the branch has followed."""

    @property
    def definition(self) -> PhaseDefinition:
        """The current phase's definition. Raises KeyError outside a started session."""
        if self.pipeline is None:
            raise KeyError(f"session {self.id} has not started")
        return self.pipeline.phase(self.phase)

    @property
    def open_gate(self) -> GateState | None:
        """The gate a person must decide, if there is one."""
        return next((g for g in self.gates.values() if g.status == "open"), None)

    @property
    def ended(self) -> bool:
        """Whether the session accepts nothing but rollback any more."""
        return self.status in (Status.COMPLETED, Status.ABORTED)


def initial(session: str) -> SessionState:
    """The state before the first event."""
    return SessionState(session)
