"""One conversation with a model about one task: small and linear. Ask, run the tools it calls, tell it, until an end.

It ends by the tool that submits, or at a limit, in a circle, by a refusal, or when nothing it says can be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import anyio.lowlevel

from agents.llm.port import BadReply, BudgetReached, Model, ModelError, ModelRefused
from agents.planning.context import MOST, fitted
from agents.planning.journal import Journal
from agents.planning.prompts import REMINDER
from agents.planning.steps import FAILURES, Exit, Steps, digest
from agents.planning.stuck import Circles
from agents.planning.tools import Observation, Toolbox
from agents.port import AttemptError
from schemas.model_calls import Message, Reply, ToolCall
from schemas.values import FailureClass

CALLS = 8
"""Calls of tools that one reply may ask for; the others are answered with a refusal."""
UNREADABLE = 3
"""Replies or calls in a row that cannot be read."""


class Ended(AttemptError):
    """A conversation that did not submit; `exit_` says how it ended."""

    def __init__(self, exit_: Exit, reason: str, detail: str, failure: FailureClass | None = None) -> None:
        super().__init__(failure or FAILURES[exit_], f"{exit_}: {reason}", detail)
        self.exit_ = exit_


@dataclass(slots=True)
class Conversation:
    """`most` replies at most; `characters` of conversation are sent at most. `tell` is
    the attempt's."""

    model: Model
    toolbox: Toolbox
    journal: Journal
    steps: Steps
    messages: list[Message]
    most: int
    characters: int = MOST
    tell: Callable[[str], None] = lambda line: None
    _circles: Circles = field(default_factory=Circles)
    _unreadable: int = 0

    async def run(self) -> str:
        """Until it submits: the summary. Raises Ended, and AttemptError for an endpoint that is away."""
        while self.steps.replies < self.most:
            await anyio.lowlevel.checkpoint()  # others' turn, and where an attempt whose time is over ends
            reply = await self._ask()
            if reply is None:
                continue
            self.messages.append(reply.message)
            calls = reply.message.tool_calls
            if reply.finish == "refused":
                raise self.ended("refused", f"the model declined: {reply.message.content[:300] or 'it gave no reason'}")
            if not calls:
                self._remind(reply)
            for at, call in enumerate(calls):
                summary = await self._answer(call, too_many=at >= CALLS)
                if summary is not None:
                    return summary
        raise self.ended("limit_reached", f"no submission after {self.most} replies")

    def ended(self, exit_: Exit, reason: str, failure: FailureClass | None = None) -> Ended:
        """The end of it, with its steps as detail."""
        return Ended(exit_, reason, self.steps.detail(exit_, reason), failure)

    async def _ask(self) -> Reply | None:
        """The next reply; None if it could not be read, which the model was told."""
        sent = fitted(self.messages, self.characters)
        if sent is None:
            raise self.ended("limit_reached", f"the conversation has more than {self.characters:,} characters")
        self.steps.replies += 1
        asked = digest(f"{len(sent)}\0{sent[-1].content}")
        if (known := self.journal.next_is("unreadable", asked)) is not None:
            self._unread(known["reason"])
            return None
        try:
            reply = await self.model.reply(sent, self.toolbox.specs)
        except BudgetReached as problem:
            raise self.ended("limit_reached", problem.reason) from problem
        except ModelRefused as problem:
            raise self.ended("refused", problem.reason, problem.failure) from problem
        except BadReply as problem:
            reason = problem.reason[:500]
            self.journal.add("unreadable", asked, {"reason": reason})
            self._unread(reason)
            return None
        except ModelError as problem:
            detail = self.steps.detail("unavailable", problem.reason)
            raise AttemptError(problem.failure, problem.reason, detail) from problem
        self.steps.models.add(f"{reply.provider}/{reply.model}")
        return reply

    def _unread(self, reason: str) -> None:
        self._count_unreadable(reason)
        self.messages.append(Message(role="user", content=f"Your last reply could not be read. {REMINDER}"))

    def _remind(self, reply: Reply) -> None:
        if why := self._circles.talked():
            raise self.ended("stuck", why)
        cut = "Your reply was cut off at its limit. " if reply.finish == "length" else ""
        self.messages.append(Message(role="user", content=cut + REMINDER))

    async def _answer(self, call: ToolCall, *, too_many: bool) -> str | None:
        """Run the call and tell the model; the summary if it submitted."""
        observation = await self._observe(call, too_many=too_many)
        if observation.outcome == "submitted":
            self.steps.add(call, observation)
            self.tell(f"submitted: {observation.text[:200]}")
            return observation.text
        step = self.steps.add(call, observation)
        self.tell(f"{step.number} {step.tool}: {step.outcome}{f' ({step.note[:200]})' if step.note else ''}")
        self.messages.append(Message(role="tool", content=observation.text, tool_call_id=call.id))
        if observation.outcome == "unreadable":
            self._count_unreadable(observation.text)
        else:
            self._unreadable = 0
        name = digest(f"{call.name}\0{call.arguments}")
        if why := self._circles.acted(name, digest(observation.text), error=observation.error):
            raise self.ended("stuck", why)
        return None

    async def _observe(self, call: ToolCall, *, too_many: bool) -> Observation:
        if too_many:
            return Observation("failed", f"at most {CALLS} calls in one reply: call it again")
        asked = digest(f"{call.id}\0{call.name}\0{call.arguments}")
        if (known := self.journal.next_is("observation", asked)) is not None:
            if self.toolbox.again(call):
                await self.toolbox.call(call)
            return Observation(**known)
        observation = await self.toolbox.call(call)
        if observation.outcome != "submitted":  # what a submission made is needed again
            self.journal.add("observation", asked, asdict(observation))
        return observation

    def _count_unreadable(self, why: str) -> None:
        self._unreadable += 1
        if self._unreadable >= UNREADABLE:
            raise self.ended("format_error", f"{UNREADABLE} times in a row: {why[:300]}")
