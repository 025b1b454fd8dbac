"""Rows as the tables hold them, turned into the port's values: the same for every backend."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic_core import from_json

from schemas.envelope import StreamId
from store.chain import Head
from store.port import Handled, Snapshot, StoreCorrupt, StoredEvent

# Many rows belong to few streams: looking an id up takes a quarter of the time of making it.
stream_id = lru_cache(maxsize=4_096)(StreamId)


def stream_key(stream: StreamId) -> tuple[str, str, str]:
    """Tenant, kind, name."""
    return (stream.tenant, stream.kind, stream.name)


def stored_event(row: tuple[Any, ...]) -> StoredEvent:
    """From position, tenant, kind, stream, sequence, id, raw, hash."""
    position, tenant, kind, stream, sequence, id_, raw, hash_ = row
    return StoredEvent(position, stream_id(tenant, kind, stream), sequence, id_, raw, hash_)


def stored_head(row: tuple[Any, ...]) -> Head:
    """From tenant, kind, name, version, hash, first and last position."""
    tenant, kind, name, version, hash_, first, last = row
    return Head(StreamId(tenant, kind, name), version, hash_, first, last)


def head_row(value: Head) -> tuple[str, str, str, int, bytes, int, int]:
    """The opposite of `stored_head`."""
    return (*stream_key(value.stream), value.version, value.hash, value.first_position, value.last_position)


def snapshot_row(value: Snapshot) -> tuple[str, str, str, int, bytes, str, bytes]:
    """Tenant, kind, stream, sequence, hash, form, body."""
    return (*stream_key(value.stream), value.sequence, value.hash, value.form, value.body)


def inbox_entry(row: tuple[Any, ...]) -> Handled:
    """From command id, raw, accepted, verdict."""
    command_id, raw, accepted, verdict = row
    return Handled(command_id, raw, bool(accepted), json_object(verdict))


def json_object(text: str) -> dict[str, Any]:
    """A stored JSON object. Raises StoreCorrupt."""
    try:
        value: dict[str, Any] = from_json(text)
    except ValueError as problem:
        raise StoreCorrupt(
            f"a stored JSON object cannot be read ({problem}): restore the record from a backup"
        ) from problem
    return value
