"""Answers to people's comments, given by the process of the effect executor, which alone may write to GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from autopilot.answers import Answering
from bus.nats_bus import connect
from bus.streams import ANSWERS
from cli.errors import CliError
from cli.joining import Server
from cli.settings import Settings
from schemas.values import Sender

if TYPE_CHECKING:
    from forge.client import GitHub


@asynccontextmanager
async def answering(settings: Settings, server: Server) -> AsyncIterator[None]:
    """Give answers while the context is open. Raises BusError."""
    async with await connect(server.login(Sender.AUTOPILOT.value), name="answers") as bus:
        answers = Answering(bus, partial(_writing, settings))
        try:
            async with bus.consume(ANSWERS, answers.handle):
                yield
        finally:
            answers.close()


def _writing(settings: Settings, repository: str) -> GitHub:
    """The connection that writes to a repository. Raises ForgeError without credentials."""
    from cli.forging import github_at
    from forge.errors import ForgeError

    try:
        return github_at(f"github:{repository}", settings, read_only=False)
    except CliError as problem:
        raise ForgeError(str(problem)) from problem
