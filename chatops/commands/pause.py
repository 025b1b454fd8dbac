"""`/pause`: no more phases for now."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand
from schemas.commands import PauseSession
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    return PauseSession(reason=asked.words)


COMMAND = SlashCommand(
    name="pause",
    usage=("/pause [reason]",),
    help="Starts no more phases; what is at work may report, and gates may be decided.",
    meaning=_meaning,
)
