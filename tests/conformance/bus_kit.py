"""What the bus's tests share: the harness they need, messages, a handler that takes notes, waiting with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from bus.port import (
    Ack,
    Bus,
    BusError,
    ConsumerSpec,
    Delivery,
    Outcome,
    OutgoingEvent,
)
from schemas.commands import ClaimAttempt, RetryPhase
from schemas.envelope import CommandEnvelope, StreamId, decode_command
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.subjects import command_sender
from schemas.values import Actor

DEADLINE = 15.0
"""Seconds after which a test that waits has failed; nothing here takes a tenth of it."""

ALICE = Actor(name="alice", channel="cli", verified_as="1000")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SESSION = StreamId("default", "session", "S-one")  # subjects keep upper case, the server's refusals do not

COMMANDS = ConsumerSpec("VT_COMMANDS", "conductor", ("vt.*.cmd.>",), max_in_flight=4)
TRAINING = ConsumerSpec(
    "VT_EVENTS", "agent-training", ("vt.*.evt.*.phase_started.training",), backoff=(0.05, 0.1), max_deliver=3
)


class Harness(Protocol):
    """What a bus's tests provide: connections, consumers, and accidents."""

    async def bus(self, role: str) -> Bus:
        """A new connection as `role`, closed when the test ends."""

    async def prepare(self, spec: ConsumerSpec) -> None:
        """Make the durable consumer exist exactly so."""

    async def crash(self) -> None:
        """The server dies without warning and is back, with its disk, when this returns."""


def event(name: str, kind: str = "phase_started.training", session: str = "S-one") -> OutgoingEvent:
    """An event with the id `name`."""
    return OutgoingEvent(f"vt.default.evt.{session}.{kind}", name, f"body of {name}".encode(), (("Ce-Id", name),))


def events(count: int, kind: str = "phase_started.training") -> list[OutgoingEvent]:
    """Events e1, e2, …"""
    return [event(f"e{number}", kind) for number in range(1, count + 1)]


def command(sender: str = "operator", id: str | None = None) -> CommandEnvelope:
    """A command that `sender` may send."""
    body: Command = RetryPhase(reason="again")
    if sender != "operator":
        body = ClaimAttempt(phase="build", attempt=1, holder="replica-1")
    return CommandEnvelope(id or uuid7(), SESSION, NOON, ALICE, sender, "correlation", "causation", body)


class Log:
    """A handler that notes what it gets and answers what it is told; `until(n)` waits for n deliveries."""

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.deliveries: list[Delivery] = []
        self._outcomes = list(outcomes)
        self._changed = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> Outcome:
        self.deliveries.append(delivery)
        self._changed.set()
        outcome = self._outcomes.pop(0) if self._outcomes else Ack()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """The same for `consume_batches`."""
        return [await self(delivery) for delivery in deliveries]

    async def note(self, subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        """The same for `follow`."""
        await self(Delivery(subject, raw, headers, sequence, 1, _nothing))

    def live(self, subject: str, raw: bytes, headers: dict[str, str]) -> None:
        """The same for `subscribe`."""
        self.deliveries.append(Delivery(subject, raw, headers, 0, 1, _nothing))
        self._changed.set()

    @property
    def names(self) -> list[str]:
        """The events' names in the order they came."""
        return [delivery.raw.decode().removeprefix("body of ") for delivery in self.deliveries]

    async def until(self, count: int, deadline: float = DEADLINE) -> None:
        """Wait for `count` deliveries in all. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while len(self.deliveries) < count:
                self._changed.clear()
                await self._changed.wait()


async def _nothing() -> None:
    return None


async def eventually(condition: Callable[[], Any], deadline: float = DEADLINE) -> None:
    """Wait until `condition` holds (a coroutine function is awaited). Raises TimeoutError."""
    async with asyncio.timeout(deadline):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.01)


async def stays_quiet(log: Log, seconds: float) -> None:
    """No further delivery comes within `seconds`."""
    with pytest.raises(TimeoutError):
        await log.until(len(log.deliveries) + 1, seconds)


def conductor(bus: Bus, seen: list[CommandEnvelope] | None = None) -> Callable[[Delivery], Any]:
    """A handler that answers every command with its id and the sender the server verified."""

    async def handle(delivery: Delivery) -> Outcome:
        envelope = decode_command(delivery.raw).sent_by(command_sender(delivery.subject))
        if seen is not None:
            seen.append(envelope)
        await bus.reply(delivery, {"command": envelope.id, "by": envelope.sender})
        return Ack()

    return handle


async def forever() -> None:
    """Longer than any test takes."""
    await asyncio.wait_for(asyncio.Event().wait(), DEADLINE)


async def published(bus: Bus, wanted: Sequence[OutgoingEvent]) -> None:
    """Publish as the relay does: again and again until the server holds everything."""

    async def attempt() -> bool:
        try:
            await bus.publish_events(wanted)
        except BusError:
            return False
        return True

    await eventually(attempt)
