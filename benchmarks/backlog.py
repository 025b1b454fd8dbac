"""The backlog: selecting from 10,000 open issues, and what polling costs.

Selecting is measured in the processor's time. Polling is done against the stand-in for GitHub of the tests, over real
HTTP; what counts there is the number of requests.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from autopilot.select import select
from autopilot.sources.github import GitHubBacklog
from autopilot.sources.port import Entry, Labeller, Snapshot
from benchmarks.measure import Figure
from forge.client import GitHub
from forge.credentials import Token
from schemas.policy import Policy
from schemas.ticket import Ticket
from schemas.values import RiskLevel
from tests.github_server.server import GitHubServer

RUNS = 7
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SIZES = (2_500, 5_000, 10_000)
ISSUES = 300


def figures() -> Iterator[Figure]:
    """Milliseconds of processor time, and requests."""
    for size in SIZES:
        snapshot = _issues(size)
        aim = "under 200, and linear" if size == SIZES[-1] else ""
        yield Figure(f"select from {size:,} open issues", "ms", tuple(_select(snapshot) for _ in range(RUNS)), aim)
    yield from _polls()


def _issues(size: int) -> Snapshot:
    """Open issues as a large repository has them: half labelled for Auto-Pilot, some blocked, some held or assigned."""
    chance = random.Random(size)
    labellers = {label: Labeller("alice", "triage") for label in ("task", "auto")}
    entries = {}
    for number in range(1, size + 1):
        extra = chance.choice([(), (), ("now",), ("next",), ("hold",), ("bug", "docs")])
        blockers = chance.sample(range(1, number), 2) if number > 10 and chance.random() < 0.2 else ()
        ticket = Ticket(
            id=number,
            title=f"Issue {number}",
            labels=("Task", "auto", *extra) if chance.random() < 0.5 else ("bug", *extra),
            blocked_by=tuple(blockers),
            risk=chance.choice(list(RiskLevel)),
            assignee=chance.choice([None, None, None, "max"]),
            created=NOW - timedelta(days=chance.random() * 400),
            origin="github:acme/wine",
        )
        entries[number] = Entry(ticket, f"{number:064x}", NOW, f"#{number}", labellers=labellers)
    return Snapshot("github:acme/wine", entries)


def _select(snapshot: Snapshot) -> float:
    began = time.process_time()
    select(snapshot, Policy(), {}, NOW)
    return (time.process_time() - began) * 1000.0


def _polls() -> Iterator[Figure]:
    """A repository with 300 issues, ten of them for Auto-Pilot, read for the first time and then again."""
    with tempfile.TemporaryDirectory() as folder, GitHubServer(Path(folder)) as server:
        bot = server.state.account("train[bot]", kind="Bot")
        repository = server.state.repository("acme/wine", **{"train[bot]": "write", "alice": "triage"})
        for number in range(ISSUES):
            labels = ("Task", "auto") if number % 30 == 0 else ("bug",)
            server.state.issue(repository, f"Issue {number}", "### Data\n\ndata/wine.csv\n", labels=labels)
        github = GitHub("acme/wine", base_url=server.url, credentials=Token(bot.token))
        minutes = count(step=120)
        source = GitHubBacklog(github, clock=lambda: float(next(minutes)))
        source.read()
        yield Figure(f"first reading of {ISSUES} issues, 10 for Auto-Pilot: requests", "", (float(server.log.count()),))
        for _ in range(3):  # GitHub's copies are given time to agree, so the window asked for moves twice
            source.read()
        server.forget()
        source.read()
        yield Figure("a poll without news: requests", "", (float(server.log.count()),), "at most 2")
        yield Figure("a poll without news: answered 304", "", (float(server.log.count(status=304)),), "all of them")
        github.close()
