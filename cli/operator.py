"""Sending a person's command: to the running drive if there is one, else to a conductor started just for it."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from cli.errors import CliError, Exit
from cli.home import Home, HomeBusy
from cli.logs import configure
from cli.settings import Settings, load
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.values import Actor, Sender

TRIES = 100
PAUSE = 0.1


def person(as_name: str | None) -> Actor:
    """Who gives the command: the name they speak as, and the operating-system user that was verified."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return Actor(name=as_name or user, channel="cli", verified_as=f"os:{user}")


def ask(home_path: Path, session: str, command: Command, as_name: str | None, settle: bool = False) -> dict[str, Any]:
    """Send `command` to `session` and return the verdict, with `by` added.

    With `settle` and no drive running, wait until the effects it caused are carried out. Raises CliError when the
    session is not known, and the bus's and store's own errors.
    """
    home = Home(home_path.resolve()).existing()
    settings = load(home.config)
    configure(home.log)
    actor = person(as_name)
    _known(home, settings, session)
    envelope = CommandEnvelope(
        id=uuid7(),
        stream=StreamId(settings.tenant, "session", session),
        time=datetime.now(UTC),
        actor=actor,
        sender=Sender.OPERATOR.value,
        correlation_id=session,
        causation_id="",
        command=command,
    )
    verdict = anyio.run(_deliver, home, settings, envelope, settle)
    return verdict | {"by": actor.name}


def _known(home: Home, settings: Settings, session: str) -> None:
    from cli.reading import reading

    with reading(home.path) as record:
        known = [row["session"] for row in record.sessions()]
    if session not in known:
        listed = ", ".join(known[-5:]) or "none"
        raise CliError(f"there is no session {session!r} in {home.path}; the newest are {listed}", Exit.ERROR)


async def _deliver(home: Home, settings: Settings, envelope: CommandEnvelope, settle: bool) -> dict[str, Any]:
    """Through the running system, or through one of our own; a drive that starts or ends meanwhile is waited out."""
    from cli.bootstrap import system

    for _ in range(TRIES):
        verdict = await _through_running(home, envelope)
        if verdict is not None:
            if settle and verdict["accepted"]:
                await _carried_out(home, envelope.stream.name)
            return verdict
        try:
            async with system(home, settings, "an operator's command", agents=False, effects=settle) as running:
                verdict = await running.operator.send(envelope)
                if settle and verdict["accepted"]:
                    await running.settled(envelope.stream)
                return verdict
        except HomeBusy:
            await anyio.sleep(PAUSE)
    raise CliError(f"{home.path} stays busy without answering; see `valuetrain doctor`")


async def _carried_out(home: Home, session: str) -> None:
    """Wait until the running system has carried out the session's effects, as its read model shows."""
    from cli.reading import reading

    for _ in range(TRIES):
        with reading(home.path) as record:
            if not record.session(session)["pending_effects"]:
                return
        await anyio.sleep(PAUSE)
    raise CliError(f"the command is recorded, but its effects on {session} are still under way; see `valuetrain tail`")


async def _through_running(home: Home, envelope: CommandEnvelope) -> dict[str, Any] | None:
    from bus.nats_bus import connect
    from bus.port import BusUnavailable, NoReceipt
    from bus.server import login, running

    if running(home.bus) is None:
        return None
    try:
        async with await connect(login(home.bus, Sender.OPERATOR.value), name="operator") as bus:
            return await bus.send(envelope, timeout=10.0)
    except (BusUnavailable, NoReceipt):
        if running(home.bus) is None:
            return None
        raise
