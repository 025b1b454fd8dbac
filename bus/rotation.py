"""Replacing a role's key; an embedded server that runs is told at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from bus.connection import Connection
from bus.credentials import SEEDS, new_seed, write_private
from bus.port import BusError, PermissionDenied
from bus.server import config_path, login, running

TAKEN_SECONDS = 10.0
_PAUSE_SECONDS = 0.05


def rotate(directory: Path, role: str, *, own: bool = True) -> bool:
    """Give a role a new seed; whether a running embedded server (only looked for with `own`) was told of it.

    The seed comes first: whoever the server then disconnects reads the new one and is back. Raises BusError for a role
    that has no login yet or files that cannot be written.
    """
    directory = directory.resolve()
    try:
        before, after = new_seed(directory, role)
        public = directory / SEEDS / f"{role}.pub"
        if public.exists():
            write_private(public, after + "\n", 0o644)
        info = running(directory) if own else None
        if info is None:
            return False
        path = config_path(directory)
        config = json.loads(path.read_text(encoding="utf-8"))
        for user in config["authorization"]["users"]:
            if user["nkey"] == before:
                user["nkey"] = after
        write_private(path, json.dumps(config, indent=1))
        os.kill(info.pid, signal.SIGHUP)
    except ProcessLookupError:
        return False  # it ended meanwhile; the next start takes the new one
    except (OSError, ValueError, KeyError) as problem:
        raise BusError(f"the login of {role!r} in {directory} cannot be replaced: {problem}; start again") from problem
    return True


async def taken(directory: Path, role: str) -> None:
    """Wait until the running embedded server takes the role's new key: a server that finds anything wrong with its
    configuration keeps the old one as a whole. Raises BusError after some seconds, or when the server is gone."""
    try:
        async with asyncio.timeout(TAKEN_SECONDS):
            while True:
                connection = Connection(login(directory, role), "rotated")
                try:
                    await connection.open(TAKEN_SECONDS)
                except PermissionDenied:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                await connection.close()
                return
    except TimeoutError:
        raise BusError(
            f"the server on {directory} does not take the new key of {role!r}, so the old one may still be good: "
            f"nats-server.log there says why; stop the system and start it again"
        ) from None
