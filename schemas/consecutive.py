"""Reading many events of one stream: what an event shares with the one before is compared, not parsed again.

Like `schemas.canonical` this is no second definition of the form. What is taken here `decode_event` would read the same
way (a test compares the two); whatever is not taken is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from schemas import canonical
from schemas.envelope import EventEnvelope, StreamId, UnreadableMessage, decode_event
from schemas.messages import EVENTS, Event

_new = object.__new__
# What the generated __init__ does, without its way around the frozen class for each field.
_set_fields: Callable[[object, dict[str, Any]], None] = EventEnvelope.__dict__["__dict__"].__set__

_BEFORE_TYPE = len('{"id":"","type":"')
_LOOKED_UP = 40
"""Bytes from the type on that tell what an event is: longer than any type's name, whose end need not be found then."""
_TIME = len("2026-11-21T09:00:00.000000Z")
_BODY = b'","data":'
_CAUSATION = b',"causation_id":"'
_END = ord("}")


class Consecutive:
    """Reads events of `stream`. For one reading by one thread: it keeps what it looked up in the registry."""

    def __init__(self, stream: StreamId) -> None:
        self._stream = stream
        self._kinds: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {}

    def read(self, first: int, ids: Sequence[str], raws: Sequence[bytes]) -> Generator[EventEnvelope[Event], None, int]:
        """Give the events in `raws`, lifted to their newest versions, and return how many there were.

        It stops early before an event that cannot be read, does not have its one of the `ids`, or is not the event
        number `first`, `first` + 1 … of the stream: one to be looked at by itself.
        """
        if not canonical.are_all_ids(ids):
            return 0
        kinds, stream = self._kinds, self._stream
        # What stands between sequence and body: the same for all events of a command.
        shared, shared_length = b"-", 0
        # The part of it after the time, up to the causation id: the same for all commands of one sender, as a rule.
        who, before_causation = b"", 0
        time: Any = None
        actor: Any = None
        correlation = causation = ""
        for sequence, (id_, raw) in enumerate(zip(ids, raws, strict=True), first):
            start = _BEFORE_TYPE + len(id_)
            name = raw[start : start + _LOOKED_UP]
            try:
                sort, read_body = kinds[name] if name in kinds else self._kind(name)
                head = f'{{"id":"{id_}{sort}{sequence},"time":"'.encode()
                if not raw.startswith(head):
                    raise LookupError(name)
                start = len(head)
                if not raw.startswith(shared, start):
                    end = raw.index(_BODY, start)
                    if not (who and raw.startswith(who, start + _TIME)):
                        who = raw[start + _TIME : raw.index(_CAUSATION, start, end) + len(_CAUSATION)]
                        actor, correlation = canonical.who(who[: -len(_CAUSATION)])
                        before_causation = _TIME + len(who)
                    time = canonical.read_moment(raw[start : start + _TIME])
                    if end < start + before_causation:  # the quote that opens the causation id closes it, too
                        raise ValueError(raw)
                    causation = canonical.reference(raw[start + before_causation : end])
                    shared = raw[start : end + len(_BODY)]
                    shared_length = len(shared)
                if raw[-1] != _END:
                    raise ValueError(raw)
                event = read_body(raw[start + shared_length : -1])
            except (ValueError, LookupError):
                if (whole := self._any(id_, sequence, raw)) is None:
                    return sequence - first
                shared, shared_length, who = b"-", 0, b""
                yield whole
                continue
            envelope: EventEnvelope[Event] = _new(EventEnvelope)
            _set_fields(
                envelope,
                {
                    "id": id_,
                    "stream": stream,
                    "sequence": sequence,
                    "time": time,
                    "actor": actor,
                    "correlation_id": correlation,
                    "causation_id": causation,
                    "event": event,
                },
            )
            yield envelope
        return len(ids)

    def _kind(self, text: bytes) -> tuple[str, Callable[[bytes], Any]]:
        """What stands between id and sequence of an event in its newest version, and what reads the body; `text` begins
        with the type. Raises LookupError, ValueError."""
        known, stream = EVENTS[text[: text.index(b'"')].decode()], self._stream
        place = f'"tenant":"{stream.tenant}","kind":"{stream.kind}","stream":"{stream.name}"'
        sort = f'{known.name}","version":{known.version},{place}'
        canonical.sort(sort.encode())  # are the names what they may be?
        found = (f'","type":"{sort},"sequence":', known.cls.__pydantic_validator__.validate_json)
        self._kinds[text] = found
        return found

    def _any(self, id_: str, sequence: int, raw: bytes) -> EventEnvelope[Event] | None:
        """An older version, another notation; None for what belongs elsewhere or nowhere."""
        try:
            envelope = decode_event(raw)
        except UnreadableMessage:
            return None
        fits = (envelope.stream, envelope.sequence, envelope.id) == (self._stream, sequence, id_)
        return envelope if fits else None
