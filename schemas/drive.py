"""Events of a drive: one Auto-Pilot run over a backlog."""

from __future__ import annotations

from schemas.messages import Event
from schemas.values import Sha256


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


class DriveEnded(Event, stream="drive"):
    """The run is over."""

    completed: tuple[str, ...]
    waiting: tuple[str, ...]
    blocked: tuple[str, ...]
    seconds: float
    cost_usd: float
    reason: str
