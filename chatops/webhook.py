"""GitHub's webhook: believed only with a signature over its very bytes, and then only as a hint.

Everything that is wrong gets a status and no explanation: who may ask for one has the log.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import OrderedDict
from collections.abc import Callable

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatops.listening import Hint

_log = structlog.get_logger("chatops")
LARGEST = 2_000_000
"""Bytes of a body: a comment has at most 65,536 characters, and what surrounds it is some kilobytes."""
REMEMBERED = 10_000
"""Deliveries of which a second one is known."""
_DELIVERY = re.compile(r"[0-9A-Za-z-]{8,64}")


class TooLarge(Exception):
    """A body that is larger than anything that could be meant."""


async def body_of(request: Request, largest: int) -> bytes:
    """The raw body, of which no more than `largest` bytes are ever held. Raises TooLarge."""
    if int(request.headers.get("content-length", "0") or "0") > largest:
        raise TooLarge
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > largest:
            raise TooLarge
    return bytes(body)


def signed(secret: bytes, body: bytes, signature: str) -> bool:
    """Whether GitHub's `X-Hub-Signature-256` is the one of exactly these bytes; the time taken does not tell how much
    of it is right."""
    right = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(right.encode(), signature.encode("utf-8", "surrogateescape"))


class Webhook:
    """The endpoint `/github`."""

    def __init__(self, secret: str, repository: str, hint: Callable[[Hint], bool]) -> None:
        """Raises ValueError for an empty secret: it would let anybody in."""
        if not secret.strip():
            raise ValueError("github_webhook_secret is empty")
        self._secret = secret.encode()
        self._repository = repository.casefold()
        self._hint = hint
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.route = Route("/github", self.receive, methods=["POST"])

    async def receive(self, request: Request) -> Response:
        """One delivery."""
        status, why = await self._received(request)
        if status >= 400:
            _log.warning("webhook_refused", status=status, reason=why)
        return Response(status_code=status)

    async def _received(self, request: Request) -> tuple[int, str]:
        try:
            body = await body_of(request, LARGEST)
        except TooLarge:
            return 413, "the body is too large"
        except ValueError:
            return 400, "the length of the body is no number"
        signatures = request.headers.getlist("x-hub-signature-256")
        if len(signatures) != 1 or not signed(self._secret, body, signatures[0]):
            return 401, "the signature is missing or wrong"
        delivery = request.headers.get("x-github-delivery", "")
        if not _DELIVERY.fullmatch(delivery):
            return 400, "the delivery has no id"
        if delivery in self._seen:
            return 200, "delivered already"
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "the content type is not application/json"
        try:
            hint = self._meant(request.headers.get("x-github-event", ""), json.loads(body))
        except (ValueError, KeyError, TypeError, RecursionError):
            return 400, "the body is not what GitHub sends"
        if hint is None:
            return 204, ""
        if not self._hint(hint):
            return 503, "too much waits"
        self._seen[delivery] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return 202, ""

    def _meant(self, event: str, payload: dict[str, object]) -> Hint | None:
        """The new comment that a payload tells of; None for anything else. Raises KeyError, TypeError."""
        if event != "issue_comment" or payload["action"] != "created":
            return None
        repository, comment = payload["repository"], payload["comment"]
        if not isinstance(repository, dict) or not isinstance(comment, dict):
            raise TypeError("repository and comment are objects")
        if str(repository["full_name"]).casefold() != self._repository:
            return None
        number, body = comment["id"], comment["body"]
        if type(number) is not int or not isinstance(body, str | None):
            raise TypeError("a comment's id is a number and its body a text")
        return Hint(number, body or "")
