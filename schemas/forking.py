"""Forks: a session that goes on from a point of another one's record, with another model or other instructions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from schemas.messages import Command, Event
from schemas.model_policy import ModelName
from schemas.values import (
    Actor,
    Approval,
    ArtifactRef,
    CriterionResult,
    GateKind,
    Measurement,
    PhaseName,
    Sender,
    Sha256,
    StreamName,
    TickedItem,
    Value,
)

Planner = Literal["", "playbook", "llm"]
"""Who plans the phases that the pipeline leaves to a planner; "" is whatever the agents' settings say."""

LONGEST_INSTRUCTIONS = 8_000
"""Characters of what a person tells the planner of a fork."""

Instructions = Annotated[str, Field(max_length=LONGEST_INSTRUCTIONS)]


class Guidance(Value):
    """How a fork is planned. `model` is asked instead of the one in the settings; `instructions` are told to it before
    the task. Empty fields leave it as it is."""

    planner: Planner = ""
    model: ModelName | Literal[""] = ""
    instructions: Instructions = ""


class ForkPoint(Value):
    """Where a session was forked from: the other session, the last of its events that counts, that event's hash in the
    record, and the commit its branch stood on."""

    session: StreamName
    sequence: Annotated[int, Field(ge=1)]
    hash: Sha256
    commit: str


class ForkedPhase(Value):
    """What a fork takes over of one phase.

    `completed` and `skipped` phases are over. `gate`: the work is done, and its gate is opened anew. `open` phases
    start again with nothing but what was ticked.
    """

    phase: PhaseName
    stands: Literal["completed", "skipped", "gate", "open"]
    attempt: int = 0
    commit: str = ""
    summary: str = ""
    ticked: tuple[TickedItem, ...] = ()
    artifacts: tuple[ArtifactRef, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    warnings: tuple[str, ...] = ()
    criteria: tuple[CriterionResult, ...] = ()


class KeptGate(Value):
    """A gate that was passed before the fork, for the same commit, artifacts and policy as the completed phase has in
    the fork; its name is the one it had in the other session."""

    gate: str
    phase: PhaseName
    attempt: int
    kind: GateKind
    quorum: int
    reason: str
    opened: datetime
    decided_by: str
    approvals: tuple[Approval, ...] = ()
    escalated: bool = False
    overridden: bool = False


class ForkSession(Command, stream="session", senders=(Sender.OPERATOR,)):
    """Begin this session as `source` was after event `sequence`, and go on as `guidance` says."""

    source: StreamName
    sequence: int
    guidance: Guidance = Guidance()
    reason: str = ""


class SessionForked(Event, stream="session"):
    """A person let the session begin as another one was, which itself is not touched.

    What was done until then comes along; budgets, attempts and ways back begin anew. The branch follows by a `branch`
    effect.
    """

    point: ForkPoint
    by: Actor
    reason: str = ""
    acceptance: tuple[str, ...] = ()
    phases: tuple[ForkedPhase, ...]
    gates: tuple[KeptGate, ...] = ()
    guidance: Guidance = Guidance()
