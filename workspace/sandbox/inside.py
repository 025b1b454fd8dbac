"""A run as it is seen from outside, by the first process of its namespace."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable
from typing import IO

from workspace.sandbox.cgroup import ProcessCount
from workspace.sandbox.port import Limits, Stopped
from workspace.sandbox.watching import DiskWatch, hungry


class Inside:
    """The first process of a run, whose end is the end of all in its namespace. `first` is its pid, 0 without one."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        first: int,
        limits: Limits,
        disk: DiskWatch,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._process, self._first, self._limits, self._disk, self._stop = process, first, limits, disk, stop
        self._handle: int | None = None
        self.blind = ""
        if first:
            with contextlib.suppress(ProcessLookupError):
                self._handle = os.pidfd_open(first)

    def start(self, count: ProcessCount | None, go: IO[bytes]) -> None:
        """Let the command begin, counted if need be. Raises OSError when it cannot be counted."""
        if count is not None and self._first:
            count.hold(self._first)
        with contextlib.suppress(BrokenPipeError):
            go.write(b"!")
        go.close()

    def look(self) -> Stopped:
        """The limit it is over, if any."""
        if self._stop is not None and self._stop():
            return "order"
        if self._disk.over():
            return "disk"
        if not self._first:
            return ""
        try:
            return "memory" if hungry(self._first, self._limits) else ""
        except PermissionError as problem:
            self.blind = str(problem)
            return "memory"

    def kill(self) -> None:
        """End everything in the namespace, and return when it is gone."""
        if self._handle is None:
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        select.select([self._handle], [], [])  # readable when it has ended, which is after all others in it
        os.close(self._handle)
        self._handle = None


def as_signal(code: int) -> int:
    """The code of a command from that of its sandbox, which says 128 + N where signal N ended it, as shells do."""
    return 128 - code if 128 < code <= 128 + signal.NSIG else code
