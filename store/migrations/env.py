"""Run by Alembic: migrates the connection it was given, inside the transaction the caller opened."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
