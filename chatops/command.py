"""What a slash command is, and which there are: every file in `chatops/commands/` is one, found and never listed."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from chatops import commands as _folder
from chatops.board import GateRow, Row
from schemas.messages import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

GATE = re.compile(r"[A-Za-z0-9_-]{1,64}\.[a-z][a-z0-9-]{1,40}\.[0-9]{1,9}(?:\.[0-9]{1,9})?")
"""A gate's id: `s12-abcde.risk-review.1`."""

SHA = re.compile(r"[0-9A-Fa-f]{7,64}")

COARSE = timedelta(seconds=1)
"""A channel's clock may show whole seconds only."""


class NotUnderstood(Exception):
    """Words that do not fit the command, or not this session now; the text says why and what to write."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command as somebody gave it: the words after its name, the session it is about, and when it was written."""

    words: str
    session: Row
    written: datetime


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that needs no command."""

    text: str


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """One command. `meaning` gives the conductor's command, or a text to answer with; it raises NotUnderstood."""

    name: str
    usage: tuple[str, ...]
    help: str
    meaning: Callable[[Asked], Command | Text]


@cache
def known() -> Mapping[str, SlashCommand]:
    """All commands by name. Raises TypeError for a file that declares none, or one under another name."""
    found: dict[str, SlashCommand] = {}
    for module in sorted(pkgutil.iter_modules(_folder.__path__), key=lambda each: each.name):
        command = getattr(importlib.import_module(f"{_folder.__name__}.{module.name}"), "COMMAND", None)
        if not isinstance(command, SlashCommand) or command.name != module.name:
            raise TypeError(f"chatops/commands/{module.name}.py must declare COMMAND, a SlashCommand of its own name")
        found[command.name] = command
    return MappingProxyType(found)


def usage(command: str) -> str:
    """How the command is written, for an answer: `` `/approve [gate] [sha]` or `/approve cancel [gate]` ``."""
    return " or ".join(f"`{line}`" for line in known()[command].usage)


def gate_for(asked: Asked, named: str | None) -> GateRow:
    """The open gate a command means: the one it names, or the only one there is.

    A gate that was opened after the words were written cannot be meant by them. Raises NotUnderstood.
    """
    session, gates = asked.session, asked.session.open_gates
    if named is not None:
        gate = session.gates.get(named)
        if gate is None:
            ids = ", ".join(f"`{each.id}`" for each in gates) or "none"
            raise NotUnderstood(f"ticket {session.ticket.id} has no gate `{named}`; open: {ids}")
        return gate
    if not gates:
        raise NotUnderstood(f"no gate of ticket {session.ticket.id} waits for a person")
    if len(gates) > 1:
        ids = ", ".join(f"`{each.id}`" for each in gates)
        raise NotUnderstood(f"several gates are open, so name one of them: {ids}")
    if gates[0].opened > asked.written + COARSE:
        raise NotUnderstood(
            f"gate `{gates[0].id}` was opened after this was written: look at commit {gates[0].commit[:12]}, then say "
            f"it again"
        )
    return gates[0]


def leading_gate(words: str) -> tuple[str | None, str]:
    """The gate's id at the beginning of the words, if there is one, and the words after it."""
    first, _, rest = words.partition(" ")
    return (first, rest.strip(" \t")) if GATE.fullmatch(first) else (None, words)


def needs_reason(words: str, command: str) -> str:
    """The words, which must be a reason. Raises NotUnderstood."""
    if not words.strip(" \t"):
        raise NotUnderstood(f"a reason is missing: {usage(command)}")
    return words
