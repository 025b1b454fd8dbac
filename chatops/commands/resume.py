"""`/resume`: a paused session goes on."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand
from schemas.commands import ResumeSession
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    return ResumeSession(reason=asked.words)


COMMAND = SlashCommand(
    name="resume",
    usage=("/resume [reason]",),
    help="Lets a paused session go on. One that is blocked is retried with `/retry`.",
    meaning=_meaning,
)
