"""Whether a comment is heard, and what it asks for. Pure: what GitHub says of its author comes in as a value.

Everything here refuses early and tells people why. What counts is judged once more by the conductor, which trusts
nothing that is decided here but the account's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from chatops.board import Board, Row
from chatops.command import Asked, NotUnderstood, Text, known
from chatops.grammar import LONGEST, MOST, Heard, Said, commands_in
from forge.conversation import Remark, Standing
from schemas.messages import Command

MAY_WRITE = ("write", "maintain", "admin")
"""Roles at GitHub without which nobody is heard, whatever the policy says: who left the team lost them."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A comment that is passed over, and why. Nobody is told: it is no command, or nobody is there to be told."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A comment whose commands are refused as a whole, and why. `once`: tell the author once for this ticket."""

    reason: str
    once: bool = False


@dataclass(frozen=True, slots=True)
class Speaking:
    """A comment that is heard: its commands, the session, the account it came from, and whose that is by the policy."""

    heard: Heard
    session: Row
    account: int
    name: str


def first(remark: Remark, board: Board, origin: str, ours: int) -> Passed | Refused | Speaking:
    """All that can be said without asking GitHub. `ours` is our own account's number."""
    heard = commands_in(remark.body, frozenset(known()))
    if len(remark.body) > LONGEST:
        return Passed(f"it has more than {LONGEST} characters")
    if not heard.said:
        return Passed("it holds no command")
    if remark.author is None:
        return Passed("its author's account is gone")
    if remark.author.id == ours:
        return Passed("it is our own")
    if remark.by_program or remark.author.bot:
        return Passed("a program wrote it")
    session = board.of_ticket(origin, remark.issue)
    if session is None:
        return Passed(f"there is no session of ticket {remark.issue}")
    if remark.created < session.started.replace(microsecond=0) - timedelta(seconds=1):
        return Passed(f"it was written before session {session.id} started")
    name = session.policy.owner_of(remark.author.id)
    if name is None:
        return Refused("you are not named in the policy (`.valuetrain/policy.yaml`) that this session runs under", True)
    if remark.edited:
        return Refused("an edited comment does not count: write a new one")
    return Speaking(heard, session, remark.author.id, name)


def second(remark: Remark, standing: Standing) -> Refused | None:
    """What GitHub says of the author's login now. A login may have changed hands: its number must still be theirs."""
    if remark.author is None or standing.id != remark.author.id:
        return Refused("GitHub does not know you under the login of this comment any more")
    if standing.role not in MAY_WRITE:
        return Refused(f"this needs write access to the repository, and you have {standing.role}")
    return None


def meaning(said: Said, session: Row, remark: Remark) -> Command | Text | Refused:
    """What one command of a comment becomes."""
    try:
        return known()[said.name].meaning(Asked(said.words, session, remark.created))
    except NotUnderstood as problem:
        return Refused(str(problem))


def too_many(heard: Heard) -> str:
    """What to say of the commands that were left out, or ""."""
    return f"{heard.more} more were left out: a comment has at most {MOST} commands" if heard.more else ""
