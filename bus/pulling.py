"""The pull loop: keeps a durable consumer's messages coming, knows which ones we hold, and hands them back.

nats-py's `fetch` stalls; here the requests are sent raw and the answers come to one subscription. Each request asks for
heartbeats, so a request the server has forgotten is noticed and made again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio
import structlog
from nats.aio.subscription import Subscription

from bus.answers import ApiError, description, status
from bus.connection import Connection
from bus.messages import Arrival
from bus.port import BusUnavailable, ConsumerSpec, PermissionDenied
from bus.wire import Message

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 2.0
EXPIRES_SECONDS = 20.0
PAUSE_SECONDS = 0.25
_LEAVE_SECONDS = 5.0
_SECOND = 1_000_000_000  # JetStream counts nanoseconds


class PullLoop:
    """Holds or has asked for at most `capacity` messages; asks when at least `chunk` more fit, at most `largest` at
    once.

    `restore` is called when the consumer does not exist: whoever may make it does, everybody else waits for that.
    """

    def __init__(
        self,
        connection: Connection,
        spec: ConsumerSpec,
        *,
        capacity: int,
        chunk: int,
        largest: int,
        restore: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.spec = spec
        self.arrived: asyncio.Queue[Arrival] = asyncio.Queue()
        self._connection = connection
        self._capacity, self._chunk, self._largest = capacity, chunk, largest
        self._restore = restore
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}"
        self._held: dict[str, Arrival] = {}
        # One request at a time: several would be served in turns, and what they bring would come out of order. A
        # delivered message bears the subject it was stored under, nothing of its request, so it counts for the present
        # one. `_expected` is what that may still bring, `_heard` when we last heard of it (loop time).
        self._now = asyncio.get_running_loop().time
        self._inbox = connection.new_inbox()
        self._number = 0
        self._expected = 0
        self._heard = 0.0
        self._subscription: Subscription
        self._pause_until = 0.0
        self._missing = False
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._look()
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._receive)
        self._connection.on_reconnect.add(self._begin_again)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.on_reconnect.discard(self._begin_again)
        with anyio.move_on_after(_LEAVE_SECONDS, shield=True):
            await self._hand_back()

    async def run(self) -> None:
        """Ask for messages until cancelled. Raises PermissionDenied when the server refuses to be asked."""
        refused: asyncio.Future[None] = self._connection.future()
        refused.add_done_callback(lambda _: self._wake.set())
        with self._connection.failing(refused, self._subject, link=False):
            while True:
                self._wake.clear()
                if refused.done():
                    refused.result()
                self._forget_stalled()
                now = self._now()
                if self._connection.connected and now >= self._pause_until:
                    with suppress(BusUnavailable):  # the next reconnect begins again
                        await self._restore_missing()
                        await self._ask()
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(self._pause_until - now, 0.01) if now < self._pause_until else 1.0):
                        await self._wake.wait()

    async def keep_alive(self) -> None:
        """Tell the server every `ack_wait / 3` seconds that what we hold is in work, until cancelled."""
        while True:
            await asyncio.sleep(self.spec.ack_wait / 3)
            for arrival in tuple(self._held.values()):
                await self.in_progress(arrival)

    async def in_progress(self, arrival: Arrival) -> None:
        """Tell the server that this one is in work; when the link is down, the handler need not know."""
        with suppress(BusUnavailable):
            await self._connection.publish(arrival.reply, b"+WPI")

    async def settle(self, arrival: Arrival, verdict: bytes) -> None:
        """Tell the server what became of a message, and let go of it. When the link is down it comes again later."""
        self._held.pop(arrival.reply, None)
        if not self._expected:  # else there is nothing to ask for yet
            self._wake.set()
        try:
            await self._connection.publish(arrival.reply, verdict)
        except BusUnavailable:
            log.info("bus_verdict_lost", consumer=self.spec.name, sequence=arrival.sequence, verdict=verdict.decode())

    async def _look(self) -> None:
        """Raises PermissionDenied when this login may not use the consumer. One that is missing or out of reach comes
        later."""
        try:
            await self._connection.api(f"CONSUMER.INFO.{self.spec.stream}.{self.spec.name}")
        except PermissionDenied:
            raise
        except (ApiError, BusUnavailable) as problem:
            log.warning("bus_consumer_not_there", consumer=self.spec.name, problem=str(problem))
            self._missing = isinstance(problem, ApiError)

    async def _restore_missing(self) -> None:
        if self._missing and self._restore is not None:
            await self._restore()
        self._missing = False

    async def _ask(self) -> None:
        count = min(self._capacity - len(self._held), self._largest)
        if self._expected or count < self._chunk:
            return
        expires, heartbeat = int(EXPIRES_SECONDS * _SECOND), int(HEARTBEAT_SECONDS * _SECOND)
        body = json.dumps({"batch": count, "expires": expires, "idle_heartbeat": heartbeat}).encode()
        await self._connection.publish(self._subject, body, reply=f"{self._inbox}.{self._number + 1}")
        self._number, self._expected, self._heard = self._number + 1, count, self._now()

    def _forget_stalled(self) -> None:
        if self._expected and self._heard < self._now() - 2.5 * HEARTBEAT_SECONDS:
            log.warning("bus_pull_stalled", consumer=self.spec.name)
            self._expected = 0

    def _begin_again(self) -> None:
        """After a reconnect the server knows nothing of our request."""
        self._expected = 0
        self._pause_until = 0.0
        self._wake.set()

    def _receive(self, message: Message) -> None:
        if (arrival := Arrival.of(message)) is None:
            if message.subject == f"{self._inbox}.{self._number}":  # else: of a request given up long ago
                self._heard = self._now()
                if (code := status(message)) != "100":
                    self._ended(code, description(message))
            return
        # Also when its request was given up as stalled: the server counts it as delivered to us.
        self._held[arrival.reply] = arrival
        self.arrived.put_nowait(arrival)
        self._heard = self._now()
        self._expected = max(self._expected - 1, 0)
        if not self._expected:
            self._wake.set()

    def _ended(self, code: str, why: str) -> None:
        """The request came to its end: 408 expired, 404 nothing there, 409 for many reasons, 503 no such consumer."""
        self._expected = 0
        if code == "503" or "Consumer Deleted" in why:
            self._missing = True
        if code not in ("404", "408"):
            log.info("bus_pull_refused", consumer=self.spec.name, status=code, why=why)
            self._pause_until = self._now() + PAUSE_SECONDS
        self._wake.set()

    async def _hand_back(self) -> None:
        """Give every unfinished message to somebody else, now and not when its ack_wait is over."""
        await self._connection.drain(self._subscription)  # dropped on the way, one would be missing until ack_wait
        for arrival in tuple(self._held.values()):
            await self.settle(arrival, b"-NAK")
        await self._connection.round_trip()
