"""A whole system for model calls: a real NATS server, a conductor on SQLite, a gateway, and agents that ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.llm.asking import GatewayModel
from agents.llm.gateway import Gateway
from agents.llm.providers.openai_compatible import OpenAICompatible
from agents.port import Attempt
from bus.nats_bus import NatsBus, connect
from bus.server import EmbeddedServer
from cli.home import Home
from cli.opening import open_store
from cli.parts import conducting
from cli.settings import Settings
from conductor.replay import state_at, verify_decisions
from conductor.state import SessionState
from schemas import commands as cmd
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command, Event
from schemas.model_calls import Message
from schemas.model_policy import ModelLimit, ModelPolicy, ModelPrice
from schemas.session import PhaseStarted
from schemas.values import Actor, Role
from store.port import Store
from tests.conductor.rig import PIPELINE, POLICY, TICKET
from tests.openai_server.server import KEY, OpenAIServer
from workspace.blobs import Blobs

MODELS = ModelPolicy(
    prices={"scripted-model": ModelPrice(input=2.0, output=8.0, cached=1.0)},
    output_tokens=100,
    call=ModelLimit(tokens=100_000, seconds=20.0),
)
HELLO = (Message(role="user", content="hello"),)


@dataclass
class Floor:
    """Where a test stands: it sends commands, starts gateways, and speaks as agents."""

    home: Home
    server: EmbeddedServer
    store: Store
    stack: AsyncExitStack
    sent: list[NatsBus] = field(default_factory=list)

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.home.blobs)

    async def bus(self, role: str) -> NatsBus:
        return await self.stack.enter_async_context(await connect(self.server.login(role)))

    async def send(self, session: str, command: Command, sender: str) -> dict[str, Any]:
        envelope = CommandEnvelope(
            id=uuid7(),
            stream=StreamId("default", "session", session),
            time=datetime.now(UTC),
            actor=Actor(name=sender, channel="bus", verified_as=f"login:{sender}"),
            sender=sender,
            correlation_id=session,
            causation_id="",
            command=command,
        )
        async with await connect(self.server.login(sender)) as bus:
            return await bus.send(envelope)

    async def start(self, session: str = "s12-abcde", models: ModelPolicy | None = MODELS) -> None:
        command = cmd.StartSession(
            ticket=TICKET,
            ticket_digest="a" * 64,
            drive="d-1",
            pipeline=PIPELINE,
            policy=POLICY.model_copy(update={"models": models}),
            policy_version="b" * 64,
            repository="/repository",
            base_commit="base",
            branch="phase/12",
            roots=("data",),
            seed=7,
        )
        assert (await self.send(session, command, "autopilot"))["accepted"]

    async def claim(self, session: str = "s12-abcde") -> Attempt:
        """As the agent Lead, whose phase comes first."""
        state = self.state(session)
        claim = cmd.ClaimAttempt(phase=state.phase, attempt=state.attempt, holder="replica-1")
        verdict = await self.send(session, claim, "lead")
        assert verdict["accepted"], verdict
        events = [e.event for e in self.store.read(StreamId("default", "session", session))]
        started = [event for event in events if isinstance(event, PhaseStarted)][-1]
        return Attempt(session, started, verdict["lease"], self.home.attempts)

    async def model(self, attempt: Attempt, role: Role = Role.LEAD, away_seconds: float = 30.0) -> GatewayModel:
        return GatewayModel(await self.bus(role.value), self.blobs, "default", role, attempt, away_seconds)

    @asynccontextmanager
    async def gateway(
        self, endpoint: OpenAIServer, name: str = "gateway-one", model: str = "scripted-model", key: str = KEY
    ) -> AsyncIterator[Gateway]:
        provider = OpenAICompatible(endpoint.url, key)
        try:
            async with await connect(self.server.login("gateway")) as bus:
                gateway = Gateway(bus, self.blobs, provider, model, tenant="default", name=name)
                async with gateway.running():
                    yield gateway
        finally:
            await provider.close()

    def state(self, session: str = "s12-abcde") -> SessionState:
        return state_at(self.store, StreamId("default", "session", session))[0]

    def events(self, kind: type[Event], session: str = "s12-abcde") -> list[Any]:
        envelopes = self.store.read(StreamId("default", "session", session))
        return [e.event for e in envelopes if isinstance(e.event, kind)]

    def verify(self, session: str = "s12-abcde") -> None:
        """The rules decide the record again as it is, without any model."""
        assert verify_decisions(self.store, StreamId("default", "session", session)).difference is None


@asynccontextmanager
async def floor(path: Path) -> AsyncIterator[Floor]:
    """Server, record and conductor; gateways and agents are the test's."""
    home, settings = Home(path / "home"), Settings()
    home.prepare()
    async with AsyncExitStack() as stack:
        store = open_store(home, settings)
        stack.callback(store.close)
        server = await stack.enter_async_context(EmbeddedServer(home.bus))
        lease = store.lease("relay")
        stack.callback(lease.release)
        await stack.enter_async_context(conducting(home, settings, server, store, lease, alone=True))
        yield Floor(home, server, store, await stack.enter_async_context(AsyncExitStack()))
