"""nats-py's client where it must be changed: never plain text where TLS is wanted, and a key that may be rotated."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from nats import errors
from nats.aio import client
from nats.aio.subscription import Subscription

from bus.credentials import seed_in
from bus.port import BusError, Login
from bus.wire import LeanParser, Message, are_names

log = structlog.get_logger(__name__)


class PlainText(errors.Error):
    """The server offers no TLS, and we want nothing else."""


class Client(client.Client):
    """Reads private members of nats-py: its version is pinned, and the tests of TLS and rotation show a change."""

    def __init__(self, login: Login) -> None:
        super().__init__()
        self._login = login
        self._was_connected = False
        self._handlers: dict[int, Callable[[Message], None]] = {}  # by subscription
        self._ps = LeanParser(self, self._deliver)
        self._loop = asyncio.get_running_loop()
        self._writes = False  # whether what is posted in this turn of the loop will be written

    def _connect_command(self) -> bytes:
        """Called for each connection, before the first byte of ours is sent."""
        # nats-py encrypts only if the server's greeting, which is plain text, asks for it: anybody on the way could
        # take that out.
        if self.options.get("tls") is not None and not self.encrypted:
            raise PlainText("the server offers no TLS")
        if (writer := self._writer) is not None and self.encrypted:
            # asyncio learns this only of a connection that began encrypted, and else warns people on standard error.
            writer._protocol._over_ssl = True
        if self._was_connected:
            self._read_seed_again()
        self._was_connected = True
        return super()._connect_command()

    @property
    def encrypted(self) -> bool:
        """Whether the present link is encrypted."""
        writer = self._writer
        return writer is not None and isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)

    @property
    def _writer(self) -> Any:
        return getattr(self._transport, "_io_writer", None)

    def post(self, subject: str, payload: bytes, reply: str = "", block: bytes = b"") -> None:
        """Publish, with what else is posted in this turn of the loop; `block` is from `header_block`.

        What nats-py's `publish` does for it takes several times as long. Raises OutboundBufferLimitError without a
        link, ConnectionClosedError, BadSubjectError, MaxPayloadError.
        """
        if not subject or _UNFIT(subject) or _UNFIT(reply):
            raise errors.BadSubjectError
        if not self.is_connected:
            raise errors.ConnectionClosedError if self.is_closed else errors.OutboundBufferLimitError
        size = len(block) + len(payload)
        if size > self._max_payload:
            raise errors.MaxPayloadError
        head = f"HPUB {subject} {reply} {len(block)} {size}\r\n" if block else f"PUB {subject} {reply} {size}\r\n"
        line = b"".join((head.encode(), block, payload, b"\r\n"))
        self._pending.append(line)
        self._pending_data_size += len(line)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += size
        if not self._writes:
            self._writes = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Hand all that is pending to the socket, without waking nats-py's flusher for it. A link that broke is
        noticed by who reads."""
        self._writes = False
        if self._pending_data_size and self._transport and self.is_connected:
            pending, self._pending, self._pending_data_size = self._pending, [], 0
            self._transport.writelines(pending)

    async def subscribe_directly(self, subject: str, handler: Callable[[Message], None]) -> Subscription:
        """Hand each message on `subject` to `handler` as soon as it is read: in the order they came, whatever their
        subscription, and none is ever dropped. What it raises is logged. Raises as nats-py's `subscribe`."""

        async def unused(_: Any) -> None:
            """What comes is delivered before nats-py has to call this."""

        subscription = await self.subscribe(subject, cb=unused)
        self._handlers[subscription._id] = handler
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Deliver nothing more to its handler."""
        self._handlers.pop(subscription._id, None)

    def _deliver(self, sid: int, subject: str, reply: str, payload: bytes, block: bytes) -> bool:
        handler = self._handlers.get(sid)
        if handler is None:
            return False
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(payload)
        try:
            handler(Message(subject, reply, payload, block=block))
        except (Exception, asyncio.CancelledError) as problem:  # out of here it would end the reading for good
            log.error("bus_message_handler_failed", subject=subject, problem=repr(problem))
        return True

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """A message that nats-py's parser has read."""
        if not self._deliver(sid, subject.decode(), reply.decode(), data, headers or b""):
            await super()._process_msg(sid, subject, reply, data, headers)

    async def _process_err(self, err_msg: str) -> None:
        """What the server says before it hangs up."""
        # Said in the middle of a connection it means that the key was rotated: nats-py would close for good.
        if "authorization violation" in err_msg.lower() and self.is_connected:
            await self._process_op_err(errors.AuthorizationError())
            return
        await super()._process_err(err_msg)

    def _read_seed_again(self) -> None:
        if self._login.seed_file is None:
            return
        try:
            self._nkeys_seed_str = seed_in(self._login.seed_file)
        except (BusError, OSError) as problem:
            log.warning("bus_seed_not_read_again", role=self._login.role, problem=str(problem))
            return
        self._setup_nkeys_connect()


def header_block(headers: Mapping[str, str]) -> bytes:
    """The headers as they travel; empty for none. A line break within a value, which would begin a header of its own,
    becomes spaces. Raises BadHeaderError for a name that is none."""
    if not headers:
        return b""
    values = "".join(headers.values())
    if values.isascii() and values.isprintable() and " " not in values and are_names(tuple(headers)):
        block = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    else:
        lines = [f"{_name(name)}: {value.strip().translate(_BREAKS)}\r\n" for name, value in headers.items()]
        block = "".join(lines)
    return f"NATS/1.0\r\n{block}\r\n".encode()


def _name(name: str) -> str:
    if not are_names((name.strip(),)):
        raise errors.BadHeaderError(name)
    return name.strip()


_BREAKS = {ord("\r"): " ", ord("\n"): " "}
_UNFIT = re.compile(r"[ \t\r\n]").search
