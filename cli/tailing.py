"""`valuetrain tail`: the recorded events, and with --follow the ones that come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio

from bus.nats_bus import connect
from bus.server import login, running
from cli.errors import CliError
from cli.home import Home
from cli.logs import configure
from cli.options import say, show_json
from cli.reading import reading
from schemas.envelope import EventEnvelope, decode_event, timestamp
from schemas.messages import Event

OBSERVER = "observer"


def line(envelope: EventEnvelope[Event]) -> str:
    """One event as one line."""
    shown = ("phase", "agent", "attempt", "gate", "status", "reason", "summary", "branch", "commit", "passed")
    words = [f"{n}={value}" for n, value in envelope.event if n in shown and value not in ("", None)]
    place = f"{envelope.stream.name}#{envelope.sequence}"
    return f"{timestamp(envelope.time)[11:23]}  {place:<16} {envelope.type:<20} {' '.join(words)[:200]}"


def tail_events(home_path: Path, session: str | None, follow: bool, as_json: bool) -> None:
    """Print the record's events of all sessions or one; with `follow`, then each new one until stopped."""
    home = Home(home_path.resolve())
    if follow:
        home.existing()
        configure(home.log)
        return anyio.run(_follow, home, session, as_json)
    with reading(home_path) as record:
        if session is not None:
            rows = [row.raw for row in record.store.read_raw(record.stream(session))]
        else:
            rows, position = [], 0
            while batch := record.store.read_all(position, 1000):
                rows += [row.raw for row in batch]
                position = batch[-1].position
    if as_json:
        return show_json([json.loads(raw) for raw in rows])
    for raw in rows:
        say(line(decode_event(raw)))


async def _follow(home: Home, session: str | None, as_json: bool) -> None:
    if running(home.bus) is None:
        raise CliError("no drive is running; without --follow, tail shows what is recorded")
    ended = anyio.Event()

    async def show(subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        if as_json:
            sys.stdout.write(raw.decode() + "\n")
            sys.stdout.flush()
        else:
            say(line(decode_event(raw)))

    filters: Any = (f"vt.*.evt.{session or '*'}.>",)
    async with (
        await connect(login(home.bus, OBSERVER), name="tail") as bus,
        bus.follow(filters, show),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_until_gone, home, ended)
        await ended.wait()


async def _until_gone(home: Home, ended: anyio.Event) -> None:
    """A tail ends when the system it follows ends."""
    while running(home.bus) is not None:  # noqa: ASYNC110 - another process's life: nothing tells us
        await anyio.sleep(0.5)
    ended.set()
