"""Commands and events of model calls: asked for before, recorded after, so that none is paid twice."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from schemas.messages import Command, Event
from schemas.model_calls import Finish, TokenUsage
from schemas.model_policy import ModelName, ModelSpend
from schemas.values import MOST, FailureClass, PhaseName, Role, Sender, Sha256

Number = Annotated[int, Field(ge=1, le=MOST)]
Tokens = Annotated[int, Field(ge=0, le=MOST)]
Seconds = Annotated[float, Field(ge=0, le=MOST)]
Usd = Annotated[float, Field(ge=0, le=MOST)]
Counted = Literal["reported", "bound"]
"""How tokens were counted: as the endpoint reported them, or, since it did not, at the call's upper bound."""


class RequestModelCall(Command, stream="session", senders=(Sender.GATEWAY,)):
    """Let a model be asked, in this attempt, by this agent: the gateway wants to know before each call.

    `agent` is whose login spoke to the gateway; `number` counts the attempt's replies from 1; `prompt` is the SHA-256
    of the conversation and its tools, and the blob of that name holds them. `input_tokens` is the most the prompt can
    have. `today` is what all sessions have used of models today, as the gateway knows from the events.
    """

    phase: PhaseName
    attempt: int
    lease: int
    agent: Role
    number: Number
    prompt: Sha256
    model: ModelName
    input_tokens: Tokens
    gateway: str
    today: ModelSpend = ModelSpend()


class RecordModelCall(Command, stream="session", senders=(Sender.GATEWAY,)):
    """A model answered; the blob `reply` holds what. Without `usage` the call counts at its upper bound."""

    call: str
    reply: Sha256
    usage: TokenUsage | None
    seconds: Seconds
    model: str
    provider: str
    finish: Finish


class RecordModelFailure(Command, stream="session", senders=(Sender.GATEWAY,)):
    """A model gave no whole reply. Without `usage` it is not known what was used: it counts at its upper bound."""

    call: str
    failure: FailureClass
    reason: str
    usage: TokenUsage | None
    seconds: Seconds


class ModelCallRequested(Event, stream="session"):
    """A model may be asked: the intent, before the money.

    Tokens, US dollars and seconds are the upper bounds, which count as used until, and unless, the call is recorded.
    """

    call: str
    phase: PhaseName
    attempt: int
    lease: int
    number: Number
    prompt: Sha256
    model: ModelName
    gateway: str
    input_tokens: Tokens
    output_tokens: Tokens
    usd: Usd
    seconds: Seconds
    requested: datetime
    replaces: str = ""
    """The call of the same number that its gateway lost: it counts at its upper bound for good."""


class ModelCalled(Event, stream="session"):
    """A model answered: what it was asked (`prompt`) and what it said (`reply`) are the blobs of those names."""

    call: str
    phase: PhaseName
    attempt: int
    number: Number
    prompt: Sha256
    reply: Sha256
    usage: TokenUsage
    usd: Usd
    seconds: Seconds
    model: str
    provider: str
    finish: Finish
    counted: Counted


class ModelCallFailed(Event, stream="session"):
    """A model gave no whole reply; what was, or may have been, used of it counts all the same."""

    call: str
    phase: PhaseName
    attempt: int
    number: Number
    failure: FailureClass
    reason: str
    usage: TokenUsage
    usd: Usd
    seconds: Seconds
    counted: Counted
