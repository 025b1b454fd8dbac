"""Watching over one run: its output is drained and bounded, its clock and its hunger are looked at, its end is waited
for."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from workspace.sandbox.port import Stopped

LOOK_SECONDS = 0.05
"""How often a run is looked at. What may explode faster than that (processes) is bounded by the kernel."""
_CHUNK = 1 << 16


class Output:
    """What is kept of an endless stream: its beginning and its end."""

    def __init__(self, most: int) -> None:
        self._half = max(most // 2, 1)
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._total += len(chunk)
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[max(room, 0) :]
        if len(self._tail) > 2 * self._half + _CHUNK:
            del self._tail[: -self._half]

    @property
    def left_out(self) -> int:
        """How many bytes were not kept."""
        return self._total - len(self._head) - min(len(self._tail), self._half)

    @property
    def text(self) -> str:
        """Beginning, mark, end; what is no UTF-8 is replaced."""
        mark = f"\n[… {self.left_out:,} bytes of output left out …]\n".encode() if self.left_out else b""
        return (bytes(self._head) + mark + bytes(self._tail[-self._half :])).decode("utf-8", "replace")


@dataclass(slots=True)
class Ending:
    """How `supervise` saw the run end."""

    exit_code: int | None
    stopped: Stopped
    seconds: float


def supervise(
    process: subprocess.Popen[bytes],
    output: Output,
    seconds: float,
    look: Callable[[], Stopped],
    kill: Callable[[], None],
) -> Ending:
    """Drain the process's standard output until it ends, or `look` names a limit that it is over, or its time is up;
    then `kill` must end it and all it started."""
    if process.stdout is None:
        raise ValueError("start the process with its output in a pipe")
    started = time.monotonic()
    stopped: Stopped = ""
    stream = process.stdout.fileno()
    os.set_blocking(stream, False)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        looked = started
        while True:
            now = time.monotonic()
            if now - started >= seconds:
                stopped = "time"
            elif now - looked >= LOOK_SECONDS:
                looked, stopped = now, look()
            if stopped:
                break
            if selector.select(LOOK_SECONDS) and not _drain(stream, output):
                break  # nobody is left who could print
            if process.poll() is not None:
                break  # something it started may hold the pipe: `kill` ends that
    kill()
    code = process.wait()
    while _drain(stream, output, once=False):
        pass
    process.stdout.close()
    return Ending(None if stopped else code, stopped, time.monotonic() - started)


def _drain(stream: int, output: Output, *, once: bool = True) -> bool:
    """Read what there is. False at the end of the stream, and with `once` false also when there is nothing yet."""
    try:
        chunk = os.read(stream, _CHUNK)
    except BlockingIOError:
        return once
    output.add(chunk)
    return bool(chunk)
