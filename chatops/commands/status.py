"""`/status`: where the session stands."""

from __future__ import annotations

from chatops.command import Asked, SlashCommand, Text
from chatops.wording import quoted


def _meaning(asked: Asked) -> Text:
    row = asked.session
    state = f"paused by {row.paused}" if row.paused else row.status
    at = f", at `{row.phase}`" if row.phase and not row.over else ""
    lines = [f"Session `{row.id}` is {state}{at}; branch `{row.branch}` at `{row.commit[:12]}`."]
    if row.reason:
        lines.append(f"Reason: {quoted(row.reason)}")
    for gate in row.open_gates:
        held = ", held" if gate.held else ""
        lines.append(
            f"- Gate `{gate.id}`: {len(gate.by)} of {gate.quorum} approvals{held}, commit `{gate.commit[:12]}`."
        )
    lines.append(" · ".join(f"{name} {row.phases.get(name, 'to come')}" for name in row.pipeline))
    return Text("\n".join(lines))


COMMAND = SlashCommand(
    name="status",
    usage=("/status",),
    help="Says where the session stands and which gates are open.",
    meaning=_meaning,
)
