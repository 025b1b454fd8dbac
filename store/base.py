"""What every backend does the same way on top of its own `append_batch` and `read_raw`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from schemas.envelope import EventEnvelope, StreamId
from schemas.messages import Event
from store.chain import GENESIS, checked
from store.port import Append, AppendResult, StoredEvent


class StoreBase(ABC):
    """The neutral half of `store.port.Store`."""

    @abstractmethod
    def append_batch(self, appends: Sequence[Append]) -> list[AppendResult]:
        """See the port."""

    @abstractmethod
    def read_raw(self, stream: StreamId, after: int = 0, up_to: int | None = None) -> Iterator[StoredEvent]:
        """See the port."""

    def append(self, append: Append) -> AppendResult:
        """See the port."""
        return self.append_batch([append])[0]

    def read(self, stream: StreamId, after: int = 0, up_to: int | None = None) -> Iterator[EventEnvelope[Event]]:
        """See the port."""
        previous = GENESIS
        for row in self.read_raw(stream, after - 1, after):
            previous = row.hash
        return checked(self.read_raw(stream, after, up_to), stream, after, previous)
