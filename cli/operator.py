"""Sending a person's command: to the running system if there is one, else to a conductor started just for it."""

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
from schemas.forking import ForkSession
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.values import Actor, Sender

TRIES = 100
PAUSE = 0.1
ANSWER_SECONDS = 10.0
"""How long a conductor may take to answer a person's command."""


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
    _known(home, settings, session)
    return _say(home, settings, StreamId(settings.tenant, "session", session), command, as_name, settle)


def ask_fork(home_path: Path, fork: str, command: ForkSession, as_name: str | None) -> dict[str, Any]:
    """Send `command` to the new session `fork`, wait until its branch is made, and return the verdict, with `by` added.

    Raises CliError when the session to fork is not known, and the bus's and store's own errors.
    """
    home = Home(home_path.resolve()).existing()
    settings = load(home.config)
    _known(home, settings, command.source)
    return _say(home, settings, StreamId(settings.tenant, "session", fork), command, as_name, settle=True)


def ask_letter(home_path: Path, letter: str, command: Command, as_name: str | None) -> dict[str, Any]:
    """Send `command` to the dead letter `letter`, wait until it is done, and return the verdict, with `by` added.

    Raises CliError when there is no such dead letter, and the bus's and store's own errors.
    """
    from cli.reading import reading

    home = Home(home_path.resolve()).existing()
    settings = load(home.config)
    with reading(home.path) as record:
        record.letter(letter)
    return _say(home, settings, StreamId(settings.tenant, "system", letter), command, as_name, settle=True)


def ask_drive(home_path: Path, drive: str, command: Command, as_name: str | None) -> dict[str, Any]:
    """Send `command` to the drive and return the verdict, with `by` added. Raises the bus's and store's own errors."""
    home = Home(home_path.resolve()).existing()
    settings = load(home.config)
    return _say(home, settings, StreamId(settings.tenant, "drive", drive), command, as_name, settle=False)


def _say(
    home: Home, settings: Settings, stream: StreamId, command: Command, as_name: str | None, settle: bool
) -> dict[str, Any]:
    configure(home.log)
    actor = person(as_name)
    envelope = CommandEnvelope(
        id=uuid7(),
        stream=stream,
        time=datetime.now(UTC),
        actor=actor,
        sender=Sender.OPERATOR.value,
        correlation_id=stream.name,
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

    effects = settle and envelope.stream.kind == "session"
    for _ in range(TRIES):
        verdict = await _through_running(home, settings, envelope)
        if verdict is not None:
            if settle and verdict["accepted"]:
                await _carried_out(home, envelope.stream)
            return verdict
        try:
            async with system(home, settings, "an operator's command", agents=False, effects=effects) as running:
                verdict = await running.operator.send(envelope)
                if settle and verdict["accepted"]:
                    await running.settled(envelope.stream)
                return verdict
        except HomeBusy:
            await anyio.sleep(PAUSE)
    raise CliError(f"{home.path} stays busy without answering; see `valuetrain doctor`")


async def _carried_out(home: Home, stream: StreamId) -> None:
    """Wait until the running system has done what the command asks for, as its read model shows."""
    from cli.reading import reading

    for _ in range(TRIES):
        with reading(home.path) as record:
            if stream.kind == "system":
                under_way = record.letter(stream.name)["status"] == "released"
            else:
                under_way = bool(record.session(stream.name)["pending_effects"])
        if not under_way:
            return
        await anyio.sleep(PAUSE)
    raise CliError(
        f"the command is recorded, but its effects on {stream.name} are still under way; see `valuetrain tail`"
    )


async def _through_running(home: Home, settings: Settings, envelope: CommandEnvelope) -> dict[str, Any] | None:
    """The verdict of the conductor that runs; None when none runs on this home. Raises CliError when the settings name
    a NATS server and no conductor answers there: it is not for us to start one."""
    from bus.nats_bus import connect
    from bus.port import BusUnavailable, NoReceipt
    from cli.joining import RunningServer, find

    server = find(home, settings)
    if server is None:
        return None
    try:
        async with await connect(server.login(Sender.OPERATOR.value), name="operator") as bus:
            return await bus.send(envelope, timeout=ANSWER_SECONDS)
    except NoReceipt as problem:
        if isinstance(server, RunningServer):
            if not server.alive:
                return None
            raise
        raise CliError(
            f"no conductor answers at {server.url}: start `valuetrain conductor run`; what you asked for waits on the "
            f"server, and the first conductor that starts carries it out; should the server's machine crash "
            f"before, ask again"
        ) from problem
    except BusUnavailable:
        if isinstance(server, RunningServer) and not server.alive:
            return None
        raise
