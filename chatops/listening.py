"""Comments of a repository, one after the other: looked for every few seconds, and at once when a webhook hints.

Polling is what counts: webhooks get lost. A webhook only says which comment to read; what it says of it is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta

import anyio
import anyio.to_thread
import structlog

from bus.port import BusUnavailable, NoReceipt
from chatops.hearing import Conversation, Ear
from chatops.position import Position
from forge.conversation import Remark
from forge.errors import NotAllowed, RateLimited, Unavailable

_log = structlog.get_logger("chatops")
WAITING = 1_000
"""Hints that may wait; more are refused, and polling finds their comments."""
AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Hint:
    """What a webhook says: a comment, and its text when it was written."""

    comment: int
    body: str


class Listener:
    """Hears what people say in one repository."""

    def __init__(self, ear: Ear, talk: Conversation, position: Position, every: float) -> None:
        """`every` is in seconds."""
        self._ear = ear
        self._talk = talk
        self._position = position
        self._every = every
        self._sender, self._hints = anyio.create_memory_object_stream[Hint](WAITING)

    def hint(self, hint: Hint) -> bool:
        """Take a hint; False when too many wait."""
        try:
            self._sender.send_nowait(hint)
        except anyio.WouldBlock:
            return False
        return True

    async def run(self) -> None:
        """Listen for ever. What is away is waited for; credentials that GitHub refuses end it with NotAllowed."""
        due = 0.0
        while True:
            wait = max(0.0, due - anyio.current_time())
            hint: Hint | None = None
            with anyio.move_on_after(wait):
                hint = await self._hints.receive()
            try:
                if hint is not None:
                    await self.take(hint)
                else:
                    due = anyio.current_time() + self._every
                    await self.look()
            except NotAllowed:
                raise
            except RateLimited as problem:
                _log.warning("chatops_waits", reason=str(problem))
                await anyio.sleep(math.ceil(problem.seconds) + 1)
            except (Unavailable, BusUnavailable, NoReceipt) as problem:
                _log.warning("chatops_waits", reason=str(problem))
                due = anyio.current_time() + min(AGAIN_SECONDS, self._every)

    async def look(self) -> None:
        """Hear every comment that was written since the last look. Raises ForgeError, BusError: then nothing after the
        comment that failed was heard, and the next look begins there."""
        for remark in await anyio.to_thread.run_sync(self._talk.since, self._position.since):
            if not self._position.knows(remark.id, remark.updated):
                await self._ear.hear(remark)
            await anyio.to_thread.run_sync(self._note, remark, True)

    async def take(self, hint: Hint) -> None:
        """Read the comment that a webhook speaks of, and hear it. One that says something else by now was edited,
        though perhaps within the second, which its times do not show. Raises ForgeError, BusError."""
        remark = await anyio.to_thread.run_sync(self._talk.one, hint.comment)
        if remark is None or self._position.knows(remark.id, remark.updated):
            return
        judged = remark
        if remark.body != hint.body and not remark.edited:
            judged = replace(remark, updated=remark.created + timedelta(seconds=1))
        await self._ear.hear(judged)
        await anyio.to_thread.run_sync(self._note, remark, False)

    def _note(self, remark: Remark, reached: bool) -> None:
        self._position.note(remark.id, remark.updated, reached=reached)
