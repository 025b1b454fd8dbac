"""The record: events, stream heads, inbox, timers, cursors, views, checkpoints.

Frozen once released: it spells the tables out instead of importing `store.tables`, which will move on.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *parts: Any) -> None:
    op.create_table(name, *parts, sqlite_strict=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False, autoincrement=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Create everything."""
    _table(
        "events",
        _big("position"),
        *map(_text, ("tenant", "kind", "stream")),
        _big("sequence"),
        _text("id"),
        *map(_bytes, ("raw", "hash")),
        sa.PrimaryKeyConstraint("position", name="pk_events"),
        sa.UniqueConstraint("tenant", "kind", "stream", "sequence", name="uq_events_tenant_kind_stream_sequence"),
        sa.UniqueConstraint("id", name="uq_events_id"),
    )
    _table(
        "streams",
        *map(_text, ("tenant", "kind", "name")),
        _big("version"),
        _bytes("hash"),
        *map(_big, ("first_position", "last_position")),
        sa.PrimaryKeyConstraint("tenant", "kind", "name", name="pk_streams"),
    )
    _table(
        "inbox",
        _big("position"),
        *map(_text, ("command_id", "tenant", "kind", "stream")),
        _bytes("raw"),
        sa.Column("accepted", sa.Integer(), nullable=False),
        _text("verdict"),
        sa.PrimaryKeyConstraint("position", name="pk_inbox"),
        sa.UniqueConstraint("command_id", name="uq_inbox_command_id"),
    )
    op.create_index("ix_inbox_tenant_kind_stream_position", "inbox", ["tenant", "kind", "stream", "position"])
    _table(
        "timers",
        *map(_text, ("tenant", "kind", "stream", "key")),
        _big("due"),
        _bytes("command"),
        sa.PrimaryKeyConstraint("tenant", "kind", "stream", "key", name="pk_timers"),
    )
    op.create_index("ix_timers_due", "timers", ["due"])
    _table(
        "cursors",
        _text("name"),
        _big("position"),
        _text("event_id"),
        sa.PrimaryKeyConstraint("name", name="pk_cursors"),
    )
    _table(
        "views",
        sa.Column("ordinal", BIG, nullable=False, autoincrement=True),
        *map(_text, ("tenant", "kind", "id", "body")),
        sa.PrimaryKeyConstraint("ordinal", name="pk_views"),
        sa.UniqueConstraint("tenant", "kind", "id", name="uq_views_tenant_kind_id"),
    )
    _table(
        "checkpoints",
        _big("number"),
        *map(_bytes, ("body", "signature")),
        _text("key"),
        sa.PrimaryKeyConstraint("number", name="pk_checkpoints"),
    )
