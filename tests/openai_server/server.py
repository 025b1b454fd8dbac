"""The server: real HTTP on loopback, in a thread of its own, following a script."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import uvicorn
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.openai_server.shapes import problem_with
from tests.openai_server.steps import Asked, BreaksOff, Fails, Hangs, Raw, Says, Step

KEY = "sk-test-0123456789abcdef"  # opens nothing: the local server's own
Script = Sequence[Step] | Callable[[Asked], Step]


class OpenAIServer:
    """A context manager. `script` is followed in order, or asked for each request; `url` is the base URL for the SDK.

    What should not happen (a request of the wrong shape, a wrong key, a script that ran out) is answered with an error
    and kept in `problems`; `assert_used_up` fails for it, and for steps that were never asked for.
    """

    def __init__(self, script: Script, key: str = KEY) -> None:
        self._script = script
        self._key = key
        self.asked: list[Asked] = []
        """The requests that reached the script."""
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()  # the socket listens already: whoever connects now is served
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.should_exit = True
        self._thread.join(10.0)
        self._socket.close()
        assert not self._thread.is_alive(), "the server did not stop"

    def assert_used_up(self) -> None:
        """AssertionError for anything that should not have happened, and for steps left over."""
        assert not self.problems, self.problems
        if not callable(self._script):
            left = self._script[len(self.asked) :]
            assert not left, f"{len(left)} of {len(self._script)} steps were never asked for: {left}"

    async def _complete(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ValueError:
            return self._wrong(400, "the body is no JSON")
        given = request.headers.get("authorization", "")
        if given != f"Bearer {self._key}":
            return self._wrong(401, f"Incorrect API key provided: {given.removeprefix('Bearer ')}")
        if problem := problem_with(body):
            return self._wrong(400, problem)
        asked = Asked(body, given)
        with self._lock:
            number = len(self.asked)
            if not callable(self._script) and number >= len(self._script):
                return self._wrong(418, f"the script has {len(self._script)} steps and was asked for one more")
            self.asked.append(asked)
        try:
            step = self._script(asked) if callable(self._script) else self._script[number]
        except AssertionError as problem:
            return self._wrong(418, str(problem))
        return self._take(step, asked)

    def _wrong(self, status: int, message: str) -> Response:
        self.problems.append(message)
        return _error(status, message, None, {})

    def _take(self, step: Step, asked: Asked) -> Response:
        match step:
            case Fails():
                return _error(step.status, step.message, step.code, dict(step.headers))
            case Raw():
                return Response(step.body, step.status, media_type=step.media_type)
            case Says():
                if not asked.body.get("stream"):
                    return JSONResponse(whole(step))
                return StreamingResponse(self._stream(step, asked), media_type="text/event-stream")
            case BreaksOff():
                headers = {"content-length": "1000000"} if step.rudely else {}
                return StreamingResponse(
                    self._stream(step.reply, asked, step.chunks), media_type="text/event-stream", headers=headers
                )
            case Hangs():
                return StreamingResponse(
                    self._stream(step.reply, asked, step.chunks, hang=True), media_type="text/event-stream"
                )

    async def _stream(
        self, reply: Says, asked: Asked, most: int | None = None, hang: bool = False
    ) -> AsyncIterator[bytes]:
        usage = (asked.body.get("stream_options") or {}).get("include_usage", False)
        for number, chunk in enumerate(chunks(reply, usage)):
            if number == most:
                break
            yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
        else:
            yield b"data: [DONE]\n\n"
        while hang and not self._stopping.is_set():  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(0.02)


def _error(status: int, message: str, code: str | None, headers: dict[str, str]) -> Response:
    body = {"error": {"message": message, "type": "scripted", "param": None, "code": code}}
    return JSONResponse(body, status, headers)


def _finish(reply: Says) -> str:
    return reply.finish or ("tool_calls" if reply.calls else "stop")


def _usage(reply: Says) -> dict[str, Any] | None:
    if reply.usage is None:
        return None
    prompt, completion, cached = reply.usage
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _calls(reply: Says) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id or f"call_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(reply.calls)
    ]


def whole(reply: Says) -> dict[str, Any]:
    """A reply that is not streamed, checked against the published shape."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": reply.refusal or None}
    if reply.calls:
        message["tool_calls"] = _calls(reply)
    body = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": reply.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}],
    } | ({"usage": usage} if (usage := _usage(reply)) else {})
    if _finish(reply) in ("stop", "length", "tool_calls", "content_filter"):
        ChatCompletion.model_validate(body)
    return body


def chunks(reply: Says, with_usage: bool) -> Iterator[dict[str, Any]]:
    """A streamed reply: text and the arguments of all tool calls in pieces, the calls' pieces taking turns."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": 1_800_000_000,
            "model": reply.model,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }
        if finish in (None, "stop", "length", "tool_calls", "content_filter"):
            ChatCompletionChunk.model_validate(body)
        return body

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(reply.text, reply.piece):
        yield chunk({"content": piece})
    for piece in _pieces(reply.refusal, reply.piece):
        yield chunk({"refusal": piece})
    calls = _calls(reply)
    for index, call in enumerate(calls):
        begun = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
        yield chunk({"tool_calls": [{"index": index, **begun}]})
    arguments = [list(_pieces(call["function"]["arguments"], reply.piece)) for call in calls]
    for turn in range(max(map(len, arguments), default=0)):
        for index, parts in enumerate(arguments):
            if turn < len(parts):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": parts[turn]}}]})
    yield chunk({}, _finish(reply))
    if with_usage and (usage := _usage(reply)):
        yield {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": 1_800_000_000,
            "model": reply.model,
            "choices": [],
            "usage": usage,
        }


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))
