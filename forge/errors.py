"""What can go wrong at the forge. No text here ever holds a token."""

from __future__ import annotations

from datetime import UTC, datetime


class ForgeError(Exception):
    """The forge did not do or tell what was asked. The message says what, why and what to do."""


class NotAllowed(ForgeError):
    """The credentials are wrong or may not do this (401, 403)."""


class NotFound(ForgeError):
    """There is no such thing, or these credentials may not see it (404, 410)."""


class Refused(ForgeError):
    """The forge understood and said no (409, 422 and the like); asking again will not help. `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(ForgeError):
    """Too much was asked; nothing was done. Not before `until` (UTC) may be asked again."""

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until

    @property
    def seconds(self) -> float:
        """From now until then, at least 0."""
        return max(0.0, (self.until - datetime.now(UTC)).total_seconds())


class Unavailable(ForgeError):
    """The forge does not answer, or answers with an error of its own (5xx). Nothing was done."""


class Ambiguous(ForgeError):
    """A write whose answer was lost: it may have been done or not. Look before doing it again."""
