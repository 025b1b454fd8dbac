"""Whole tickets, from `session_started` to `session_completed`: wall time, where it goes, and the most memory held.

The routine ticket (breast cancer, 569 rows × 30) and a larger one (randhie, 20,190 rows × 9), each alone through
`valuetrain drive`, two skills at once; and how long a skill takes to start in a warm fork server.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anyio

from agents.worker import PRELOAD
from benchmarks.measure import Figure
from benchmarks.overhead import _run
from workspace.children import ForkServer

RUNS = 3
STARTS = 20
TICKETS = {
    "569 × 30": ("sklearn:breast_cancer", "malignant", "under 15"),
    "20,190 × 9": ("statsmodels:randhie", "frequent_visitor", "under 45"),
}
TEXT = """\
---
id: 1
title: A ticket of the benchmark
labels: [Task, auto, now]
data: {data}
target: {target}
---
Nothing but a measurement.
"""


@dataclass(frozen=True, slots=True)
class Drive:
    """One ticket: seconds of the session, from its phase `exploration` (the profile) on, of the whole command and of
    each phase; bytes the largest skill held."""

    wall: float
    from_profile: float
    command: float
    phases: Counter[str]
    memory: int


def figures() -> Iterator[Figure]:
    """Seconds and megabytes."""
    for size, (data, target, aim) in TICKETS.items():
        runs = [_drive(data, target) for _ in range(RUNS)]
        yield Figure(f"ticket of {size}, profile to signed package", "s", tuple(run.from_profile for run in runs), aim)
        yield Figure(f"ticket of {size}, scope to signed package", "s", tuple(run.wall for run in runs))
        yield Figure(f"ticket of {size}, the whole command", "s", tuple(run.command for run in runs))
        memory = tuple(run.memory / 1e6 for run in runs)
        yield Figure(f"ticket of {size}, most memory of a skill", "MB", memory, "under 1,000")
        for phase, _ in runs[0].phases.most_common():
            yield Figure(f"ticket of {size}, skills of {phase}", "s", tuple(run.phases[phase] for run in runs))
    yield Figure("a skill's child, started warm, all skills found", "ms", tuple(anyio.run(_starts)), "under 150")


def _drive(data: str, target: str) -> Drive:
    import time

    with tempfile.TemporaryDirectory() as place:
        repo = Path(place) / "repository"
        (repo / "backlog").mkdir(parents=True)
        (repo / "backlog" / "1.md").write_text(TEXT.format(data=data, target=target), "utf-8")
        who = ("-c", "user.name=b", "-c", "user.email=b@localhost")
        for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "x")):
            subprocess.run(["git", *words], cwd=repo, check=True)
        started = time.perf_counter()
        _run(repo, "drive", "--backlog", "backlog")
        command = time.perf_counter() - started
        events = _run(repo, "tail")
    times = {event["type"]: datetime.fromisoformat(event["time"]) for event in events}
    profiled = next(
        datetime.fromisoformat(event["time"])
        for event in events
        if event["type"] == "phase_started" and event["data"]["phase"] == "exploration"
    )
    phases: Counter[str] = Counter()
    memory = 0
    for event in events:
        if event["type"] == "work_reported":
            phases[event["data"]["phase"]] += event["data"]["usage"]["wall_seconds"]
            memory = max(memory, event["data"]["usage"]["peak_rss_bytes"])
    wall, from_profile = (
        (times["session_completed"] - start).total_seconds() for start in (times["session_started"], profiled)
    )
    return Drive(wall, from_profile, command, phases, memory)


async def _starts() -> list[float]:
    """Milliseconds from the request to the end of a child that looks for a skill nobody has."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        async with ForkServer(PRELOAD) as children:
            await children.warm()
            for _ in range(STARTS):
                result = await children.run(
                    "agents.worker:run",
                    {"request": {"skill": "nobody.has"}},
                    cwd=Path(place),
                    log=Path(place) / "log",
                    seconds=60.0,
                )
                found.append(result.wall_seconds * 1000)
    return found
