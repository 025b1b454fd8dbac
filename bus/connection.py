"""One connection to NATS: nats-py's client without what its defaults and silences would do to us.

It reconnects for ever but holds back nothing while cut off (a publish then fails at once instead of arriving late),
turns refused subjects into PermissionDenied, fails what waits for an answer when the link breaks, and receives all
answers through one inbox.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from nats import errors
from nats.aio.subscription import Subscription

from bus.answers import NoResponders, checked, status
from bus.client import Client, header_block
from bus.permissions import inbox_prefix
from bus.port import BusError, BusUnavailable, Login, PermissionDenied, TlsFailed
from bus.tls import client_context, tls_problem
from bus.wire import Message

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 5.0
PING_SECONDS = 5
RETRY_SECONDS = 0.25
CLOSE_SECONDS = 3.0
HEADROOM = 16 * 1024
"""Bytes of a message kept free for the headers a dead letter adds to it."""

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
_FLUSH_SECONDS = 3600
_OLDEST_SERVER = (2, 12)
_NO_LINK = (errors.OutboundBufferLimitError, errors.ConnectionClosedError, errors.ConnectionDrainingError)


@dataclass(slots=True, eq=False)
class _Wait:
    """Somebody waits on `future`: it fails when one of `subjects` (lower case) is refused, and with the link if
    `link`."""

    subjects: frozenset[str]
    future: asyncio.Future[Any]
    link: bool


class Connection:
    """See the module. Make one with `open_connection`."""

    def __init__(self, login: Login, name: str) -> None:
        self.login = login
        self.name = name
        self.client = Client(login)
        self.closed: asyncio.Future[None] = self.future()
        """Ends with BusUnavailable, whether we closed it or the client gave up for good."""
        self.connects = 0
        """Counts connections made; grows with each reconnect."""
        self.denied = 0
        """Refusals by the server."""
        self.on_reconnect: set[Callable[[], None]] = set()
        self._inbox = self.new_inbox()
        self._tokens = itertools.count()
        self._handlers: dict[str, Callable[[Message], None]] = {}
        self._waits: set[_Wait] = set()
        self._flushing: set[asyncio.Task[bool]] = set()
        self._refused: asyncio.Future[None] = self.future()
        self._last_problem: Exception | None = None
        self._closing = False

    @property
    def role(self) -> str:
        """The login's role."""
        return self.login.role

    @property
    def connected(self) -> bool:
        """Whether the link is up, as far as we know."""
        return self.client.is_connected

    @property
    def room(self) -> int:
        """Bytes a message may have with its headers."""
        return self.client.max_payload

    def future(self) -> asyncio.Future[Any]:
        """A fresh one of this event loop."""
        return asyncio.get_running_loop().create_future()

    def new_inbox(self) -> str:
        """A subject only this role may listen on, which nobody can guess."""
        return f"{inbox_prefix(self.role)}.{secrets.token_hex(11)}"

    async def open(self, timeout: float) -> None:
        """Connect. Raises PermissionDenied for a refused login, TlsFailed when server and login do not agree about TLS,
        BusUnavailable when nobody answers in time."""
        context = client_context(self.login)
        connecting = asyncio.ensure_future(
            self.client.connect(
                self.login.url.split(","),
                name=self.name,
                nkeys_seed_str=self.login.seed,
                inbox_prefix=inbox_prefix(self.role),
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnect,
                reconnected_cb=self._on_reconnect,
                closed_cb=self._on_closed,
                reconnect_time_wait=RETRY_SECONDS,  # type: ignore[arg-type]
                max_reconnect_attempts=-1,
                ping_interval=PING_SECONDS,
                max_outstanding_pings=2,
                pending_size=-1,
                tls=context,
            )
        )
        try:
            await asyncio.wait({connecting, self._refused}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done():
                self._refused.result()
            if not connecting.done():
                raise BusUnavailable(
                    f"no NATS server answered at {self.login.url} within {timeout} s "
                    f"({self._last_problem!r}): is it running?"
                )
            if (problem := connecting.exception()) is not None:
                raise BusError(f"cannot connect to {self.login.url} as {self.role!r}: {problem!r}") from problem
            self._check_version()
            self.connects = 1
            await self.subscribe(f"{self._inbox}.*", self._on_reply)
        except BaseException:
            connecting.cancel()
            await self.close()
            raise

    def _check_version(self) -> None:
        version = self.client.connected_server_version
        if (version.major, version.minor) < _OLDEST_SERVER:
            oldest = ".".join(map(str, _OLDEST_SERVER))
            raise BusError(f"the server at {self.login.url} is {version!r}: nats-server {oldest} or newer is needed")

    async def close(self) -> None:
        """Flush and close, within a few seconds, whatever the link is like. Idempotent."""
        if self._closing:
            return
        self._closing = True
        if self.client.is_connected:
            await self.round_trip()
        # As a task: on a dead link nats-py's close() raises CancelledError, which would look like our own.
        closing = asyncio.ensure_future(self.client.close())
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        if not closing.done():
            closing.cancel()
        elif not closing.cancelled() and closing.exception() is not None:
            log.debug("bus_close_failed", problem=repr(closing.exception()))
        self._end_flushes()
        self._closed(BusUnavailable("the bus connection was closed"))

    async def until_closed(self) -> None:
        """Wait until the connection is closed, then raise BusUnavailable: nothing that relies on it goes quiet."""
        await asyncio.shield(self.closed)

    async def round_trip(self, timeout: float = 2.0) -> bool:
        """Wait until the server has seen all we sent, and we all it sent before; False if it did not answer."""
        flushing = asyncio.ensure_future(self._flush())
        self._flushing.add(flushing)
        flushing.add_done_callback(self._flushing.discard)
        # Never cancelled while the link is up: nats-py keeps the place of a cancelled flush, and its reader dies in
        # silence when the late answer comes to it.
        await asyncio.wait({flushing}, timeout=timeout)
        # While it reconnects nats-py's flush returns at once, having sent nothing.
        return flushing.done() and not flushing.cancelled() and flushing.result() and self.connected

    async def _flush(self) -> bool:
        try:
            # Twice: nats-py writes the ping to the socket at once, ahead of what its flusher still has to write.
            await self.client.flush(timeout=_FLUSH_SECONDS)
            await self.client.flush(timeout=_FLUSH_SECONDS)
            return True
        except (errors.Error, OSError, AttributeError):  # AttributeError: its transport is gone
            return False

    def _end_flushes(self) -> None:
        for flushing in self._flushing:
            flushing.cancel()

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
        spare: int = 0,
    ) -> None:
        """Hand a message to the link. `spare` bytes of the server's limit stay unused.

        Raises BusUnavailable at once when the link is down, BusError for a message too large or a bad subject.
        """
        try:
            block = header_block(headers) if headers else b""
            size = len(payload) + max(len(block) - 12, 0)
            if size + 16 > self.room - spare and self.client.is_connected:
                # The server would answer this by closing the connection.
                raise BusError(
                    f"message for {subject} is too large: {size} bytes, the limit is {self.room - spare - 16}"
                )
            self.client.post(subject, payload, reply, block)
        except _NO_LINK as problem:
            raise BusUnavailable(f"not connected to {self.login.url}: {subject} was not published") from problem
        except errors.Error as problem:
            raise BusError(f"cannot publish on {subject!r}: {problem}") from problem

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout: float = ANSWER_SECONDS,
        spare: int = 0,
    ) -> Message:
        """Publish and wait for one answer. Raises BusUnavailable, NoResponders, PermissionDenied, BusError."""
        answer: asyncio.Future[Message] = self.future()
        with self.replies(lambda message: _resolve(answer, message)) as reply, self.failing(answer, subject):
            await self.publish(subject, payload, reply=reply, headers=headers, spare=spare)
            message: Message = await self.answer(answer, subject, timeout)
        if status(message) == "503":
            raise NoResponders(f"nobody answers on {subject}: the JetStream stream or consumer does not exist (yet)")
        return message

    async def answer(self, answer: asyncio.Future[Any], subject: str, timeout: float) -> Any:
        """The result of a future that waits on `subject`. Raises BusUnavailable after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise BusUnavailable(f"{self.login.url} did not answer on {subject} within {timeout:g} s") from None

    async def api(
        self, action: str, body: dict[str, Any] | None = None, timeout: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """A JetStream API request, `STREAM.INFO.VT_EVENTS` for instance. Raises ApiError, or as `request`."""
        subject = f"$JS.API.{action}"
        message = await self.request(subject, json.dumps(body).encode() if body is not None else b"", timeout=timeout)
        return checked(subject, message)

    async def subscribe(self, subject: str, handler: Callable[[Message], None]) -> Subscription:
        """Hand each message on `subject` to `handler`, over reconnects. Raises PermissionDenied, BusUnavailable."""
        refused: asyncio.Future[None] = self.future()
        with self.failing(refused, subject, link=False):
            try:
                subscription = await self.client.subscribe_directly(subject, handler)
            except errors.Error as problem:
                raise BusUnavailable(f"cannot subscribe to {subject!r}: {problem}") from problem
            # A refusal comes before the answer to the ping behind it.
            answered = await self.round_trip(ANSWER_SECONDS)
            if refused.done() or not answered:
                await self.unsubscribe(subscription)
                refused.result() if refused.done() else None
                raise BusUnavailable(
                    f"{self.login.url} did not confirm the subscription to {subject} within {ANSWER_SECONDS:g} s: "
                    "is the server gone, or this machine very busy? Nothing is lost: start it again"
                )
        return subscription

    async def drain(self, subscription: Subscription) -> None:
        """End a subscription after its handler got all that is on its way; never raises on a dead link."""
        # Not Subscription.drain(): its ping overtakes its unsubscribe (see round_trip), and what the server sends in
        # between is dropped in silence.
        if self.connected:
            await self.client._send_unsubscribe(subscription._id)
            await self.round_trip()
        await self.unsubscribe(subscription)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; never raises on a dead link."""
        self.client.forget(subscription)
        try:
            await subscription.unsubscribe()
        except (errors.Error, OSError):
            pass

    @contextmanager
    def replies(self, handler: Callable[[Message], None]) -> Iterator[str]:
        """A fresh inbox subject; `handler` gets what is sent there while the context is open."""
        token = format(next(self._tokens), "x")
        self._handlers[token] = handler
        try:
            yield f"{self._inbox}.{token}"
        finally:
            del self._handlers[token]

    @contextmanager
    def failing(self, future: asyncio.Future[Any], *subjects: str, link: bool = True) -> Iterator[None]:
        """While open, `future` fails when the server refuses one of `subjects`, and (`link`) when the link breaks."""
        # The server's refusal reaches us in lower case.
        wait = _Wait(frozenset(subject.lower() for subject in subjects), future, link)
        self._waits.add(wait)
        try:
            yield
        finally:
            self._waits.discard(wait)
            if future.done() and not future.cancelled():
                future.exception()  # looked at: asyncio need not warn about it

    def _fail(self, which: Callable[[_Wait], bool], problem: BusError) -> None:
        for wait in [wait for wait in self._waits if which(wait)]:
            if not wait.future.done():
                wait.future.set_exception(problem)

    def _on_reply(self, message: Message) -> None:
        handler = self._handlers.get(message.subject.rsplit(".", 1)[1])
        if handler is not None:  # else: an answer nobody waits for any more
            handler(message)

    async def _on_error(self, problem: Exception) -> None:
        text = str(problem).lower()
        if (match := _DENIED.search(text)) is not None:
            self.denied += 1
            subject = match[2]
            log.warning("bus_subject_refused", role=self.role, action=match[1], subject=subject)
            refusal = PermissionDenied(f"the server refuses {match[1]} to {subject} for the login {self.role!r}")
            self._fail(lambda wait: subject in wait.subjects, refusal)
        elif (final := self._final(problem)) is not None and not self.connects:
            if not self._refused.done():
                self._refused.set_exception(final)
                self._refused.exception()  # looked at: asyncio need not warn about it
        else:
            if final is not None and repr(problem) != repr(self._last_problem):
                # At a reconnect: it is tried for ever, which is right for a server that was away and not for this.
                event = "bus_login_refused" if isinstance(final, PermissionDenied) else "bus_tls_failed"
                log.warning(event, role=self.role, url=self.login.url, problem=str(final))
            self._last_problem = problem
            log.debug("bus_problem", role=self.role, problem=repr(problem))

    def _final(self, problem: Exception) -> PermissionDenied | TlsFailed | None:
        """What no further try will change, so that the first connection fails at once; None for everything else."""
        if "authorization violation" in str(problem).lower():
            return PermissionDenied(
                f"the server at {self.login.url} refused the login {self.role!r}: take the seed of this server"
            )
        return tls_problem(problem, self.login)

    async def _on_disconnect(self) -> None:
        if not self._closing:
            log.warning("bus_disconnected", role=self.role, url=self.login.url)
        self._end_flushes()  # no answer can come to them any more
        lost = BusUnavailable(f"the connection to {self.login.url} broke before the answer came")
        self._fail(lambda wait: wait.link, lost)

    async def _on_reconnect(self) -> None:
        # nats-py awaits this inside its reconnecting, so nothing here may raise or wait.
        self.connects += 1
        log.info("bus_reconnected", role=self.role, url=self.login.url)
        for tell in tuple(self.on_reconnect):
            tell()

    async def _on_closed(self) -> None:
        if not self._closing:
            problem = BusUnavailable(
                f"the connection to {self.login.url} was closed for good: {self.client.last_error!r}"
            )
            self._closed(problem)

    def _closed(self, problem: BusUnavailable) -> None:
        self._fail(lambda wait: True, problem)
        if not self.closed.done():
            self.closed.set_exception(problem)
            self.closed.exception()  # looked at: asyncio need not warn about it


def _resolve(future: asyncio.Future[Message], message: Message) -> None:
    if not future.done():
        future.set_result(message)
