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
class Labeller:
    """Who set a label or changed a text: login, what they may do in the repository (`none`, `read`, `triage`, `write`,
    `maintain`, `admin`), and whether it is ourselves."""

    login: str
    role: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Serving:
    """A branch or an open pull request (with its number and author) that serves a ticket already."""

    branch: str
    pull: int | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One readable ticket. `digest` is the SHA-256 of its text, so it stands for its last edit by a person; `edited` is
    when that was; `source` names where it stands (a file, an issue's address)."""

    ticket: Ticket
    digest: str
    edited: datetime
    source: str
    labellers: Mapping[str, Labeller] | None = None
    """Who set each label Auto-Pilot asks for, by the label in lower case; None where a ticket's author labels it."""
    waits_for: str = ""
    """What outside of this backlog must be done first: `acme/other#12`."""
    claimed: str = ""
    """Our own account, when the ticket is assigned to nobody but it."""
    editors: tuple[Labeller, ...] = ()
    """Who changed the text after the last of those labels was set."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A backlog at one moment. `unreadable` maps what could not be read to the reason. `hint` says how to fill it if
    there is nothing in it. `serving` tells by ticket which branches and open pull requests serve it; `own_pulls` are
    the branches of our own open pull requests."""

    backlog: str
    entries: Mapping[int, Entry] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""
    serving: Mapping[int, tuple[Serving, ...]] = field(default_factory=dict)
    own_pulls: frozenset[str] = frozenset()

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
