"""What an answer of GitHub means: a page with its successor, or one of our errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from forge.errors import ForgeError, NotAllowed, NotFound, RateLimited, Refused

_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next"?')
_MINUTE = timedelta(minutes=1)
"""What GitHub asks for when a limit comes without a time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, the address of the page after it, and whether it differs from what the same request gave before."""

    body: Any
    next: str | None = None
    changed: bool = True


def next_page(headers: Mapping[str, Any]) -> str | None:
    """The address of the next page, from the `Link` header."""
    found = _NEXT.search(str(headers.get("link", "")))
    return found[1] if found else None


def reject(status: int, headers: Mapping[str, Any], text: str, what: str, where: str) -> None:
    """Raises the error that an answer of 300 and above stands for. `text` is its body, already without secrets."""
    if 200 <= status < 300:
        return
    message = _message(text)
    if status in (403, 429) and (until := _limit(status, headers, message)) is not None:
        when = until.strftime("%H:%M:%S UTC")
        raise RateLimited(f"the rate limit of {where} is reached until {when}: {message}", until)
    told = f"{what} at {where} was answered {status}: {message}"
    if status == 401:
        raise NotAllowed(f"{told}; is the token valid and not expired?")
    if status == 403:
        raise NotAllowed(f"{told}; the token or App lacks this permission")
    if status in (404, 410):
        raise NotFound(f"{told}; there is no such thing, or the token or App may not see it")
    if 400 <= status < 500:
        raise Refused(told, status)
    raise ForgeError(told)


def _message(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        return "(no JSON)"
    if not isinstance(body, dict):
        return "(no message)"
    told = str(body.get("message", "(no message)"))
    errors = body.get("errors")
    if isinstance(errors, list) and errors:
        told += ": " + "; ".join(_error(each) for each in errors[:3])
    return told[:400]


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or " ".join(str(error[key]) for key in ("field", "code") if key in error))


def _limit(status: int, headers: Mapping[str, Any], message: str) -> datetime | None:
    """Until when nothing may be asked, if this is a rate limit: the server's own time, else a minute."""
    now = datetime.now(UTC)
    wait = str(headers.get("retry-after", ""))
    if wait.isdigit():
        return now + timedelta(seconds=int(wait))
    reset = str(headers.get("x-ratelimit-reset", ""))
    if str(headers.get("x-ratelimit-remaining", "")) == "0" and reset.isdigit():
        return datetime.fromtimestamp(int(reset) + 1, UTC)  # when in that second it ends is not told
    if status == 429 or "rate limit" in message.lower() or "abuse" in message.lower():
        return now + _MINUTE
    return None
