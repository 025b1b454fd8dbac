"""The events this process has just committed, for a relay in the same process: it need not read them again."""

from __future__ import annotations

from collections import deque

from schemas.envelope import EventEnvelope
from schemas.messages import Event
from store.port import Append, Appended

MOST = 1_024
"""Events kept while nobody takes them; older ones are read from the record."""

FreshEvent = tuple[int, EventEnvelope[Event], bytes]
"""Global position, envelope, the stored bytes."""


class Fresh:
    """Not for use from several threads."""

    def __init__(self) -> None:
        self._events: deque[FreshEvent] = deque(maxlen=MOST)
        self.others = True
        """Whether another process may have committed since the record was last read to its end."""

    def add(self, append: Append, done: Appended) -> None:
        """Remember what a transaction wrote; in the order of the commits."""
        for position, (envelope, raw) in enumerate(zip(append.events, done.raws, strict=True), done.first_position):
            self._events.append((position, envelope, raw))

    @property
    def empty(self) -> bool:
        """Whether the record surely holds nothing behind what was taken from here or read from it."""
        return not self._events and not self.others

    def after(self, position: int, most: int) -> list[FreshEvent]:
        """At most `most` events that follow `position` without a gap, and nothing up to it is kept any longer. Empty
        when the next event of the record is not known here, or there is none."""
        events = self._events
        while events and events[0][0] <= position:
            events.popleft()
        found: list[FreshEvent] = []
        for event in events:
            if event[0] != position + len(found) + 1 or len(found) == most:
                break
            found.append(event)
        return found
