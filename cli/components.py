"""Components as processes of their own: `conductor run`, `agent run`, `effects run`, `gateway run`,
`autopilot run`.

Each serves until it is told to stop. What it needs and is away, it waits for; what no waiting puts right ends it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from cli.checks import misplaced
from cli.errors import CliError, Exit
from cli.gateways import GATEWAY, KEY_VARIABLE, model_gateway
from cli.home import Home, HomeBusy
from cli.joining import TRY_EVERY, RunningServer, Server, joined, patiently
from cli.logs import configure
from cli.opening import open_store
from cli.options import say, show_json
from cli.parts import Conducting, check_tenant, conducting, executing, serving, settle_memory
from cli.plugins import use_plugins
from cli.settings import Settings, load
from schemas.values import Role

LOOK_SECONDS = 0.5
GONE_SECONDS = 5.0
"""An embedded server that is away for so long was not just started again: its system has ended."""

Component = Callable[[Home, Settings, Server], AbstractAsyncContextManager[object]]


def serve(home_path: Path, as_json: bool, name: str, component: Component) -> None:
    """Run `component` until SIGTERM, Ctrl-C, or the end of the system it belongs to. Raises CliError and the parts'
    own errors for what no waiting puts right."""
    if wrong := misplaced():
        raise CliError(f"{'; '.join(wrong)}: install valuetrain into an environment of its own")
    if name != GATEWAY:
        os.environ.pop(KEY_VARIABLE, None)  # the key is the gateway's alone
    home = Home(home_path.resolve())
    settings = load(home.config)
    home.prepare()
    use_plugins(home)
    configure(home.log)
    try:
        anyio.run(_serve, home, settings, as_json, name, component)
    except KeyboardInterrupt:
        if not as_json:
            say(f"{name} stopped")
        return
    if not as_json:
        say(f"the system of {home.path} ended; {name} stops")


async def _serve(home: Home, settings: Settings, as_json: bool, name: str, component: Component) -> None:
    server = joined(home, settings)
    async with component(home, settings, server):
        if as_json:
            show_json({"component": name, "status": "serving", "pid": os.getpid()})
        else:
            say(f"{name} is serving; stop it with Ctrl-C")
        await until_gone(server)


async def until_gone(server: Server) -> None:
    """Wait for the end of the system whose embedded server this is; for ever with a server of one's own."""
    if not isinstance(server, RunningServer):
        await anyio.sleep_forever()
        return
    away = 0.0  # one that crashed is started again within a second or two: wait for that
    while away < GONE_SECONDS:
        await anyio.sleep(LOOK_SECONDS)
        away = 0.0 if server.alive else away + LOOK_SECONDS


@asynccontextmanager
async def patient(start: Callable[[], AbstractAsyncContextManager[object]]) -> AsyncIterator[None]:
    """Enter what `start` gives, as soon as bus and database are there."""
    async with AsyncExitStack() as stack:

        async def enter() -> None:
            await stack.enter_async_context(start())

        await patiently(enter, _tell)
        yield


def _tell(line: str) -> None:
    sys.stderr.write(f"valuetrain: {line}\n")
    sys.stderr.flush()


def run_conductor(home_path: Path, standby: bool, as_json: bool) -> None:
    """`valuetrain conductor run`. Raises HomeBusy when another process writes the SQLite record of this home, unless
    `standby`: then it takes over when that one is gone."""
    if standby and load(Home(home_path.resolve()).config).store_url is not None:
        raise CliError(
            "--standby is for a record in SQLite: on PostgreSQL several conductors work side by side, leave it out",
            Exit.USAGE,
        )

    @asynccontextmanager
    async def component(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
        async with patient(partial(_conductor, home, settings, server, standby)):
            yield

    serve(home_path, as_json, "conductor", component)


@asynccontextmanager
async def _conductor(home: Home, settings: Settings, server: Server, standby: bool) -> AsyncIterator[Conducting]:
    async with AsyncExitStack() as stack:
        if settings.store_url is None:
            await _record_lock(stack, home, standby)
        store = await anyio.to_thread.run_sync(open_store, home, settings)
        stack.callback(store.close)
        await anyio.to_thread.run_sync(check_tenant, store, settings.tenant)
        lease = store.lease("relay")
        parts = await stack.enter_async_context(conducting(home, settings, server, store, lease, alone=False))
        settle_memory()
        yield parts


async def _record_lock(stack: AsyncExitStack, home: Home, standby: bool) -> None:
    told = False
    while True:
        try:
            stack.enter_context(home.recording("a conductor"))
            return
        except HomeBusy as busy:
            if not standby:
                raise CliError(
                    f"{busy.holder} already writes the record of {home.path}, and one in SQLite has one conductor: "
                    f"stop that one, wait for its end with --standby, or set store_url to a PostgreSQL database"
                ) from None
            if not told:
                _tell(f"standing by: {busy.holder} writes the record")
                told = True
        await anyio.sleep(TRY_EVERY)


def run_agent(home_path: Path, role_name: str, as_json: bool) -> None:
    """`valuetrain agent run ROLE`. Raises CliError for an unknown role."""
    try:
        role = Role(role_name)
    except ValueError:
        roles = ", ".join(r.value for r in Role)
        raise CliError(f"there is no agent {role_name!r}; the agents are {roles}", Exit.USAGE) from None

    @asynccontextmanager
    async def component(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
        from agents.worker import preload
        from workspace.children import ForkServer

        places = anyio.CapacityLimiter(settings.skill_processes)
        async with (
            ForkServer(preload([role])) as children,
            patient(partial(serving, role, home, settings, server, children, places)),
        ):
            yield

    serve(home_path, as_json, role.value, component)


def run_effects(home_path: Path, as_json: bool) -> None:
    """`valuetrain effects run`. Raises HomeBusy when another process carries out effects on this home."""

    @asynccontextmanager
    async def component(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
        async with patient(partial(executing, home, settings, server)):
            yield

    serve(home_path, as_json, "effects", component)


def run_gateway(home_path: Path, as_json: bool) -> None:
    """`valuetrain gateway run`. Raises HomeBusy when another process asks models on this home, CliError without a model
    in the settings."""

    @asynccontextmanager
    async def component(home: Home, settings: Settings, server: Server) -> AsyncIterator[None]:
        async with patient(partial(model_gateway, home, settings, server)):
            yield

    serve(home_path, as_json, GATEWAY, component)
