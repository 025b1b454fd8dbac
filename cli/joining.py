"""Which NATS server the components of a home meet on: one of your own (`nats_url`), or the embedded one that runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import anyio
import structlog

from bus import server as embedded
from bus.answers import ApiError
from bus.given import GivenServer
from bus.port import BusUnavailable, Login
from cli.errors import CliError
from cli.home import Home
from cli.settings import Settings
from store.port import StoreUnavailable

_log = structlog.get_logger("components")
T = TypeVar("T")
TRY_EVERY = 0.5
"""Seconds between two attempts to reach what is away."""

_FINAL = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied")
"""What PostgreSQL says to a login that no waiting will put right."""


class Server(Protocol):
    """Hands out logins; `bus.server.EmbeddedServer` and `bus.given.GivenServer` fit."""

    @property
    def url(self) -> str:
        """Where it listens."""

    def login(self, role: str) -> Login:
        """The login of a role. Raises BusError."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The embedded server that another process runs on `directory`."""

    directory: Path

    @property
    def url(self) -> str:
        """Where it listens. Raises BusError when it has ended."""
        info = embedded.running(self.directory)
        if info is None:
            raise BusUnavailable(f"the server on {self.directory} has ended")
        return info.url

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return embedded.running(self.directory) is not None

    def login(self, role: str) -> Login:
        """See `Server`."""
        return embedded.login(self.directory, role)


def given(home: Home, settings: Settings) -> GivenServer | None:
    """The server the settings name, if they do. Raises BusError for settings that cannot be used."""
    return GivenServer(settings.nats_url, home.bus, settings.nats_tls) if settings.nats_url else None


def find(home: Home, settings: Settings) -> GivenServer | RunningServer | None:
    """The server to log in to: the given one, whether it answers or not, else the embedded one if it runs."""
    if (server := given(home, settings)) is not None:
        return server
    running = RunningServer(home.bus)
    return running if running.alive else None


UP = "valuetrain up"
"""Who holds a home on which the components run apart."""


def up_runs(home: Home) -> bool:
    """Whether `valuetrain up` runs the embedded server and the components of this home."""
    return home.holder().startswith(UP) and RunningServer(home.bus).alive


def joined(home: Home, settings: Settings) -> GivenServer | RunningServer:
    """As `find`. Raises CliError when there is none: a component runs beside others."""
    server = find(home, settings)
    if server is None:
        raise CliError(
            f"no system runs on {home.path}; start `valuetrain up` or `valuetrain drive --no-agents …` there first, "
            f"or name a NATS server with the setting nats_url"
        )
    return server


async def patiently(attempt: Callable[[], Awaitable[T]], told: Callable[[str], None]) -> T:
    """The result of `attempt`, made again and again while bus or database are away; `told` hears once what is waited
    for. Raises what no waiting puts right: a refused login, a damaged record."""
    said = False
    while True:
        try:
            return await attempt()
        except Exception as problem:
            away = _away(problem)
            if away is None:
                raise
            if not said:
                told(f"waiting: {away}")
                _log.warning("component_waits", reason=str(away))
                said = True
        await anyio.sleep(TRY_EVERY)


def _away(problem: Exception) -> Exception | None:
    """The problem, or one of a group of such, when it only says that bus or database are not there yet."""
    if isinstance(problem, ExceptionGroup):
        found = [_away(inner) for inner in problem.exceptions]
        return found[0] if all(found) else None
    if isinstance(problem, ApiError):
        return problem if problem.code == 404 else None  # no conductor has made the streams yet
    if isinstance(problem, StoreUnavailable):
        return None if any(words in str(problem) for words in _FINAL) else problem
    return problem if isinstance(problem, BusUnavailable) else None
