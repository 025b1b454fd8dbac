"""`/explain`: what a gate waits for, and what an approval of it is bound to."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand, Text, gate_for, leading_gate
from chatops.wording import quoted


def _meaning(asked: Asked) -> Text:
    named, _ = leading_gate(asked.words)
    gate, row = gate_for(asked, named), asked.session
    people = ", ".join(approver.name for approver in row.policy.approvers) or "nobody"
    lines = [
        f"Gate `{gate.id}` is {gate.status}{' and held' if gate.held else ''}: {quoted(gate.reason)}",
        f"- It needs {gate.quorum} of the policy's approvers ({people}, within their phases, paths and risk); so far: "
        f"{', '.join(gate.by) or 'none'}.",
        f"- An approval is bound to commit `{gate.commit}`, policy `{row.policy_version[:12]}` and these artifacts:",
        *(f"  - `{name}` `{digest[:12]}`" for name, digest in list(gate.artifacts.items())[:40]),
        "- When any of them changes, the gate lapses, and a new one asks again.",
    ]
    return Text("\n".join(lines))


COMMAND = SlashCommand(
    name="explain",
    usage=("/explain [gate]",),
    help="Says what the open gate waits for, who may decide it and what an approval is bound to.",
    meaning=_meaning,
)
