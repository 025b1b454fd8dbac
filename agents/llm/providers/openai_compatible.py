"""Any endpoint that speaks OpenAI's chat completions: hosted ones, vLLM, Ollama, llama.cpp. By the `openai` SDK."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from agents.llm.providers.port import MOST_CHARACTERS, Completion, ProviderError
from schemas.model_calls import Finish, Message, Prompt, TokenUsage, ToolCall, ToolSpec

FINISH: Mapping[str, Finish] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "refused",
}
TRY_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
CONNECT_SECONDS = 10.0
SILENT_SECONDS = 120.0
"""How long an endpoint may say nothing in the middle of a call; the call's own limit comes from the policy."""

TokenLimit = Literal["max_tokens", "max_completion_tokens"]


class OpenAICompatible:
    """See `Provider`. `token_limit` is what the endpoint calls the most tokens of a reply."""

    name = "openai-compatible"

    def __init__(self, base_url: str, key: str | None, token_limit: TokenLimit = "max_tokens") -> None:  # noqa: S107
        self._key = key
        self._token_limit = token_limit
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key or "none",  # a local endpoint takes any
            max_retries=0,  # the gateway tries again, within the call's limits
            timeout=openai.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
        )
        # The SDK takes these from the environment, where they were meant for another endpoint perhaps.
        self._client.organization = self._client.project = self._client.admin_api_key = None

    async def complete(self, prompt: Prompt, model: str, output_tokens: int) -> Completion:
        """See the port. The reply is streamed, so that a silent endpoint is noticed early."""
        request: dict[str, Any] = {
            "model": model,
            "messages": [as_sent(message) for message in prompt.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            self._token_limit: output_tokens,
        }
        if prompt.tools:
            request["tools"] = [tool_as_sent(tool) for tool in prompt.tools]
        reply = _Assembled()
        try:
            stream = cast(
                "openai.AsyncStream[ChatCompletionChunk]", await self._client.chat.completions.create(**request)
            )
            async with stream:
                async for chunk in stream:
                    reply.add(chunk)
        except openai.APIStatusError as problem:
            raise self._by_status(problem) from None
        except openai.APIResponseValidationError as problem:
            raise ProviderError(
                "bad_reply", f"the endpoint's reply has no known shape: {problem}", free=False
            ) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as problem:
            raise self._by_link(problem) from None
        except openai.APIError as problem:  # the endpoint says so in the middle of its reply
            raise ProviderError(
                "unavailable", f"the endpoint gave up: {self._clean(problem.message)}", free=False
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, KeyError, ValueError) as problem:
            what = f"the endpoint's reply cannot be read: {type(problem).__name__}: {self._clean(str(problem))}"
            raise ProviderError("bad_reply", what, free=False) from None
        return reply.completion(model)

    async def close(self) -> None:
        """See the port."""
        await self._client.close()

    def _by_status(self, problem: openai.APIStatusError) -> ProviderError:
        status = problem.status_code
        if status in (401, 403):  # the text of such an answer may quote the key
            what = f"the endpoint does not take the key (HTTP {status}): check VALUETRAIN_MODEL_KEY or model_key_file"
            return ProviderError("refused", what, free=True)
        said = f"HTTP {status}: {self._clean(problem.message)}"
        if status in TRY_AGAIN and problem.code != "insufficient_quota":
            after = retry_after(problem.response.headers, datetime.now(UTC))
            return ProviderError("unavailable", f"the endpoint answered {said}", free=True, again=True, after=after)
        return ProviderError("refused", f"the endpoint refused the request, {said}", free=True)

    def _by_link(self, problem: Exception) -> ProviderError:
        cause = problem.__cause__ if isinstance(problem, openai.APIConnectionError) else problem
        never_arrived = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        if never_arrived:
            what = "the endpoint cannot be reached: check model_base_url, and that it runs"
        elif isinstance(problem, openai.APITimeoutError) or isinstance(cause, httpx2.TimeoutException):
            what = f"the endpoint said nothing for {SILENT_SECONDS:g} s"
        else:
            what = "the endpoint broke off before its reply was whole"
        name = type(cause or problem).__name__
        return ProviderError("unavailable", f"{what} ({name})", free=never_arrived, again=never_arrived)

    def _clean(self, text: str) -> str:
        """A line for people, without the key, should the endpoint quote it."""
        short = " ".join(text.split())
        return (short.replace(self._key, "***") if self._key else short)[:500]


@dataclass(slots=True)
class _Part:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Assembled:
    """A reply as far as it has come."""

    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, _Part] = field(default_factory=dict)
    finish: str | None = None
    usage: TokenUsage | None = None
    model: str = ""
    size: int = 0

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take the next piece. Raises ProviderError when there are too many."""
        self.model = self.model or chunk.model or ""
        if chunk.usage is not None:
            details = chunk.usage.prompt_tokens_details
            cached = (details.cached_tokens or 0) if details else 0
            self.usage = TokenUsage(
                input=chunk.usage.prompt_tokens, output=chunk.usage.completion_tokens, cached=cached
            )
        for choice in chunk.choices:
            self.finish = choice.finish_reason or self.finish
            delta = choice.delta
            if delta.content:
                self.text.append(delta.content)
            if delta.refusal:
                self.refusal.append(delta.refusal)
            self._add_calls(delta.tool_calls or ())
            self.size += len(delta.content or "") + len(delta.refusal or "")
        if self.size > MOST_CHARACTERS:
            raise ProviderError("bad_reply", f"the reply is longer than {MOST_CHARACTERS} characters", free=False)

    def _add_calls(self, deltas: Iterable[Any]) -> None:
        for delta in deltas:
            part = self.calls.setdefault(delta.index, _Part())
            part.id = part.id or delta.id or ""
            if delta.function is not None:
                part.name += delta.function.name or ""
                part.arguments.append(delta.function.arguments or "")
                self.size += len(delta.function.arguments or "") + len(delta.function.name or "")

    def completion(self, asked: str) -> Completion:
        """The whole reply. Raises ProviderError when it ended too early, or as nothing that is known."""
        if self.finish is None:
            raise ProviderError("unavailable", "the endpoint broke off before its reply was whole", free=False)
        if self.finish not in FINISH:
            raise ProviderError(
                "bad_reply", f"the reply ended with an unknown reason: {self.finish[:50]!r}", free=False
            )
        calls = tuple(
            ToolCall(id=part.id or f"call-{index}", name=part.name, arguments="".join(part.arguments))
            for index, part in sorted(self.calls.items())
        )
        refused = "".join(self.refusal)
        finish: Finish = "refused" if refused else FINISH[self.finish]
        if calls and finish == "stop":  # some local servers say so
            finish = "tool_calls"
        message = Message(role="assistant", content=refused or "".join(self.text), tool_calls=calls)
        return Completion(message, self.usage, self.model or asked, finish)


def as_sent(message: Message) -> dict[str, Any]:
    """A message as the published description has it."""
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if message.tool_calls:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        return {"role": message.role, "content": message.content or None, "tool_calls": calls}
    return {"role": message.role, "content": message.content}


def tool_as_sent(tool: ToolSpec) -> dict[str, Any]:
    """A tool likewise."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the endpoint asks us to wait (`retry-after-ms`, or `retry-after` in seconds or as a date), at least 0."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return max(0.0, seconds) if seconds < float("inf") else None
    try:
        return max(0.0, (parsedate_to_datetime(headers.get("retry-after", "")) - now).total_seconds())
    except (ValueError, TypeError):
        return None
