"""The conductor's shell under test: a real store, a clock that stands still, and a bus that only hears replies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bus.port import Delivery, Outcome
from conductor.service import Conductor
from conductor.state import SessionState
from schemas import commands as cmd
from schemas.envelope import CommandEnvelope, StreamId, encode_command
from schemas.messages import Command
from schemas.subjects import command_subject
from schemas.values import Actor
from store.port import Append, AppendResult, Store, StoreUnavailable
from tests.conductor.rig import MACHINE, SESSION, START, TENANT, Rig

STREAM = StreamId(TENANT, "session", SESSION)


class Replies:
    """A bus that does nothing but keep the answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def reply(self, delivery: Delivery, receipt: dict[str, Any]) -> None:
        self.sent.append((delivery.subject, receipt))


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float = 1.0) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


class Flaky:
    """A store that can be cut off, and that can let somebody else in just before it writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.before: list[Any] = []
        self.appended = 0

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise StoreUnavailable("the disk is full: free some space")
        return getattr(self._store, name)

    def append_batch(self, appends: Sequence[Append]) -> list[AppendResult]:
        if self.away:
            raise StoreUnavailable("the disk is full: free some space")
        while self.before:
            self.before.pop()()
        self.appended += 1
        return self._store.append_batch(appends)


class Shell:
    """A conductor and what stands around it. `Shell(store)` again on the same store is a process that was restarted."""

    ids = 0

    def __init__(self, store: Any, clock: Clock | None = None) -> None:
        self.store = store
        self.clock = clock or Clock()
        self.conductor = Conductor(store, TENANT, self.clock)
        self.bus = Replies()

    def state(self, stream: StreamId = STREAM) -> SessionState:
        state = self.conductor.load(stream)
        assert isinstance(state, SessionState)
        return state

    def envelope(
        self, command: Command, sender: str, actor: Actor = MACHINE, stream: StreamId = STREAM
    ) -> CommandEnvelope:
        Shell.ids += 1
        return CommandEnvelope(f"shell-{Shell.ids}", stream, self.clock.tick(), actor, sender, stream.name, "", command)

    def start(self, session: str = SESSION) -> CommandEnvelope:
        return self.envelope(Rig().start_command(), "autopilot", stream=StreamId(TENANT, "session", session))

    def claim(self, holder: str = "replica-1", stream: StreamId = STREAM) -> CommandEnvelope:
        state = self.state(stream)
        command = cmd.ClaimAttempt(phase=state.phase, attempt=state.attempt, holder=holder)
        return self.envelope(command, state.definition.agent.value, stream=stream)

    def failure(self, failure: str = "transient", lease: int | None = None) -> CommandEnvelope:
        state = self.state()
        command = cmd.ReportFailure(
            phase=state.phase,
            attempt=state.attempt,
            lease=state.lease if lease is None else lease,
            failure=failure,  # type: ignore[arg-type]
            reason="it broke",
        )
        return self.envelope(command, state.definition.agent.value)

    async def handle(self, *envelopes: CommandEnvelope, attempt: int = 1) -> list[Outcome]:
        deliveries = [delivery(envelope)._replace(attempt=attempt) for envelope in envelopes]
        return await self.conductor.handle_batch(self.bus, deliveries)  # type: ignore[arg-type]

    async def verdict(self, envelope: CommandEnvelope) -> dict[str, Any]:
        await self.handle(envelope)
        return self.bus.sent[-1][1]

    def types(self, stream: StreamId = STREAM) -> list[str]:
        return [envelope.type for envelope in self.store.read(stream)]


def delivery(envelope: CommandEnvelope, subject: str | None = None, raw: bytes | None = None) -> Delivery:
    async def in_progress() -> None:
        raise AssertionError("the bus does this by itself")

    return Delivery(
        subject=subject or command_subject(envelope),
        raw=encode_command(envelope) if raw is None else raw,
        headers={},
        sequence=1,
        attempt=1,
        in_progress=in_progress,
    )
