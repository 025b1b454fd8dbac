"""`valuetrain drive drain`: finds the drive that runs, and asks it to take no more tickets."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cli.errors import CliError
from cli.home import Home
from cli.operator import ask_drive
from cli.reading import reading
from cli.settings import load
from schemas.commands import DrainDrive
from schemas.drive import DriveEnded
from store.port import Store


def drain_drive(home_path: Path, drive: str | None, reason: str, as_name: str | None) -> dict[str, Any]:
    """Ask the drive (the newest that has not ended, by default) to drain; the verdict with `drive` and `by`.

    Raises CliError when no drive runs.
    """
    home = Home(home_path.resolve()).existing()
    tenant = load(home.config).tenant
    if drive is None:
        with reading(home.path) as record:
            drive = running(record.store, tenant)
    if drive is None:
        raise CliError(f"no drive runs in {home.path}: there is nothing to drain")
    return ask_drive(home.path, drive, DrainDrive(reason=reason), as_name) | {"drive": drive}


def running(store: Store, tenant: str) -> str | None:
    """The newest drive of the record that has not ended."""
    found: list[tuple[datetime, str]] = []
    for stream in store.streams(tenant, "drive"):
        envelopes = list(store.read(stream))
        if envelopes and not any(isinstance(envelope.event, DriveEnded) for envelope in envelopes):
            found.append((envelopes[0].time, stream.name))
    return max(found)[1] if found else None
