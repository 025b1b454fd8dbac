"""Answers to people's comments, given by the process of the effect executor, which alone may write to GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from autopilot.answers import Answering
from bus.nats_bus import connect
from bus.streams import ANSWERS
from cli.joining import Server
from schemas.values import Sender

if TYPE_CHECKING:
    from forge.client import GitHub


@asynccontextmanager
async def answering(server: Server, writing: Callable[[str], GitHub]) -> AsyncIterator[None]:
    """Give answers while the context is open; `writing` gives the connection that writes to a repository. Raises
    BusError."""
    async with await connect(server.login(Sender.AUTOPILOT.value), name="answers") as bus:
        answers = Answering(bus, writing)
        try:
            async with bus.consume(ANSWERS, answers.handle):
                yield
        finally:
            answers.close()
