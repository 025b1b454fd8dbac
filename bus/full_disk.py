"""A NATS server whose disk was full: JetStream refuses every later write, without a word to the sender, until the
server starts again (seen with nats-server 2.15: "Filestore [VT_EVENTS] Critical write error: … no space left on
device"). What it says of that stands in its log."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

ENOUGH_BYTES = 32 * 1024 * 1024
"""Free space from which starting again is worth while."""

LOOK_SECONDS = 2.0

_SIGNS = (b"no space left", b"disk quota exceeded", b"Critical write error")


class FullDisk:
    """What the log of a server says of its disk from byte `start` on. `log_file` may be rotated meanwhile."""

    def __init__(
        self, log_file: Path, start: int = 0, *, enough: int = ENOUGH_BYTES, look: float = LOOK_SECONDS
    ) -> None:
        self._file = log_file
        self._enough = enough
        self._look = look
        self._read_to = start

    def seen(self) -> bool:
        """Whether the server wrote since the last look that its disk is full."""
        size = _size(self._file)
        start = self._read_to if size >= self._read_to else 0
        self._read_to = size
        if size == start:
            return False
        try:
            with self._file.open("rb") as file:
                file.seek(start)
                new = file.read(size - start)
        except FileNotFoundError:  # between two files of the rotation
            return False
        return any(sign.lower() in new.lower() for sign in _SIGNS)

    def room(self) -> bool:
        """Whether there is space again."""
        return shutil.disk_usage(self._file.parent).free >= self._enough

    async def over(self) -> None:
        """Wait until the disk was full and has room again: then the server is to be started again."""
        while not self.seen():  # noqa: ASYNC110 - what a file says, and the space on a disk, have no event
            await asyncio.sleep(self._look)
        log.error("nats_server_disk_full", directory=str(self._file.parent), do="free some space")
        while not self.room():  # noqa: ASYNC110
            await asyncio.sleep(self._look)
        self.seen()  # what it said while it was full is dealt with


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
