"""Any chat model of langchain-core: for endpoints that do not speak OpenAI's chat completions. Installed by the user.

Its classes are used here and nowhere else; what is stored are our own types. What is not known of an error is taken for
the worst: it may have cost, and nothing is tried again.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langsmith import tracing_context

from agents.llm.providers.openai_compatible import CONNECT_SECONDS, SILENT_SECONDS, TRY_AGAIN, retry_after, tool_as_sent
from agents.llm.providers.port import MOST_CHARACTERS, Completion, ProviderError
from schemas.model_calls import Finish, Message, Prompt, TokenUsage, ToolCall

FINISH: Mapping[str, Finish] = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
    **dict.fromkeys(("content_filter", "refusal", "safety"), "refused"),
}
"""What endpoints call the end of a reply, in lower case."""
_ENDS = ("finish_reason", "stop_reason", "done_reason")


class ChatClass(Protocol):
    """Makes a chat model from langchain's standard parameters."""

    def __call__(self, **parameters: Any) -> BaseChatModel:
        """A model of that name, at that address."""


def chat_class(name: str) -> ChatClass:
    """The chat model's class that `name` (`langchain_anthropic:ChatAnthropic`) stands for. Raises ValueError saying
    what is wrong with it."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as problem:
        raise ValueError(f"{name} cannot be imported ({problem}): install the package that has it") from problem
    except AttributeError as problem:
        raise ValueError(f"{module} has no {attribute}") from problem
    if not (isinstance(found, type) and issubclass(found, BaseChatModel)):
        raise ValueError(f"{name} is no chat model of langchain-core")
    return cast("ChatClass", found)


class LangchainChat:
    """See `Provider`. `make` gets langchain's standard parameters; it is called once for each model and limit."""

    def __init__(self, make: ChatClass, name: str, base_url: str, key: str | None) -> None:
        self.name = f"langchain {name}"
        self._make = make
        self._base_url = base_url
        self._key = key
        self._made: dict[tuple[str, int], BaseChatModel] = {}

    async def complete(self, prompt: Prompt, model: str, output_tokens: int) -> Completion:
        """See the port. Nothing is traced, whatever the environment says: the record is ours."""
        whole: AIMessageChunk | None = None
        size = 0
        with tracing_context(enabled=False):
            try:
                chat = self._chat(model, output_tokens)
                asked = chat.bind_tools([tool_as_sent(each) for each in prompt.tools]) if prompt.tools else chat
                async for chunk in asked.astream([as_langchain(message) for message in prompt.messages]):
                    piece = cast("AIMessageChunk", chunk)
                    size += len(str(piece.text)) + sum(len(each["args"] or "") for each in piece.tool_call_chunks)
                    if size > MOST_CHARACTERS:
                        what = f"the reply is longer than {MOST_CHARACTERS} characters"
                        raise ProviderError("bad_reply", what, free=False)
                    whole = piece if whole is None else whole + piece
            except ProviderError:
                raise
            except Exception as problem:  # of whatever library the user chose
                raise self._error(problem) from None
        if whole is None:
            raise ProviderError("unavailable", "the endpoint broke off before its reply was whole", free=False)
        return completion(whole, model)

    async def close(self) -> None:
        """See the port. Langchain's models have nothing to close."""
        self._made.clear()

    def _chat(self, model: str, output_tokens: int) -> BaseChatModel:
        wanted = (model, output_tokens)
        if wanted not in self._made:
            key = {"api_key": self._key} if self._key else {}
            self._made[wanted] = self._make(
                model=model,
                base_url=self._base_url,
                max_tokens=output_tokens,
                timeout=SILENT_SECONDS + CONNECT_SECONDS,
                max_retries=0,  # the gateway tries again, within the call's limits
                **key,
            )
        return self._made[wanted]

    def _error(self, problem: Exception) -> ProviderError:
        """By its HTTP status, where the library names one as the widespread SDKs do."""
        status = getattr(problem, "status_code", None)
        said = f"{type(problem).__name__}: {self._clean(str(problem))}"
        if status in (401, 403):  # the text of such an answer may quote the key
            what = f"the endpoint does not take the key (HTTP {status}): check VALUETRAIN_MODEL_KEY or model_key_file"
            return ProviderError("refused", what, free=True)
        if isinstance(status, int) and status in TRY_AGAIN:
            headers = getattr(getattr(problem, "response", None), "headers", {})
            after = retry_after(headers, datetime.now(UTC))
            return ProviderError("unavailable", f"HTTP {status}: {said}", free=True, again=True, after=after)
        if isinstance(status, int) and 400 <= status < 500:
            return ProviderError("refused", f"the endpoint refused the request, HTTP {status}: {said}", free=True)
        return ProviderError("unavailable", f"the chat model failed: {said}", free=False)

    def _clean(self, text: str) -> str:
        short = " ".join(text.split())
        return (short.replace(self._key, "***") if self._key else short)[:500]


def as_langchain(message: Message) -> BaseMessage:
    """A message as langchain has it. Arguments that are no JSON object stand under one name, so that their call is
    still there for its answer."""
    match message.role:
        case "system":
            return SystemMessage(message.content)
        case "user":
            return HumanMessage(message.content)
        case "tool":
            return ToolMessage(message.content, tool_call_id=message.tool_call_id)
        case "assistant":
            calls = [
                {"name": call.name, "args": _object(call.arguments), "id": call.id, "type": "tool_call"}
                for call in message.tool_calls
            ]
            return AIMessage(message.content, tool_calls=calls)


def _object(arguments: str) -> dict[str, Any]:
    try:
        read = json.loads(arguments)
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"unreadable": arguments}


def completion(whole: AIMessageChunk, asked: str) -> Completion:
    """The reply in our own types. Raises ProviderError when it ended too early, or as nothing that is known."""
    told = whole.response_metadata
    end = next((str(told[name]).lower() for name in _ENDS if told.get(name)), "")
    if not end:
        raise ProviderError("unavailable", "the endpoint broke off before its reply was whole", free=False)
    if end not in FINISH:
        raise ProviderError("bad_reply", f"the reply ended with an unknown reason: {end[:50]!r}", free=False)
    calls = tuple(
        ToolCall(id=part["id"] or f"call-{at}", name=part["name"] or "", arguments=part["args"] or "")
        for at, part in enumerate(whole.tool_call_chunks)
    )
    finish = FINISH[end]
    if calls and finish == "stop":  # some endpoints say so
        finish = "tool_calls"
    usage = None
    if (used := whole.usage_metadata) is not None:
        cached = used.get("input_token_details", {}).get("cache_read") or 0
        usage = TokenUsage(input=used["input_tokens"], output=used["output_tokens"], cached=cached)
    message = Message(role="assistant", content=str(whole.text), tool_calls=calls)
    return Completion(message, usage, str(told.get("model_name") or asked), finish)
