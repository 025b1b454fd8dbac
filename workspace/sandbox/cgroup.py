"""The kernel's own count of processes, for root: the limit every other user has (RLIMIT_NPROC) does not hold for it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from schemas.ids import short_token
from workspace.sandbox.port import SandboxUnavailable

_ROOT = Path("/sys/fs/cgroup")
_NAME = "value-train"
_REMEDY = "run the train as an ordinary user, or where control groups can be written"


class ProcessCount:
    """A control group that holds at most so many processes."""

    def __init__(self, most: int) -> None:
        """Raises SandboxUnavailable where none can be made."""
        self._group = _make(most)

    def hold(self, pid: int) -> None:
        """Count `pid`, and all it starts from now on. Raises OSError."""
        (self._group / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Remove the group; what was in it must have ended. Those who have just ended may still count for a moment."""
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                try:
                    self._group.rmdir()
                except OSError:
                    time.sleep(0.005)
                    continue
            return


def counted(most: int) -> ProcessCount | None:
    """For root a group of at most `most` processes, for others None. Raises SandboxUnavailable."""
    return ProcessCount(most) if os.geteuid() == 0 else None


def _make(most: int) -> Path:
    for parent in _parents():
        _sweep(parent)
        group = parent / f"{_NAME}-{os.getpid()}-{short_token()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / "pids.max").write_text(str(most))
            return group
        except OSError:
            group.rmdir()
    raise SandboxUnavailable("root's processes cannot be counted here, so a fork bomb would not be bounded", _REMEDY)


def _sweep(parent: Path) -> None:
    """Remove the groups of processes that were killed before they could do it."""
    for group in parent.glob(f"{_NAME}-*-*"):
        pid = group.name.split("-")[-2]
        if not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):  # something in it is still ending
                group.rmdir()


def _parents() -> Iterator[Path]:
    """Where a group may be made: below our own, else beside it (version 2 divides only what holds no process)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, own = line.split(":", 2)
        if "pids" in controllers.split(","):
            base = _ROOT / "pids"
        elif number == "0" and not controllers:
            base = _ROOT
        else:
            continue
        place = base / re.sub(r"^/+", "", own)
        yield place
        if place != base:
            yield place.parent
