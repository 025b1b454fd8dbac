"""What every backend does the same way on top of its own `append_batch` and `_pages`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

from schemas.envelope import EventEnvelope, StreamId
from schemas.messages import Event
from store.chain import GENESIS, Linked, Row, checked
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
    def _pages(self, stream: StreamId, after: int, up_to: int | None) -> Iterable[Sequence[Row] | Linked]:
        """The rows of the stream's events with `after < sequence <= up_to`, in order, some at a time. The next ones are
        asked for when the last ones have been found to be sound."""

    @abstractmethod
    def _placed(
        self, stream: StreamId, after: int, up_to: int | None
    ) -> Iterable[Sequence[tuple[int, int, str, bytes, bytes]]]:
        """The same, each row with its position before it."""

    def append(self, append: Append) -> AppendResult:
        """See the port."""
        return self.append_batch([append])[0]

    def read_raw(self, stream: StreamId, after: int = 0, up_to: int | None = None) -> Iterator[StoredEvent]:
        """See the port."""
        for rows in self._placed(stream, after, up_to):
            for position, sequence, id_, raw, hash_ in rows:
                yield StoredEvent(position, stream, sequence, id_, raw, hash_)

    def read(self, stream: StreamId, after: int = 0, up_to: int | None = None) -> Iterator[EventEnvelope[Event]]:
        """See the port."""
        previous = GENESIS
        for row in self.read_raw(stream, after - 1, after):
            previous = row.hash
        return checked(self._pages(stream, after, up_to), stream, after, previous)

    def lease(self, name: str) -> Lease:
        """See the port. This one is for a record that one process at a time has: the home's lock sees to that."""
        return _AlwaysHeld()
