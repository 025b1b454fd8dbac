"""Reading the canonical form of a message fast: the header by its known parts, the body straight into its class.

This is no second definition of the form. What is taken here `schemas.envelope` would read the same way by its models (a
test compares the two); whatever is not taken is left to it, and it has the last word on what is wrong with a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from schemas.messages import MessageType
from schemas.values import Actor

# Without quotes, backslashes and white space: in JSON such text stands for itself.
_TOKEN = rb"[!#-\[\]-~]"
_ACTOR = rb'\{"name":"[^"\\]*","channel":"[^"\\]*","verified_as":"[^"\\]*"\}'
_TIME = rb"(?:19[7-9]\d|[2-8]\d{3})-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


_SORT = (
    rb'([a-z][a-z0-9_]*","version":[1-9]\d{0,8}),"tenant":"([a-z0-9][a-z0-9-]{0,31})",'
    rb'"kind":"(session|drive|system)","stream":"([A-Za-z0-9][A-Za-z0-9_-]{0,63})"'
)
COMMAND = re.compile(
    rb'\{"id":"('
    + _TOKEN
    + rb'{1,200})","type":"('
    + _SORT
    + rb'),"time":"('
    + _TIME
    + rb')","actor":('
    + _ACTOR
    + rb"),"
    rb'"sender":"(' + _TOKEN + rb'*)","correlation_id":"(' + _TOKEN + rb'{0,200})",'
    rb'"causation_id":"(' + _TOKEN + rb'{0,200})","data":'
)
"""Groups: id, sort (and its four), time, actor, sender, correlation id, causation id. The body follows."""

_sort = re.compile(_SORT).fullmatch
_time = re.compile(_TIME).fullmatch
_who = re.compile(rb'","actor":(' + _ACTOR + rb'),"correlation_id":"(' + _TOKEN + rb'{0,200})"').fullmatch
_id = re.compile(_TOKEN + rb"{1,200}").fullmatch
_tokens = re.compile(_TOKEN.decode() + "*").fullmatch


def are_ids(own: bytes, reference: bytes) -> bool:
    """Whether one can be an id and the other an id or empty: printable, without white space, quotes and backslashes.
    Most are UUIDs."""
    if len(own) + len(reference) <= 200 and own and (own + reference).replace(b"-", b"").isalnum():
        return True
    return _id(own) is not None and is_reference(reference)


def is_reference(text: bytes) -> bool:
    """Whether it can be another message's id, or empty."""
    return not text or _id(text) is not None


def reference(text: bytes) -> str:
    """Another message's id, or empty. Raises ValueError."""
    if not (text.replace(b"-", b"").isalnum() and len(text) <= 200) and not is_reference(text):
        raise ValueError(text)
    return text.decode()


def are_all_ids(texts: Sequence[str]) -> bool:
    """Whether each can be an id."""
    lengths = set(map(len, texts))
    return 0 not in lengths and max(lengths, default=0) <= 200 and _tokens("".join(texts)) is not None


# The parts that many messages share are remembered. What raises (LookupError, ValueError) is not.


@lru_cache(4_096)
def sort(text: bytes) -> tuple[bytes, str, str, str]:
    """Type and version (as `Bodies.read` takes them), tenant, kind and stream, from the text between the quote that
    opens the type and the end of the stream. Raises ValueError."""
    if (match := _sort(text)) is None:
        raise ValueError(text)
    kind, *place = match.groups()
    tenant, aggregate, stream = (part.decode() for part in place)
    return kind, tenant, aggregate, stream


def read_moment(text: bytes) -> datetime:
    """The time in `text`. Raises ValueError."""
    if _time(text) is None:
        raise ValueError(text)
    return datetime.fromisoformat(text.decode())


moment = lru_cache(4_096)(read_moment)


@lru_cache(4_096)
def who(text: bytes) -> tuple[Actor, str]:
    """Actor and correlation id, from the quote after the time to the quote after the id. Raises ValueError."""
    if (match := _who(text)) is None:
        raise ValueError(text)
    return actor(match[1]), match[2].decode()


actor: Callable[[bytes], Actor] = lru_cache(4_096)(Actor.__pydantic_validator__.validate_json)


class Bodies:
    """What makes the messages of one registry of their bodies."""

    def __init__(self, registry: Mapping[str, MessageType]) -> None:
        self._registry = registry
        self._known: dict[bytes, tuple[MessageType, Callable[[bytes], Any]]] = {}

    def read(self, type_and_version: bytes, body: bytes) -> Any:
        """The message, if it is of a known type and of today's version: older ones need the upcasters. Raises
        LookupError, ValueError."""
        known = self._known.get(type_and_version)
        if known is None or self._registry.get(known[0].name) is not known[0]:  # a newer one reads this by upcasters
            name, version = type_and_version.decode().split('","version":')
            newest = self._registry[name]
            if newest.version != int(version):
                raise LookupError(type_and_version)
            known = self._known[type_and_version] = (newest, newest.cls.__pydantic_validator__.validate_json)
        return known[1](body)
