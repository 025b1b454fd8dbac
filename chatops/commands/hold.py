"""`/hold`: a gate kept from being decided."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand, gate_for, leading_gate
from schemas.commands import HoldGate
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    named, reason = leading_gate(asked.words)
    return HoldGate(gate=gate_for(asked, named).id, reason=reason)


COMMAND = SlashCommand(
    name="hold",
    usage=("/hold [gate] [reason]",),
    help="Keeps the gate from being decided and from expiring, until it is released.",
    meaning=_meaning,
)
