"""`/unhold`: a held gate released."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand, gate_for, leading_gate
from schemas.commands import UnholdGate
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    named, reason = leading_gate(asked.words)
    return UnholdGate(gate=gate_for(asked, named).id, reason=reason)


COMMAND = SlashCommand(
    name="unhold",
    usage=("/unhold [gate] [reason]",),
    help="Releases a gate that is held.",
    meaning=_meaning,
)
