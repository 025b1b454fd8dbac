"""Cassettes: conversations with an endpoint, kept in a file and played by the local server.

Strict: a request that the file does not have, and an interaction that nobody asked for, fail the test. Each file says
where it comes from: `synthetic` (made up, says nothing about any model) or `recorded` with provider, model and date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tests.openai_server.steps import Asked, Call, Fails, Says, Step

FOLDER = Path(__file__).parent / "cassettes"


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Synthetic(_Closed):
    """Made up."""

    kind: Literal["synthetic"]


class RecordedFrom(_Closed):
    """Taken from a real endpoint."""

    kind: Literal["recorded"]
    provider: str
    model: str
    date: date


class Interaction(_Closed):
    """A normalised request and what came back."""

    request: dict[str, Any]
    text: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    """Name, arguments and id of each tool call."""
    usage: tuple[int, int, int] | None = None
    finish: str | None = None
    status: int = 200
    headers: dict[str, str] = {}

    def step(self, model: str) -> Step:
        """What the server does."""
        if self.status != 200:
            return Fails(self.status, self.headers, self.text)
        calls = tuple(Call(*call) for call in self.calls)
        return Says(self.text, calls, self.usage, self.finish, model)


class Cassette(_Closed):
    """A file's content."""

    origin: Annotated[Synthetic | RecordedFrom, Field(discriminator="kind")]
    interactions: tuple[Interaction, ...]


def normalised(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request without what does not change its meaning: how the reply travels, ids that were only invented to tie a
    tool's answer to its call, and the order of keys in JSON that stands in text."""
    names: dict[str, str] = {}

    def name(call: str) -> str:
        return names.setdefault(call, f"call-{len(names) + 1}")

    messages = []
    for message in body["messages"]:
        kept = {key: value for key, value in message.items() if value is not None}
        if "tool_calls" in kept:
            kept["tool_calls"] = [
                {"id": name(c["id"]), "name": c["function"]["name"], "arguments": _sorted(c["function"]["arguments"])}
                for c in kept["tool_calls"]
            ]
        if "tool_call_id" in kept:
            kept["tool_call_id"] = name(kept["tool_call_id"])
        messages.append(kept)
    left_out = {"stream", "stream_options", "messages"}
    rest = {key: value for key, value in body.items() if key not in left_out}
    clean: dict[str, Any] = json.loads(json.dumps({**rest, "messages": messages}, sort_keys=True))
    return clean


def _sorted(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


class Player:
    """A script for the server: answers each request with the first interaction of the same request not yet played."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.cassette = Cassette.model_validate_json(path.read_text("utf-8"))
        self._left = list(self.cassette.interactions)

    def __call__(self, asked: Asked) -> Step:
        wanted = normalised(asked.body)
        for interaction in self._left:
            if interaction.request == wanted:
                self._left.remove(interaction)
                return interaction.step(str(asked.body["model"]))
        raise AssertionError(f"{self.name} has no (more) interaction for {json.dumps(wanted, sort_keys=True)}")

    def assert_used_up(self) -> None:
        """AssertionError for interactions that nobody asked for."""
        left = [json.dumps(interaction.request, sort_keys=True) for interaction in self._left]
        assert not left, f"{len(left)} interactions of {self.name} were never asked for: {left}"
