"""Whether a request has the published shape: by the types the `openai` package ships, which are made from it."""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints

from openai.types.chat import completion_create_params as published
from pydantic import TypeAdapter, ValidationError


@cache
def _shape(streaming: bool) -> tuple[TypeAdapter[Any], frozenset[str]]:
    kind = published.CompletionCreateParamsStreaming if streaming else published.CompletionCreateParamsNonStreaming
    return TypeAdapter(kind), frozenset(get_type_hints(kind))


def problem_with(body: Any) -> str:
    """What is wrong with a request's body, in a line; empty when nothing is."""
    if not isinstance(body, dict):
        return "the body is no object"
    adapter, known = _shape(body.get("stream") is True)
    if unknown := sorted(set(body) - known):
        return f"unknown parameters: {', '.join(unknown)}"
    try:
        _read(adapter.validate_python(body))
    except ValidationError as problem:
        first = problem.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return _unanswered(body["messages"])


def _read(value: Any) -> None:
    """Iterables are only checked while they are read."""
    if isinstance(value, dict):
        for each in value.values():
            _read(each)
    elif not isinstance(value, str | bytes | int | float | None):
        for each in value:
            _read(each)


def _unanswered(messages: list[dict[str, Any]]) -> str:
    """Each tool call has to be answered, right after it, and nothing else may be."""
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return f"a tool message answers {message['tool_call_id']!r}, which nobody called"
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            return f"tool calls without an answer: {', '.join(sorted(open_calls))}"
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    return f"tool calls without an answer: {', '.join(sorted(open_calls))}" if open_calls else ""
