"""Events of a drive: one Auto-Pilot run over a backlog."""

from __future__ import annotations

from schemas.messages import Event
from schemas.values import Actor, Sha256


class DriveStarted(Event, stream="drive"):
    """An Auto-Pilot run began."""

    backlog: str
    repository: str
    policy_version: Sha256
    wip: int
    max_tickets: int | None = None


class SelectionRecorded(Event, stream="drive"):
    """The order in which tickets will be taken, and why the others were passed over."""

    order: tuple[int, ...]
    passed_over: dict[int, str]
    unreadable: dict[str, str] = {}


class DriveDraining(Event, stream="drive"):
    """A person asked the drive to take no more tickets; it ends when what runs has ended."""

    by: Actor
    reason: str = ""


class BreakerOpened(Event, stream="drive"):
    """The drive takes no more tickets, since these sessions, one after the other, ended blocked."""

    sessions: tuple[str, ...]
    reason: str


class DriveEnded(Event, stream="drive"):
    """The run is over."""

    completed: tuple[str, ...]
    waiting: tuple[str, ...]
    blocked: tuple[str, ...]
    seconds: float
    cost_usd: float
    reason: str
