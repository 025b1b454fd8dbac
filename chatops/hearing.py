"""From a comment to the conductor's command and the answer, however often and on whichever way it arrives.

The ids of what is sent follow from the comment's number: heard again, after a crash or by the other way, the conductor
gives the verdict it gave before and nothing is done twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio.to_thread
import structlog

from bus.port import Bus
from chatops import judging
from chatops.board import Board
from chatops.command import Text
from chatops.grammar import Said
from chatops.judging import Passed, Refused, Speaking
from forge.conversation import Remark, Standing
from schemas.commands import RequestAnswer
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import SAID
from schemas.messages import Command
from schemas.values import Actor, Reaction, Sender

_log = structlog.get_logger("chatops")
BOT = Actor(name="chatops", channel="bus", verified_as=f"login:{Sender.CHATOPS.value}")
SEND_SECONDS = 30.0
LONGEST_ANSWER = 6_000


class Conversation(Protocol):
    """What is read from GitHub. Blocking: called in threads. Raises ForgeError."""

    def since(self, moment: datetime) -> list[Remark]:
        """Comments written or edited since then, oldest first."""

    def one(self, number: int) -> Remark | None:
        """One comment as it is now; None when it is gone."""

    def standing(self, login: str) -> Standing:
        """Who has the login now, and what they may do."""

    def me(self) -> int:
        """Our own account's number."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one command of a comment; `reason` is empty for what was done. `command` is "" when it was not
    about one command."""

    command: str
    done: bool
    reason: str = ""
    text: str = ""


class Ear:
    """Hears comments of one repository."""

    def __init__(
        self,
        bus: Bus,
        tenant: str,
        repository: str,
        board: Board,
        talk: Conversation,
        caught_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`caught_up` is awaited before a comment is judged: the board must hold what was recorded until then."""
        self._bus = bus
        self._tenant = tenant
        self._repository = repository
        self._board = board
        self._talk = talk
        self._caught_up = caught_up
        self._ours: int | None = None

    @property
    def origin(self) -> str:
        """The backlog whose tickets are spoken of."""
        return f"github:{self._repository}"

    async def hear(self, remark: Remark) -> tuple[Result, ...]:
        """Carry out what a comment asks for and have it answered; what came of each command.

        Raises ForgeError, BusError: then it is to be heard again.
        """
        if self._ours is None:
            self._ours = await anyio.to_thread.run_sync(self._talk.me)
        await self._caught_up()
        found = judging.first(remark, self._board, self.origin, self._ours)
        if isinstance(found, Passed):
            _log.debug("comment_passed_over", comment=remark.id, reason=found.reason)
            return (Result("", False, found.reason),)
        if isinstance(found, Speaking) and remark.author is not None:
            standing = await anyio.to_thread.run_sync(self._talk.standing, remark.author.login)
            if (refused := judging.second(remark, standing)) is not None:
                found = refused
        if isinstance(found, Refused):
            _log.info("comment_refused", comment=remark.id, reason=found.reason)
            await self._answer(remark, (Result("", False, found.reason),), once=found.once)
            return (Result("", False, found.reason),)
        results = []
        for said in found.heard.said:
            results.append(await self._said(said, found, remark))
        if left_out := judging.too_many(found.heard):
            results.append(Result("", False, left_out))
        await self._answer(remark, tuple(results))
        return tuple(results)

    async def _said(self, said: Said, speaking: Speaking, remark: Remark) -> Result:
        meant = judging.meaning(said, speaking.session, remark)
        if isinstance(meant, Refused):
            return Result(said.name, False, meant.reason)
        if isinstance(meant, Text):
            return Result(said.name, True, text=meant.text)
        actor = Actor(name=speaking.name, channel="github", verified_as=f"github:{speaking.account}")
        verdict = await self._send(f"{remark.id}.{said.number}", "session", speaking.session.id, actor, meant)
        _log.info("command_said", comment=remark.id, command=said.name, accepted=verdict["accepted"])
        return Result(said.name, bool(verdict["accepted"]), str(verdict.get("reason", "")))

    async def _answer(self, remark: Remark, results: tuple[Result, ...], once: bool = False) -> None:
        """A stranger's comments on one ticket are answered once: nobody makes us talk by writing more of them."""
        refused = [result for result in results if not result.done]
        lines = [f"`/{r.command}`: {r.reason}" if r.command else r.reason for r in refused]
        lines += [result.text for result in results if result.text]
        reaction: Reaction = "-1" if refused else "eyes" if lines else "+1"
        author = remark.author.id if remark.author else 0
        place = hashlib.sha256(self._repository.casefold().encode()).hexdigest()[:8]
        name = f"stranger-{place}-{remark.issue}-{author}" if once else f"comment-{remark.id}"
        answer = RequestAnswer(
            repository=self._repository,
            issue=remark.issue,
            comment=remark.id,
            reaction=reaction,
            text="\n\n".join(lines)[:LONGEST_ANSWER],
        )
        await self._send(f"{name}.answer", "system", f"answer-{name}", BOT, answer)

    async def _send(self, name: str, kind: Any, stream: str, actor: Actor, command: Command) -> dict[str, Any]:
        envelope = CommandEnvelope(
            id=f"{SAID}github.{name}",
            stream=StreamId(self._tenant, kind, stream),
            time=datetime.now(UTC),
            actor=actor,
            sender=Sender.CHATOPS.value,
            correlation_id=stream,
            causation_id="",
            command=command,
        )
        return await self._bus.send(envelope, timeout=SEND_SECONDS)
