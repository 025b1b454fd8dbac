"""Reading the canonical form of a message fast: the header by one expression, the body straight into its class.

This is no second definition of the form. What is taken here `schemas.envelope` would read the same way by its models (a
test compares the two); whatever is not taken is left to it, and it has the last word on what is wrong with a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from schemas.messages import MessageType
from schemas.values import Actor

# Without quotes, backslashes and white space: in JSON such text stands for itself.
_TOKEN = rb"[!#-\[\]-~]"
_ACTOR = rb'\{"name":"[^"\\]*","channel":"[^"\\]*","verified_as":"[^"\\]*"\}'
_TIME = rb"(?:19[7-9]\d|[2-8]\d{3})-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def _header(before_time: bytes, after_actor: bytes) -> re.Pattern[bytes]:
    return re.compile(
        rb'\{"id":"(' + _TOKEN + rb'{1,200})","type":"([a-z][a-z0-9_]*","version":[1-9]\d{0,8}),'
        rb'("tenant":"[a-z0-9][a-z0-9-]{0,31}","kind":"(?:session|drive|system)",'
        rb'"stream":"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"),' + before_time + rb'"time":"(' + _TIME + rb")"
        rb'","actor":(' + _ACTOR + rb")," + after_actor + rb'"correlation_id":"(' + _TOKEN + rb'{0,200})",'
        rb'"causation_id":"(' + _TOKEN + rb'{0,200})","data":'
    )


EVENT = _header(rb'"sequence":([1-9]\d{0,17}),', b"")
"""Groups: id, type and version, place, sequence, time, actor, correlation id, causation id. The body follows."""
COMMAND = _header(b"", rb'"sender":"(' + _TOKEN + rb'*)",')
"""Groups: id, type and version, place, time, actor, sender, correlation id, causation id. The body follows."""

# What raises (a time or an actor that only looks like one: ValueError) is not remembered.
moment: Callable[[bytes], datetime] = lru_cache(4_096)(lambda text: datetime.fromisoformat(text.decode()))
actor: Callable[[bytes], Actor] = lru_cache(4_096)(Actor.__pydantic_validator__.validate_json)


def place(text: bytes) -> tuple[str, str, str]:
    """Tenant, kind and stream of what the third group holds."""
    _, _, _, tenant, _, _, _, kind, _, _, _, stream, _ = text.decode().split('"')
    return tenant, kind, stream


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
