"""Replay: a session's state at any point, and proof that today's rules decide the recorded commands as ever."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from conductor.drives import DriveState
from conductor.fold import fold, handle
from conductor.loading import past_of
from conductor.state import SessionState, initial
from schemas.envelope import CommandEnvelope, EventEnvelope, StreamId, decode_command
from schemas.messages import Event
from store.port import Store


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What deciding again came to. `difference` names the first one, or is None."""

    commands: int
    events: int
    difference: str | None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def state_at(store: Store, stream: StreamId, sequence: int | None = None) -> tuple[SessionState, datetime]:
    """The state after event `sequence` (the newest by default) and that event's time."""
    envelopes = list(store.read(stream, 0, sequence))
    at = envelopes[-1].time if envelopes else datetime.fromtimestamp(0, UTC)
    return fold(initial(stream.name), envelopes), at


def sequence_at(store: Store, stream: StreamId, time: datetime) -> int:
    """The last event before the first one that is later than `time`; 0 when that is the very first.

    Events carry the time of the command that caused them, and senders' clocks differ: of an event that stands after a
    later one it is not said that it had happened.
    """
    sequence = 0
    for envelope in store.read(stream):
        if envelope.time > time:
            break
        sequence = envelope.sequence
    return sequence


def verify_decisions(store: Store, stream: StreamId) -> ReplayReport:
    """Decide every recorded command of a session again, from the first, and compare each event with the record."""
    if stream.kind != "session":
        raise ValueError(f"only sessions are decided again, not {DriveState.__name__}")
    recorded = list(store.read(stream))
    state = initial(stream.name)
    commands = 0
    for entry in store.commands(stream):
        envelope = decode_command(entry.raw)
        before = state.version
        outcome = handle(state, envelope, past_of(store, envelope))
        commands += 1
        for offset, event in enumerate(outcome.events):
            sequence = before + offset + 1
            if sequence > len(recorded):
                what = f"event {sequence}: the rules now add {event.message_type.name}, which the record does not have"
                return ReplayReport(commands, len(recorded), what)
            if different := _difference(recorded[sequence - 1], envelope, event):
                return ReplayReport(commands, len(recorded), f"event {sequence}: {different}")
        state = outcome.state
    if state.version != len(recorded):
        what = f"event {state.version + 1}: the record has {recorded[state.version].type}, which no command explains"
        return ReplayReport(commands, len(recorded), what)
    return ReplayReport(commands, len(recorded), None)


def _difference(then: EventEnvelope[Event], command: CommandEnvelope, now: Event) -> str | None:
    """What is not as it was recorded, or None."""
    if then.type != now.message_type.name:
        return f"the record has {then.type}, the rules now give {now.message_type.name}"
    caused = ((then.causation_id, command.id), (then.actor, command.actor), (then.time, command.time))
    fields = [(name, getattr(then.event, name), getattr(now, name)) for name in type(now).model_fields]
    pairs = [*fields, *((name, *pair) for name, pair in zip(("cause", "actor", "time"), caused, strict=True))]
    for name, before, after in pairs:
        if before != after:
            return f"{then.type} differs: {name} was {str(before)[:200]}, would be {str(after)[:200]}"
    return None
