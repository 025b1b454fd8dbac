"""Event and Command: one class statement declares a message, everything else derives from it.

    class PhaseStarted(Event, stream="session", version=2, upcasters={1: add_attempt}):
        ...

The wire name (`phase_started`) is made from the class name once and then is a stable string in the record; renaming the
class needs `name="phase_started"`. Duplicate names and gaps in the upcasters fail at import, not in production.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from schemas.values import Role, Sender

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the body of one version into the body of the next: a pure function from dict to dict."""

StreamKind = Literal["session", "drive", "system"]


@dataclass(frozen=True, slots=True)
class MessageType:
    """What the registry knows of a message class."""

    cls: type[Message]
    kind: Literal["event", "command"]
    name: str
    version: int
    stream: StreamKind
    upcasters: Mapping[int, Upcaster]
    senders: tuple[str, ...]
    addressed: bool


EVENTS: dict[str, MessageType] = {}
COMMANDS: dict[str, MessageType] = {}


class SchemaError(TypeError):
    """A message class is declared wrongly. Raised at import."""


_WIRE_NAME = re.compile(r"[a-z][a-z0-9_]*")


def wire_name(class_name: str) -> str:
    """`PhaseStarted` → `phase_started`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


class Message(BaseModel):
    """Base of events and commands. Do not subclass directly."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    message_type: ClassVar[MessageType]

    def __init_subclass__(cls, **declaration: Any) -> None:
        """Leaves the declaration's keywords to `__pydantic_init_subclass__`, which sees the finished fields."""
        super().__init_subclass__()

    @classmethod
    def _declare(
        cls,
        kind: Literal["event", "command"],
        registry: dict[str, MessageType],
        stream: StreamKind,
        version: int,
        upcasters: Mapping[int, Upcaster] | None,
        name: str | None,
        senders: tuple[str, ...] = (),
    ) -> None:
        wire = name or wire_name(cls.__name__)
        if not _WIRE_NAME.fullmatch(wire):
            raise SchemaError(f"{kind} name {wire!r} is no subject token: lower case letters, digits and _ only")
        if not cls.__doc__ or cls.__doc__ == Message.__doc__:
            raise SchemaError(f"{kind} {cls.__name__} has no docstring: say in one line what it means")
        if wire in registry:
            other = registry[wire].cls
            raise SchemaError(
                f"{kind} name {wire!r} is declared twice, by {other.__module__}.{other.__name__} and "
                f"{cls.__module__}.{cls.__name__}: rename one or give it name=…"
            )
        if version < 1:
            raise SchemaError(f"{kind} {wire!r} is at version {version}: versions count from 1")
        steps = dict(upcasters or {})
        if set(steps) != set(range(1, version)):
            raise SchemaError(
                f"{kind} {wire!r} is at version {version} and needs upcasters for versions "
                f"{sorted(range(1, version))}, but has them for {sorted(steps)}"
            )
        cls.message_type = MessageType(
            cls, kind, wire, version, stream, steps, senders, addressed="agent" in cls.model_fields
        )
        registry[wire] = cls.message_type


class Event(Message):
    """Something that happened; past tense."""

    @classmethod
    def __pydantic_init_subclass__(  # type: ignore[override]  # the keywords are the point
        cls,
        *,
        stream: StreamKind,
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._declare("event", EVENTS, stream, version, upcasters, name)


class Command(Message):
    """Something asked for; imperative. `senders` are the logins that may publish it (`agent` means all seven)."""

    @classmethod
    def __pydantic_init_subclass__(  # type: ignore[override]  # the keywords are the point
        cls,
        *,
        stream: StreamKind,
        senders: tuple[Sender | Role | Literal["agent"], ...],
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        expanded: list[str] = []
        for sender in senders:
            expanded.extend(role.value for role in Role) if sender == "agent" else expanded.append(str(sender))
        cls._declare("command", COMMANDS, stream, version, upcasters, name, tuple(expanded))
