"""`valuetrain agent run ROLE`: one agent as its own process. It gets its own login, the artifacts, nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio

from agents.loop import Agent
from agents.worker import PRELOAD
from bus.nats_bus import connect
from bus.server import login, running
from bus.streams import agent_consumer
from cli.errors import CliError, Exit
from cli.home import Home
from cli.logs import configure
from cli.options import say, show_json
from cli.settings import load
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.values import Role
from workspace.blobs import Blobs
from workspace.children import ForkServer

LOOK_SECONDS = 0.5
GONE_SECONDS = 5.0


def run_agent(home_path: Path, role_name: str, as_json: bool) -> None:
    """Serve until stopped. Raises CliError for an unknown role or when nothing runs on this home."""
    try:
        role = Role(role_name)
    except ValueError:
        roles = ", ".join(r.value for r in Role)
        raise CliError(f"there is no agent {role_name!r}; the agents are {roles}", Exit.USAGE) from None
    home = Home(home_path.resolve())
    home.prepare()
    configure(home.log)
    anyio.run(_serve, home, role, as_json)


async def _serve(home: Home, role: Role, as_json: bool) -> None:
    if running(home.bus) is None:
        raise CliError(f"no system runs on {home.path}; start `valuetrain drive --no-agents …` there first")
    async with (
        ForkServer(PRELOAD) as children,
        await connect(login(home.bus, role.value), name=f"agent-{role.value}") as bus,
    ):
        settings = load(home.config)
        at_once = settings.skill_processes
        places = anyio.CapacityLimiter(at_once)
        agent = Agent(role, bus, Blobs(home.blobs), children, home.attempts, places, facts=settings.facts)
        async with agent.running(replace(agent_consumer(role), max_in_flight=at_once)):
            if as_json:
                show_json({"agent": role.value, "status": "serving"})
            else:
                say(f"{role.value} is serving; stop it with Ctrl-C")
            away = 0.0  # a server that crashed is started again within a second or two: wait for that
            while away < GONE_SECONDS:
                await anyio.sleep(LOOK_SECONDS)
                away = 0.0 if running(home.bus) is not None else away + LOOK_SECONDS
    if not as_json:
        say(f"the system of {home.path} ended; {role.value} stops")
