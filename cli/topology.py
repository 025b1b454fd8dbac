"""`valuetrain up`: the components of one system as processes on this machine, with the embedded NATS or a given one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

from bus import server as bus_server
from bus.credentials import write_private
from cli.bootstrap import embedded
from cli.driving import ground
from cli.errors import CliError, Exit
from cli.gateways import GATEWAY
from cli.home import Home
from cli.joining import UP, Server, given
from cli.logs import configure
from cli.options import say, show_json
from cli.selecting import GITHUB
from cli.settings import Settings, load
from cli.supervising import Child, Supervisor
from schemas.values import Role

MOST = 64
"""Replicas of one role on one machine."""


def replicas_of(texts: Sequence[str]) -> dict[Role, int]:
    """`--replicas ROLE=N` as numbers; 1 for the roles not named. Raises CliError."""
    found = dict.fromkeys(Role, 1)
    for text in texts:
        name, _, number = text.partition("=")
        if name not in set(Role) or not number.isdecimal() or not 0 <= int(number) <= MOST:
            roles = ", ".join(role.value for role in Role)
            raise CliError(f"--replicas {text!r} is not ROLE=N with N from 0 to {MOST}; roles are {roles}", Exit.USAGE)
        found[Role(name)] = int(number)
    return found


def components(
    home: Home,
    conductors: int,
    replicas: dict[Role, int],
    backlog: str | None,
    repo: Path | None,
    every: float | None,
    gateway: bool = False,
    slack: bool = False,
) -> tuple[list[Child], list[Child]]:
    """The conductors, and those who work for them. Names are unique: `conductor-1`, `training-2`. `slack`: gates are
    decided there, too."""
    at = ("--home", str(home.path))
    first = [Child(f"conductor-{n}", "conductor", ("conductor", "run", *at)) for n in range(1, conductors + 1)]
    rest = [
        Child(f"{role.value}-{n}", "agent", ("agent", "run", role.value, *at), role=role.value)
        for role, count in replicas.items()
        for n in range(1, count + 1)
    ]
    if gateway:
        rest.insert(0, Child(GATEWAY, GATEWAY, (GATEWAY, "run", *at)))
    if backlog is None:
        rest.append(Child("effects", "effects", ("effects", "run", *at)))
    else:
        words = ["autopilot", "run", "--backlog", backlog, *at] + (["--every", str(every)] if every else [])
        rest.append(Child("autopilot", "autopilot", words + (["--repo", str(repo)] if repo else [])))
    comments = ("--backlog", backlog) if backlog is not None and backlog.startswith(GITHUB) else ()
    if comments or slack:
        rest.append(Child("chatops", "chatops", ("chatops", "run", *comments, *at)))
    return first, rest


def run_up(
    home_path: Path,
    backlog: str | None,
    repo: Path | None,
    conductors: int,
    replicas: Sequence[str],
    every: float | None,
    as_json: bool,
) -> None:
    """Run everything until SIGTERM or Ctrl-C. Raises CliError when a component cannot start or dies again and again,
    HomeBusy, ServerError."""
    home = Home(home_path.resolve())
    settings = load(home.config)
    counts = replicas_of(replicas)
    if conductors > 1 and settings.store_url is None:
        raise CliError(
            f"--conductors {conductors} needs a record in PostgreSQL (store_url): one in SQLite has one conductor",
            Exit.USAGE,
        )
    if backlog is not None:
        ground(home_path, backlog, repo)  # what is wrong with it is said now, not by a component that dies
    home.prepare()
    configure(home.log)
    first, rest = components(
        home,
        conductors,
        counts,
        backlog,
        repo,
        every,
        gateway=settings.model_base_url is not None,
        slack=settings.slack_channel is not None,
    )
    try:
        anyio.run(_up, home, settings, first, rest, as_json)
    except KeyboardInterrupt:
        if not as_json:
            say("stopped; nothing is lost: the same command continues")


async def _up(home: Home, settings: Settings, first: list[Child], rest: list[Child], as_json: bool) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(home.locked(UP))
        stack.callback(home.components.unlink, missing_ok=True)
        server: Server | None = given(home, settings)
        if server is None:
            server = await stack.enter_async_context(embedded(home, settings))
        kind = "sqlite" if settings.store_url is None else "postgresql"

        def document() -> dict[str, Any]:
            children = [child.document() for child in (*first, *rest)]
            if settings.nats_url is None and (info := bus_server.running(home.bus)) is not None:
                children.insert(0, {"name": "nats", "kind": "nats", "pid": info.pid, "status": "serving"})
            return {"pid": os.getpid(), "url": url, "record": kind, "components": children}

        url = server.url
        supervisor = Supervisor(
            lambda child, line: _show(child, line, as_json),
            lambda: write_private(home.components, json.dumps(document(), indent=1) + "\n"),
        )
        tasks = await stack.enter_async_context(anyio.create_task_group())
        try:
            for group in (first, rest):  # agents need the consumers that a conductor makes
                for child in group:
                    tasks.start_soon(supervisor.run, child)
                for child in group:
                    await child.ready.wait()
            if as_json:
                show_json(document())
            else:
                say(f"{len(first) + len(rest)} components serve at {url}; stop them with Ctrl-C")
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await supervisor.stop((rest, first))
            tasks.cancel_scope.cancel()


def _show(child: Child, line: str, as_json: bool) -> None:
    """With --json standard output is for the one document."""
    if as_json:
        sys.stderr.write(f"{child.name:<12} | {line}\n")
        sys.stderr.flush()
    else:
        say(f"{child.name:<12} | {line}")
