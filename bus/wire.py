"""What comes over the link, read with less work than nats-py's parser: a busy process does little else."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

STATUS, DESCRIPTION = "Status", "Description"
"""Where an inline status of the server and its text stand among the headers."""

_LINE_END, _FIRST = b"\r\n", b"NATS/1.0"
_NAME = re.compile(r"[A-Za-z0-9-]+").fullmatch
_SPACE = " \t\r\n\v\f"


class Message:
    """A message as it came. Its headers are read when somebody asks for them."""

    __slots__ = ("_block", "_headers", "data", "reply", "subject")

    def __init__(
        self,
        subject: str = "",
        reply: str = "",
        data: bytes = b"",
        headers: dict[str, str] | None = None,
        block: bytes = b"",
    ) -> None:
        """`block` is the header block as it came, in the place of `headers`."""
        self.subject = subject
        self.reply = reply
        self.data = data
        self._headers = headers
        self._block = block

    def __repr__(self) -> str:
        return f"Message(subject={self.subject!r}, reply={self.reply!r}, {len(self.data)} bytes)"

    @property
    def headers(self) -> dict[str, str]:
        """By name; empty when there are none."""
        if self._headers is None:
            self._headers = block_headers(self._block)
        return self._headers


def block_headers(block: bytes) -> dict[str, str]:
    """A header block: `NATS/1.0`, perhaps with a status and its text, then the header lines."""
    if not block:
        return {}
    first, _, rest = block.partition(_LINE_END)
    found: dict[str, str] = {}
    if (said := first[len(_FIRST) :]).startswith(b" "):
        code, text = said[1:4].strip(), said[5:].decode("utf-8", "replace").strip()
        if code.isdigit():
            found[STATUS] = code.decode()
        if text:
            found[DESCRIPTION] = text
    return found | header_lines(rest)


def header_lines(raw: bytes) -> dict[str, str]:
    """`Name: value` lines. A name with a space in it, or of other letters than ASCII, is none."""
    text = raw.decode("utf-8", "replace")
    if (plain := _plain_lines(text)) is not None:
        return plain
    found: dict[str, str] = {}
    for line in text.split("\r\n"):
        name, colon, value = line.partition(":")
        name = name.strip(_SPACE)
        if colon and name.isascii() and (name.split() or [""]) == [name]:
            found[name] = value.strip(_SPACE)
    return found


def _plain_lines(text: str) -> dict[str, str] | None:
    """The lines, if there is nothing to strip, to judge or to leave out: nearly always, and several times as fast."""
    lines = text.rstrip("\r\n")
    try:
        found = dict([line.split(": ", 1) for line in lines.split("\r\n")])
    except ValueError:
        return None
    values = "".join(found.values())
    unstripped = ":  " in lines or " \r\n" in lines or lines.endswith(" ")
    if unstripped or not values.isascii() or not values.isprintable() or not are_names(tuple(found)):
        return None
    return found


@lru_cache(maxsize=1_000)
def are_names(names: tuple[str, ...]) -> bool:
    """Whether headers can be called so."""
    return all(map(_NAME, names))


Deliver = Callable[[int, str, str, bytes, bytes], bool]
"""Gets subscription, subject, reply subject, payload and header block of a message; False when it is not its own."""


class LeanParser(Parser):
    """nats-py's, which takes what is not a message, and messages of subscriptions that `deliver` does not know."""

    def __init__(self, client: Any, deliver: Deliver) -> None:
        self._needed = 0  # bytes before it makes sense to look again
        super().__init__(client)
        self._deliver = deliver

    def reset(self) -> None:
        """A new link: what was left of the old one is forgotten."""
        super().reset()
        self._needed = 0

    async def parse(self, data: bytes = b"") -> None:
        """Called for every piece that is read. Raises ProtocolError."""
        if self.state != AWAITING_CONTROL_LINE:  # in the middle of what nats-py's has begun
            await super().parse(data)
            return
        if self.buf:
            self.buf.extend(data)
            if len(self.buf) < self._needed:
                return
            data = bytes(self.buf)
            self.buf.clear()
        position = await self._messages(data)
        if position < len(data):
            self.buf.extend(data[position:])
            if not _may_begin(self.buf):
                await super().parse()

    async def _messages(self, data: bytes) -> int:
        """Hand over the whole messages at the beginning of `data`; where what follows them begins."""
        position, length = 0, len(data)
        self._needed = 0
        while True:
            plain = data.startswith(b"MSG ", position)
            if not plain and not data.startswith(b"HMSG ", position):
                return position
            end = data.find(_LINE_END, position)
            if end < 0:
                return position
            # MSG subject sid [reply] size, or HMSG subject sid [reply] header-size size
            words = data[position:end].split()
            start, short = end + 2, 4 if plain else 5
            try:
                size, header = int(words[-1]), 0 if plain else int(words[-2])
                sid = int(words[2])
                if not (short <= len(words) <= short + 1 and 0 <= header <= size):
                    raise ValueError
            except (IndexError, ValueError):
                raise ProtocolError(f"nats: malformed message {data[position:end]!r}") from None
            after = start + size
            if after + 2 > length:
                self._needed = after + 2 - position
                return position
            subject, reply = words[1].decode(), words[3].decode() if len(words) > short else ""
            block, payload = data[start : start + header], data[start + header : after]
            position = after + 2
            if not self._deliver(sid, subject, reply, payload, block):
                await self.nc._process_msg(sid, subject.encode(), reply.encode(), payload, block or None)


def _may_begin(rest: bytearray) -> bool:
    """Whether `rest` begins a message of which more is to come."""
    return bytes(rest[:4]) in _BEGINNINGS or rest.startswith(b"HMSG ")


_BEGINNINGS = frozenset(word[:n] for word in (b"MSG ", b"HMSG") for n in range(1, 5))
