"""The schema version of a record, and bringing an older one up to date."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from store.port import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0002"
"""The schema this program works with. Kept here so that opening an up-to-date record needs no Alembic; a test holds it
to the newest file in `migrations/versions`."""

MIGRATIONS = Path(__file__).parent / "migrations"

_ONE_AT_A_TIME = threading.Lock()  # Alembic keeps the migration that is running in module globals

VERSION_QUERY = "SELECT version_num FROM alembic_version"


def needs_upgrade(found: str, where: str) -> bool:
    """Is a record with schema `found` older than this program? Raises StoreError when it is newer."""
    if found > HEAD:  # versions are numbers of four digits
        raise StoreError(
            f"the record {where} has schema {found}, written by a newer program; this one knows up to {HEAD}: update it"
        )
    return found < HEAD


def upgrade(connection: Connection) -> None:
    """Migrate to HEAD inside the transaction that is open on `connection`, which the caller commits."""
    from alembic import command  # costs 0.2 s, needed only when there is something to do
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        command.upgrade(config, HEAD)
