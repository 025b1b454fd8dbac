"""Events of the system itself: what became of each message that was given up, and of each answer to a person's comment.

One stream a dead letter, one an answer.
"""

from __future__ import annotations

from pydantic import AwareDatetime

from schemas.messages import Event
from schemas.values import Reaction, Sha256


class DeadLetterRecorded(Event, stream="system"):
    """A message was given up; its bytes are kept under their digest."""

    consumer: str
    source: str
    subject: str
    sequence: int
    deliveries: int
    reason: str
    trace: str
    given_up: AwareDatetime
    sha256: Sha256
    size: int


class DeadLetterReleased(Event, stream="system"):
    """A person decided that the message goes back on its subject, as `message_id`."""

    message_id: str
    reason: str


class DeadLetterRequeued(Event, stream="system"):
    """The bus holds the message on its subject again."""

    message_id: str


class DeadLetterReturned(Event, stream="system"):
    """The message could not be put back on its subject; it waits for a person again."""

    message_id: str
    reason: str


class DeadLetterDiscarded(Event, stream="system"):
    """A person decided that the message is not needed; its bytes stay where they are."""

    reason: str


class AnswerRequested(Event, stream="system"):
    """A person's comment is to be acknowledged, and answered when `text` says anything: the intent."""

    repository: str
    issue: int
    comment: int
    reaction: Reaction
    text: str = ""


class AnswerRecorded(Event, stream="system"):
    """It was done, or could not be: the receipt."""

    reply: int = 0
    problem: str = ""
