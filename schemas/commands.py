"""Commands: what may be asked of the conductor, and by whom."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from schemas.drive import without_policy
from schemas.messages import Command
from schemas.pipeline import PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Ticket
from schemas.values import (
    ArtifactRef,
    EffectKind,
    FailureClass,
    Measurement,
    PhaseName,
    Posted,
    Priority,
    Reaction,
    Registered,
    Sender,
    Sha256,
    Snapshot,
    TickedItem,
    Usage,
    later,
)

_AUTOPILOT = (Sender.AUTOPILOT,)
_OPERATOR = (Sender.OPERATOR,)
_PEOPLE = (Sender.OPERATOR, Sender.CHATOPS)


class StartSession(Command, stream="session", senders=_AUTOPILOT):
    """Take a ticket through a pipeline."""

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


class ClaimAttempt(Command, stream="session", senders=("agent",)):
    """Take the lease of an attempt before working on it. `holder` is the replica's id."""

    phase: PhaseName
    attempt: int
    holder: str


class ReportWork(Command, stream="session", senders=("agent",)):
    """The attempt's result."""

    phase: PhaseName
    attempt: int
    lease: int
    summary: str
    artifacts: tuple[ArtifactRef, ...]
    ticked: tuple[TickedItem, ...]
    measurements: tuple[Measurement, ...]
    acceptance: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    usage: Usage = Usage()


class ReportFailure(Command, stream="session", senders=("agent",)):
    """The attempt gave no result."""

    phase: PhaseName
    attempt: int
    lease: int
    failure: FailureClass
    reason: str
    detail: str = ""
    usage: Usage = Usage()


class RecordEffect(Command, stream="session", senders=_AUTOPILOT):
    """An effect the session asked for was done."""

    effect: str
    kind: EffectKind
    commit: str = ""
    artifacts: tuple[ArtifactRef, ...] = ()
    registered: Registered | None = later(None)
    posted: Posted | None = later(None)
    snapshot: Snapshot | None = later(None)


class RecordEffectFailure(Command, stream="session", senders=_AUTOPILOT):
    """An effect the session asked for could not be done."""

    effect: str
    kind: EffectKind
    reason: str


class ReportEdits(Command, stream="session", senders=_AUTOPILOT):
    """Files of the ticket's folder were edited, added or deleted by hand since `commit`."""

    files: tuple[str, ...]
    commit: str


class StartRetry(Command, stream="session", senders=(Sender.CONDUCTOR,)):
    """The pause before an attempt is over (a timer fired)."""

    phase: PhaseName
    attempt: int


class ExpireAttempt(Command, stream="session", senders=(Sender.CONDUCTOR,)):
    """The phase's time for this attempt is over (a timer fired)."""

    phase: PhaseName
    attempt: int


class ExtendAttempt(Command, stream="session", senders=("agent",)):
    """A sign of life from the holder of an attempt: its idle time starts again."""

    phase: PhaseName
    attempt: int
    lease: int


class ExpireIdle(Command, stream="session", senders=(Sender.CONDUCTOR,)):
    """The holder of an attempt gave no sign of life until `due` (a timer fired)."""

    phase: PhaseName
    attempt: int
    lease: int
    due: AwareDatetime


class ExpireGate(Command, stream="session", senders=(Sender.CONDUCTOR,)):
    """The time people had for a gate is over (a timer fired)."""

    gate: str


class DecideGate(Command, stream="session", senders=_PEOPLE):
    """A person's decision on a gate; the envelope's actor says who, as the channel verified it."""

    gate: str
    decision: Literal["approve", "reject"]
    reason: str = ""
    commit: str = later("")
    """What the person saw: the gate's commit or its beginning, of seven digits at least. Empty for the gate's."""


class CancelApproval(Command, stream="session", senders=_PEOPLE):
    """Take one's own approval of a gate back, while the gate is open."""

    gate: str
    reason: str = ""


class OverrideGate(Command, stream="session", senders=_PEOPLE):
    """An admin's yes to a gate, whoever else would have to say it."""

    gate: str
    reason: str
    commit: str = later("")
    """As in DecideGate."""


class SendBack(Command, stream="session", senders=_OPERATOR):
    """A person's no to a gate, with the earlier phase that is to be done again."""

    gate: str
    phase: PhaseName
    reason: str


class HoldGate(Command, stream="session", senders=_PEOPLE):
    """Keep a gate from being decided."""

    gate: str
    reason: str = ""


class UnholdGate(Command, stream="session", senders=_PEOPLE):
    """Release a gate that is held."""

    gate: str
    reason: str = ""


class PauseSession(Command, stream="session", senders=_PEOPLE):
    """Start no more phases; what is at work may report."""

    reason: str = ""


class ResumeSession(Command, stream="session", senders=_PEOPLE):
    """Let a paused session go on."""

    reason: str = ""


class ReassignAttempt(Command, stream="session", senders=_OPERATOR):
    """Take an attempt away from its holder and give the phase out anew."""

    phase: PhaseName
    reason: str = ""


class ChangePriority(Command, stream="session", senders=_OPERATOR):
    """Say how urgent the session's ticket is."""

    priority: Priority
    reason: str = ""


class RetryPhase(Command, stream="session", senders=_PEOPLE):
    """Give a blocked session another attempt."""

    reason: str = ""


class AbortSession(Command, stream="session", senders=_PEOPLE):
    """End a session for good; its branch stays as it is."""

    reason: str


class RollbackSession(Command, stream="session", senders=_PEOPLE):
    """Roll back to the start of `phase`: state and branch."""

    phase: PhaseName
    reason: str = ""


class RestoreSession(Command, stream="session", senders=_OPERATOR):
    """Roll back to event `sequence`, after which the session rested: state and branch; also undoes a rollback."""

    sequence: int
    reason: str = ""


class StartDrive(Command, stream="drive", senders=_AUTOPILOT, version=2, upcasters={1: without_policy}):
    """Begin an Auto-Pilot run over a backlog."""

    backlog: str
    repository: str
    policy_version: Sha256
    wip: int
    max_tickets: int | None = None
    policy: Policy | None = None


class RecordSelection(Command, stream="drive", senders=_AUTOPILOT):
    """The order in which tickets will be taken, and why the others were passed over."""

    order: tuple[int, ...]
    passed_over: dict[int, str]
    unreadable: dict[str, str] = {}


class DrainDrive(Command, stream="drive", senders=_OPERATOR):
    """Take no more tickets: the drive ends when what runs has ended."""

    reason: str = ""


class OpenBreaker(Command, stream="drive", senders=_AUTOPILOT):
    """Too many sessions in a row ended blocked: the drive takes no more tickets."""

    sessions: tuple[str, ...]
    reason: str


class EndDrive(Command, stream="drive", senders=_AUTOPILOT):
    """The run is over."""

    completed: tuple[str, ...]
    waiting: tuple[str, ...]
    blocked: tuple[str, ...]
    seconds: float
    cost_usd: float
    reason: str


class RecordDeadLetter(Command, stream="system", senders=(Sender.CONDUCTOR,)):
    """Take a message that was given up into the record."""

    consumer: str
    source: str
    subject: str
    sequence: int
    deliveries: int
    reason: str
    trace: str
    given_up: AwareDatetime
    sha256: Sha256
    size: int


class RequeueDeadLetter(Command, stream="system", senders=_OPERATOR):
    """Put a message that was given up back on its subject."""

    reason: str = ""


class DiscardDeadLetter(Command, stream="system", senders=_OPERATOR):
    """Close a message that was given up, without trying it again."""

    reason: str


class RecordRequeue(Command, stream="system", senders=(Sender.CONDUCTOR,)):
    """A released message was put back on its subject, or could not be (then `problem` says why)."""

    message_id: str
    problem: str = ""


class RequestAnswer(Command, stream="system", senders=(Sender.CHATOPS,)):
    """Acknowledge a person's comment with a reaction, and answer it when `text` says anything."""

    repository: str
    issue: int
    comment: int
    reaction: Reaction
    text: str = ""


class RecordAnswer(Command, stream="system", senders=_AUTOPILOT):
    """The answer was given (`reply` is its comment, 0 for none), or could not be (then `problem` says why)."""

    reply: int = 0
    problem: str = ""
