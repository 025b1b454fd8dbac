"""What is known of sessions that were: the shape in which the record's past is handed to skills and reports."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from schemas.values import Value

Ending = Literal["open", "completed", "blocked", "aborted", "rolled_back"]


class Spent(Value):
    """What one report says was used: when, in which phase, by which agent. Seconds, tokens, US dollars."""

    time: datetime
    phase: str
    agent: str
    wall_seconds: float
    cpu_seconds: float
    tokens: int
    usd: float


class Signal(Value):
    """Something in the event stream by which a risk of the train shows itself."""

    risk: str
    """The risk's id, for example `stale-or-invalid-inputs`."""
    time: datetime
    what: str


class Decision(Value):
    """One decision of a person at a gate: who, and when it was asked for and made."""

    phase: str
    by: str
    asked: datetime
    decided: datetime


class Wait(Value):
    """How many seconds a human gate was open until it was decided, expired or no longer counted."""

    phase: str
    seconds: float


class PastSession(Value):
    """One session as its events tell it. `waited_seconds` is how long human gates were open (the sum of `waits`),
    `decisions` how many decisions people made, `failed` the attempts that failed, `measured` the newest figures by
    name, `open_gates` the human gates that are open, `stated_hours` the hours of people's work that the ticket's text
    states."""

    session: str
    ticket: int
    title: str
    requester: str
    pipeline: str
    labels: tuple[str, ...]
    ending: Ending
    started: datetime
    updated: datetime
    ended: datetime | None
    attempts: int
    failed: int
    waited_seconds: float
    decisions: int
    spent: tuple[Spent, ...]
    signals: tuple[Signal, ...]
    measured: dict[str, float]
    decided: tuple[Decision, ...] = ()
    waits: tuple[Wait, ...] = ()
    open_gates: int = 0
    stated_hours: float | None = None

    @property
    def usd(self) -> float:
        """US dollars in all."""
        return sum(each.usd for each in self.spent)

    @property
    def minutes(self) -> float:
        """Minutes of skills and models in all."""
        return sum(each.wall_seconds for each in self.spent) / 60.0

    @property
    def days(self) -> float | None:
        """Days from its start to its end; None while it is open."""
        return None if self.ended is None else (self.ended - self.started).total_seconds() / 86400.0


class History(Value):
    """`history.json`: the newest sessions of a record, oldest first, and when they were read."""

    made: datetime
    sessions: tuple[PastSession, ...]
