"""Events of a drive: one Auto-Pilot run over a backlog."""

from __future__ import annotations

from typing import Any

from schemas.messages import Event
from schemas.policy import Policy
from schemas.values import Actor, Sha256


def without_policy(body: dict[str, Any]) -> dict[str, Any]:
    """Version 1 did not hold the policy."""
    return body | {"policy": None}


class DriveStarted(Event, stream="drive", version=2, upcasters={1: without_policy}):
    """An Auto-Pilot run began."""

    backlog: str
    repository: str
    policy_version: Sha256
    wip: int
    max_tickets: int | None = None
    policy: Policy | None = None
    """Who may drain it; None in records made before this was kept: then nobody may."""


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
