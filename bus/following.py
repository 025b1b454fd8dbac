"""Following VT_EVENTS in order, without a consumer on the server: read by sequence, woken by what is stored.

A consumer would be state to lose, to notice the loss of and to recreate. A position is a number: after any break the
follower reads on from it. The server repeats every stored event on `live.<subject>` (see `bus.streams`). One that
stands right at the position is handed over as it came: nothing can be missing before it. Any other is only a bell, what
counts is read from the stream, and every few seconds also unasked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog

from bus.answers import ApiError
from bus.background import beside
from bus.connection import Connection
from bus.messages import is_first, matches
from bus.permissions import LIVE
from bus.port import BusUnavailable
from bus.reading import Record, State, read_range, record_of, stream_state
from bus.wire import Message

log = structlog.get_logger(__name__)

STREAM = "VT_EVENTS"
LOOK_SECONDS = 5.0
PAUSE_SECONDS = 0.05
RETRY_SECONDS = 0.25
PAGE = 256
KEPT = 256
"""Repeated messages kept while the handler is at work; of older ones only that they are there is remembered."""

FollowHandler = Callable[[str, bytes, dict[str, str], int], Awaitable[None]]


@asynccontextmanager
async def follow(
    connection: Connection, filters: tuple[str, ...], handler: FollowHandler, start: int
) -> AsyncIterator[None]:
    """See `bus.port.Bus.follow`. A handler that raises ends the context with its exception."""
    follower = _Follower(connection, filters, handler)
    async with AsyncExitStack() as stack:
        for pattern in filters:
            # Before the position is taken: what is stored in between rings.
            subscription = await connection.subscribe(f"{LIVE}.{pattern}", follower.ring)
            stack.push_async_callback(connection.unsubscribe, subscription)
        connection.on_reconnect.add(follower.doubt)
        stack.callback(connection.on_reconnect.discard, follower.doubt)
        await follower.begin(start)
        await stack.enter_async_context(beside(connection.until_closed(), follower.run()))
        yield


def _is_whole(message: Message) -> bool:
    """Whether it is an event as the server repeats it. A stream of an older version repeats its headers only; and a
    reader may make the server answer here (`bus.permissions`), perhaps without the headers."""
    headers = message.headers
    return (
        headers.get("Nats-Stream") == STREAM
        and message.subject == f"{LIVE}.{headers.get('Nats-Subject')}"
        and "Nats-Msg-Size" not in headers
    )


class _Follower:
    """`position` is the next sequence to read; everything before it was handed over."""

    def __init__(self, connection: Connection, filters: tuple[str, ...], handler: FollowHandler) -> None:
        self._connection = connection
        self._filters = filters
        self._handler = handler
        self._position = 1
        self._created: str | None = None
        self._rung_for = 0
        self._live: deque[tuple[int, Message]] = deque(maxlen=KEPT)
        self._wake = asyncio.Event()
        self._doubtful = False

    async def begin(self, start: int) -> None:
        """Take the position. Raises BusUnavailable when `start` is 0 and the newest sequence cannot be learned."""
        try:
            state = await stream_state(self._connection, STREAM)
        except ApiError:  # the conductor has not made it yet: whatever comes is new
            self._position = max(start, 1)
            return
        self._created = state.created
        self._position = start or state.last + 1

    def ring(self, message: Message) -> None:
        """Something was stored under our filters."""
        sequence = int(message.headers.get("Nats-Sequence", "0"))
        self._rung_for = max(self._rung_for, sequence)
        if _is_whole(message):
            self._live.append((sequence, message))
        self._wake.set()

    def doubt(self) -> None:
        """After a reconnect the server may hold another stream than before: look before reading on."""
        self._doubtful = True
        self._live.clear()
        self._wake.set()

    async def run(self) -> None:
        """Read on for ever."""
        while True:
            self._wake.clear()
            try:
                if self._doubtful:
                    await self._look()
                if not await self._take_live():
                    await self._read_on()
                pause = PAUSE_SECONDS if self._rung_for >= self._position else LOOK_SECONDS
            except (BusUnavailable, ApiError) as problem:
                log.debug("bus_follow_waits", position=self._position, problem=str(problem))
                pause = RETRY_SECONDS
            if not await self._rung(pause) and pause == LOOK_SECONDS:
                self._doubtful = True  # quiet: ask whether there is really nothing

    async def _rung(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                return True
        return False

    async def _look(self) -> None:
        """Whether it is still the stream we know. Made anew (its disk was lost, the relay fills it again), it is read
        from its beginning: sequences mean something else now, and a repeat does less harm than a gap."""
        state: State = await stream_state(self._connection, STREAM)
        if self._created not in (None, state.created):
            log.warning("bus_stream_made_anew", stream=STREAM, position=self._position, last=state.last)
            self._position, self._rung_for = 1, 0
        self._created = state.created
        self._doubtful = False

    async def _take_live(self) -> bool:
        """Hand over what was repeated, as far as each is the very next one; whether nothing is left to read."""
        rung = False
        while self._live and not self._doubtful:
            rung, (sequence, message) = True, self._live.popleft()
            if sequence > self._position:
                self._live.clear()  # what stands before it is read from the stream, and it with that
                return False
            if sequence == self._position:
                await self._hand_over(record_of(message))
        return rung and not self._doubtful and self._rung_for < self._position

    async def _read_on(self) -> None:
        single = self._filters[0] if len(self._filters) == 1 else None
        more = True
        while more and not self._doubtful:
            records, more = await read_range(self._connection, STREAM, self._position, PAGE, single)
            for record in records:
                await self._hand_over(record)
        # Rung for, but not readable: stored on the leader and not yet on the replica that answered. `run` asks again.

    async def _hand_over(self, record: Record) -> None:
        if self._wanted(record):
            await self._handler(record.subject, record.raw, record.headers, record.sequence)
        self._position = record.sequence + 1

    def _wanted(self, record: Record) -> bool:
        return is_first(record.headers, STREAM) and any(matches(each, record.subject) for each in self._filters)
