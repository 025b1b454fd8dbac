"""Identifiers. Not for the pure core: it receives ids inside commands."""

from __future__ import annotations

import secrets
import time
import uuid

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no i, l, o, 0, 1: people read these aloud


def uuid7(now_ms: int | None = None) -> str:
    """A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits.

    Sorts by time, which keeps index pages of the event table together.
    """
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= secrets.randbits(12) << 64
    value |= 0b10 << 62
    value |= secrets.randbits(62)
    return str(uuid.UUID(int=value))


def short_token(length: int = 5) -> str:
    """A random token of `length` letters and digits that cannot be misread (about 4.9 bits each)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
