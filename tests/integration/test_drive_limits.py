"""Limits of a drive besides its own sessions: one repository's, Auto-Pilot's open pull requests; and a drive that waits
looks at the backlog now and then."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio

from autopilot.drive import Drive, DriveSettings
from autopilot.sources.folder import FolderBacklog
from autopilot.sources.github import GitHubBacklog
from autopilot.sources.port import Backlog
from cli.home import Home
from cli.selecting import chooser, place_of
from forge.client import GitHub
from forge.credentials import Token
from schemas import session as ev
from schemas.policy import Policy
from tests.github_server.server import GitHubServer
from tests.github_server.state import Pull
from tests.integration.test_drive_loop import PIPELINE, Ground, Light, ground, quiet
from tests.integration.train import Train
from workspace.git import Repository

__all__ = ["quiet"]  # a fixture


def drive(on: Ground, backlog: Backlog, look: float | None = None, **policy: object) -> Drive:
    """A drive with room for two sessions."""
    rules, repository = Policy.model_validate(policy), Repository(on.train.repo)
    settings = DriveSettings(
        backlog=backlog.name, repository=str(repository.path), tenant="default", policy=rules, policy_version="a" * 64,
        roots=(), wip=2, wait=look is not None, look_seconds=look,
    )  # fmt: skip
    choose = chooser(backlog, rules, repository, Home(on.train.home).pipelines)
    return Drive(on.bus, on.feed, settings, choose, lambda name: PIPELINE, partial(place_of, repository, rules))


async def test_one_session_at_a_time_in_a_repository(train: Train) -> None:
    train.ticket(1, "Held")
    train.ticket(2, "Good")
    backlog = FolderBacklog(train.repo / "backlog")
    async with ground(train) as on:
        planner = Light()
        await on.agent(planner)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive(on, backlog, wip_per_repository=1).run)
            await planner.at_work.wait()
            planner.release.set()
        kinds = [(type(e.event), e.stream.name) for e in on.seen]
        first, second = on.session(1), on.session(2)
        assert kinds.index((ev.SessionCompleted, first)) < kinds.index((ev.SessionStarted, second))


async def test_a_drive_that_waits_finds_new_tickets(train: Train) -> None:
    train.ticket(1, "Held")
    backlog = FolderBacklog(train.repo / "backlog")
    async with ground(train) as on:
        planner = Light()
        await on.agent(planner)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive(on, backlog, look=0.01).run)
            await planner.at_work.wait()
            train.ticket(2, "Good")
            await on.until(lambda event: isinstance(event, ev.SessionStarted) and event.ticket.id == 2)
            planner.release.set()
        assert on.taken() == [1, 2]


async def test_open_pull_requests_are_limited_and_the_summary_says_so(train: Train, tmp_path: Path) -> None:
    with GitHubServer(tmp_path / "github") as server:
        bot = server.state.account("train[bot]", kind="Bot")
        repository = server.state.repository("acme/wine", **{"train[bot]": "write", "alice": "triage"})
        server.state.issue(repository, "Sort wines", author="alice", labels=("Task", "auto"))
        for name in ("phase/delivery_8-aaaaa", "phase/delivery_9-bbbbb"):
            server.state.issue(repository, "Ours", author="train[bot]", pull=Pull(name, "main", "acme"))
        github = GitHub("acme/wine", base_url=server.url, credentials=Token(bot.token))
        async with ground(train) as on:
            summary = await drive(on, GitHubBacklog(github), max_open_pull_requests=2).run()
            assert on.taken() == []
        github.close()
    why = "not started: 2 pull requests of Auto-Pilot are open (the policy allows 2)"
    assert summary.skipped == [{"ticket": 1, "reason": why}]
