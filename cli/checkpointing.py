"""Signing the record while the system runs: a checkpoint every so many events or seconds, and one when it stops.

The key lies in the home and is handed to nothing else: not to agents, skills or the effect executor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
import structlog

from store.checkpoints import Checkpoint, CheckpointStore, checkpoint, load_key, parse
from store.port import Store, StoreError

_log = structlog.get_logger("checkpoints")
EVENTS = 500
"""Unsigned events at which a checkpoint is made without waiting any longer."""

SECONDS = 30.0
"""How long an event waits for its checkpoint at most, while the system runs."""

LOOK = 1.0
"""Seconds between two looks at how many events are waiting: nothing is asked of the database for each commit."""


class Checkpointing:
    """Signs the heads of `store` with the key in `key_path`, which is made on first use. Raises StoreError for a key
    that others may read or that is none: a system that cannot sign must say so when it starts."""

    def __init__(
        self, store: Store, key_path: Path, *, events: int = EVENTS, seconds: float = SECONDS, look: float = LOOK
    ) -> None:
        self._store = store
        self._key = load_key(key_path)
        self._events, self._seconds, self._look = events, seconds, look
        made = self._checkpoints.newest_checkpoint()
        self.signed = parse(made.body).position if made else 0
        """The global position up to which everything is signed, as far as this process knows."""

    @property
    def _checkpoints(self) -> CheckpointStore:
        return cast(CheckpointStore, self._store)  # every backend keeps checkpoints beside the store port

    def sign(self) -> Checkpoint | None:
        """Make a checkpoint now. None when there is nothing new, or another process was first. Raises StoreError."""
        position = self._store.last_position()
        made = checkpoint(self._checkpoints, self._key)
        self.signed = parse(made.body).position if made else position
        return made

    async def run(self, committed: Callable[[], anyio.Event]) -> None:
        """Sign for ever: `committed` gives the event that is set with the next commit. A store that is away, or a
        record that cannot be signed, is logged and tried again; the record itself does not wait for it."""
        while True:
            event = committed()
            if not await anyio.to_thread.run_sync(self._waiting):
                await event.wait()
            with anyio.move_on_after(self._seconds):
                while await anyio.to_thread.run_sync(self._waiting) < self._events:  # noqa: ASYNC110 - see LOOK
                    await anyio.sleep(self._look)
            try:
                await anyio.to_thread.run_sync(self.sign)
            except StoreError as problem:
                _log.warning("checkpoint_waits", reason=str(problem))
                await anyio.sleep(self._seconds)

    async def finish(self) -> None:
        """The last checkpoint of a system that stops, even when it is cancelled."""
        with anyio.CancelScope(shield=True):
            try:
                await anyio.to_thread.run_sync(self.sign)
            except StoreError as problem:
                _log.warning("checkpoint_failed", reason=str(problem))

    def _waiting(self) -> int:
        """How many events are not signed yet; none while the store is away."""
        try:
            return self._store.last_position() - self.signed
        except StoreError:
            return 0
