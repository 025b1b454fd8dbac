"""The port to a language model: a conversation and tools in, one reply out.

Planners know nothing else of models: not who serves them, what they cost, or which key they take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.model_calls import Finish, Message, Reply, TokenUsage, ToolCall, ToolSpec
from schemas.values import FailureClass

__all__ = [
    "BadReply",
    "BudgetReached",
    "Finish",
    "Message",
    "Model",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "Reply",
    "TokenUsage",
    "ToolCall",
    "ToolSpec",
]


class ModelError(Exception):
    """No reply. `failure` says what becomes of the attempt, `reason` names what happened and what to do."""

    def __init__(self, failure: FailureClass, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason


class BudgetReached(ModelError):
    """A limit of the policy is reached: terminal, and never tried again. Nothing was asked of the model."""

    def __init__(self, reason: str) -> None:
        super().__init__(FailureClass.LIMIT, reason)


class ModelUnavailable(ModelError):
    """The model, or the gateway to it, gave no whole reply in time, after the retries that the policy allows."""

    def __init__(self, reason: str) -> None:
        super().__init__(FailureClass.TRANSIENT, reason)


class ModelRefused(ModelError):
    """The call may not be made as it is: a model or a price the policy does not have, an attempt that is over, a key
    the endpoint does not take, a request it does not understand. A person has to look."""

    def __init__(self, reason: str, failure: FailureClass = FailureClass.POLICY) -> None:
        super().__init__(failure, reason)


class BadReply(ModelError):
    """The endpoint answered with something that is no reply: no JSON, or not of the published shape."""

    def __init__(self, reason: str) -> None:
        super().__init__(FailureClass.AGENT, reason)


class Model(Protocol):
    """A language model."""

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Reply:
        """The model's next message. Raises BudgetReached, ModelUnavailable, ModelRefused or BadReply; a reply that the
        model itself declined is no error but has `finish` "refused"."""
