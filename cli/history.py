"""The past of a record's sessions: read for reports, and kept beside the home for the skills that estimate from it.

`history.json` is a copy that can be made again at any time: it decides nothing, and a skill that reads it names its
digest. It holds no free text of tickets but their titles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from cli.past import past_session
from schemas.envelope import StreamId
from schemas.history import History, PastSession
from store.port import Store, StoreError

_log = structlog.get_logger("history")
MOST = 500
"""The newest sessions that are kept."""
SECONDS = 20.0
"""How long after a change the file may stay as it was."""


class Past:
    """Reads sessions' pasts from `store`, each again only when it has new events."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._tenant = store, tenant
        self._known: dict[str, tuple[int, PastSession]] = {}

    def sessions(self, most: int | None = None) -> list[PastSession]:
        """The sessions, the oldest first; with `most` only so many of the newest. Raises StoreError."""
        rows = self._store.views(self._tenant, "session")
        found = []
        for row in rows[-most:] if most else rows:
            name, version = str(row["session"]), int(row["version"])
            if self._known.get(name, (-1,))[0] != version:
                told = past_session(self._store.read(StreamId(self._tenant, "session", name)))
                if told is None:
                    continue
                self._known[name] = (version, told)
            found.append(self._known[name][1])
        return sorted(found, key=lambda each: each.started)


class HistoryFile:
    """Keeps `path` up to date while a conductor leads, and whatever `also` writes."""

    def __init__(self, store: Store, tenant: str, path: Path, also: Sequence[Callable[[], None]] = ()) -> None:
        self._past, self._path, self._also = Past(store, tenant), path, tuple(also)

    def write(self) -> None:
        """Write the file anew, whole or not at all. Raises StoreError, OSError."""
        history = History(made=datetime.now(UTC), sessions=tuple(self._past.sessions(MOST)))
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(history.model_dump_json(), "utf-8")
        draft.replace(self._path)

    async def run(self, committed: Callable[[], anyio.Event]) -> None:
        """Write it now, and again after each change, for ever. What goes wrong is logged and tried again: estimates
        wait for the record, never the record for them."""
        while True:
            event = committed()
            await self._try()
            await anyio.sleep(SECONDS)
            await event.wait()

    async def finish(self) -> None:
        """The last one of a system that stops, even when it is cancelled."""
        with anyio.CancelScope(shield=True):
            await self._try()

    async def _try(self) -> None:
        try:
            for write in (self.write, *self._also):
                await anyio.to_thread.run_sync(write)
        except (StoreError, OSError) as problem:
            _log.warning("history_waits", reason=str(problem))
