"""nats-py's client where it must be changed: never plain text where TLS is wanted, and a key that may be rotated."""

from __future__ import annotations

import re
import ssl
from functools import lru_cache
from typing import Any

import structlog
from nats import errors
from nats.aio import client
from nats.protocol import command

from bus.credentials import seed_in
from bus.port import BusError, Login

log = structlog.get_logger(__name__)


class PlainText(errors.Error):
    """The server offers no TLS, and we want nothing else."""


class Client(client.Client):
    """Reads private members of nats-py: its version is pinned, and the tests of TLS and rotation show a change."""

    def __init__(self, login: Login) -> None:
        super().__init__()
        self._login = login
        self._was_connected = False

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

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        """As nats-py's, which checks and copies each header by itself: a fifth of all that a busy relay does."""
        lines = [f"{name}: {value.strip()}\r\n" for name, value in (headers or {}).items() if _is_name(name)]
        block = "".join(lines)
        # A line break within a value would begin a header of its own: nats-py takes it out.
        plain = len(lines) == len(headers or {}) == block.count("\r") == block.count("\n")
        if not lines or not plain:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        encoded = f"NATS/1.0\r\n{block}\r\n".encode()
        await self._send_command(command.hpub_cmd(subject, reply, encoded, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """`Name: value` lines. nats-py asks of every single character of a name whether it is a space: a sixth of all
        that a busy process does."""
        found: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            name = name.strip(_SPACE)
            if colon and name.isascii() and (name.split() or [""]) == [name]:
                found[name] = value.strip(_SPACE)
        return found

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


@lru_cache(1_000)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


_SPACE = " \t\r\n\v\f"
_NAME = re.compile(r"[A-Za-z0-9-]+")
