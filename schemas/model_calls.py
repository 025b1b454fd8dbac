"""What is said to a language model and what it answers: our own types, since no framework's may be stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.values import MOST, Value

Finish = Literal["stop", "tool_calls", "length", "refused"]
"""Why a reply ended: the model was done, it wants tools to be run, its limit was reached, or it (or its operator's
filter) refused to answer."""


class ToolCall(Value):
    """A tool the model wants to be run. `arguments` is the JSON text as the model wrote it, which may be no JSON."""

    id: str
    name: str
    arguments: str


class Message(Value):
    """One message of a conversation. `tool_calls` is for role `assistant`; a message of role `tool` answers the call
    `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class ToolSpec(Value):
    """A tool as the model is told about it; `parameters` is the JSON Schema of its arguments (an object)."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str
    parameters: dict[str, Any]


class TokenUsage(Value):
    """Tokens of one call: of the prompt, of the reply, and how many of the prompt's came from the provider's cache."""

    input: Annotated[int, Field(ge=0, le=MOST)]
    output: Annotated[int, Field(ge=0, le=MOST)]
    cached: Annotated[int, Field(ge=0, le=MOST)] = 0

    @property
    def total(self) -> int:
        """Tokens of prompt and reply; cached ones are part of the prompt's."""
        return self.input + self.output


class Prompt(Value):
    """What a model is asked: the conversation so far, and the tools it may call."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


class Reply(Value):
    """What a model answered, what that cost in US dollars and how many seconds of wall clock it took.

    `replayed` says that it was taken from the record: nothing was asked of a model or paid this time.
    """

    message: Message
    usage: TokenUsage
    usd: Annotated[float, Field(ge=0, le=MOST)]
    model: str
    provider: str
    seconds: Annotated[float, Field(ge=0, le=MOST)]
    finish: Finish
    replayed: bool = False
