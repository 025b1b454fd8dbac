"""What the server's answers say: inline statuses, JSON of the JetStream API, and its refusals."""

from __future__ import annotations

import json
from typing import Any

from bus.port import BusError, BusUnavailable
from bus.wire import DESCRIPTION, STATUS, Message


class ApiError(BusError):
    """JetStream refused a request. `code` is like an HTTP status, `err_code` JetStream's own number."""

    def __init__(self, subject: str, error: dict[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        self.err_code = int(error.get("err_code", 0))
        self.description = str(error.get("description", ""))
        super().__init__(f"JetStream refused {subject}: {self.description} ({self.err_code})")


class NoResponders(BusUnavailable):
    """Nobody listens on the subject: the JetStream stream or consumer does not exist (yet)."""


def status(message: Message) -> str:
    """The status of a server's inline message (`408`), or empty for an ordinary one."""
    return message.headers.get(STATUS, "") if not message.data else ""


def description(message: Message) -> str:
    """What the server says to a status."""
    return message.headers.get(DESCRIPTION, "")


def checked(subject: str, message: Message) -> dict[str, Any]:
    """The JSON answer of JetStream. Raises ApiError when it is a refusal."""
    answer: dict[str, Any] = json.loads(message.data)
    if "error" in answer:
        raise ApiError(subject, answer["error"])
    return answer
