"""Cassettes are strict, say where they come from, and are told apart by what a request means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agents.llm.providers.openai_compatible import OpenAICompatible
from agents.llm.providers.port import ProviderError
from schemas.model_calls import Message, Prompt, ToolSpec
from tests.openai_server.cassette import FOLDER, Cassette, Player, normalised
from tests.openai_server.server import KEY, OpenAIServer

PATH = FOLDER / "look-and-answer.json"
TOOL = ToolSpec(
    name="list_files",
    description="List files.",
    parameters={"type": "object", "properties": {"path": {"type": "string"}}},
)
QUESTION = Message(role="user", content="How many files are there?")


async def test_a_conversation_is_played_back() -> None:
    player = Player(PATH)
    with OpenAIServer(player) as server:
        provider = OpenAICompatible(server.url, KEY)
        first = await provider.complete(Prompt(messages=(QUESTION,), tools=(TOOL,)), "a-model", 100)
        (call,) = first.message.tool_calls
        answer = Message(role="tool", content="a.txt\nb.txt", tool_call_id=call.id)
        prompt = Prompt(messages=(QUESTION, first.message, answer), tools=(TOOL,))
        second = await provider.complete(prompt, "a-model", 100)
        await provider.close()
        server.assert_used_up()
    assert (call.id, second.message.content) == ("toolu_82x", "Two.")
    player.assert_used_up()


async def test_a_miss_and_what_is_left_over_fail() -> None:
    player = Player(PATH)
    with OpenAIServer(player) as server:
        provider = OpenAICompatible(server.url, KEY)
        with pytest.raises(ProviderError, match="has no"):
            await provider.complete(Prompt(messages=(QUESTION,)), "a-model", 100)
        await provider.close()
        with pytest.raises(AssertionError, match="has no"):
            server.assert_used_up()
    with pytest.raises(AssertionError, match=r"2 interactions of .* were never asked for"):
        player.assert_used_up()


def body(call: str, arguments: str, **more: Any) -> dict[str, Any]:
    made = {"id": call, "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": call, "content": "x"},
    ]
    return {"model": "m", "messages": messages, "stream": True, **more}


def test_what_does_not_change_a_request_does_not_count() -> None:
    one = normalised(body("call_8", '{"a": 1, "b": 2}', stream_options={"include_usage": True}))
    assert one == normalised(body("toolu", '{"b":2,"a":1}'))
    assert one != normalised(body("toolu", '{"b":2,"a":2}'))
    assert one != normalised(body("toolu", '{"b":2,"a":1}', max_tokens=5))
    assert normalised(body("x", "no json")) != one


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_cassette_says_where_it_comes_from(path: Path) -> None:
    cassette = Cassette.model_validate_json(path.read_text("utf-8"))
    assert cassette.interactions
    assert KEY not in path.read_text("utf-8")


@pytest.mark.parametrize("origin", [{}, {"kind": "recorded", "model": "m"}, {"kind": "real"}])
def test_a_cassette_without_an_origin_is_none(origin: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Cassette.model_validate_json(json.dumps({"origin": origin, "interactions": []}))
