"""The parts of a system, each put together in one way, whether they share a process or not: conductor, agent,
effect executor."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from bus.nats_bus import NatsBus, connect
from bus.permissions import inbox_prefix
from bus.port import BusError, Login
from bus.streams import CONDUCTOR, EFFECTS, FETCHES, agent_consumer
from cli.answering import answering
from cli.checkpointing import Checkpointing
from cli.errors import CliError
from cli.feature_registry import FeatureFile
from cli.history import HistoryFile
from cli.home import Home
from cli.joining import Server
from cli.settings import FEATURES, HISTORY, Settings
from conductor.dead_letters import DeadLetters
from conductor.service import Conductor
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.values import Role, Sender
from store.leader import leadership
from store.port import Lease, Store, StoreUnavailable
from store.relay import HOLD_SECONDS, Relay
from workspace.blobs import Blobs

if TYPE_CHECKING:
    from agents.port import Planner
    from forge.client import GitHub
    from workspace.children import ForkServer

_log = structlog.get_logger("system")
RELAY_PAUSE = 1.0
"""Seconds after which the relay looks again even when nobody woke it."""

COMMITTED = f"{inbox_prefix(Sender.CONDUCTOR.value)}.committed"
"""Where a conductor that does not relay tells the one that does that there is something to relay."""


@dataclass(slots=True)
class Conducting:
    """A running conductor, with what it does only while it leads: relay, checkpoints, dead letters."""

    store: Store
    bus: NatsBus
    blobs: Blobs
    conductor: Conductor
    relay: Relay
    checkpoints: Checkpointing
    dead_letters: DeadLetters
    history: HistoryFile
    leads: bool = False


def check_tenant(store: Store, tenant: str) -> None:
    """A record belongs to one tenant: everything in it is relayed under that tenant's login. Raises CliError when it is
    another's, and the store's errors."""
    last = store.last_position()
    for stored in (*store.read_all(0, 1), *store.read_all(max(last - 1, 0), 1)):
        if stored.stream.tenant != tenant:
            raise CliError(
                f"this record belongs to tenant {stored.stream.tenant!r} and the settings say {tenant!r}: "
                f"set tenant: {stored.stream.tenant}, or give each tenant a home and a record of its own"
            )


def settle_memory() -> None:
    """What the program is made of stays: else the collector walks over all of it again and again, 0.1 s each time. And
    as states and messages make few cycles, it looks for them after 10,000 new objects and not after 700 already."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50)


@asynccontextmanager
async def conducting(
    home: Home, settings: Settings, server: Server, store: Store, lease: Lease, *, alone: bool
) -> AsyncIterator[Conducting]:
    """A conductor on `store`: commands, timers, and while it holds `lease` also relay, checkpoints and dead letters.

    `alone`: nobody else may lead, so it begins once the bus has every event. Otherwise another process may relay, and
    this one takes over when that one is gone. Raises the parts' errors.
    """
    async with AsyncExitStack() as stack:
        blobs = Blobs(home.blobs)
        await anyio.to_thread.run_sync(blobs.sweep)
        checkpoints = await anyio.to_thread.run_sync(Checkpointing, store, home.record_key)
        bus = await stack.enter_async_context(await connect(server.login(Sender.CONDUCTOR.value), name="conductor"))
        conductor = Conductor(store, settings.tenant)
        relay = Relay(store, bus.publish_events, bus.last_event, fresh=conductor.fresh, hold=HOLD_SECONDS)
        letters = DeadLetters(
            conductor, store, bus, settings.tenant, blobs.put, blobs.read, partial(_put_back, server.login)
        )
        features = FeatureFile(store, settings.tenant, blobs, home.path / FEATURES)
        history = HistoryFile(store, settings.tenant, home.path / HISTORY, also=(features.write,))
        parts = Conducting(store, bus, blobs, conductor, relay, checkpoints, letters, history)
        stack.push_async_callback(_finish, parts)  # after everything that writes has stopped
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        await stack.enter_async_context(bus.subscribe(COMMITTED, lambda subject, raw, headers: conductor.wake()))
        if alone:
            await tasks.start(_lead, lease, parts)
        else:
            tasks.start_soon(_lead, lease, parts)
        tasks.start_soon(_tell_leader, parts)
        tasks.start_soon(conductor.run_timers)
        await stack.enter_async_context(bus.consume_batches(CONDUCTOR, partial(conductor.handle_batch, bus)))
        yield parts


async def _lead(
    lease: Lease, parts: Conducting, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Do for ever, whenever it is ours, what one process of the record does. Started when the bus has every event."""
    started = task_status is anyio.TASK_STATUS_IGNORED
    while True:
        async with leadership(lease):
            parts.leads = True
            _log.info("conductor_leads", pid=os.getpid())
            if not started:
                await parts.relay.reconcile()
                while await parts.relay.step():
                    pass
                task_status.started()
                started = True
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_relay, parts)
                tasks.start_soon(parts.checkpoints.run, lambda: parts.conductor.committed)
                tasks.start_soon(parts.dead_letters.run)
                tasks.start_soon(parts.history.run, lambda: parts.conductor.committed)
        parts.leads = False
        _log.warning("relay_lost_its_lease")


async def _relay(parts: Conducting) -> None:
    """Publish whatever is committed; a bus or record that is away is waited for, and checked when it is back."""
    checked = -1
    while True:
        committed, connects = parts.conductor.committed, parts.bus.connection.connects
        try:
            if checked != connects:  # a server that came back may have come back empty
                await parts.relay.reconcile()
                checked = connects
            if await parts.relay.step():
                continue
        except (BusError, StoreUnavailable) as problem:
            _log.warning("relay_waits", reason=str(problem))
            checked = -1
        with anyio.move_on_after(RELAY_PAUSE):
            await committed.wait()


async def _tell_leader(parts: Conducting) -> None:
    """Wake the process that relays when this one, which does not, has committed something."""
    told = 0
    while True:
        committed, commits = parts.conductor.committed, parts.conductor.commits
        if commits != told and not parts.leads:
            await parts.bus.tell(COMMITTED, b"")
        told = commits
        await committed.wait()


async def _finish(parts: Conducting) -> None:
    """The signature and the cursor of a conductor that stops while it leads; the next leader sees to those of one that
    does not."""
    if not parts.leads:
        return
    await parts.checkpoints.finish()
    await parts.history.finish()
    with anyio.CancelScope(shield=True):
        try:
            await parts.relay.rest()
        except StoreUnavailable as problem:
            _log.warning("relay_cursor_stays", reason=str(problem))


async def _put_back(login: Callable[[str], Login], role: str, subject: str, raw: bytes, message_id: str) -> int:
    """Under the login that spoke first, which the server lets publish there and nowhere else."""
    async with await connect(login(role), name="requeue") as bus:
        return await bus.put_back(subject, raw, message_id)


@asynccontextmanager
async def serving(
    role: Role, home: Home, settings: Settings, server: Server, children: ForkServer, places: anyio.CapacityLimiter
) -> AsyncIterator[None]:
    """One agent, which gets its own login, the artifacts, a place to work, nothing else. Raises BusError."""
    from agents.loop import Agent

    async with await connect(server.login(role.value), name=f"agent-{role.value}") as bus:
        blobs = Blobs(home.blobs)
        planner = _planner(role, bus, blobs, settings)
        agent = Agent(role, bus, blobs, children, home.attempts, places, planner, facts=settings.told(home.path))
        async with agent.running(replace(agent_consumer(role), max_in_flight=settings.skill_processes)):
            yield


def _writing(settings: Settings, repository: str) -> GitHub:
    """The connection that writes to the repository `OWNER/REPO`. Raises ForgeError without credentials."""
    from cli.forging import github_at
    from forge.errors import ForgeError

    try:
        return github_at(f"github:{repository}", settings, read_only=False)
    except CliError as problem:
        raise ForgeError(str(problem)) from problem


def _planner(role: Role, bus: NatsBus, blobs: Blobs, settings: Settings) -> Planner:
    """The one the settings name, unless a session says otherwise. Its model is asked through the gateway."""
    from agents.choosing import Choosing

    def llm() -> Planner:
        from agents.llm.asking import GatewayModel
        from agents.planner import LlmPlanner
        from agents.planning.session import Means

        return LlmPlanner(
            Means(lambda attempt, task: GatewayModel(bus, blobs, settings.tenant, role, attempt), blobs, settings.facts)
        )

    return Choosing(settings.planner, llm)


@asynccontextmanager
async def executing(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
    """The effect executor, which alone holds the signing key and writes to git and to the model registry, and has the
    rows of named sources read. Raises HomeBusy when another process does so on this home, BusError."""
    from autopilot.effects import EffectExecutor
    from autopilot.fetching import SourceFetcher
    from autopilot.registry.mlflow_registry import MlflowRegistry
    from cli.sources import reader_of

    with home.executing("an effect executor"):
        async with await connect(server.login(Sender.AUTOPILOT.value), name="effects") as bus:
            registry = MlflowRegistry(home.registry_at(settings.registry_uri))
            executor = EffectExecutor(
                bus,
                settings.tenant,
                Blobs(home.blobs),
                home.worktrees,
                home.key,
                registry,
                connect=partial(_writing, settings),
            )
            fetcher = SourceFetcher(bus, executor, Blobs(home.blobs), reader_of(home))
            async with (
                executor.running(EFFECTS),
                fetcher.running(FETCHES),
                answering(server, partial(_writing, settings)),
            ):
                yield
