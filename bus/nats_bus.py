"""The bus on NATS: `connect(login)` gives the port's implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio
import structlog

from bus import asking, consuming, following, reading, sending, streams
from bus.background import beside, end_tasks
from bus.connection import Connection
from bus.consuming import BatchHandler
from bus.dead_letters import dead_letters_from, newest_dead_letters, put_back
from bus.following import FollowHandler
from bus.messages import is_first
from bus.port import BusError, BusUnavailable, ConsumerSpec, Delivery, Handler, Login, OutgoingEvent
from bus.publishing import Publisher
from bus.wire import Message
from schemas.envelope import CommandEnvelope
from schemas.values import Sender

log = structlog.get_logger(__name__)

RESTORE_PAUSE_SECONDS = 0.5
LOOK_SECONDS = 10.0
"""How often the conductor looks whether a JetStream stream or consumer was deleted under it."""


async def connect(
    login: Login,
    name: str = "",
    *,
    timeout: float = 5.0,
    replicas: int = 1,
    consumers: Sequence[ConsumerSpec] = streams.CONSUMERS,
) -> NatsBus:
    """Connect as one role; use the result as a context manager, or close it.

    As conductor this also makes the JetStream streams and consumers, and makes them again should they be gone. Raises
    PermissionDenied for a refused login, TlsFailed when server and login do not agree about TLS, BusUnavailable when
    nobody answers within `timeout` seconds, BusError when the server is too old or a stream's configuration cannot be
    changed.
    """
    bus = NatsBus(Connection(login, name or login.role), consumers, replicas)
    await bus.open(timeout)
    return bus


class NatsBus:
    """See `bus.port.Bus`. Not for use from several threads."""

    def __init__(self, connection: Connection, consumers: Sequence[ConsumerSpec], replicas: int) -> None:
        self.connection = connection
        self._publisher = Publisher(connection)
        self._consumers = consumers
        self._replicas = replicas
        self._restoring: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._makes_streams = connection.role == Sender.CONDUCTOR
        self._ensuring = asyncio.Lock()
        self._finished = False  # whether every stream is as it is declared

    async def open(self, timeout: float) -> None:
        """Part of `connect`."""
        await self.connection.open(timeout)
        if self._makes_streams:
            try:
                await self._restore()
            except BaseException:
                await self.close()
                raise
            self.connection.on_reconnect.add(self._begin_restoring)
            self._looking = asyncio.ensure_future(self._keep_looking())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()

    async def publish_events(self, events: Sequence[OutgoingEvent]) -> list[int]:
        """See the port."""
        return await self._publisher.publish(events)

    async def last_event(self) -> tuple[int, str] | None:
        """See the port. A message nobody published through the bus does not count."""
        return await reading.newest(self.connection, "VT_EVENTS")

    async def last_sequence(self) -> int:
        """See the port."""
        async for record in reading.backwards(self.connection, "VT_EVENTS"):
            if is_first(record.headers, "VT_EVENTS"):  # a follower waits for no other
                return record.sequence
        return 0

    async def send(self, command: CommandEnvelope, timeout: float = 10.0) -> dict[str, Any]:
        """See the port."""
        return await sending.send(self.connection, command, timeout)

    async def reply(self, delivery: Delivery, receipt: dict[str, Any]) -> None:
        """See the port."""
        await sending.reply(self.connection, delivery, receipt)

    def consume(self, spec: ConsumerSpec, handler: Handler) -> AbstractAsyncContextManager[None]:
        """See the port."""
        return consuming.consume(self.connection, spec, handler, self._restorer())

    def consume_batches(
        self, spec: ConsumerSpec, handler: BatchHandler, most: int = 256
    ) -> AbstractAsyncContextManager[None]:
        """See the port."""
        return consuming.consume_batches(self.connection, spec, handler, most, self._restorer())

    @asynccontextmanager
    async def subscribe(
        self, subject: str, handler: Callable[[str, bytes, dict[str, str]], None]
    ) -> AsyncIterator[None]:
        """See the port. A handler that raises ends the context with its exception."""
        failure = self.connection.future()

        def receive(message: Message) -> None:
            try:
                handler(message.subject, message.data, message.headers)
            except Exception as problem:
                if not failure.done():
                    failure.set_exception(problem)

        async def failed() -> None:
            await failure

        subscription = await self.connection.subscribe(subject, receive)
        try:
            async with beside(self.connection.until_closed(), failed()):
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await self.connection.unsubscribe(subscription)

    def follow(
        self, filters: tuple[str, ...], handler: FollowHandler, start: int = 1
    ) -> AbstractAsyncContextManager[None]:
        """See the port. When the stream itself was lost and is filled again, following begins anew at its first
        message: a repeat then, never a gap."""
        return following.follow(self.connection, filters, handler, start)

    async def tell(self, subject: str, raw: bytes) -> None:
        """See the port. While the link is down it is lost as well."""
        try:
            await self.connection.publish(subject, raw)
        except BusUnavailable:
            log.debug("bus_telemetry_lost", subject=subject)

    async def ask(self, subject: str, raw: bytes, timeout: float) -> bytes:
        """See the port."""
        return await asking.ask(self.connection, subject, raw, timeout)

    def answering(self, subject: str, handler: asking.AnswerHandler) -> AbstractAsyncContextManager[None]:
        """See the port. A question is answered to an inbox of the role whose login asked it, and nowhere else."""
        return asking.answering(self.connection, subject, handler)

    async def dead_letters(self, limit: int = 100) -> list[dict[str, Any]]:
        """See the port; newest first."""
        return await newest_dead_letters(self.connection, limit)

    async def dead_letters_from(self, start: int) -> tuple[list[dict[str, Any]], int]:
        """See the port."""
        return await dead_letters_from(self.connection, start)

    async def put_back(self, subject: str, raw: bytes, message_id: str) -> int:
        """See the port."""
        return await put_back(self.connection, subject, raw, message_id)

    async def taken(self, sequence: int) -> bool:
        """See the port."""
        return not await reading.is_there(self.connection, "VT_COMMANDS", sequence)

    async def close(self) -> None:
        """See the port."""
        await end_tasks([task for task in (self._looking, self._restoring) if task is not None])
        await self.connection.close()

    def _restorer(self) -> Callable[[], Awaitable[None]] | None:
        return self._restore if self._makes_streams else None

    async def _restore(self) -> None:
        async with self._ensuring:  # what one has deleted to make it anew, the other must not make meanwhile
            self._finished = await streams.ensure(self.connection, self._consumers, self._replicas)

    def _begin_restoring(self) -> None:
        """After a reconnect: the server may have come back without its disk."""
        if self._restoring is None or self._restoring.done():
            self._restoring = asyncio.ensure_future(self._keep_restoring())

    async def _keep_restoring(self) -> None:
        while True:
            try:
                await self._restore()
                return
            except BusError as problem:
                log.warning("bus_streams_not_restored", problem=str(problem))
                await asyncio.sleep(RESTORE_PAUSE_SECONDS)

    async def _keep_looking(self) -> None:
        """A link that holds tells nothing of a stream that somebody deleted, and who follows it would wait for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if not self._finished:
                    await self._restore()
                    continue
                async with self._ensuring:
                    await streams.ensure(self.connection, self._consumers, self._replicas, change=False)
            except BusError as problem:
                log.warning("bus_streams_not_looked_after", problem=str(problem))
