"""What every backend does the same way on top of its own `append_batch` and `read_raw`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from schemas.envelope import EventEnvelope, StreamId
from schemas.messages import Event
from store.chain import GENESIS, checked
from store.port import Append, AppendResult, Lease, StoredEvent


class _AlwaysHeld:
    """The lease on a record that only one process can have."""

    def acquire(self) -> bool:
        """Yes."""
        return True

    def renew(self) -> None:
        """Nothing can take it away."""

    def release(self) -> None:
        """Nobody waits for it."""


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

    def lease(self, name: str) -> Lease:
        """See the port. This one is for a record that one process at a time has: the home's lock sees to that."""
        return _AlwaysHeld()
