"""The provider on the real SDK, against a real server on loopback that follows a script."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest

from agents.llm.providers.openai_compatible import OpenAICompatible, retry_after
from agents.llm.providers.port import MOST_CHARACTERS, Completion, ProviderError
from agents.llm.retrying import TRIES, ask
from schemas.model_calls import Message, Prompt, TokenUsage, ToolCall, ToolSpec
from tests.openai_server.server import KEY, OpenAIServer
from tests.openai_server.steps import BreaksOff, Call, Fails, Hangs, Raw, Says, Step

TOOL = ToolSpec(name="read_file", description="Read a file.", parameters={"type": "object", "properties": {}})
PROMPT = Prompt(messages=(Message(role="system", content="Be brief."), Message(role="user", content="hello")))


@asynccontextmanager
async def endpoint(server: OpenAIServer, key: str = KEY) -> AsyncIterator[OpenAICompatible]:
    provider = OpenAICompatible(server.url, key)
    try:
        yield provider
    finally:
        await provider.close()


async def complete(server: OpenAIServer, prompt: Prompt = PROMPT, key: str = KEY) -> Completion:
    async with endpoint(server, key) as provider:
        return await provider.complete(prompt, "a-model", 77)


async def refusal(server: OpenAIServer, key: str = KEY) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await complete(server, key=key)
    assert KEY not in caught.value.reason
    return caught.value


async def test_a_streamed_reply_is_put_together() -> None:
    text = "Grüße aus 東京, in many small pieces"
    with OpenAIServer([Says(text, usage=(120, 9, 100), piece=3, model="served-model")]) as server:
        reply = await complete(server)
        server.assert_used_up()
    assert reply.message == Message(role="assistant", content=text)
    assert (reply.usage, reply.finish) == (TokenUsage(input=120, output=9, cached=100), "stop")
    assert reply.model == "served-model"
    (asked,) = server.asked
    assert asked.body["max_tokens"] == 77
    assert asked.body["model"] == "a-model"
    assert "tools" not in asked.body


async def test_parallel_tool_calls_whose_pieces_take_turns_stay_apart() -> None:
    calls = (Call("read_file", '{"path": "a long path"}', "x"), Call("read_file", '{"path": "b"}', "y"))
    with OpenAIServer([Says("I look.", calls, piece=2)]) as server:
        reply = await complete(server, PROMPT.model_copy(update={"tools": (TOOL,)}))
        server.assert_used_up()
    assert reply.message.tool_calls == tuple(ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in calls)
    assert (reply.message.content, reply.finish) == ("I look.", "tool_calls")
    assert server.asked[0].body["tools"][0]["function"]["name"] == "read_file"


async def test_a_conversation_with_tools_goes_out_in_the_published_shape() -> None:
    call = ToolCall(id="x", name="read_file", arguments="{}")
    prompt = Prompt(
        messages=(
            *PROMPT.messages,
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="no such file", tool_call_id="x"),
        ),
        tools=(TOOL,),
    )
    with OpenAIServer([Says("then not")]) as server:
        await complete(server, prompt)
        server.assert_used_up()
    assert server.asked[0].body["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "x", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "x", "content": "no such file"},
    ]


async def test_what_the_model_writes_wrongly_is_handed_on_as_it_is() -> None:
    with OpenAIServer([Says(calls=(Call("no such tool", '{"path": '),))]) as server:
        reply = await complete(server)
    assert reply.message.tool_calls == (ToolCall(id="call_0", name="no such tool", arguments='{"path": '),)


@pytest.mark.parametrize(
    ("says", "finish", "text"),
    [
        (Says("cut", finish="length"), "length", "cut"),
        (Says("", finish="content_filter"), "refused", ""),
        (Says(refusal="I will not"), "refused", "I will not"),
        (Says(calls=(Call("read_file", "{}"),), finish="stop"), "tool_calls", ""),
    ],
)
async def test_how_a_reply_ended_is_told(says: Says, finish: str, text: str) -> None:
    with OpenAIServer([says]) as server:
        reply = await complete(server)
    assert (reply.finish, reply.message.content) == (finish, text)


async def test_an_endpoint_that_does_not_count_tokens_is_believed_nothing() -> None:
    with OpenAIServer([Says("hello", usage=None)]) as server:
        assert (await complete(server)).usage is None


@pytest.mark.parametrize("step", [BreaksOff(), BreaksOff(rudely=False), BreaksOff(chunks=0, rudely=False)])
async def test_a_reply_that_breaks_off_is_none_and_may_have_cost(step: BreaksOff) -> None:
    with OpenAIServer([step]) as server:
        problem = await refusal(server)
    assert (problem.kind, problem.free, problem.again) == ("unavailable", False, False)
    assert "broke off" in problem.reason


@pytest.mark.parametrize(
    "body",
    [
        b"data: {this is no JSON\n\n",
        b"data: [1, 2, 3]\n\ndata: [DONE]\n\n",
        b'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": 5}, "finish_reason": null}]}\n\n',
        b'data: {"id": "x", "choices": 7}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "because"}]}\n\ndata: [DONE]\n\n',
    ],
    ids=["no JSON", "a list", "content a number", "choices a number", "unknown end"],
)
async def test_what_is_no_reply_is_named_so(body: bytes) -> None:
    with OpenAIServer([Raw(body)]) as server:
        problem = await refusal(server)
    assert (problem.kind, problem.free) == ("bad_reply", False), problem.reason


async def test_an_error_in_the_middle_of_a_stream() -> None:
    with OpenAIServer([Raw(b'data: {"error": {"message": "overloaded"}}\n\n')]) as server:
        problem = await refusal(server)
    assert (problem.kind, problem.free) == ("unavailable", False)
    assert "overloaded" in problem.reason


async def test_a_huge_reply_is_broken_off() -> None:
    with OpenAIServer([Says("x" * (MOST_CHARACTERS + 1), piece=1_000_000)]) as server:
        problem = await refusal(server)
    assert problem.kind == "bad_reply"
    assert "longer than" in problem.reason


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_key_is_said_without_saying_the_key(status: int) -> None:
    with OpenAIServer([Fails(status, message=f"Incorrect API key provided: {KEY}")]) as server:
        problem = await refusal(server)
    assert (problem.kind, problem.free, problem.again) == ("refused", True, False)
    assert "VALUETRAIN_MODEL_KEY" in problem.reason


async def test_an_endpoint_that_quotes_the_key_is_not_quoted() -> None:
    with OpenAIServer([Fails(400, message=f"bad request with {KEY}")]) as server:
        assert "bad request with ***" in (await refusal(server)).reason


async def test_quota_that_is_used_up_is_not_tried_again() -> None:
    with OpenAIServer([Fails(429, code="insufficient_quota")]) as server:
        problem = await refusal(server)
    assert (problem.kind, problem.again) == ("refused", False)


async def test_nobody_at_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    provider = OpenAICompatible(f"http://127.0.0.1:{port}/v1", KEY)
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        await provider.complete(PROMPT, "m", 5)
    await provider.close()
    assert (caught.value.free, caught.value.again) == (True, True)


async def test_the_servers_own_hint_is_followed() -> None:
    steps: list[Step] = [Fails(429, {"retry-after-ms": "20"}), Fails(503, {"retry-after": "0"}), Says("at last")]
    with OpenAIServer(steps) as server:
        async with endpoint(server) as provider:
            reply = await ask(provider, PROMPT, "m", 5, 30.0)
        server.assert_used_up()
    assert reply.message.content == "at last"


async def test_a_hint_beyond_the_calls_time_ends_it_at_once() -> None:
    with OpenAIServer([Fails(429, {"retry-after": "3600"})]) as server:
        async with endpoint(server) as provider:
            with pytest.raises(ProviderError, match="asked again in 3600 s, and this call has") as caught:
                await ask(provider, PROMPT, "m", 5, 30.0)
        server.assert_used_up()
    assert caught.value.free


async def test_tries_have_an_end() -> None:
    with OpenAIServer([Fails(500, {"retry-after": "0"})] * TRIES) as server:
        async with endpoint(server) as provider:
            with pytest.raises(ProviderError, match=f"tried {TRIES} times"):
                await ask(provider, PROMPT, "m", 5, 30.0)
        server.assert_used_up()


@pytest.mark.parametrize("step", [Fails(400), Fails(404), BreaksOff(), Raw(b"data: {\n\n")])
async def test_what_may_have_cost_or_cannot_change_is_not_tried_again(step: Fails | BreaksOff | Raw) -> None:
    with OpenAIServer([step]) as server:
        async with endpoint(server) as provider:
            with pytest.raises(ProviderError):
                await ask(provider, PROMPT, "m", 5, 30.0)
        server.assert_used_up()


@pytest.mark.parametrize("chunks", [0, 2])
async def test_an_endpoint_that_hangs_is_left_when_the_time_is_over(chunks: int) -> None:
    with OpenAIServer([Hangs(chunks=chunks)]) as server:
        async with endpoint(server) as provider:
            with anyio.fail_after(20.0), pytest.raises(ProviderError, match=r"no whole reply within 0\.3 s") as caught:
                await ask(provider, PROMPT, "m", 5, 0.3)
    assert not caught.value.free


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "10", "retry-after": "7"}, 0.01),
        ({"retry-after": "Sat, 21 Nov 2026 09:01:30 GMT"}, 90.0),
        ({"retry-after": "Sat, 21 Nov 2026 08:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_hints(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 11, 21, 9, tzinfo=UTC)) == seconds


async def test_the_local_server_refuses_what_is_not_published() -> None:
    with OpenAIServer([]) as server:
        async with endpoint(server) as provider:
            with pytest.raises(ProviderError, match="without an answer"):
                unanswered = Message(role="assistant", tool_calls=(ToolCall(id="x", name="f", arguments="{}"),))
                await provider.complete(Prompt(messages=(*PROMPT.messages, unanswered)), "m", 5)
            with pytest.raises(ProviderError, match="one more"):
                await provider.complete(PROMPT, "m", 5)
        assert len(server.problems) == 2
        with pytest.raises(AssertionError):
            server.assert_used_up()
    assert json.dumps(server.asked) == "[]"
