"""Identifiers. Not for the pure core: it receives ids inside commands."""

from __future__ import annotations

import os
import secrets
import time

SAID = "said."
"""How the ids of commands begin that follow from what a person wrote, so that reading it twice does nothing twice.
Only chat-ops may use it: an id taken before its time would silence somebody."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no i, l, o, 0, 1: people read these aloud


_drawn: list[int] = []
"""Random numbers of 80 bits that nobody has used: asking the system for each lets another thread take the processor."""
_AT_ONCE = 64


def _draw() -> list[int]:
    raw = os.urandom(10 * _AT_ONCE)
    return [int.from_bytes(raw[start : start + 10]) for start in range(0, len(raw), 10)]


os.register_at_fork(after_in_child=_drawn.clear)  # a child must not give out its parent's


def uuid7(now_ms: int | None = None) -> str:
    """A UUID version 7: 48 bits of Unix milliseconds, 12 bits of their fraction (RFC 9562, section 6.2, method 3) or,
    for a time that is given, random ones, and 62 random bits.

    One process's ids sort by when they were made, to a quarter of a microsecond: each goes to the end of the event
    table's index, whose pages fill up one after the other.
    """
    try:
        random = _drawn.pop()
    except IndexError:  # several threads may refill it at once: each draws its own
        _drawn.extend(_draw())
        random = int.from_bytes(os.urandom(10))
    if now_ms is None:
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        fraction = (rest << 12) // 1_000_000
    else:
        milliseconds, fraction = now_ms, random >> 68
    value = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def short_token(length: int = 5) -> str:
    """A random token of `length` letters and digits that cannot be misread (about 4.9 bits each)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
