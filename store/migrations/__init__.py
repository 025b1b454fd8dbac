"""Alembic migrations of the record. Forward only: a record is never taken back to an older schema."""
