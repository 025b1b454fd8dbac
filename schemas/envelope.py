"""Envelopes: what travels and what is stored around every message.

An event's stored form is one JSON object, its header fields followed by `data`. Those exact bytes are stored once,
hashed as they are, and published as they are; nothing re-serialises an event later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring as _text
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, StrictInt, ValidationError
from pydantic_core import from_json

from schemas import canonical
from schemas.messages import COMMANDS, EVENTS, Command, Event, Message, MessageType, StreamKind
from schemas.values import Actor, StreamName, Tenant

E = TypeVar("E", bound=Event, covariant=True)
H = TypeVar("H", bound="_Header")

_Token = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
"""An id: printable and without white space, for it becomes a header on the bus."""
_Reference = Annotated[str, Field(pattern=r"^[!-~]{0,200}$")]
"""An id of another message, or empty."""
_Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9000, 1, 1, tzinfo=UTC))]
"""A time one can add a pause to: the rules never leave the calendar."""


class UnreadableMessage(ValueError):
    """Bytes that are no message of ours: unknown type, newer version than this program, a header or body that does
    not fit."""


class _Header(BaseModel):
    """What surrounds every body. Checked on the way in: later code may build subjects, file names and times of it."""

    id: _Token
    type: str
    version: StrictInt
    tenant: Tenant
    kind: StreamKind
    stream: StreamName
    time: _Moment
    actor: Actor
    correlation_id: _Reference
    causation_id: _Reference
    data: dict[str, Any]


class _EventHeader(_Header):
    sequence: Annotated[StrictInt, Field(ge=1)]


class _CommandHeader(_Header):
    sender: str


@dataclass(frozen=True, slots=True)
class StreamId:
    """An event stream: tenant, kind of aggregate, and its name (a session's or drive's id)."""

    tenant: str
    kind: StreamKind
    name: str

    def __hash__(self) -> int:
        return hash(self.name)  # looked up several times an event; two of one name are compared


# Without slots: see `_canonical_event`.
@dataclass(frozen=True)
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
        return self if sender == self.sender else replace(self, sender=sender)


_new = object.__new__


def caused(command: CommandEnvelope, id: str, sequence: int, event: Event) -> EventEnvelope[Event]:
    """The envelope of an event that `command` leads to, made in a third of the time the generated `__init__` takes."""
    envelope: EventEnvelope[Event] = _new(EventEnvelope)
    envelope.__dict__.update(
        id=id,
        stream=command.stream,
        sequence=sequence,
        time=command.time,
        actor=command.actor,
        correlation_id=command.correlation_id,
        causation_id=command.id,
        event=event,
    )
    return envelope


@lru_cache(4_096)  # events of one command share its time
def timestamp(moment: datetime) -> str:
    """UTC, microseconds, `Z`: 2026-11-21T09:00:00.000000Z. Raises ValueError for a time without zone."""
    if moment.tzinfo is None:
        raise ValueError(f"time without zone: {moment!r}")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(4_096)
def _sort(text: bytes) -> tuple[bytes, StreamId]:
    kind, *place = canonical.sort(text)
    return kind, StreamId(*place)  # type: ignore[arg-type]  # the expression knows the kinds


_ZERO = ord("0")
_EVENT_BODIES = canonical.Bodies(EVENTS)
_COMMAND_BODIES = canonical.Bodies(COMMANDS)


def _json(model: BaseModel) -> bytes:
    """`model_dump_json` without its way through a dozen options; the type's own form, whatever the value claims."""
    return model.__pydantic_serializer__.to_json(model)


def encode_event(envelope: EventEnvelope[Event]) -> bytes:
    """The canonical bytes of an event."""
    return encode_events((envelope,))[0]


def encode_events(envelopes: Iterable[EventEnvelope[Event]]) -> tuple[bytes, ...]:
    """The canonical bytes of each: what it has in common with the one before is not looked up again."""
    raws: list[bytes] = []
    kind: MessageType | None = None
    stream: StreamId | None = None
    actor: Actor | None = None
    time: datetime | None = None
    correlation = causation = sort = shared = ""
    for envelope in envelopes:
        event = envelope.event
        if event.message_type is not kind or envelope.stream is not stream:
            kind, stream = event.message_type, envelope.stream
            sort = sort_text(kind.name, kind.version, stream.tenant, stream.kind, stream.name)
        if (
            envelope.causation_id != causation
            or envelope.actor is not actor
            or envelope.time is not time
            or envelope.correlation_id != correlation
        ):
            actor, time = envelope.actor, envelope.time
            correlation, causation = envelope.correlation_id, envelope.causation_id
            who = _actor_text(actor.name, actor.channel, actor.verified_as)
            why = f'"correlation_id":{_text(correlation)},"causation_id":{_text(causation)}'
            shared = f',"time":"{timestamp(time)}","actor":{who},{why},"data":'
        start = f'{{"id":{_text(envelope.id)},{sort},"sequence":{envelope.sequence}{shared}'
        raws.append(b"%b%b}" % (start.encode(), event.__pydantic_serializer__.to_json(event)))
    return tuple(raws)


# What the events of one command, and those of one stream, have in common.


@lru_cache(4_096)
def sort_text(name: str, version: int, tenant: str, kind: str, stream: str) -> str:
    """What stands between an event's id and its sequence, without the commas."""
    place = f'"tenant":{_text(tenant)},"kind":{_text(kind)},"stream":{_text(stream)}'
    return f'"type":"{name}","version":{version},{place}'


@lru_cache(4_096)
def _actor_text(name: str, channel: str, verified_as: str) -> str:
    return _json(Actor.model_construct(name=name, channel=channel, verified_as=verified_as)).decode()


def decode_event(raw: bytes) -> EventEnvelope[Event]:
    """The event in `raw`, lifted to its newest version. Raises UnreadableMessage naming what is wrong."""
    return _canonical_event(raw) or _any_event(raw)


def _canonical_event(raw: bytes) -> EventEnvelope[Event] | None:
    """None when it takes more than a glance; see `schemas.canonical`."""
    head, _, rest = raw.partition(b',"sequence":')
    id_, _, sort = head.partition(b'","type":"')
    sequence, _, rest = rest.partition(b',"time":"')
    who, _, rest = rest.partition(b',"causation_id":"')
    causation, _, body = rest.partition(b'","data":')
    numbered = sequence.isdigit() and sequence[0] != _ZERO and len(sequence) <= 18
    if not (numbered and id_[:7] == b'{"id":"' and canonical.are_ids(id_[7:], causation) and body[-1:] == b"}"):
        return None
    envelope: EventEnvelope[Event] = _new(EventEnvelope)
    try:
        kind, stream = _sort(sort)
        actor, correlation = canonical.who(who[27:])
        # What the generated __init__ does, without its way around the frozen class for each field.
        envelope.__dict__.update(
            id=id_[7:].decode(),
            stream=stream,
            sequence=int(sequence),
            time=canonical.moment(who[:27]),
            actor=actor,
            correlation_id=correlation,
            causation_id=causation.decode(),
            event=_EVENT_BODIES.read(kind, body[:-1]),
        )
    except (ValueError, LookupError):
        return None
    return envelope


def _any_event(raw: bytes) -> EventEnvelope[Event]:
    header = _read(raw, "event", _EventHeader)
    return EventEnvelope(
        id=header.id,
        stream=StreamId(header.tenant, header.kind, header.stream),
        sequence=header.sequence,
        time=header.time.astimezone(UTC),
        actor=header.actor,
        correlation_id=header.correlation_id,
        causation_id=header.causation_id,
        event=lift(EVENTS, "event", header.type, header.version, header.data),  # type: ignore[arg-type]
    )


def encode_command(envelope: CommandEnvelope) -> bytes:
    """The canonical bytes of a command."""
    kind, stream, actor = envelope.command.message_type, envelope.stream, envelope.actor
    sort = sort_text(kind.name, kind.version, stream.tenant, stream.kind, stream.name)
    return (
        f'{{"id":{_text(envelope.id)},{sort},"time":"{timestamp(envelope.time)}",'
        f'"actor":{_actor_text(actor.name, actor.channel, actor.verified_as)},"sender":{_text(envelope.sender)},'
        f'"correlation_id":{_text(envelope.correlation_id)},"causation_id":{_text(envelope.causation_id)},"data":'.encode()
        + _json(envelope.command)
        + b"}"
    )


def decode_command(raw: bytes) -> CommandEnvelope:
    """The command in `raw`, lifted to its newest version. Raises UnreadableMessage naming what is wrong."""
    return _canonical_command(raw) or _any_command(raw)


def _canonical_command(raw: bytes) -> CommandEnvelope | None:
    """None when it takes more than a glance; see `schemas.canonical`."""
    match = canonical.COMMAND.match(raw)
    if match is None or not raw.endswith(b"}"):
        return None
    id_, sort, _, _, _, _, time, actor, sender, correlation, causation = match.groups()
    try:
        kind, stream = _sort(sort)
        return CommandEnvelope(
            id=id_.decode(),
            stream=stream,
            time=canonical.moment(time),
            actor=canonical.actor(actor),
            sender=sender.decode(),
            correlation_id=correlation.decode(),
            causation_id=causation.decode(),
            command=_COMMAND_BODIES.read(kind, raw[match.end() : -1]),
        )
    except (ValueError, LookupError):
        return None


def _any_command(raw: bytes) -> CommandEnvelope:
    header = _read(raw, "command", _CommandHeader)
    return CommandEnvelope(
        id=header.id,
        stream=StreamId(header.tenant, header.kind, header.stream),
        time=header.time.astimezone(UTC),
        actor=header.actor,
        sender=header.sender,
        correlation_id=header.correlation_id,
        causation_id=header.causation_id,
        command=lift(COMMANDS, "command", header.type, header.version, header.data),  # type: ignore[arg-type]
    )


def lift(registry: Mapping[str, MessageType], kind: str, name: str, version: int, data: dict[str, Any]) -> Message:
    """The message `name` from a body of any version up to today's. Raises UnreadableMessage."""
    known = registry.get(name)
    if known is None:
        raise UnreadableMessage(f"unknown {kind} type {name!r}")
    if not 1 <= version <= known.version:
        raise UnreadableMessage(
            f"{kind} {name!r} has version {version!r}, this program knows up to {known.version}: update it"
        )
    try:
        for step in range(version, known.version):
            data = known.upcasters[step](data)
        return known.cls.model_validate(data)
    except (ValueError, LookupError, TypeError, AttributeError) as problem:  # an upcaster meets any body, too
        raise UnreadableMessage(f"{kind} {name!r} version {version} does not fit its schema: {problem}") from problem


def _read(raw: bytes, kind: str, header: type[H]) -> H:
    try:
        body = from_json(raw)
    except ValueError as problem:
        raise UnreadableMessage(f"{kind} is not JSON: {problem}") from problem
    if not isinstance(body, dict):
        raise UnreadableMessage(f"{kind} is not a JSON object")
    try:
        return header.model_validate(body)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnreadableMessage(f"{kind} header: {where}: {first['msg']}") from problem
