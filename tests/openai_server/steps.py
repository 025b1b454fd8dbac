"""What the server does with one request: the steps of its script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """A tool call in a reply. `arguments` is sent as it stands: it may be no JSON, and the name may be no tool's."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Says:
    """A reply. `piece` is how many characters a streamed chunk has; without `usage` the endpoint does not say."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    usage: tuple[int, int, int] | None = (10, 5, 0)
    """Tokens of the prompt, of the reply, and of the prompt's from the cache."""
    finish: str | None = None
    model: str = "scripted-model"
    piece: int = 16
    refusal: str = ""


@dataclass(frozen=True)
class Fails:
    """An HTTP error before any of the reply."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "scripted failure"
    code: str | None = None


@dataclass(frozen=True)
class BreaksOff:
    """A reply of which only the first `chunks` chunks are sent. `rudely`: the connection is cut in the middle."""

    reply: Says = field(default_factory=lambda: Says("this reply is never whole"))
    chunks: int = 2
    rudely: bool = True


@dataclass(frozen=True)
class Hangs:
    """`chunks` chunks, then silence until the client goes away or the server stops."""

    reply: Says = field(default_factory=lambda: Says("this reply is never whole"))
    chunks: int = 0


@dataclass(frozen=True)
class Raw:
    """Whatever bytes: no JSON, no server-sent events, the wrong shape."""

    body: bytes
    media_type: str = "text/event-stream"
    status: int = 200


Step = Says | Fails | BreaksOff | Hangs | Raw


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    body: Mapping[str, Any]
    authorization: str
