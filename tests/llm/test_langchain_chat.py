"""The provider for chat models of langchain-core, on a model of that kind that streams what it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from agents.llm.providers.langchain_chat import LangchainChat, as_langchain, chat_class
from agents.llm.providers.port import ProviderError
from agents.llm.retrying import ask
from cli.errors import CliError
from cli.gateways import provider_of
from cli.settings import Settings
from schemas.model_calls import Message, Prompt, TokenUsage, ToolCall, ToolSpec

TOOL = ToolSpec(name="read_file", description="Read a file.", parameters={"type": "object", "properties": {}})
CALLED = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="hello"),
    Message(
        role="assistant",
        tool_calls=(
            ToolCall(id="a", name="read_file", arguments='{"path": "x"}'),
            ToolCall(id="b", name="read_file", arguments="{"),
        ),
    ),
    Message(role="tool", content="text", tool_call_id="a"),
    Message(role="tool", content="no JSON", tool_call_id="b"),
)
PROMPT = Prompt(messages=CALLED, tools=(TOOL,))
KEY = "sk-test-0123456789abcdef"  # opens nothing
HERE = f"{__name__}:Streams"


class Status(Exception):
    """As SDKs raise them."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"said with {KEY}")
        self.status_code = status
        self.response = type("Response", (), {"headers": headers})


class Streams(BaseChatModel):
    """Streams `script`, piece by piece; an exception in it is raised."""

    script: ClassVar[list[AIMessageChunk | Exception]] = []
    made: ClassVar[list[dict[str, Any]]] = []
    heard: ClassVar[list[tuple[Sequence[BaseMessage], dict[str, Any]]]] = []

    def __init__(self, **parameters: Any) -> None:
        super().__init__()
        Streams.made.append(parameters)

    @property
    def _llm_type(self) -> str:
        return "streams"

    def bind_tools(self, tools: Sequence[Any], **more: Any) -> Any:
        return self.bind(tools=tools)

    def _generate(self, messages: list[BaseMessage], *rest: Any, **more: Any) -> ChatResult:
        raise AssertionError("the reply is streamed")

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **more: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        Streams.heard.append((messages, more))
        while Streams.script:
            piece = Streams.script.pop(0)
            if isinstance(piece, Exception):
                raise piece
            yield ChatGenerationChunk(message=piece)


@pytest.fixture(autouse=True)
def forget() -> None:
    for kept in (Streams.script, Streams.made, Streams.heard):
        kept.clear()


def provider() -> LangchainChat:
    return LangchainChat(chat_class(HERE), HERE, "http://127.0.0.1:9/v1", KEY)


def piece(text: str = "", at: int = 0, name: str | None = None, args: str | None = None) -> AIMessageChunk:
    calls = [] if args is None else [tool_call_chunk(name=name, args=args, id=name and f"id-{at}", index=at)]
    return AIMessageChunk(content=text, tool_call_chunks=calls)


def end(reason: str, key: str = "finish_reason", **used: Any) -> AIMessageChunk:
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13, **used} if used is not None else None
    return AIMessageChunk(content="", response_metadata={key: reason, "model_name": "real"}, usage_metadata=usage)


async def test_a_streamed_reply_with_calls_is_put_together_as_the_model_wrote_it() -> None:
    Streams.script += [
        piece("I lo"), piece("ok"), piece(at=0, name="read_file", args='{"pa'), piece(at=1, name="other", args="{not"),
        piece(at=0, args='th": "a"}'), end("tool_use", "stop_reason", input_token_details={"cache_read": 5}),
    ]  # fmt: skip
    found = await provider().complete(PROMPT, "large", 77)
    assert found.message.content == "I look"
    assert found.message.tool_calls == (
        ToolCall(id="id-0", name="read_file", arguments='{"path": "a"}'),
        ToolCall(id="id-1", name="other", arguments="{not"),
    )
    assert (found.finish, found.model, found.usage) == ("tool_calls", "real", TokenUsage(input=9, output=4, cached=5))
    (made,) = Streams.made
    assert made == {
        "model": "large", "base_url": "http://127.0.0.1:9/v1", "max_tokens": 77, "timeout": 130.0, "max_retries": 0,
        "api_key": KEY,
    }  # fmt: skip
    ((messages, more),) = Streams.heard
    assert [message.type for message in messages] == ["system", "human", "ai", "tool", "tool"]
    assert [call["args"] for call in messages[2].tool_calls] == [{"path": "x"}, {"unreadable": "{"}]  # type: ignore[attr-defined]
    assert more["tools"][0]["function"]["name"] == "read_file"


async def test_each_model_is_made_once() -> None:
    both = provider()
    for model in ("large", "small", "large"):
        Streams.script.append(end("stop"))
        assert (await both.complete(Prompt(messages=CALLED[:2]), model, 77)).finish == "stop"
    assert [made["model"] for made in Streams.made] == ["large", "small"]


@pytest.mark.parametrize(
    ("script", "kind", "free", "again", "word"),
    [
        ([Status(401)], "refused", True, False, "does not take the key"),
        ([Status(400)], "refused", True, False, "refused the request"),
        ([Status(503)], "unavailable", True, True, "HTTP 503"),
        ([piece("half"), RuntimeError(f"lost {KEY}")], "unavailable", False, False, "lost ***"),
        ([piece("half")], "unavailable", False, False, "broke off"),
        ([], "unavailable", False, False, "broke off|chat model failed"),
        ([end("tired")], "bad_reply", False, False, "tired"),
    ],
)
async def test_what_is_not_known_to_be_free_is_not(
    script: list[Any], kind: str, free: bool, again: bool, word: str
) -> None:
    Streams.script += script
    with pytest.raises(ProviderError, match=word.replace("*", r"\*")) as caught:
        await provider().complete(PROMPT, "large", 77)
    assert (caught.value.kind, caught.value.free, caught.value.again) == (kind, free, again)
    assert KEY not in caught.value.reason


async def test_the_servers_own_hint_is_followed() -> None:
    Streams.script += [Status(429, **{"retry-after-ms": "1"}), piece("now"), end("stop")]
    found = await ask(provider(), PROMPT, "large", 77, 30.0)
    assert (found.message.content, len(Streams.heard)) == ("now", 2)


async def test_nothing_is_traced_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from langsmith.utils import tracing_is_enabled

    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    seen: list[Any] = []
    real = Streams._astream

    async def spy(self: Streams, *args: Any, **more: Any) -> AsyncIterator[ChatGenerationChunk]:
        seen.append(tracing_is_enabled())
        async for each in real(self, *args, **more):
            yield each

    monkeypatch.setattr(Streams, "_astream", spy)
    Streams.script.append(end("stop"))
    await provider().complete(PROMPT, "large", 77)
    assert seen == [False]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("no_such_package:Chat", "install the package"),
        ("json:Chat", "has no Chat"),
        ("json:JSONDecoder", "no chat model"),
    ],
)
def test_a_class_that_is_none_is_said(name: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        chat_class(name)
    settings = Settings(model_base_url="http://127.0.0.1:9/v1", model_name="large", model_class=name)
    with pytest.raises(CliError, match=f"model_class: .*{word}"):
        provider_of(settings, None)


def test_the_settings_choose_the_provider() -> None:
    settings = Settings(model_base_url="http://127.0.0.1:9/v1", model_name="large", model_class=HERE)
    assert provider_of(settings, KEY).name == f"langchain {HERE}"
    plain = settings.model_copy(update={"model_class": None})
    assert provider_of(plain, KEY).name == "openai-compatible"


def test_every_role_has_its_message() -> None:
    assert as_langchain(CALLED[4]).model_dump()["tool_call_id"] == "b"
