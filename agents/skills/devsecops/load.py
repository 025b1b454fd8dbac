"""How many requests a second one real model server answers within a latency limit, on this machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.skill import SkillError
from agents.skills.devsecops.replay import Asked, ask, percentile
from agents.skills.devsecops.replica import Replica

CLIENTS = (1, 2, 4, 8)
"""Clients at once; each sends its next request when it has the answer to the last."""
REQUESTS = 150
"""Requests of one step."""


@dataclass(frozen=True)
class Step:
    """So many clients at once: answers a second, median and 95th percentile (milliseconds), and how many failed."""

    clients: int
    per_second: float
    p50_ms: float
    p95_ms: float
    failed: int

    def within(self, limit_ms: float) -> bool:
        """Whether all were answered, 95 of 100 within `limit_ms`."""
        return not self.failed and self.p95_ms <= limit_ms


@dataclass(frozen=True)
class Measured:
    """One server under load. Seconds to start, CPU milliseconds for one request, peak resident memory in bytes."""

    steps: tuple[Step, ...]
    start_seconds: float
    cpu_ms: float
    peak_bytes: int
    cores: int

    def best(self, limit_ms: float) -> Step | None:
        """The step with the most answers a second within `limit_ms`; None where not even one client at a time is."""
        kept = [step for step in self.steps if step.within(limit_ms)]
        return max(kept, key=lambda step: step.per_second) if kept else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "steps": [asdict(step) for step in self.steps], "start_seconds": round(self.start_seconds, 3),
            "cpu_ms_per_request": round(self.cpu_ms, 4), "peak_bytes": self.peak_bytes, "cores": self.cores,
        }  # fmt: skip


def measure(
    package: bytes, asked: Sequence[Asked], *, work: Path, progress: Callable[[str], None], requests: int = REQUESTS
) -> Measured:
    """Serve `package` in a process of its own and send it `asked` over and over, by more and more clients at once.

    Stops what it starts. Raises SkillError when the server does not start.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        file = Path(folder) / "package.zip"
        file.write_bytes(package)
        with Replica("load", file) as server:
            ask(server.port, asked[0])  # the first answer of a fresh process is not like the others
            used, steps = server.cpu_seconds(), []
            for clients in CLIENTS:
                steps.append(_step(server.port, asked, clients, requests))
                progress(f"{clients} clients at once: {steps[-1].per_second:.0f} answers a second")
            cpu_ms = 1000 * (server.cpu_seconds() - used) / (requests * len(CLIENTS))
            return Measured(
                tuple(steps), server.start_seconds, cpu_ms, server.peak_bytes(), len(os.sched_getaffinity(0))
            )


def _step(port: int, asked: Sequence[Asked], clients: int, requests: int) -> Step:
    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        replies = list(pool.map(lambda number: ask(port, asked[number % len(asked)]), range(requests)))
        seconds = time.perf_counter() - began
    failed = sum(reply.code != 200 for reply in replies)
    if failed == len(replies):
        raise SkillError(f"the server answered none of {requests} requests: {replies[0].body}", "look at the model")
    times = [reply.seconds for reply in replies if reply.code == 200]
    return Step(
        clients, round(len(times) / seconds, 3), round(percentile(times, 0.5), 3), round(percentile(times, 0.95), 3),
        failed,
    )  # fmt: skip
