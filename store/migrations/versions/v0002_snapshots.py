"""Snapshots: a cache of long sessions' states. Frozen once released."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "snapshots",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "kind", "stream")),
        sa.Column("sequence", BIG, nullable=False, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kind", "stream", name="pk_snapshots"),
        sqlite_strict=True,
    )
