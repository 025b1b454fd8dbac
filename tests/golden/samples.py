"""One sample of every message with every field filled, and where the committed ones lie.

    python -m tests.golden.make_messages

adds what is missing to `messages.jsonl` and `wire_names.json`. What is there stays: somebody's record holds it.
"""

from __future__ import annotations

import types
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from schemas.envelope import CommandEnvelope, EventEnvelope, StreamId, encode_command, encode_event
from schemas.messages import Command, Event, MessageType
from schemas.pipeline import ChecklistItem, GateDefinition, PhaseDefinition, PipelineDefinition, RetryPolicy
from schemas.policy import Approver, Policy
from schemas.ticket import Budget, Ticket
from schemas.values import Actor, FailureClass, Mode, RiskLevel, Role, Task

FOLDER = Path(__file__).parent
MESSAGES = FOLDER / "messages.jsonl"
NAMES = FOLDER / "wire_names.json"

TIME = datetime(2026, 11, 21, 9, 30, 15, 123456, tzinfo=UTC)
ACTOR = Actor(name="dana", channel="cli", verified_as="os:dana")

TICKET = Ticket(
    id=12,
    title="Flag malignant tumours – from cell measurements",
    labels=("Task", "auto", "now"),
    pipeline="ml-delivery",
    data="data/cells.csv",
    target="malignant",
    task=Task.CLASSIFICATION,
    metric="roc_auc",
    groups="patient_id",
    time="taken_at",
    acceptance=("metrics.roc_auc_lower >= 0.95", "metrics.recall >= 0.90"),
    risk=RiskLevel.MEDIUM,
    blocked_by=(11,),
    budget=Budget(usd=7.5, minutes=12.0),
    requester="alice",
    assignee="bob",
    state="open",
    locked=False,
    created=datetime(2026, 11, 1, 9, tzinfo=UTC),
    body='Why, "for whom",\nwhat good looks like.',
)

PIPELINE = PipelineDefinition(
    name="ml-delivery",
    version=3,
    description="A small one.",
    phases=(
        PhaseDefinition(
            name="scope",
            agent=Role.LEAD,
            mode=Mode.SCOPE,
            purpose="Fix what is predicted.",
            skills=("lead.scope",),
            checklist=(ChecklistItem(id="target-named", text="The target is named", required=False),),
            artifacts=("scope.json", "scope.md"),
            criteria=("data.rows >= 30.0",),
            acceptance=True,
            sign=("scope.json",),
            gate=GateDefinition(human="when", when='ticket.risk != "low"', quorum=2),
            retry=RetryPolicy(max_attempts=4, base_seconds=0.5, cap_seconds=8.0),
            timeout_seconds=90.0,
        ),
    ),
)

POLICY = Policy(
    approvers=(Approver(name="dana", phases=("scope",), up_to_risk=RiskLevel.MEDIUM, os_users=("dana",)),),
    operators=("olga",),
    separation_of_duties=False,
    data_roots=("shared",),
    max_data_bytes=1_000_000,
    max_risk=RiskLevel.MEDIUM,
    wip=3,
    max_failures=4,
    usd_per_cpu_hour=0.25,
    signing_key="keys/release.pem",
)

STREAMS = {"session": "s12-abcde", "drive": "d-abcdef", "system": "dl-0123456789"}
VALUES: dict[type, Any] = {Ticket: TICKET, PipelineDefinition: PIPELINE, Policy: POLICY, Actor: ACTOR}
ENUMS: dict[type, Any] = {Role: Role.LEAD, FailureClass: FailureClass.AGENT}
NAMED: dict[str, Any] = {
    "sha256": "5" * 64,
    "hash": "6" * 64,
    "source": "s12-fghij",
    "session": "s12-fghij",
    "prompt": "3" * 64,
    "reply": "4" * 64,
    "model": "qwen3-coder:30b",
    "ticket_digest": "7" * 64,
    "policy_version": "9" * 64,
    "phase": "scope",
    "to": "scope",
    "phases": "scope",
    "item": "target-named",
    "scope": "metrics",
    "name": "recall",
}


def sample(cls: type[BaseModel]) -> Any:
    """An instance of `cls` with every field set to something else than its default."""
    if cls in VALUES:
        return VALUES[cls]
    return cls(**{name: _value(name, field.annotation) for name, field in cls.model_fields.items()})


def _value(name: str, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value(name, arguments[0])
    if origin is Literal:
        return arguments[-1]
    if origin in (Union, types.UnionType):
        return _value(name, arguments[0])
    if origin is tuple:
        return (_value(name, arguments[0]),)
    if origin is dict:
        return {_value("key", arguments[0]): _value("value", arguments[1])}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ENUMS.get(annotation, list(annotation)[1])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return sample(annotation)
    if annotation is str:
        return NAMED.get(name, f"a {name.replace('_', ' ')}")
    return {int: 3, float: 0.25, bool: True, datetime: TIME, AwareDatetime: TIME}[annotation]


def envelope_of(kind: MessageType) -> EventEnvelope[Event] | CommandEnvelope:
    """The sample of a message type in its envelope."""
    body = sample(kind.cls)
    stream = StreamId("default", kind.stream, STREAMS[kind.stream])
    if isinstance(body, Command):
        return CommandEnvelope("c-1", stream, TIME, ACTOR, kind.senders[0], stream.name, "e-6", body)
    return EventEnvelope("e-7", stream, 7, TIME, ACTOR, stream.name, "c-1", body)


def line_of(kind: MessageType) -> bytes:
    """Its canonical bytes."""
    envelope = envelope_of(kind)
    return encode_command(envelope) if isinstance(envelope, CommandEnvelope) else encode_event(envelope)
