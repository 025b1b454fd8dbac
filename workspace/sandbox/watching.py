"""How much a running sandbox uses: the memory of all its processes, from outside, and what it has written."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from workspace.sandbox.port import Limits

_PAGE = os.sysconf("SC_PAGE_SIZE")
_BLOCK = 512


class DiskWatch:
    """How much directories have grown since it was made. Walking a large tree is done the more seldom, the longer it
    takes."""

    def __init__(self, directories: Sequence[Path], most: int) -> None:
        self._directories, self._most = directories, most
        self._before = self._used()
        self._next = 0.0

    def over(self) -> bool:
        """Whether they grew by more than allowed."""
        now = time.monotonic()
        if now < self._next:
            return False
        grown = self._used() - self._before
        self._next = now + max(0.2, 5.0 * (time.monotonic() - now))
        return grown > self._most

    def _used(self) -> int:
        return sum(_used(os.fspath(directory)) for directory in self._directories)


def _used(directory: str) -> int:
    """Bytes on disk below a directory. What disappears meanwhile does not count."""
    total = 0
    for where, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * _BLOCK
            except OSError:
                continue
    return total


def hungry(init: int, limits: Limits) -> bool:
    """Whether the processes of the namespace whose first process is `init` (as we see it) use too much memory together.

    Raises PermissionError when they cannot be looked at. A namespace that is gone uses nothing.
    """
    proc = f"/proc/{init}/root/proc"
    try:
        pids = [name for name in os.listdir(proc) if name.isdigit()]
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return False
    except PermissionError:
        if _without_memory(init):
            return False
        raise
    return sum(_resident(f"{proc}/{pid}/statm") for pid in pids) > limits.memory_bytes


def _without_memory(pid: int) -> bool:
    """Whether a process is ending: once it has given its memory back, nobody but root may look into it."""
    try:
        return Path(f"/proc/{pid}/statm").read_text("ascii").split()[0] == "0"
    except (OSError, IndexError):
        return True


def _resident(statm: str) -> int:
    """Bytes of memory that are the process's own: pages it shares (libraries) would be counted once for each."""
    try:
        with open(statm, encoding="ascii") as file:
            fields = file.read().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE if len(fields) > 2 else 0
