"""`valuetrain tail`: the recorded events, and with --follow the ones that come."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from bus.nats_bus import connect
from bus.permissions import OBSERVER
from cli.errors import CliError, Exit
from cli.home import Home
from cli.joining import RunningServer, Server, find
from cli.logs import configure
from cli.options import say, show_json
from cli.reading import Record, reading
from cli.settings import load
from schemas.envelope import EventEnvelope, StreamId, UnreadableMessage, decode_event, timestamp
from schemas.messages import EVENTS, Event
from schemas.subjects import ROOT

LOOK_SECONDS = 0.5
GONE_LOOKS = 8
"""A system is gone after so many looks that found no server: one that restarts is back long before."""

_AGO = re.compile(r"-?(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass
class Wanted:
    """Which events to show. `moment` and `sequence` say from where on; following, each event is shown once."""

    session: str | None = None
    types: tuple[str, ...] = ()
    sequence: int = 1
    moment: datetime | None = None
    _shown: dict[StreamId, int] = field(default_factory=dict)

    def takes(self, envelope: EventEnvelope[Event]) -> bool:
        """Whether this event is to be shown."""
        if self.session is not None and envelope.stream.name != self.session:
            return False
        if self.types and envelope.type not in self.types:
            return False
        return envelope.sequence >= self.sequence and (self.moment is None or envelope.time >= self.moment)

    def takes_once(self, envelope: EventEnvelope[Event]) -> bool:
        """The same, but not again what was shown: a bus that lost its disk gets every event a second time."""
        if not self.takes(envelope) or envelope.sequence <= self._shown.get(envelope.stream, 0):
            return False
        self._shown[envelope.stream] = envelope.sequence
        return True

    def filters(self, tenant: str) -> tuple[str, ...]:
        """The subjects on which such events are."""
        return tuple(f"{ROOT}.{tenant}.evt.{self.session or '*'}.{name}.*" for name in self.types or ("*",))


def wanted(session: str | None, types: tuple[str, ...], since: str | None, now: datetime) -> Wanted:
    """What the options ask for. Raises CliError naming the one that makes no sense."""
    for name in types:
        if name not in EVENTS:
            raise CliError(f"there is no event {name!r}; docs/reference.md lists them", Exit.USAGE)
    if since is None:
        return Wanted(session, types)
    if since.isdecimal():
        if session is None:
            raise CliError(f"--since {since} counts the events of one session: name it with --session", Exit.USAGE)
        return Wanted(session, types, sequence=int(since))
    if (ago := _AGO.fullmatch(since)) is not None:
        try:
            return Wanted(session, types, moment=now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        except OverflowError:
            raise CliError(f"--since {since} is before all time", Exit.USAGE) from None
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise CliError(
            f"--since {since!r} is no sequence (12), time (2026-11-21T09:00) or time ago (-90s, -10m, -2h, -1d)",
            Exit.USAGE,
        ) from None
    return Wanted(session, types, moment=moment.astimezone(UTC))


def line(envelope: EventEnvelope[Event]) -> str:
    """One event as one line."""
    shown = ("phase", "agent", "attempt", "gate", "status", "reason", "summary", "branch", "commit", "passed")
    words = [f"{n}={value}" for n, value in envelope.event if n in shown and value not in ("", None)]
    place = f"{envelope.stream.name}#{envelope.sequence}"
    return f"{timestamp(envelope.time)[11:23]}  {place:<16} {envelope.type:<20} {' '.join(words)[:200]}"


def tail_events(
    home_path: Path, session: str | None, types: tuple[str, ...], since: str | None, follow: bool, as_json: bool
) -> None:
    """Print the wanted events of the record; with `follow`, those on the bus and then each new one until stopped."""
    home = Home(home_path.resolve())
    filtering = wanted(session, types, since, datetime.now(UTC))
    if follow:
        home.existing()
        configure(home.log)
        return anyio.run(_follow, home, filtering, as_json)
    with reading(home_path) as record:
        if session is not None:
            record.stream(session)
        found = [(raw, envelope) for raw, envelope in _recorded(record, filtering) if filtering.takes(envelope)]
    if as_json:
        return show_json([json.loads(raw) for raw, _ in found])
    for _, envelope in found:
        say(line(envelope))


def _recorded(record: Record, filtering: Wanted) -> Iterator[tuple[bytes, EventEnvelope[Event]]]:
    """All events in the order in which they were recorded; of one session, those from its sequence on."""
    if filtering.session is not None:
        for row in record.store.read_raw(record.stream(filtering.session)):
            yield row.raw, decode_event(row.raw)
        return
    position = 0
    while batch := record.store.read_all(position, 1000):
        for row in batch:
            yield row.raw, decode_event(row.raw)
        position = batch[-1].position


async def _follow(home: Home, filtering: Wanted, as_json: bool) -> None:
    settings = load(home.config)
    server = find(home, settings)
    if server is None:
        raise CliError("no drive is running; without --follow, tail shows what is recorded")
    ended = anyio.Event()

    async def show(subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        try:
            envelope = decode_event(raw)
        except UnreadableMessage as problem:
            raise CliError(f"message {sequence} on {subject} cannot be read: {problem}") from problem
        if not filtering.takes_once(envelope):
            return
        if as_json:
            sys.stdout.write(raw.decode() + "\n")
            sys.stdout.flush()
        else:
            say(line(envelope))

    async with (
        await connect(server.login(OBSERVER), name="tail") as bus,
        bus.follow(filtering.filters(settings.tenant), show),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_until_gone, server, ended)
        await ended.wait()


async def _until_gone(server: Server, ended: anyio.Event) -> None:
    """A tail ends when the system it follows ends, not when its bus is started again; with a NATS server of one's own
    it goes on."""
    missing = 0
    while missing < GONE_LOOKS:
        await anyio.sleep(LOOK_SECONDS)
        missing = missing + 1 if isinstance(server, RunningServer) and not server.alive else 0
    ended.set()
