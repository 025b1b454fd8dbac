"""Headers of what travels, and how a JetStream message looks to us."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache

from bus.wire import Message

MSG_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
REPLY_TO = "Vt-Reply-To"
"""Inbox where a command's sender waits for the receipt."""

REQUEUED = "Vt-Requeued"
"""On a message that was given up and put back: its first copy, which everybody saw, carries no such header."""

_ACK_PREFIX = "$JS.ACK."


def stored_headers(stream: str, message_id: str) -> dict[str, str]:
    """Headers of everything the bus puts into a JetStream stream.

    `Nats-Expected-Stream` makes every other stream refuse the message, so a stored message cannot be made to travel
    from one into another (see `bus.permissions`).
    """
    return {MSG_ID: message_id, EXPECTED_STREAM: stream}


def is_ours(headers: dict[str, str], stream: str) -> bool:
    """Whether the bus published this message; the server's own answers, led astray into a stream, have no headers."""
    return headers.get(EXPECTED_STREAM) == stream and MSG_ID in headers


def is_first(headers: dict[str, str], stream: str) -> bool:
    """Whether the bus published this message, and it is not the second copy of one that was given up: that one is for
    the consumer that gave up, not for those who follow."""
    return is_ours(headers, stream) and REQUEUED not in headers


def line(text: str, limit: int = 4000) -> str:
    """Any text as one header value: printable ASCII, one line, at most `limit` bytes (the end of the text stays, since
    a trace says most there)."""
    text = text[-limit:]
    while len(encoded := json.dumps(text)) > limit:
        text = text[len(text) // 8 + 1 :]
    return encoded


def unline(value: str) -> str:
    """What `line` was given; a value of other origin as it is."""
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def ack_tokens(reply: str) -> tuple[int, int]:
    """Deliveries so far and sequence in the stream, from a delivered message's reply subject.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>`, or with domain and
    account hash before the stream. Raises ValueError for another subject.
    """
    tokens = reply.split(".")
    if not reply.startswith(_ACK_PREFIX) or len(tokens) < 9:
        raise ValueError(f"not a JetStream delivery: {reply!r}")
    first = 4 if len(tokens) == 9 else 6
    return int(tokens[first]), int(tokens[first + 1])


@dataclass(slots=True, eq=False)  # frozen it takes three times as long to make one
class Arrival:
    """A message a consumer holds: what came, and the subject on which the server hears what became of it."""

    subject: str
    raw: bytes
    headers: dict[str, str]
    reply: str
    attempt: int
    sequence: int

    @classmethod
    def of(cls, message: Message) -> Arrival | None:
        """The message as delivered by a pull; None for the server's status messages."""
        if not message.reply.startswith(_ACK_PREFIX):
            return None
        attempt, sequence = ack_tokens(message.reply)
        return cls(message.subject, message.data, message.headers, message.reply, attempt, sequence)


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject falls under a NATS pattern (`*` one token, `>` one or more)."""
    return _compiled(pattern).fullmatch(subject) is not None


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    tokens = [{"*": r"[^.]+", ">": r".+"}.get(token, re.escape(token)) for token in pattern.split(".")]
    return re.compile(r"\.".join(tokens))
