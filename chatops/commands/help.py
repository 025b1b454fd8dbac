"""`/help`: what can be said."""

from __future__ import annotations

from chatops.command import Asked, NotUnderstood, SlashCommand, Text, known


def _meaning(asked: Asked) -> Text:
    wanted = asked.words.lstrip("/").lower()
    if wanted and wanted not in known():
        raise NotUnderstood(f"there is no such command; there are {', '.join(f'`/{name}`' for name in known())}")
    shown = [known()[wanted]] if wanted else list(known().values())
    lines = [f"- {' or '.join(f'`{line}`' for line in each.usage)}: {each.help}" for each in shown]
    return Text("\n".join(lines))


COMMAND = SlashCommand(
    name="help",
    usage=("/help [command]",),
    help="Lists the commands, or says more of one.",
    meaning=_meaning,
)
