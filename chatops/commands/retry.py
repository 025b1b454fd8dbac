"""`/retry`: another try of what is blocked."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand
from schemas.commands import RetryPhase
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    return RetryPhase(reason=asked.words)


COMMAND = SlashCommand(
    name="retry",
    usage=("/retry [reason]",),
    help="Gives a blocked or rolled back session another try.",
    meaning=_meaning,
)
