"""The tables, declared once for SQLite and PostgreSQL.

Migrations create them (a test compares both), projections and ad-hoc queries use these classes; the append and replay
paths use the driver directly, several times as fast as the ORM. Importing this module costs half a second of SQLModel,
so opening an up-to-date store does not.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, MetaData, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
"""Constraint names are spelt out so that a later migration can address them on both databases."""

# On SQLite only a column of type INTEGER can be the row id itself; it holds 64 bits either way.
BIG = BigInteger().with_variant(Integer(), "sqlite")

# STRICT makes SQLite refuse text where bytes belong, as PostgreSQL does.
STRICT: dict[str, Any] = {"sqlite_strict": True}


class Table(SQLModel):
    """Base of the tables: own metadata, so that SQLModel classes of other packages do not get into our migrations."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=NAMES)


class EventTable(Table, table=True):
    """The log. `position` counts commits without a gap; `raw` are the canonical bytes; `hash` the chain (32 bytes)."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("tenant", "kind", "stream", "sequence"), UniqueConstraint("id"), STRICT)

    position: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    tenant: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    stream: str = Field(sa_type=Text)
    sequence: int = Field(sa_type=BIG)
    id: str = Field(sa_type=Text)
    raw: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)


class StreamTable(Table, table=True):
    """The head of each stream: version and hash of its last event, positions of its first and last."""

    __tablename__ = "streams"
    __table_args__ = (STRICT,)

    tenant: str = Field(primary_key=True, sa_type=Text)
    kind: str = Field(primary_key=True, sa_type=Text)
    name: str = Field(primary_key=True, sa_type=Text)
    version: int = Field(sa_type=BIG)
    hash: bytes = Field(sa_type=LargeBinary)
    first_position: int = Field(sa_type=BIG)
    last_position: int = Field(sa_type=BIG)


class InboxTable(Table, table=True):
    """Handled commands in the order they were handled (`position`), each with the verdict its sender gets (JSON)."""

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("command_id"),
        Index(None, "tenant", "kind", "stream", "position"),
        STRICT,
    )

    position: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    command_id: str = Field(sa_type=Text)
    tenant: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    stream: str = Field(sa_type=Text)
    raw: bytes = Field(sa_type=LargeBinary)
    accepted: int = Field(sa_type=Integer)
    verdict: str = Field(sa_type=Text)


class TimerTable(Table, table=True):
    """Armed timers; `due` in microseconds since 1970 UTC."""

    __tablename__ = "timers"
    __table_args__ = (Index(None, "due"), STRICT)

    tenant: str = Field(primary_key=True, sa_type=Text)
    kind: str = Field(primary_key=True, sa_type=Text)
    stream: str = Field(primary_key=True, sa_type=Text)
    key: str = Field(primary_key=True, sa_type=Text)
    due: int = Field(sa_type=BIG)
    command: bytes = Field(sa_type=LargeBinary)


class CursorTable(Table, table=True):
    """How far a named reader of the log has come."""

    __tablename__ = "cursors"
    __table_args__ = (STRICT,)

    name: str = Field(primary_key=True, sa_type=Text)
    position: int = Field(sa_type=BIG)
    event_id: str = Field(sa_type=Text)


class ViewTable(Table, table=True):
    """Rows of read models, JSON; `ordinal` keeps the order in which they first appeared."""

    __tablename__ = "views"
    __table_args__ = (UniqueConstraint("tenant", "kind", "id"), STRICT)

    ordinal: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    tenant: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    id: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)


class SnapshotTable(Table, table=True):
    """States of long streams, a cache: as of the event `sequence`, whose link in the chain is `hash`; what wrote it
    (`form`) decides who can read `body`. Deleting rows costs time, nothing else."""

    __tablename__ = "snapshots"
    __table_args__ = (STRICT,)

    tenant: str = Field(primary_key=True, sa_type=Text)
    kind: str = Field(primary_key=True, sa_type=Text)
    stream: str = Field(primary_key=True, sa_type=Text)
    sequence: int = Field(sa_type=BIG)
    hash: bytes = Field(sa_type=LargeBinary)
    form: str = Field(sa_type=Text)
    body: bytes = Field(sa_type=LargeBinary)


class CheckpointTable(Table, table=True):
    """Signed stream heads: the signed bytes, the ed25519 signature, and the fingerprint of the public key."""

    __tablename__ = "checkpoints"
    __table_args__ = (STRICT,)

    number: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    body: bytes = Field(sa_type=LargeBinary)
    signature: bytes = Field(sa_type=LargeBinary)
    key: str = Field(sa_type=Text)
