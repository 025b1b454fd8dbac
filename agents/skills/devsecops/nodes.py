"""How large a node is and how many there are, from what one model server was measured to need: pure arithmetic.

A node has more than its pods get: what Google Kubernetes Engine keeps of CPU and memory follows its published formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

PER_NODE = 2
"""Model servers on one node: a node that fails takes no more than these with it."""
SYSTEM_CPU, SYSTEM_MB = 0.5, 700
"""Cores and MiB left on each node for the cluster's own pods (network, logs, metrics)."""
ROOM = 1.25
"""How much more memory a server gets than it was measured to hold."""
_STEP_MB, _LEAST_CPU, _MOST_CPU = 256, 2, 32
_LEAST_MB_PER_CPU, _MOST_MB_PER_CPU = 512, 8192


@dataclass(frozen=True)
class Server:
    """What one model server is given: cores and MiB."""

    cpu: float
    memory_mb: int


@dataclass(frozen=True)
class Node:
    """A machine of the family e2 with so many cores and MiB of memory."""

    cpu: int
    memory_mb: int

    @property
    def machine_type(self) -> str:
        """Its name at Google Cloud."""
        return f"e2-custom-{self.cpu}-{self.memory_mb}"

    @property
    def allocatable(self) -> tuple[float, float]:
        """Cores and MiB that pods get."""
        parts = ((1, 0.06), (1, 0.01), (2, 0.005), (_MOST_CPU, 0.0025))
        kept = _portion(self.cpu, parts)
        memory = ((4096, 0.25), (4096, 0.20), (8192, 0.10), (114688, 0.06), (1 << 30, 0.02))
        return self.cpu - kept, self.memory_mb - _portion(self.memory_mb, memory) - 100

    def holds(self, server: Server, count: int = PER_NODE) -> bool:
        """Whether `count` servers fit beside the cluster's own pods."""
        cpu, memory = self.allocatable
        return count * server.cpu + SYSTEM_CPU <= cpu and count * server.memory_mb + SYSTEM_MB <= memory


def _portion(whole: float, parts: tuple[tuple[int, float], ...]) -> float:
    kept = 0.0
    for size, share in parts:
        kept += min(whole, size) * share
        whole -= min(whole, size)
    return kept


def server_of(cpu: float, memory_mb: int, peak_bytes: int) -> Server:
    """What a server is given: as configured, or more where it was measured to need more."""
    return Server(cpu, max(memory_mb, ceil(peak_bytes * ROOM / 2**20 / 64) * 64))


def node_for(server: Server) -> Node:
    """The smallest node that holds PER_NODE of `server`. Raises ValueError when none does."""
    for cpu in range(_LEAST_CPU, _MOST_CPU + 1, 2):
        for memory in range(cpu * _LEAST_MB_PER_CPU, cpu * _MOST_MB_PER_CPU + 1, _STEP_MB):
            node = Node(cpu, memory)
            if node.holds(server):
                return node
    raise ValueError(f"no node of {_MOST_CPU} cores holds {PER_NODE} servers of {server.memory_mb} MiB")


def nodes_for(replicas: int) -> int:
    """Nodes for so many servers."""
    return max(1, ceil(replicas / PER_NODE))
