"""Envelopes: what travels and what is stored around every message.

An event's stored form is one JSON object, its header fields followed by `data`. Those exact bytes are stored once,
hashed as they are, and published as they are; nothing re-serialises an event later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from schemas.messages import COMMANDS, EVENTS, Command, Event, Message, MessageType, StreamKind
from schemas.values import Actor

E = TypeVar("E", bound=Event, covariant=True)
_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)


class UnreadableMessage(ValueError):
    """Bytes that are no message of ours: unknown type, a version newer than this program, or a body that does not fit."""


@dataclass(frozen=True, slots=True)
class StreamId:
    """An event stream: tenant, kind of aggregate, and its name (a session's or drive's id)."""

    tenant: str
    kind: StreamKind
    name: str


@dataclass(frozen=True, slots=True)
class EventEnvelope(Generic[E]):
    """An event with its place in the record. `sequence` counts from 1 in its stream."""

    id: str
    stream: StreamId
    sequence: int
    time: datetime
    actor: Actor
    correlation_id: str
    causation_id: str
    event: E

    @property
    def type(self) -> str:
        """The wire name."""
        return self.event.message_type.name


@dataclass(frozen=True, slots=True)
class CommandEnvelope:
    """A command with who sent it and when. `sender` is the bus login the server verified (see `Sender`)."""

    id: str
    stream: StreamId
    time: datetime
    actor: Actor
    sender: str
    correlation_id: str
    causation_id: str
    command: Command

    @property
    def type(self) -> str:
        """The wire name."""
        return self.command.message_type.name

    def sent_by(self, sender: str) -> CommandEnvelope:
        """The same command with the sender the bus verified, which overrules what the bytes say."""
        return replace(self, sender=sender)


def timestamp(moment: datetime) -> str:
    """UTC, microseconds, `Z`: 2026-11-21T09:00:00.000000Z. Raises ValueError for a time without zone."""
    if moment.tzinfo is None:
        raise ValueError(f"time without zone: {moment!r}")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _text(value: str) -> str:
    return TypeAdapter(str).dump_json(value).decode()


def encode_event(envelope: EventEnvelope[Event]) -> bytes:
    """The canonical bytes of an event."""
    kind = envelope.event.message_type
    return (
        f'{{"id":{_text(envelope.id)},"type":{_text(kind.name)},"version":{kind.version},'
        f'"tenant":{_text(envelope.stream.tenant)},"kind":{_text(envelope.stream.kind)},'
        f'"stream":{_text(envelope.stream.name)},"sequence":{envelope.sequence},'
        f'"time":{_text(timestamp(envelope.time))},"actor":{envelope.actor.model_dump_json()},'
        f'"correlation_id":{_text(envelope.correlation_id)},"causation_id":{_text(envelope.causation_id)},'
        f'"data":{envelope.event.model_dump_json()}}}'
    ).encode()


def decode_event(raw: bytes) -> EventEnvelope[Event]:
    """The event in `raw`, lifted to its newest version. Raises UnreadableMessage naming what is wrong."""
    body = _object(raw, "event")
    try:
        event = lift(EVENTS, "event", body["type"], body["version"], body["data"])
        return EventEnvelope(
            id=body["id"],
            stream=StreamId(body["tenant"], body["kind"], body["stream"]),
            sequence=body["sequence"],
            time=_TIME.validate_python(body["time"]),
            actor=Actor.model_validate(body["actor"]),
            correlation_id=body["correlation_id"],
            causation_id=body["causation_id"],
            event=event,  # type: ignore[arg-type]
        )
    except (KeyError, ValidationError) as problem:
        raise UnreadableMessage(f"event header: {problem!r}") from problem


def encode_command(envelope: CommandEnvelope) -> bytes:
    """The canonical bytes of a command."""
    kind = envelope.command.message_type
    return (
        f'{{"id":{_text(envelope.id)},"type":{_text(kind.name)},"version":{kind.version},'
        f'"tenant":{_text(envelope.stream.tenant)},"kind":{_text(envelope.stream.kind)},'
        f'"stream":{_text(envelope.stream.name)},"time":{_text(timestamp(envelope.time))},'
        f'"actor":{envelope.actor.model_dump_json()},"sender":{_text(envelope.sender)},'
        f'"correlation_id":{_text(envelope.correlation_id)},"causation_id":{_text(envelope.causation_id)},'
        f'"data":{envelope.command.model_dump_json()}}}'
    ).encode()


def decode_command(raw: bytes) -> CommandEnvelope:
    """The command in `raw`, lifted to its newest version. Raises UnreadableMessage naming what is wrong."""
    body = _object(raw, "command")
    try:
        command = lift(COMMANDS, "command", body["type"], body["version"], body["data"])
        return CommandEnvelope(
            id=body["id"],
            stream=StreamId(body["tenant"], body["kind"], body["stream"]),
            time=_TIME.validate_python(body["time"]),
            actor=Actor.model_validate(body["actor"]),
            sender=body["sender"],
            correlation_id=body["correlation_id"],
            causation_id=body["causation_id"],
            command=command,  # type: ignore[arg-type]
        )
    except (KeyError, ValidationError) as problem:
        raise UnreadableMessage(f"command header: {problem!r}") from problem


def lift(registry: dict[str, MessageType], kind: str, name: str, version: int, data: dict[str, Any]) -> Message:
    """The message `name` from a body of any version up to today's. Raises UnreadableMessage."""
    known = registry.get(name)
    if known is None:
        raise UnreadableMessage(f"unknown {kind} type {name!r}")
    if not isinstance(version, int) or not 1 <= version <= known.version:
        raise UnreadableMessage(
            f"{kind} {name!r} has version {version!r}, this program knows up to {known.version}: update it"
        )
    for step in range(version, known.version):
        data = known.upcasters[step](data)
    try:
        return known.cls.model_validate(data)
    except ValidationError as problem:
        raise UnreadableMessage(f"{kind} {name!r} version {version} does not fit its schema: {problem}") from problem


def _object(raw: bytes, kind: str) -> dict[str, Any]:
    try:
        body = from_json(raw)
    except ValueError as problem:
        raise UnreadableMessage(f"{kind} is not JSON: {problem}") from problem
    if not isinstance(body, dict):
        raise UnreadableMessage(f"{kind} is not a JSON object")
    return body
