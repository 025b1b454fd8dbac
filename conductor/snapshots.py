"""A session's state as bytes and back: the body of a snapshot. Pure.

A snapshot is a cache: it spares folding a long session's events again, is believed only while it fits the record, and
may be deleted at any time. Nothing that proves anything (`audit verify`, `session replay`) reads one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

from conductor.state import (
    NOTHING,
    AtOrigin,
    Effect,
    GateState,
    ModelCall,
    ModelReply,
    PhaseState,
    SessionState,
    Stage,
    Status,
)
from schemas.forking import ForkPoint, Guidance
from schemas.model_calls import TokenUsage
from schemas.model_policy import ModelSpend
from schemas.pipeline import PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Ticket
from schemas.values import Approval, ArtifactRef, CriterionResult, FailureClass, Measurement, Registered, Usage, Value

_STATES: Mapping[str, type] = {
    each.__name__: each for each in (SessionState, PhaseState, GateState, Effect, AtOrigin, ModelCall, ModelReply)
}
_VALUES: Mapping[str, type[Value]] = {
    each.__name__: each
    for each in (
        Approval, ArtifactRef, CriterionResult, ForkPoint, Guidance, Measurement, ModelSpend, PipelineDefinition,
        Policy, Registered, Ticket, TokenUsage, Usage,
    )
}  # fmt: skip
_ENUMS: Mapping[str, type[Enum]] = {each.__name__: each for each in (Status, Stage, FailureClass)}


class BadSnapshot(Exception):
    """The bytes are no session's state."""


def encode(state: SessionState) -> bytes:
    """`state` as JSON. What earlier states share with it (`rests`, `marks`) is written once.

    Raises TypeError for a value of a type that no state has: a bug.
    """
    nodes: list[Any] = []
    places: dict[int, int] = {}

    def shared(value: Any, write: Callable[[], Any]) -> list[Any]:
        if id(value) not in places:
            body = write()  # parts first: reading goes from front to back
            places[id(value)] = len(nodes)
            nodes.append(body)
        return ["@", places[id(value)]]

    def plain(value: Any) -> Any:
        match value:
            case Enum():
                return ["e", type(value).__name__, value.value]
            case None | bool() | int() | float() | str():
                return value
            case datetime():
                return ["d", value.isoformat()]
            case tuple():
                return ["t", *map(plain, value)]
            case Mapping():
                return shared(value, lambda: ["m", *([plain(key), plain(item)] for key, item in value.items())])
            case Value() if type(value).__name__ in _VALUES:
                return shared(value, lambda: ["v", type(value).__name__, value.model_dump(mode="json")])
            case _ if type(value).__name__ in _STATES and is_dataclass(value):
                return shared(
                    value,
                    lambda: ["s", type(value).__name__, {f.name: plain(getattr(value, f.name)) for f in fields(value)}],
                )
        raise TypeError(f"{type(value).__name__} is not part of a session's state")

    root = plain(state)
    return json.dumps({"nodes": nodes, "root": root}, separators=(",", ":"), allow_nan=True).encode()


def decode(body: bytes) -> SessionState:
    """What `encode` wrote. Raises BadSnapshot for anything else."""
    try:
        content = json.loads(body)
        nodes: list[Any] = []
        for node in content["nodes"]:
            nodes.append(_read(node, nodes))
        state = _read(content["root"], nodes)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as problem:
        raise BadSnapshot(f"{type(problem).__name__}: {problem}") from problem
    if not isinstance(state, SessionState):
        raise BadSnapshot(f"it holds a {type(state).__name__} and no session")
    return state


def _read(value: Any, nodes: list[Any]) -> Any:
    if not isinstance(value, list):
        return value
    match value:
        case ["@", int(place)]:
            return nodes[place]
        case ["e", str(name), raw]:
            return _ENUMS[name](raw)
        case ["d", str(raw)]:
            return datetime.fromisoformat(raw)
        case ["t", *items]:
            return tuple(_read(item, nodes) for item in items)
        case ["m", *pairs]:
            found = {_read(key, nodes): _read(item, nodes) for key, item in pairs}
            return MappingProxyType(found) if found else NOTHING
        case ["v", str(name), dict(raw)]:
            return _VALUES[name].model_validate(raw)
        case ["s", str(name), dict(raw)]:
            return _STATES[name](**{field: _read(item, nodes) for field, item in raw.items()})
    raise ValueError(f"{str(value)[:80]} is no part of a state")
