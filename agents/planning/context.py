"""What a model is sent of a long conversation. Pure.

The rule: the first two messages (what it is, what it shall do) and the last KEEP rounds go as they are. If all together
is over the limit, observations of tools are replaced by a line with their size and digest, oldest first, until it is
not; then the texts of tool calls (file contents) are, in the same order. A round (a reply and the observations it
asked for) is never torn apart, since providers refuse calls without answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from schemas.model_calls import Message, ToolCall

MOST = 240_000
"""Characters of a conversation that are sent, about 60,000 tokens."""
KEEP = 6
"""Newest rounds that are never shortened."""
SMALL = 400
"""What is shorter is left as it is: a line about it would save nothing."""


def size(messages: Sequence[Message]) -> int:
    """Characters of all texts and arguments."""
    return sum(len(m.content) + sum(len(call.arguments) for call in m.tool_calls) for m in messages)


def fitted(messages: Sequence[Message], most: int = MOST, keep: int = KEEP) -> tuple[Message, ...] | None:
    """The messages to send, or None when even the shortened ones are over `most` characters."""
    sent = list(messages)
    over = size(sent) - most
    if over <= 0:
        return tuple(sent)
    asked = [at for at, message in enumerate(sent) if message.role == "assistant"]
    recent = asked[-keep] if len(asked) >= keep else 2
    for shorten in (_observation, _arguments):
        for at in range(2, recent):
            if over <= 0:
                return tuple(sent)
            shorter = shorten(sent[at])
            over -= size([sent[at]]) - size([shorter])
            sent[at] = shorter
    return tuple(sent) if over <= 0 else None


def _observation(message: Message) -> Message:
    if message.role != "tool" or len(message.content) <= SMALL:
        return message
    return message.model_copy(update={"content": _line("this observation", message.content)})


def _arguments(message: Message) -> Message:
    if sum(len(call.arguments) for call in message.tool_calls) <= SMALL:
        return message
    calls = tuple(_without_text(call) for call in message.tool_calls)
    return message.model_copy(update={"tool_calls": calls})


def _without_text(call: ToolCall) -> ToolCall:
    """Still a JSON object, since some providers parse it."""
    if len(call.arguments) <= SMALL:
        return call
    return call.model_copy(update={"arguments": json.dumps({"left_out": _line("these arguments", call.arguments)})})


def _line(what: str, text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"[{what}: {len(text):,} characters, SHA-256 {digest}, left out to make room]"
