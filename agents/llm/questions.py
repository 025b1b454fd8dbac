"""What an agent asks the gateway and hears from it: small messages; what is long travels as a blob by its digest."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field

from schemas.model_calls import Finish, Message, Prompt, TokenUsage
from schemas.values import FailureClass, PhaseName, Sha256, Value


class Question(Value):
    """`prompt` is the blob with the conversation and its tools; `number` counts the attempt's replies from 1. Which
    session and which agent asks is in the subject, for which the server vouches."""

    phase: PhaseName
    attempt: int
    lease: int
    number: Annotated[int, Field(ge=1)]
    prompt: Sha256


class Answer(Value):
    """`reply`: see the blob of that name. `working`: ask the same again. The others are the port's errors."""

    status: Literal["reply", "working", "budget", "unavailable", "refused", "bad_reply"]
    reply: Sha256 | None = None
    usage: TokenUsage | None = None
    usd: float = 0.0
    replayed: bool = False
    failure: FailureClass | None = None
    reason: str = ""


class Recorded(Value):
    """The blob of a reply. `usage` is what the endpoint said, if it did; what counts is in the event."""

    message: Message
    usage: TokenUsage | None
    model: str
    provider: str
    seconds: float
    finish: Finish


def prompt_bytes(prompt: Prompt) -> bytes:
    """The blob of a prompt: the same bytes for the same prompt, so that a repeated question is recognised."""
    return json.dumps(
        prompt.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
