"""Clicks in Slack as signed requests: for those whom Slack can reach.

A request counts with Slack's `v0` signature over its very bytes, and a time stamp of the last five minutes.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import structlog
from slack_sdk.signature import Clock, SignatureVerifier
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatops.slack import BadClick, Clicks, Unanswered
from chatops.webhook import TooLarge, body_of

_log = structlog.get_logger("chatops")
LARGEST = 500_000
"""Bytes of a body; Slack sends the message with each click."""


class SlackActions:
    """The endpoint `/slack`."""

    def __init__(self, secret: str, clicks: Clicks, clock: Clock | None = None) -> None:
        """Raises ValueError for an empty secret: it would let anybody in."""
        if not secret.strip():
            raise ValueError("slack_signing_secret is empty")
        self._verifier = SignatureVerifier(secret, clock or Clock())
        self._clicks = clicks
        self.route = Route("/slack", self.receive, methods=["POST"])

    async def receive(self, request: Request) -> Response:
        """One click. It is answered when the conductor has decided; what was refused is told to who clicked."""
        try:
            body = await body_of(request, LARGEST)
        except (TooLarge, ValueError):
            return Response(status_code=413)
        if not self._signed(request, body):
            _log.warning("slack_refused", reason="the signature is missing, wrong or too old")
            return Response(status_code=401)
        try:
            click = self._clicks.read(payload_in(body))
        except BadClick as problem:
            _log.warning("slack_refused", reason=str(problem))
            return Response(status_code=400)
        try:
            refused = await self._clicks.carry_out(click)
        except Unanswered as problem:
            refused = str(problem)
        if refused is not None:
            await self._clicks.tell(click, refused)
        return Response(status_code=200)

    def _signed(self, request: Request, body: bytes) -> bool:
        stamps = request.headers.getlist("x-slack-request-timestamp")
        signatures = request.headers.getlist("x-slack-signature")
        if len(stamps) != 1 or len(signatures) != 1 or not stamps[0].isdecimal() or not stamps[0].isascii():
            return False
        try:
            return self._verifier.is_valid(body, stamps[0], signatures[0])
        except (ValueError, TypeError):  # bytes that are no text, a signature that is none
            return False


def payload_in(body: bytes) -> Any:
    """What a signed form holds. Raises BadClick."""
    try:
        (text,) = parse_qs(body.decode(), strict_parsing=True, max_num_fields=5)["payload"]
        return json.loads(text)
    except (ValueError, KeyError, RecursionError) as problem:
        raise BadClick(f"it is not what Slack sends ({type(problem).__name__})") from problem
