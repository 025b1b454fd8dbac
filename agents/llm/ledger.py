"""What all sessions have used of models on a day, from their events. No IO; survives restarts as the events do."""

from __future__ import annotations

from datetime import date

from schemas.messages import Event
from schemas.model_messages import ModelCalled, ModelCallFailed, ModelCallRequested
from schemas.model_policy import ModelSpend

KINDS = frozenset(kind.message_type.name for kind in (ModelCallRequested, ModelCalled, ModelCallFailed))


class Ledger:
    """Each call once, on the day (UTC) it was asked for: at its upper bound until its record is known."""

    def __init__(self) -> None:
        self._day: date | None = None
        self._open: dict[str, ModelSpend] = {}
        self._recorded: set[str] = set()
        self._spent = ModelSpend()

    def requested(self, call: str, day: date, most: ModelSpend) -> None:
        """A call was let through. Known already, or of an earlier day: nothing changes."""
        if self._begin(day) and call not in self._recorded:
            self._open[call] = most

    def recorded(self, call: str, spend: ModelSpend) -> None:
        """It is known what the call used. Of a call of another day nothing is known, and nothing changes."""
        if self._open.pop(call, None) is not None:
            self._recorded.add(call)
            self._spent = self._spent.plus(spend)

    def add(self, event: Event) -> None:
        """Take an event into account; others than those of model calls are none of its matter."""
        if isinstance(event, ModelCallRequested):
            tokens = event.input_tokens + event.output_tokens
            most = ModelSpend(tokens=tokens, usd=event.usd, seconds=event.seconds)
            self.requested(event.call, event.requested.date(), most)
        elif isinstance(event, ModelCalled | ModelCallFailed):
            self.recorded(event.call, ModelSpend(tokens=event.usage.total, usd=event.usd, seconds=event.seconds))

    def on(self, day: date) -> ModelSpend:
        """What was used on `day`, or on the newest day it has heard of: a clock that goes back frees nothing."""
        self._begin(day)
        total = self._spent
        for most in self._open.values():
            total = total.plus(most)
        return total

    def _begin(self, day: date) -> bool:
        """Whether `day` is the newest; a newer one begins with nothing used."""
        if self._day is None or day > self._day:
            self._day, self._spent = day, ModelSpend()
            self._open, self._recorded = {}, set()
        return day == self._day
