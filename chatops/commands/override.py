"""`/override`: an admin's yes in place of everybody else's."""

from __future__ import annotations

from chatops.command import Asked, NotUnderstood, SlashCommand, gate_for, leading_gate, needs_reason, usage
from schemas.commands import OverrideGate
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    named, rest = leading_gate(asked.words)
    if named is None:
        raise NotUnderstood(f"an override names its gate: {usage('override')}")
    return OverrideGate(gate=gate_for(asked, named).id, reason=needs_reason(rest, "override"))


COMMAND = SlashCommand(
    name="override",
    usage=("/override gate reason",),
    help="For admins: passes a gate alone, whoever else would have to approve it. It is recorded as an override, with "
    "the reason. Not for who requested the ticket or set its label.",
    meaning=_meaning,
)
