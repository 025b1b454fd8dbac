"""A model that answers from a script: for the order of things, never for how well anything is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agents.llm.port import Message, ModelError, Reply, TokenUsage, ToolCall, ToolSpec


@dataclass(frozen=True)
class Asked:
    """One call the script answered."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]


class ScriptedModel:
    """Gives `replies` in order (an error is raised). AssertionError once they run out."""

    def __init__(self, replies: Iterable[Reply | ModelError]) -> None:
        self._replies = list(replies)
        self.asked: list[Asked] = []

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Reply:
        """The next one of the script."""
        if len(self.asked) == len(self._replies):
            raise AssertionError(f"the script has {len(self._replies)} replies and was asked for one more: {messages}")
        reply = self._replies[len(self.asked)]
        self.asked.append(Asked(tuple(messages), tuple(tools)))
        if isinstance(reply, ModelError):
            raise reply
        return reply

    def assert_used_up(self) -> None:
        """AssertionError if a reply of the script was never asked for."""
        left = self._replies[len(self.asked) :]
        assert not left, f"{len(left)} of {len(self._replies)} replies of the script were never asked for: {left}"


def says(text: str, *calls: ToolCall, tokens: tuple[int, int] = (10, 5)) -> Reply:
    """A reply of the scripted model: `text`, and the tools it wants to be run."""
    return Reply(
        message=Message(role="assistant", content=text, tool_calls=calls),
        usage=TokenUsage(input=tokens[0], output=tokens[1]),
        usd=0.0,
        model="scripted",
        provider="scripted",
        seconds=0.0,
        finish="tool_calls" if calls else "stop",
    )
