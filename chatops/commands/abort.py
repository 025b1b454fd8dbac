"""`/abort`: the end of a session."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand, needs_reason
from schemas.commands import AbortSession
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    return AbortSession(reason=needs_reason(asked.words, "abort"))


COMMAND = SlashCommand(
    name="abort",
    usage=("/abort reason",),
    help="Ends the session for good; its branch stays as it is.",
    meaning=_meaning,
)
