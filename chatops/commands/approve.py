"""`/approve`: yes to a gate, or one's own yes taken back."""

from __future__ import annotations

from chatops.command import SHA, Asked, NotUnderstood, SlashCommand, gate_for, leading_gate, usage
from chatops.wording import quoted
from schemas.commands import CancelApproval, DecideGate
from schemas.messages import Command


def _meaning(asked: Asked) -> Command:
    words = asked.words.split()
    if words and words[0].lower() == "cancel":
        return _cancel(asked, words[1:])
    named, rest = leading_gate(" ".join(words))
    if rest and not SHA.fullmatch(rest):
        raise NotUnderstood(f"{quoted(rest[:40])} is neither a gate nor a commit: {usage('approve')}")
    gate = gate_for(asked, named)
    return DecideGate(gate=gate.id, decision="approve", commit=rest.lower())


def _cancel(asked: Asked, words: list[str]) -> Command:
    named, rest = leading_gate(" ".join(words))
    if rest:
        raise NotUnderstood(f"{quoted(rest[:40])} is no gate: {usage('approve')}")
    return CancelApproval(gate=gate_for(asked, named).id)


COMMAND = SlashCommand(
    name="approve",
    usage=("/approve [gate] [sha]", "/approve cancel [gate]"),
    help="Approves the gate that is open; name it when several are, and the commit you looked at, if you like. "
    "`cancel` takes your own approval back while the gate is open.",
    meaning=_meaning,
)
