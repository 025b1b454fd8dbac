"""A model's tools: typed parameters, which it sees as JSON Schema, and what a call of them comes to."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from agents.planning.files import ToolError, ToolRefused
from agents.planning.untrusted import HEAD, TAIL, clean, shortened, wrapped
from schemas.model_calls import ToolCall, ToolSpec
from schemas.values import Value
from workspace.sandbox.port import Contact

Outcome = Literal["done", "failed", "refused", "unreadable", "submitted"]
"""What a call came to: `unreadable` is one whose tool or arguments are not what the specification says."""


class Nothing(Value):
    """Parameters of a tool that takes none."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A call that ends the conversation: the work is done. `summary` is one line."""

    summary: str


@dataclass(frozen=True, slots=True)
class Told:
    """Text for the model, from a tool that reached the network or tried to."""

    text: str
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """`run` gets `parameters`, checked; it raises ToolError and ToolRefused. What it returns is text nobody vouches
    for, unless `trusted`. `again`: it has effects an attempt needs, so a resumed attempt runs it anew."""

    name: str
    description: str
    parameters: type[Value]
    run: Callable[[Any], Awaitable[str | Told | Submitted]]
    trusted: bool = False
    again: bool = False

    def spec(self) -> ToolSpec:
        """As the model is told."""
        return ToolSpec(name=self.name, description=self.description, parameters=_schema(self.parameters))


@dataclass(frozen=True, slots=True)
class Observation:
    """What the model is told of a call. `raw` is the digest of all there was, if it is told less. `reached` and
    `barred` are the hosts it asked for, a line each."""

    outcome: Outcome
    text: str
    note: str = ""
    raw: str = ""
    reached: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()

    @property
    def error(self) -> bool:
        """Whether the call came to nothing."""
        return self.outcome in ("failed", "refused", "unreadable")


Keep = Callable[[bytes], str]
"""Stores bytes and gives their SHA-256."""


class Toolbox:
    """The tools of one conversation."""

    def __init__(self, tools: Iterable[Tool], keep: Keep) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._keep = keep
        self.specs = tuple(tool.spec() for tool in self._tools.values())

    def again(self, call: ToolCall) -> bool:
        """Whether a resumed attempt must run this call anew."""
        return call.name in self._tools and self._tools[call.name].again

    async def call(self, call: ToolCall) -> Observation:
        """Run the tool. Raises only what is a fault of ours, and AttemptError."""
        tool = self._tools.get(call.name)
        if tool is None:
            return Observation(
                "unreadable", f"there is no tool {_shown(call.name)}; there are {', '.join(self._tools)}"
            )
        try:
            arguments = tool.parameters.model_validate(_object(call.arguments))
        except ValueError as problem:
            return Observation("unreadable", f"the arguments of {tool.name} cannot be read: {_reasons(problem)}")
        try:
            given = await tool.run(arguments)
        except ToolRefused as problem:
            why = _shown(str(problem), 500)
            return _with(Observation("refused", f"refused: {why}", note=why), problem.contacts)
        except ToolError as problem:
            return _with(self._told("failed", str(problem), f"the failure of {tool.name}"), problem.contacts)
        if isinstance(given, Submitted):
            return Observation("submitted", given.summary)
        if isinstance(given, Told):
            return _with(self._told("done", given.text, f"what {tool.name} gave"), given.contacts)
        return Observation("done", given) if tool.trusted else self._told("done", given, f"what {tool.name} gave")

    def _told(self, outcome: Outcome, text: str, source: str) -> Observation:
        shown, raw = clean(text), ""
        if len(shown) > HEAD + TAIL:
            raw = self._keep(text.encode("utf-8", "surrogatepass"))
            shown = shortened(shown)
        return Observation(outcome, wrapped(shown, source), raw=raw)


def _with(observation: Observation, contacts: tuple[Contact, ...]) -> Observation:
    reached = tuple(_shown(str(each), 300) for each in contacts if each.outcome != "refused")
    barred = tuple(_shown(str(each), 300) for each in contacts if each.outcome == "refused")
    return replace(observation, reached=reached, barred=barred)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text or "{}")
    if not isinstance(value, dict):
        raise ValueError("they are no JSON object")
    return value


def _reasons(problem: ValueError) -> str:
    if isinstance(problem, ValidationError):
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problem.errors()[:5]]
        return _shown("; ".join(found), 500)
    return _shown(str(problem), 300)


def _shown(text: str, longest: int = 100) -> str:
    return " ".join(clean(text).split())[:longest]


def _schema(parameters: type[Value]) -> dict[str, Any]:
    """The JSON Schema without what only says the class's own name."""
    schema = _untitled(parameters.model_json_schema())
    schema.pop("description", None)
    return {"type": "object", "properties": {}, **schema}


def _untitled(part: Any) -> Any:
    if isinstance(part, list):
        return [_untitled(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {name: inner for name, inner in part.items() if name != "title" or not isinstance(inner, str)}
    return {name: _untitled(inner) for name, inner in kept.items()}
