"""Events of a session: one ticket's trip through one pipeline. Each class is declared here and nowhere else."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from schemas.forking import Guidance
from schemas.messages import Event
from schemas.pipeline import PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Ticket
from schemas.values import (
    Actor,
    ArtifactRef,
    CriterionResult,
    EffectKind,
    FailureClass,
    GateKind,
    Measurement,
    Mode,
    PhaseName,
    Posted,
    Priority,
    Registered,
    RepeatKind,
    Role,
    Sha256,
    Snapshot,
    TickedItem,
    Usage,
    later,
)


class SessionStarted(Event, stream="session"):
    """A ticket was taken: with the pipeline and policy as they were then, so that replay needs no file."""

    ticket: Ticket
    ticket_digest: Sha256
    drive: str
    pipeline: PipelineDefinition
    policy: Policy
    policy_version: Sha256
    repository: str
    base_commit: str
    branch: str
    roots: tuple[str, ...]
    seed: int


class PhaseStarted(Event, stream="session"):
    """The conductor handed the session to the agent that owns this phase."""

    phase: PhaseName
    agent: Role
    mode: Mode
    attempt: int
    skills: tuple[str, ...]
    ticket: Ticket
    acceptance: tuple[str, ...]
    artifacts: tuple[ArtifactRef, ...]
    measured: dict[str, dict[str, float]]
    roots: tuple[str, ...]
    max_data_bytes: int
    seed: int
    timeout_seconds: float
    remaining_seconds: float
    """Skill time the ticket's budget still allows."""
    started: datetime
    pipeline: str
    approvals: tuple[str, ...] = ()
    """The gates passed so far, one line each: documents cite them."""
    spent: Usage = Usage()
    planned: bool = later(False)
    """Whether the pipeline leaves the phase to a planner that has a model, where one is set."""
    guidance: Guidance | None = later(None)
    """What the person who forked the session says of its planning, whatever the agent's settings say."""
    sandbox_hosts: tuple[str, ...] = later(())
    """What contained commands of the attempt may reach of the network, as the policy had it."""


class AttemptClaimed(Event, stream="session"):
    """An agent replica took the attempt. `lease` fences it: only the newest lease may report."""

    phase: PhaseName
    attempt: int
    lease: int
    holder: str


class WorkReported(Event, stream="session"):
    """The attempt ended well: what it produced, ticked, measured and used."""

    phase: PhaseName
    attempt: int
    summary: str
    artifacts: tuple[ArtifactRef, ...]
    ticked: tuple[TickedItem, ...]
    measurements: tuple[Measurement, ...]
    acceptance: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    usage: Usage = Usage()


class AttemptFailed(Event, stream="session"):
    """The attempt ended without a result."""

    phase: PhaseName
    attempt: int
    failure: FailureClass
    reason: str
    detail: str = ""
    usage: Usage = Usage()


class RetryScheduled(Event, stream="session"):
    """A fresh attempt will start at `due`."""

    phase: PhaseName
    attempt: int
    due: datetime


class EffectRequested(Event, stream="session"):
    """Something outside the record is to be done by the effect executor: the intent, before the deed."""

    effect: str
    kind: EffectKind
    phase: PhaseName
    attempt: int
    artifacts: tuple[ArtifactRef, ...] = ()
    target: str = ""
    """`commit`: the patch among the artifacts, or empty. `sign`: the artifact's name. `restore`, `branch`, `publish`:
    the commit it goes back to, begins at, is pushed as. `register`, `unregister`: the model's name. `fetch`: what."""
    registered: Registered | None = later(None)
    """`unregister`: what is taken back. `register`: what a rollback of one brings back, else it is a new version."""
    posted: Posted | None = later(None)
    """What the session has at its ticket's origin so far."""


class EffectRecorded(Event, stream="session"):
    """The executor did it: the receipt. `posted`: at the ticket's origin; `snapshot`: what a `fetch` read."""

    effect: str
    kind: EffectKind
    phase: PhaseName
    attempt: int
    commit: str = ""
    artifacts: tuple[ArtifactRef, ...] = ()
    registered: Registered | None = later(None)
    """`register` and `unregister`: the version, its alias, and what that pointed to before and points to now."""
    posted: Posted | None = later(None)
    snapshot: Snapshot | None = later(None)


class EffectFailed(Event, stream="session"):
    """The executor could not do it."""

    effect: str
    kind: EffectKind
    phase: PhaseName
    reason: str


class CriteriaEvaluated(Event, stream="session"):
    """The phase's exit criteria were held against what was measured."""

    phase: PhaseName
    attempt: int
    results: tuple[CriterionResult, ...]
    passed: bool


class GateOpened(Event, stream="session"):
    """A decision is due at the phase's exit, bound to exactly this commit, these artifacts and this policy."""

    gate: str
    phase: PhaseName
    attempt: int
    kind: GateKind
    quorum: int
    commit: str
    artifacts: tuple[ArtifactRef, ...]
    policy_version: Sha256
    reason: str
    opened: datetime


class ApprovalGiven(Event, stream="session"):
    """An eligible person said yes; the gate passes when the quorum is reached."""

    gate: str
    by: Actor
    reason: str = ""


class ApprovalCancelled(Event, stream="session"):
    """An approval counts no more: who gave it took it back, or may no longer decide the gate."""

    gate: str
    phase: PhaseName
    of: Actor
    reason: str = ""


class GateOverridden(Event, stream="session"):
    """An admin passed the gate alone, whoever else would have had to approve it."""

    gate: str
    phase: PhaseName
    by: Actor
    reason: str


class GatePassed(Event, stream="session"):
    """The gate's decision is yes."""

    gate: str
    phase: PhaseName
    kind: GateKind


class GateRejected(Event, stream="session"):
    """An eligible person said no; the session blocks."""

    gate: str
    phase: PhaseName
    by: Actor
    reason: str


class GateSuperseded(Event, stream="session"):
    """What the gate was bound to is no longer what would pass; its approvals count for nothing."""

    gate: str
    phase: PhaseName
    reason: str


class GateHeld(Event, stream="session"):
    """The gate cannot be decided, nor does it expire, until it is released."""

    gate: str
    phase: PhaseName
    by: Actor
    reason: str = ""


class GateUnheld(Event, stream="session"):
    """The gate can be decided again; its time, if it has one, counts from when it was opened."""

    gate: str
    phase: PhaseName
    by: Actor
    reason: str = ""


class GateExpired(Event, stream="session"):
    """Nobody decided the gate in time. It is opened anew for those in `escalated_to`; for nobody, the phase blocks."""

    gate: str
    phase: PhaseName
    escalated_to: tuple[str, ...] = ()


class PhaseCompleted(Event, stream="session"):
    """The phase's exit conditions hold and its gate passed."""

    phase: PhaseName
    attempt: int


class PhaseSkipped(Event, stream="session"):
    """The phase's turn came and its `skip_when` held: what comes after it may start."""

    phase: PhaseName
    condition: CriterionResult


class PhaseRepeated(Event, stream="session"):
    """Back from `phase` to `to`: `phases` start again. Ticks stay, artifacts and figures of the last round do not."""

    phase: PhaseName
    attempt: int
    to: PhaseName
    kind: RepeatKind
    iteration: int
    iterations: int
    phases: tuple[PhaseName, ...]
    reason: str


class AttemptReassigned(Event, stream="session"):
    """A person took the attempt away from its holder; the next one may be taken by any replica."""

    phase: PhaseName
    attempt: int
    holder: str
    by: Actor
    reason: str = ""


class PhaseBlocked(Event, stream="session"):
    """The phase cannot go on without a person; others that run at the same time finish what they do."""

    phase: PhaseName
    failure: FailureClass
    reason: str


class SessionBlocked(Event, stream="session"):
    """The session cannot go on without a person."""

    phase: PhaseName
    failure: FailureClass
    reason: str


class SessionResumed(Event, stream="session"):
    """A person asked for another try of the blocked phase."""

    phase: PhaseName
    by: Actor
    reason: str = ""


class HandEditsFound(Event, stream="session"):
    """Somebody edited, added or deleted files of the ticket's folder since `commit`."""

    files: tuple[str, ...]
    commit: str


class SessionPaused(Event, stream="session"):
    """A person asked that no phase starts; what is at work may report."""

    by: Actor
    reason: str = ""


class SessionUnpaused(Event, stream="session"):
    """A person let the session go on."""

    by: Actor
    reason: str = ""


class PriorityChanged(Event, stream="session"):
    """A person said how urgent the session's ticket is, whatever its labels say."""

    priority: Priority
    by: Actor
    reason: str = ""


class SessionCompleted(Event, stream="session"):
    """The last phase completed: the branch is ready for a pull request."""

    branch: str
    commit: str


class SessionAborted(Event, stream="session"):
    """A person ended the session."""

    by: Actor
    reason: str


class SessionRolledBack(Event, stream="session"):
    """Rolled back to the start of `phase`; nothing is deleted. The branch follows by a `restore` effect."""

    phase: PhaseName
    to_sequence: int
    by: Actor
    reason: str = ""
    commit: str


class SessionRestored(Event, stream="session"):
    """Rolled back to event `to_sequence`; nothing is deleted. The branch follows by a `restore` effect."""

    phase: PhaseName
    """The phase the session stands in then; between two phases the one that a retry starts."""
    to_sequence: int
    to_status: Literal["rolled_back", "waiting", "blocked", "completed"]
    """What it comes to once the branch has followed. A gate that waited is opened anew, for the new commit."""
    by: Actor
    reason: str = ""
    commit: str


class CommandRefused(Event, stream="session"):
    """A command was not carried out; `code` names the rule, `reason` says why and what to do."""

    command: str
    code: str
    reason: str
    by: Actor
