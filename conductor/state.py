"""What a session is: the fold of its events. Pure: no clock, ids, randomness, IO.

States are changed by copying their `__dict__` (`replace`), so they have no slots.

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

from schemas.forking import ForkPoint, Guidance
from schemas.model_calls import TokenUsage
from schemas.model_policy import ModelSpend
from schemas.pipeline import PhaseDefinition, PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Ticket
from schemas.values import ASIDE, Approval, ArtifactRef, FailureClass, Measurement, Registered, Usage

NOTHING: Mapping[Any, Any] = MappingProxyType({})

if TYPE_CHECKING:
    from dataclasses import replace as replace  # so that names and types of the fields are checked
else:

    def replace(state, **changes):
        """`dataclasses.replace` for the states that have no slots, at a fifteenth of its cost: it is most of a fold."""
        fields = state.__dict__.copy()
        fields.update(changes)
        after = _new(type(state))
        _set(after, "__dict__", fields)
        return after


_new, _set = object.__new__, object.__setattr__


def finish(
    state: SessionState, version: int, status: Status, rests: Mapping[int, SessionState], resting: bool
) -> SessionState:
    """Set the last fields of a state that was just made, and give it back. Only while nobody else has it: states do not
    change, and another copy of it would cost as much again."""
    state.__dict__.update(version=version, status=status, rests=rests, resting=resting)
    return state


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
    """What a phase is waiting for. `idle`: for its turn, or it is over; `stopped`: for the rule that says what a
    failure leads to."""

    IDLE = "idle"
    STOPPED = "stopped"
    WORKING = "working"
    RETRYING = "retrying"
    REPORTED = "reported"
    EFFECT = "effect"
    COMMITTED = "committed"
    RECORDED = "recorded"
    GATE = "gate"
    PASSED = "passed"
    REGISTERED = "registered"


_IDLE = Stage.IDLE  # looking up an enumeration's member costs three times looking up a name


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A recorded answer of a model: the digests of what it was asked and of what it said."""

    number: int
    prompt: str
    reply: str
    usage: TokenUsage
    usd: float


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A model call that was asked for and is not recorded (yet): its upper bounds count as used."""

    id: str
    phase: str
    attempt: int
    number: int
    prompt: str
    model: str
    gateway: str
    input_tokens: int
    output_tokens: int
    usd: float
    seconds: float
    until: datetime
    """When its gateway has given it up at the latest."""

    @property
    def spend(self) -> ModelSpend:
        """What it counts as."""
        return ModelSpend(tokens=self.input_tokens + self.output_tokens, usd=self.usd, seconds=self.seconds)


NO_SPEND = ModelSpend()


@dataclass(frozen=True)
class PhaseState:
    """How far one phase is, and what it has come to."""

    name: str
    stage: Stage = Stage.IDLE
    attempt: int = 0
    lease: int = 0
    holder: str = ""
    barred: str = ""
    """The holder the last attempt was taken away from, until another one claims."""
    barred_until: datetime | None = None
    """When it may claim after all, should there be nobody else."""
    due: datetime | None = None
    """When the attempt's time is over, or the pause before the next one."""
    commit: str = ""
    """What the newest attempt was committed as: its gate is bound to it, whatever other phases commit later."""
    gate: str = ""
    """The gate that waits for a person."""
    blocked: str = ""
    """Why it cannot go on without a person."""
    failure: FailureClass | None = None
    """And of what class that is."""
    escalated: bool = False
    """Whether its gate expired once: the next one is for the policy's `escalate_to`."""
    completed: bool = False
    skipped: bool = False
    ticked: Mapping[str, str] = field(default_factory=_nothing)
    artifacts: tuple[ArtifactRef, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    summary: str = ""
    warnings: tuple[str, ...] = ()
    failures: int = 0
    criteria: tuple[Any, ...] = ()
    replies: tuple[ModelReply, ...] = ()
    """What models answered and need not be asked again, should the attempt be lost."""
    spent: ModelSpend = NO_SPEND
    """What the attempt's recorded model calls used."""

    @property
    def busy(self) -> bool:
        """Whether it goes on without a person."""
        return self.stage is not _IDLE and not self.gate

    @property
    def over(self) -> bool:
        """Whether what comes after it may start."""
        return self.completed or self.skipped


@dataclass(frozen=True)
class GateState:
    """A gate: `open`, then `passed`, `rejected`, `expired` or `superseded` for ever; an open one may be held."""

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
    held: bool = False
    escalated: bool = False
    overridden: bool = False
    """Whether an admin passed it, who is the last in `approvals`."""


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect that was requested and has no receipt yet."""

    id: str
    kind: str
    phase: str
    attempt: int
    artifacts: tuple[ArtifactRef, ...]
    target: str
    registered: Registered | None = None

    @property
    def undoes(self) -> bool:
        """Whether it is part of a rollback, and of no phase's work."""
        return self.kind in ("restore", "unregister", "withdraw") or self.registered is not None

    @property
    def aside(self) -> bool:
        """Whether it is about the session as a whole, at its ticket's origin, and of no phase's work."""
        return self.kind in ASIDE

    @property
    def registers(self) -> bool:
        """Whether it makes a new version of a model."""
        return self.kind == "register" and self.registered is None


@dataclass(frozen=True)
class AtOrigin:
    """What a session has at the forge its ticket came from."""

    claim: str = ""
    """The commit its claim of the ticket stands on; without it no phase starts."""
    taken_by: str = ""
    """Who else has the ticket."""
    taken: bool = False
    """Whether a claim was asked for, so that it may be there, and was not given back."""
    pushed: bool = False
    """The same for the branch and its pull request."""
    commit: str = ""
    """The newest commit that was pushed."""
    pull: int = 0
    url: str = ""
    comment: int = 0
    round: int = 0
    """How many pull requests were taken back: the next one is another one."""
    ready: bool = False
    finished: bool = False
    announced: str = ""
    """What the status comment was asked to tell last."""
    failed: tuple[str, ...] = ()
    """The kinds of effects that failed and are not asked for again before a person does something."""


NOWHERE = AtOrigin()


@dataclass(frozen=True)
class SessionState:
    """A session. `version` is the sequence of the last event folded."""

    id: str
    version: int = 0
    status: Status = Status.NEW
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
    """The phase that was handed to its agent last, or that a person has to look at: several may be at work."""
    phases: Mapping[str, PhaseState] = field(default_factory=_nothing)
    artifacts: Mapping[str, ArtifactRef] = field(default_factory=_nothing)
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=_nothing)
    acceptance: tuple[str, ...] = ()
    gates: Mapping[str, GateState] = field(default_factory=_nothing)
    effects: tuple[Effect, ...] = ()
    effects_done: int = 0
    commit: str = ""
    unrestored: bool = False
    """Whether branch or registry could not be taken back after a rollback: then they hold more than this state."""
    registered: tuple[Registered, ...] = ()
    """What the session has in the model registry, in the order in which it came there."""
    at_origin: AtOrigin = NOWHERE
    usage: Usage = field(default_factory=Usage)
    calls: Mapping[str, ModelCall] = field(default_factory=_nothing)
    """The model calls without a record, by id."""
    models: ModelSpend = NO_SPEND
    """What the recorded model calls used."""
    reason: str = ""
    paused: bool = False
    priority: str = ""
    repeats: Mapping[str, int] = field(default_factory=_nothing)
    """How often the session went back, by `from>to`."""
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
    forked: ForkPoint | None = None
    """Where it was forked from."""
    branched: bool = True
    """Whether it has its branch, if it is a fork."""
    guidance: Guidance = field(default_factory=Guidance)
    """How a fork is planned."""

    @property
    def definition(self) -> PhaseDefinition:
        """The definition of `phase`. Raises KeyError outside a started session."""
        return self.definition_of(self.phase)

    def definition_of(self, phase: str) -> PhaseDefinition:
        """The definition of the phase called so. Raises KeyError for an unknown one and outside a started session."""
        if self.pipeline is None:
            raise KeyError(f"session {self.id} has not started")
        return self.pipeline.phase(phase)

    @property
    def current(self) -> PhaseState:
        """How far `phase` is."""
        return self.phases.get(self.phase, NO_PHASE)

    @property
    def stage(self) -> Stage:
        """What `phase` is waiting for."""
        return self.current.stage

    @property
    def attempt(self) -> int:
        """The number of the attempt at `phase`; during a pause that of the one to come."""
        return self.current.attempt + (self.current.stage is Stage.RETRYING)

    @property
    def lease(self) -> int:
        """Who may report on `phase`; 0 for nobody."""
        return self.current.lease

    @property
    def active(self) -> tuple[PhaseState, ...]:
        """The phases in which something goes on or waits, in the order of the pipeline."""
        return tuple([p for p in self.phases.values() if p.stage is not _IDLE])

    @property
    def blocked(self) -> tuple[PhaseState, ...]:
        """The phases that cannot go on without a person, gates aside."""
        return tuple([p for p in self.phases.values() if p.blocked])

    @property
    def ready(self) -> tuple[str, ...]:
        """The phases whose turn it is."""
        if self.pipeline is None:
            return ()
        before = self.pipeline.before
        over: set[str] = set()
        idle: list[str] = []
        for phase in self.phases.values():
            if phase.completed or phase.skipped:
                over.add(phase.name)
            elif phase.stage is _IDLE and not phase.blocked:
                idle.append(phase.name)
        return tuple([name for name in idle if over.issuperset(before[name])])

    @property
    def open_gates(self) -> tuple[GateState, ...]:
        """The gates that wait for people, in the order of the pipeline."""
        return tuple([self.gates[p.gate] for p in self.phases.values() if p.gate])

    @property
    def open_gate(self) -> GateState | None:
        """The first of them."""
        return next(iter(self.open_gates), None)

    @property
    def ended(self) -> bool:
        """Whether the session accepts nothing but rollback any more."""
        return self.status in (Status.COMPLETED, Status.ABORTED)


NO_PHASE = PhaseState("")


def initial(session: str) -> SessionState:
    """The state before the first event."""
    return SessionState(session)
