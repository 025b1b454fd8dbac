"""The composition root of one process: everything that `valuetrain drive` starts. Importing it starts nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from bus.nats_bus import connect
from bus.port import Bus
from bus.server import EmbeddedServer
from cli.errors import CliError
from cli.gateways import model_gateway
from cli.home import Home
from cli.opening import open_store
from cli.parts import check_tenant, conducting, executing, serving
from cli.settings import Settings
from conductor.dead_letters import DeadLetters
from conductor.letters import LetterState
from conductor.service import Conductor
from conductor.state import SessionState
from schemas.envelope import StreamId
from schemas.values import Role, Sender
from store.leader import TRY_EVERY
from store.port import Lease, Store
from workspace.blobs import Blobs

if TYPE_CHECKING:
    from workspace.children import ForkServer

_log = structlog.get_logger("system")

LEAD_SECONDS = 20.0
"""How long to wait, at the start, for another process to be gone: longer than one that was killed or suspended keeps
its lease."""


@dataclass(slots=True)
class System:
    """A running conductor with its store and bus, and what was started around it."""

    server: EmbeddedServer
    store: Store
    conductor: Conductor
    operator: Bus
    blobs: Blobs
    dead_letters: DeadLetters

    async def settled(self, stream: StreamId, seconds: float = 60.0) -> None:
        """Wait until the session's requested effects, or the dead letter's way back, are carried out. Raises
        TimeoutError after `seconds`."""
        with anyio.fail_after(seconds):
            while True:
                committed = self.conductor.committed
                state = await anyio.to_thread.run_sync(self.conductor.load, stream)
                effects = isinstance(state, SessionState) and state.effects
                if not effects and not (isinstance(state, LetterState) and state.status == "released"):
                    return
                with anyio.move_on_after(1.0):
                    await committed.wait()


@asynccontextmanager
async def system(
    home: Home,
    settings: Settings,
    purpose: str,
    *,
    agents: bool = True,
    effects: bool = True,
) -> AsyncIterator[System]:
    """Start server, store, conductor and relay on `home`, with the seven agents and the effect executor if asked.

    Raises HomeBusy when another process works on the home, CliError when one works on the record from another home or
    the record is another tenant's, and the parts' own errors. On leaving, everything is stopped
    in reverse order; what was committed stays, what was under way is delivered again next time.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(home.locked(purpose))
        if settings.store_url is None:
            stack.enter_context(home.recording(purpose))
        # first of all: it takes seconds to import what skills need, on a processor that has nothing else to do
        children = await stack.enter_async_context(_skills()) if agents else None
        store = await anyio.to_thread.run_sync(open_store, home, settings)
        stack.callback(store.close)
        await anyio.to_thread.run_sync(check_tenant, store, settings.tenant)
        lease = store.lease("relay")
        stack.callback(lease.release)
        await _be_alone(lease)
        server = await stack.enter_async_context(embedded(home, settings))
        operator = await stack.enter_async_context(await connect(server.login(Sender.OPERATOR.value), name="operator"))
        parts = await stack.enter_async_context(conducting(home, settings, server, store, lease, alone=True))
        if agents and settings.model_base_url is not None:
            await stack.enter_async_context(model_gateway(home, settings, server))
        if children is not None:
            places = anyio.CapacityLimiter(settings.skill_processes)
            for role in Role:  # each with a login of its own: the conductor's word is the only thing they share
                await stack.enter_async_context(serving(role, home, settings, server, children, places))
        if effects:
            await stack.enter_async_context(executing(home, settings, server))
        yield System(server, store, parts.conductor, operator, parts.blobs, parts.dead_letters)


@asynccontextmanager
async def embedded(home: Home, settings: Settings) -> AsyncIterator[EmbeddedServer]:
    """The home's own NATS server while the context is open, started again when it dies. Raises ServerError."""
    async with (
        EmbeddedServer(
            home.bus,
            binary=settings.nats_server,
            port=settings.nats_port or None,
            tenant=settings.tenant,
            tls=settings.nats_tls,
        ) as server,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_keep_server, server)
        yield server
        tasks.cancel_scope.cancel()


async def _keep_server(server: EmbeddedServer) -> None:
    """Start the embedded server again when it dies, or when its disk was full (it does not recover from that by
    itself); the relay then brings it up to date."""
    while True:
        async with anyio.create_task_group() as tasks:

            async def freed(scope: anyio.CancelScope = tasks.cancel_scope) -> None:
                await server.stuck()
                _log.warning("nats_server_is_started_again", reason="its disk was full and has room again")
                scope.cancel()

            tasks.start_soon(freed)
            code = await server.exited()
            _log.warning("nats_server_ended", code=code)
            tasks.cancel_scope.cancel()
        await server.restart()


async def _be_alone(lease: Lease) -> None:
    """Wait until no other process works on the record. Raises CliError when one goes on: it relays to its own home's
    bus, of which ours would hear nothing, and signs with its own key."""
    with anyio.move_on_after(LEAD_SECONDS):
        while True:
            if await anyio.to_thread.run_sync(lease.acquire):
                return
            await anyio.sleep(TRY_EVERY)
    raise CliError("another process works on this record from a home of its own: stop it, or use its home (--home)")


def _skills() -> ForkServer:
    """The fork server of all seven agents."""
    from agents.worker import preload
    from workspace.children import ForkServer

    return ForkServer(preload(Role))
