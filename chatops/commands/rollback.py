"""`/rollback`: back to the start of a phase."""

from __future__ import annotations

from chatops.command import Asked, NotUnderstood, SlashCommand, usage
from schemas.commands import RollbackSession
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    phase, _, reason = asked.words.partition(" ")
    if phase not in asked.session.pipeline:
        started = ", ".join(f"`{name}`" for name in asked.session.phases) or "none"
        raise NotUnderstood(f"name a phase that has started ({started}): {usage('rollback')}")
    return RollbackSession(phase=phase, reason=reason.strip(" \t"))


COMMAND = SlashCommand(
    name="rollback",
    usage=("/rollback phase [reason]",),
    help="Takes the session and its branch back to the moment before the phase first started. Nothing is deleted from "
    "the record.",
    meaning=_meaning,
)
