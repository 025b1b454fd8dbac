"""The composition root: the one place where the parts are put together. Importing it starts nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from bus.nats_bus import connect
from bus.port import Bus, BusError, Login
from bus.server import EmbeddedServer
from bus.streams import CONDUCTOR, EFFECTS, agent_consumer
from cli.checkpointing import Checkpointing
from cli.errors import CliError
from cli.home import Home
from cli.opening import open_store
from cli.settings import Settings
from conductor.dead_letters import DeadLetters
from conductor.letters import LetterState
from conductor.service import Conductor
from conductor.state import SessionState
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.envelope import StreamId
from schemas.values import Role, Sender
from store.leader import TRY_EVERY, leadership
from store.port import Lease, Store, StoreUnavailable
from store.relay import Relay
from workspace.blobs import Blobs

_log = structlog.get_logger("system")
RELAY_PAUSE = 1.0
"""Seconds after which the relay looks again even when nobody woke it."""

LEAD_SECONDS = 20.0
"""How long to wait, at the start, for another process to be gone: longer than one that was killed or suspended keeps
its lease."""


@dataclass(slots=True)
class System:
    """A running conductor with its store and bus, and what was started around it."""

    home: Home
    settings: Settings
    server: EmbeddedServer
    store: Store
    conductor: Conductor
    relay: Relay
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

    Raises HomeBusy when another process works on the home, CliError when one works on the record from another home, and
    the parts' own errors. On leaving, everything is stopped
    in reverse order; what was committed stays, what was under way is delivered again next time.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(home.locked(purpose))
        store = await anyio.to_thread.run_sync(open_store, home, settings)
        stack.callback(store.close)
        lease = store.lease("relay")
        stack.callback(lease.release)
        await _lead(lease)
        checkpoints = await anyio.to_thread.run_sync(Checkpointing, store, home.record_key)
        stack.push_async_callback(checkpoints.finish)  # after everything that writes has stopped
        server = await stack.enter_async_context(
            EmbeddedServer(
                home.bus, binary=settings.nats_server, port=settings.nats_port or None, tenant=settings.tenant
            )
        )
        bus = await stack.enter_async_context(await connect(server.login(Sender.CONDUCTOR.value), name="conductor"))
        operator = await stack.enter_async_context(await connect(server.login(Sender.OPERATOR.value), name="operator"))
        conductor = Conductor(store, settings.tenant)
        relay = Relay(store, bus.publish_events, bus.last_event)
        blobs = Blobs(home.blobs)
        letters = DeadLetters(
            conductor, store, bus, settings.tenant, blobs.put, blobs.read, partial(_put_back, server.login)
        )
        running = System(home, settings, server, store, conductor, relay, operator, blobs, letters)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(_keep_server, server)
        await tasks.start(_run_relay, lease, relay, conductor)
        tasks.start_soon(conductor.run_timers)
        tasks.start_soon(checkpoints.run, lambda: conductor.committed)
        tasks.start_soon(letters.run)
        await stack.enter_async_context(bus.consume_batches(CONDUCTOR, partial(conductor.handle_batch, bus)))
        if agents:
            await _start_agents(stack, running)
        if effects:
            await _start_effects(stack, running)
        yield running


async def _keep_server(server: EmbeddedServer) -> None:
    """Start the embedded server again when it dies; the relay then brings it up to date."""
    while True:
        code = await server.exited()
        _log.warning("nats_server_ended", code=code)
        await server.restart()


async def _lead(lease: Lease) -> None:
    """Wait until no other process works on the record. Raises CliError when one goes on: it relays to its own home's
    bus, of which ours would hear nothing, and signs with its own key."""
    with anyio.move_on_after(LEAD_SECONDS):
        while True:
            if await anyio.to_thread.run_sync(lease.acquire):
                return
            await anyio.sleep(TRY_EVERY)
    raise CliError("another process works on this record from a home of its own: stop it, or use its home (--home)")


async def _run_relay(
    lease: Lease, relay: Relay, conductor: Conductor, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    """Publish for ever, as the one process of the record that does; started when the bus has everything."""
    started = False
    while True:
        async with leadership(lease):
            if not started:
                await relay.reconcile()
                while await relay.step():
                    pass
                started = True
                task_status.started()
            await _relay(relay, conductor)
        _log.warning("relay_lost_its_lease")


async def _relay(relay: Relay, conductor: Conductor) -> None:
    """Publish whatever is committed; a bus or record that is away is waited for, and checked when it is back."""
    lost = True
    while True:
        committed = conductor.committed
        try:
            if lost:
                await relay.reconcile()
                lost = False
            if await relay.step():
                continue
        except (BusError, StoreUnavailable) as problem:
            _log.warning("relay_waits", reason=str(problem))
            lost = True
        with anyio.move_on_after(RELAY_PAUSE):
            await committed.wait()


async def _put_back(login: Callable[[str], Login], role: str, subject: str, raw: bytes, message_id: str) -> None:
    """Under the login that spoke first, which the server lets publish there and nowhere else."""
    async with await connect(login(role), name="requeue") as bus:
        await bus.put_back(subject, raw, message_id)


async def _start_agents(stack: AsyncExitStack, running: System) -> None:
    """All seven, each with a login of its own: the conductor's word is the only thing they share."""
    from agents.loop import Agent
    from agents.worker import PRELOAD
    from workspace.children import ForkServer

    children = await stack.enter_async_context(ForkServer(PRELOAD))
    places = anyio.CapacityLimiter(running.settings.skill_processes)
    for role in Role:
        login = running.server.login(role.value)
        bus = await stack.enter_async_context(await connect(login, name=f"agent-{role.value}"))
        agent = Agent(role, bus, running.blobs, children, running.home.attempts, places, facts=running.settings.facts)
        await stack.enter_async_context(
            agent.running(replace(agent_consumer(role), max_in_flight=running.settings.skill_processes))
        )


async def _start_effects(stack: AsyncExitStack, running: System) -> None:
    """The effect executor, which alone holds the signing key and writes to git."""
    from autopilot.effects import EffectExecutor

    login = running.server.login(Sender.AUTOPILOT.value)
    bus = await stack.enter_async_context(await connect(login, name="effects"))
    executor = EffectExecutor(bus, running.settings.tenant, running.blobs, running.home.worktrees, running.home.key)
    await stack.enter_async_context(executor.running(EFFECTS))
