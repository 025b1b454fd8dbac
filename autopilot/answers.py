"""Answers to people's comments, carried out by the effect executor: a reaction, and once a text.

Intent event → reaction (idempotent at GitHub) → look for our marker → answer → receipt command.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog

from bus.port import Ack, Bus, BusUnavailable, Delivery, GiveUp, NoReceipt, Outcome, Retry
from forge.errors import Ambiguous, ForgeError, RateLimited, Unavailable
from schemas.commands import RecordAnswer
from schemas.envelope import CommandEnvelope, UnreadableMessage, decode_event
from schemas.system import AnswerRequested
from schemas.values import Actor, Sender

if TYPE_CHECKING:
    from forge.client import GitHub

_log = structlog.get_logger("effects")
ACTOR = Actor(name="autopilot", channel="bus", verified_as=f"login:{Sender.AUTOPILOT.value}")
AGAIN_SECONDS = 2.0


class Answering:
    """Gives the answers that chat-ops asks for, one at a time."""

    def __init__(self, bus: Bus, connect: Callable[[str], GitHub]) -> None:
        """`connect` gives the connection that writes to a repository `OWNER/REPO`; it raises ForgeError."""
        self._bus = bus
        self._connect = connect
        self._connected: dict[str, GitHub] = {}

    async def handle(self, delivery: Delivery) -> Outcome:
        """One AnswerRequested. Acknowledged only after the conductor's receipt."""
        try:
            envelope = decode_event(delivery.raw)
        except UnreadableMessage as problem:
            return GiveUp(str(problem))
        request = envelope.event
        if not isinstance(request, AnswerRequested):
            return GiveUp(f"{envelope.type} is no answer")
        try:
            command = RecordAnswer(reply=await anyio.to_thread.run_sync(self._answer, request))
        except RateLimited as problem:
            return Retry(problem.seconds + 1.0, str(problem))
        except (Unavailable, Ambiguous) as problem:
            return Retry(AGAIN_SECONDS, str(problem))
        except ForgeError as problem:  # the comment is gone, or we may not write there: no waiting helps
            _log.warning("answer_failed", comment=request.comment, reason=str(problem))
            command = RecordAnswer(problem=str(problem))
        receipt = CommandEnvelope(
            id=f"answered.{envelope.stream.name}",
            stream=envelope.stream,
            time=datetime.now(UTC),
            actor=ACTOR,
            sender=Sender.AUTOPILOT.value,
            correlation_id=envelope.correlation_id,
            causation_id=envelope.id,
            command=command,
        )
        try:
            await self._bus.send(receipt)
        except (NoReceipt, BusUnavailable) as problem:
            return Retry(1.0, str(problem))
        return Ack()

    def _answer(self, request: AnswerRequested) -> int:
        from forge import conversation  # PyGithub takes long to import, and most drives never need it

        github = self._connected.get(request.repository)
        if github is None:
            github = self._connected.setdefault(request.repository, self._connect(request.repository))
        conversation.react(github, request.comment, request.reaction)
        if not request.text:
            return 0
        return conversation.answer(github, request.issue, request.comment, request.text)

    def close(self) -> None:
        """End the connections."""
        for github in self._connected.values():
            github.close()
