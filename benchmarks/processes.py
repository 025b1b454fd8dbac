"""What processes take of the processor: on a machine that others use, it says more than a rate does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


class Meter:
    """Counts the CPU time of some processes, by name, from the moment it is made. Linux only (`/proc`)."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        """`processes` are process ids by name. Raises FileNotFoundError for one that is gone."""
        self._processes = dict(processes)
        self._began = self._now()

    def microseconds(self, count: int) -> dict[str, float]:
        """µs since then for each of `count` things, by process."""
        return {name: 1e6 * (now - self._began[name]) / count for name, now in self._now().items()}

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._processes.items()}


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU time that a process has taken, its ended threads included and its children not."""
    # The second field is the program's name in brackets, which may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
