"""What a group commit will write, worked out before a database is asked to write it: the same for every backend.

A backend opens its transaction, hands in what is already there (heads, inbox), adds the appends one by one, and writes
the rows collected here. Row tuples are in the order of the columns in `store.tables`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from pydantic_core import to_json

from schemas.envelope import StreamId, encode_events
from store.chain import Head
from store.port import AlreadyHandled, Append, Appended, AppendResult, Handled, TimerSet, VersionConflict

EventRow = tuple[int, str, str, str, int, str, bytes, bytes]
InboxRow = tuple[int, str, str, str, str, bytes, int, str]
TimerRow = tuple[str, str, str, str, int | None, bytes]
"""tenant, kind, stream, key, due (None: disarm), command."""
ViewRow = tuple[str, str, str, str | None]
"""tenant, kind, id, body as JSON (None: remove)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exactly (a float would round). Raises ValueError for a time without zone."""
    if moment.tzinfo is None:
        raise ValueError(f"time without zone: {moment!r}")
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The UTC time `value` microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=value)


class Prepared(NamedTuple):
    """An Append turned into bytes: everything that can be done, and can fail, before the writer's lock is taken."""

    append: Append
    raws: tuple[bytes, ...]
    verdict: str
    timers: tuple[TimerRow, ...]
    views: tuple[ViewRow, ...]


def prepare(append: Append) -> Prepared:
    """Encode `append`. Raises ValueError when its events do not belong to its stream or do not follow its version."""
    stream = append.stream
    for offset, envelope in enumerate(append.events, start=1):
        elsewhere = envelope.stream is not stream and envelope.stream != stream
        if elsewhere or envelope.sequence != append.expected_version + offset:
            raise ValueError(
                f"event {envelope.id} is number {envelope.sequence} of {envelope.stream}, but as event {offset} of "
                f"this append it must be number {append.expected_version + offset} of {stream}"
            )
    raws = encode_events(append.events)
    if append.handled is None and not append.timers and not append.views:
        return Prepared(append, raws, "", (), ())
    key = (stream.tenant, stream.kind, stream.name)
    return Prepared(
        append,
        raws,
        verdict=to_json(append.handled.verdict).decode() if append.handled else "",
        timers=tuple(
            [
                (*key, timer.key, microseconds(timer.due), timer.command)
                if isinstance(timer, TimerSet)
                else (*key, timer.key, None, b"")
                for timer in append.timers
            ]
        ),
        views=tuple(
            [
                (stream.tenant, view.kind, view.id, None if view.body is None else to_json(view.body).decode())
                for view in append.views
            ]
        ),
    )


class Batch:
    """The rows of one transaction. `heads` holds the new tip of every stream that grew."""

    def __init__(
        self,
        last_position: int,
        last_handled: int,
        head_of: Callable[[StreamId], Head],
        handled_of: Callable[[str], Handled | None],
    ) -> None:
        self.last_position = last_position
        self.last_handled = last_handled
        self.events: list[EventRow] = []
        self.inbox: list[InboxRow] = []
        self.timers: list[TimerRow] = []
        self.views: list[ViewRow] = []
        self.heads: dict[StreamId, Head] = {}
        self._head_of = head_of
        self._handled_of = handled_of
        self._handled: dict[str, Handled] = {}

    def add(self, prepared: Prepared) -> AppendResult:
        """Decide one append on what is stored and on what this batch already holds; collect its rows if it goes in.

        The inbox is asked before the version: a command that comes again has, as a rule, an outdated version too.
        """
        append = prepared.append
        if append.handled and (known := self._known(append.handled.command_id)):
            return AlreadyHandled(known)
        head = self.heads.get(append.stream) or self._head_of(append.stream)
        if head.version != append.expected_version:
            return VersionConflict(append.stream, append.expected_version, head.version)
        first = self._add_events(prepared, head)
        if append.handled:
            self._add_handled(append.stream, append.handled, prepared.verdict)
        self.timers += prepared.timers
        self.views += prepared.views
        if not prepared.raws:
            return Appended(head.version, 0, 0)
        return Appended(head.version + len(prepared.raws), first, self.last_position, prepared.raws)

    def _known(self, command_id: str) -> Handled | None:
        return self._handled.get(command_id) or self._handled_of(command_id)

    def _add_events(self, prepared: Prepared, head: Head) -> int:
        stream, position, hash_ = head.stream, self.last_position, head.hash
        tenant, kind, name = stream.tenant, stream.kind, stream.name
        for envelope, raw in zip(prepared.append.events, prepared.raws, strict=True):
            position += 1
            hash_ = sha256(hash_ + raw).digest()  # `chain.link`, without a call for each event
            self.events.append((position, tenant, kind, name, envelope.sequence, envelope.id, raw, hash_))
        first = self.last_position + 1
        if prepared.raws:
            self.heads[stream] = Head(
                stream, head.version + len(prepared.raws), hash_, head.first_position or first, position
            )
        self.last_position = position
        return first

    def _add_handled(self, stream: StreamId, handled: Handled, verdict: str) -> None:
        self.last_handled += 1
        self._handled[handled.command_id] = handled
        self.inbox.append(
            (
                self.last_handled,
                handled.command_id,
                stream.tenant,
                stream.kind,
                stream.name,
                handled.raw,
                int(handled.accepted),
                verdict,
            )
        )
