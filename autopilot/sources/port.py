"""The backlog port: where tickets come from. Pure types; each source is one file beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from schemas.ticket import Ticket


class BacklogError(Exception):
    """The backlog as a whole cannot be read. The message names it, the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One readable ticket. `digest` is the SHA-256 of its text, so it stands for its last edit by a person; `edited` is
    when that was; `source` names where it stands (a file, an issue's address)."""

    ticket: Ticket
    digest: str
    edited: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A backlog at one moment. `unreadable` maps what could not be read to the reason. `hint` says how to fill it if
    there is nothing in it."""

    backlog: str
    entries: Mapping[int, Entry] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""

    @property
    def tickets(self) -> dict[int, Ticket]:
        """The readable tickets by number."""
        return {number: entry.ticket for number, entry in self.entries.items()}

    @property
    def digests(self) -> dict[int, str]:
        """The digests of their texts."""
        return {number: entry.digest for number, entry in self.entries.items()}


class Backlog(Protocol):
    """A source of tickets. It only reads: what becomes of a ticket is written by the effect executor."""

    @property
    def name(self) -> str:
        """How people name it: `folder:examples/backlog`."""
        ...

    async def snapshot(self) -> Snapshot:
        """What the backlog holds now. Raises BacklogError if it cannot be read at all; single tickets that cannot be
        read never hide the others."""
        ...
