"""The components of a run that are no commands of the product: the server's keeper, an observer, those who send.

They print `ready` and then work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from bus.nats_bus import NatsBus, connect
from bus.port import BusError
from bus.server import login
from cli.home import Home
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas import session as ev
from schemas.envelope import CommandEnvelope, decode_event
from schemas.values import Sender
from tests.chaos import workload
from tests.chaos.child import evidence
from tests.chaos.workload import EVENTS

SEEN = "seen.jsonl"
Given = argparse.Namespace


def ready() -> None:
    """Tell the rig."""
    print("ready", flush=True)


async def nats(given: Given) -> None:
    """The embedded server with the product's keeper; whoever kills this process kills the server with it."""
    from cli.bootstrap import embedded
    from cli.settings import Settings

    del os.environ["VALUETRAIN_NATS_URL"]  # which is for those who log in
    async with embedded(Home(given.home), Settings(nats_port=given.port)):
        ready()
        await anyio.sleep_forever()


async def connected(home: Path, role: str, name: str) -> NatsBus:
    """A connection as soon as there is a server."""
    while True:
        try:
            return await connect(login(Home(home).bus, role), name=name)
        except BusError:
            await anyio.sleep(0.1)


async def observer(given: Given) -> None:
    """Follows every event from the first one and writes down what it saw: sequence, id, stream, digest of the bytes."""
    with (evidence(given.home) / SEEN).open("a") as file:

        async def take(subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
            envelope = decode_event(raw)
            stream = "/".join((envelope.stream.tenant, envelope.stream.kind, envelope.stream.name))
            digest = hashlib.sha256(raw).hexdigest()
            file.write(json.dumps([sequence, envelope.id, stream, envelope.sequence, digest]) + "\n")
            file.flush()

        async with await connected(given.home, "observer", "observer") as bus, bus.follow(EVENTS, take):
            ready()
            await anyio.sleep_forever()


async def send(bus: NatsBus, command: CommandEnvelope) -> dict[str, Any]:
    """Until the receipt is there, as everybody who sends must."""
    while True:
        try:
            return await bus.send(command)
        except BusError:
            await anyio.sleep(0.2)


class Senders:
    """Starts the sessions, decides their gates, rolls some back; ends when all are completed for good.

    Killed and started again, it reads the events from the first one and says everything again, under the same ids.
    """

    def __init__(self, operator: NatsBus, tasks: anyio.abc.TaskGroup, sessions: int) -> None:
        self._operator = operator
        self._tasks = tasks
        self._left = {workload.session_of(number + 1) for number in range(sessions)}
        self._versions: dict[str, int] = {}
        self._back: set[str] = set()
        self.done = anyio.Event()

    async def take(self, subject: str, raw: bytes, headers: dict[str, str], position: int) -> None:
        """One event; seen again, it changes nothing."""
        envelope = decode_event(raw)
        session, event = envelope.stream.name, envelope.event
        if envelope.stream.kind != "session" or envelope.sequence <= self._versions.get(session, 0):
            return
        self._versions[session] = envelope.sequence
        if isinstance(event, ev.GateOpened) and event.kind == "human":
            self._say(workload.approve(session, event.gate))
        elif isinstance(event, ev.SessionRolledBack):
            self._back.add(session)
        elif isinstance(event, ev.EffectRecorded) and event.kind == "restore":
            self._say(workload.retry(session))
        elif isinstance(event, ev.SessionCompleted):
            if workload.goes_back(workload.ticket_of(session)) and session not in self._back:
                self._say(workload.roll_back(session))
            else:
                self._left.discard(session)
                if not self._left:
                    self.done.set()

    def _say(self, command: CommandEnvelope) -> None:
        self._tasks.start_soon(send, self._operator, command)


async def senders(given: Given) -> None:
    """See `Senders`. Ends with 0 once every session is completed and every command has its receipt."""
    content = json.loads((evidence(given.home) / "workload.json").read_text())
    paths = (Path(content["repository"]), content["base_commit"], Path(content["signing_key"]))
    load_ = workload.Workload(given.sessions, *paths)
    async with (
        await connected(given.home, Sender.AUTOPILOT.value, "starter") as starter,
        await connected(given.home, Sender.OPERATOR.value, "person") as operator,
        anyio.create_task_group() as tasks,
    ):
        people = Senders(operator, tasks, given.sessions)
        async with operator.follow(EVENTS, people.take):
            ready()
            for number in range(given.sessions):
                tasks.start_soon(send, starter, load_.start(number + 1))
            await people.done.wait()


COMPONENTS: dict[str, Callable[[Given], Awaitable[None]]] = {"nats": nats, "observer": observer, "senders": senders}
"""Those that are the tests' own; all others are commands of the product."""
