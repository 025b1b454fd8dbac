"""The port to an endpoint: one call, one reply or one failure. Prices, limits and the record are not its matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from schemas.model_calls import Finish, Message, Prompt, TokenUsage

MOST_CHARACTERS = 8_000_000
"""A reply longer than this is broken off: no model says so much at once, and it would fill memory and disk."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back, whole. `usage` is None when the endpoint did not say; `model` is how it calls itself."""

    message: Message
    usage: TokenUsage | None
    model: str
    finish: Finish


class ProviderError(Exception):
    """No whole reply.

    `unavailable`: nobody answered, or not to the end. `refused`: the endpoint will not take the request or the key.
    `bad_reply`: what came is no reply. `free`: certainly nothing was used. `again` says that another try may help, in
    `after` seconds at the earliest (None: the endpoint gave no hint); only what was free is ever tried again.
    """

    def __init__(
        self,
        kind: Literal["unavailable", "refused", "bad_reply"],
        reason: str,
        *,
        free: bool,
        again: bool = False,
        after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.free = free
        self.again = again and free
        self.after = after


class Provider(Protocol):
    """An endpoint with a key of its own."""

    name: str
    """How records call it."""

    async def complete(self, prompt: Prompt, model: str, output_tokens: int) -> Completion:
        """Ask once. Raises ProviderError; cancelling it closes the connection."""

    async def close(self) -> None:
        """Close its connections. Idempotent."""
