"""`/reject`: no to a gate."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand, gate_for, leading_gate, needs_reason
from schemas.commands import DecideGate
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    named, rest = leading_gate(asked.words)
    reason = needs_reason(rest, "reject")
    return DecideGate(gate=gate_for(asked, named).id, decision="reject", reason=reason)


COMMAND = SlashCommand(
    name="reject",
    usage=("/reject [gate] reason",),
    help="Rejects the gate that is open; name it when several are. The session blocks until somebody retries it.",
    meaning=_meaning,
)
