"""Subjects, derived from the registry: the only place that knows how a message is addressed on NATS.

`vt.<tenant>.cmd.<stream>.<name>.<sender>`, `vt.<tenant>.evt.<stream>.<name>.<role or _>`,
`vt.<tenant>.tel.<session>.<role>.<kind>`, `vt.<tenant>.ask.<session>.model.<role>`, `vt.<tenant>.dead.<consumer>`.
The NATS server enforces who may publish under which sender token; see `docs/adr/0003-sender-in-the-subject.md`.
"""

from __future__ import annotations

from schemas.envelope import CommandEnvelope, EventEnvelope
from schemas.messages import COMMANDS, Event
from schemas.values import Role

ROOT = "vt"


def command_subject(envelope: CommandEnvelope) -> str:
    """Where `envelope.sender` publishes this command."""
    stream = envelope.stream
    return f"{ROOT}.{stream.tenant}.cmd.{stream.name}.{envelope.type}.{envelope.sender}"


def command_sender(subject: str) -> str:
    """The sender token of a command's subject. Raises ValueError for any other subject."""
    tokens = subject.split(".")
    if len(tokens) != 6 or tokens[0] != ROOT or tokens[2] != "cmd":
        raise ValueError(f"not a command subject: {subject!r}")
    return tokens[5]


def event_subject(envelope: EventEnvelope[Event]) -> str:
    """Where the relay publishes this event: the last token is the role it is addressed to, or `_`."""
    stream = envelope.stream
    agent = getattr(envelope.event, "agent", None) if envelope.event.message_type.addressed else None
    return f"{ROOT}.{stream.tenant}.evt.{stream.name}.{envelope.type}.{agent or '_'}"


def telemetry_subject(tenant: str, session: str, role: Role | str, kind: str) -> str:
    """Where live progress goes; never audited."""
    return f"{ROOT}.{tenant}.tel.{session}.{role}.{kind}"


def ask_subject(tenant: str, session: str, role: Role | str) -> str:
    """Where an agent asks the model gateway; the server lets each role ask under its own name only."""
    return f"{ROOT}.{tenant}.ask.{session}.model.{role}"


def publish_subjects(tenant: str, sender: str) -> tuple[str, ...]:
    """The command subjects `sender` may publish on, from the commands' own declarations."""
    names = sorted(name for name, kind in COMMANDS.items() if sender in kind.senders)
    return tuple(f"{ROOT}.{tenant}.cmd.*.{name}.{sender}" for name in names)
