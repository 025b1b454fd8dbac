"""The drive's loop with real parts (record, bus, conductor, git) and an agent whose work takes no time: the circuit
breaker, priorities that change meanwhile, and a phase that is taken away from a replica."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import anyio
import pytest
import structlog
from anyio.abc import TaskGroup, TaskStatus

from agents.loop import Agent
from agents.port import Attempt, AttemptError, RunSkill, SkillRun
from autopilot.board import SessionRow
from autopilot.drive import Drive, DriveSettings
from autopilot.feed import Feed
from autopilot.sources.folder import FolderBacklog
from bus.nats_bus import NatsBus, connect
from bus.streams import agent_consumer
from cli.bootstrap import System, system
from cli.home import Home
from cli.selecting import chooser, place_of
from cli.settings import Settings
from schemas import commands as cmd
from schemas import session as ev
from schemas.drive import BreakerOpened, DriveEnded, SelectionRecorded
from schemas.envelope import CommandEnvelope, EventEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command, Event
from schemas.pipeline import PhaseDefinition, PipelineDefinition
from schemas.policy import Policy
from schemas.values import Actor, FailureClass, Mode, Priority, Role, Sender, Usage
from tests.integration.train import Train
from workspace.blobs import Blobs
from workspace.children import ForkServer
from workspace.git import Repository

PATIENCE = 120.0
"""Seconds until a test that hangs has failed."""
OLGA = Actor(name="olga", channel="cli", verified_as="os:olga")
PIPELINE = PipelineDefinition(
    name="ml-delivery",
    description="One phase that needs nothing.",
    phases=(
        PhaseDefinition(name="plan-it", agent=Role.LEAD, mode=Mode.SCOPE, purpose="Plan.", skills=("lead.nothing",)),
    ),
)


class Light:
    """A planner that runs no skill: a ticket called `Fails` cannot be used, one called `Held` waits to be released."""

    def __init__(self) -> None:
        self.at_work, self.release = anyio.Event(), anyio.Event()

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        title = attempt.phase.ticket.title
        if title == "Held":
            self.at_work.set()
            await self.release.wait()
        if title == "Fails":
            raise AttemptError(FailureClass.INPUT, f"ticket {attempt.phase.ticket.id} cannot be used")
        return [SkillRun("lead.nothing", "planned", (), (), (), (), (), Usage())]


@dataclass
class Ground:
    """A running system without agents, what was seen of its events, and the parts to drive it."""

    train: Train
    running: System
    feed: Feed
    bus: NatsBus
    tasks: TaskGroup
    seen: list[EventEnvelope[Event]]

    async def agent(self, planner: Light) -> None:
        """One more replica of Lead, which works on two attempts at once."""
        await self.tasks.start(self._serve, planner)

    async def _serve(self, planner: Light, *, task_status: TaskStatus[None]) -> None:
        home, places = Home(self.train.home), anyio.CapacityLimiter(1)
        spec = replace(agent_consumer(Role.LEAD), max_in_flight=2)
        async with await connect(self.running.server.login(Role.LEAD.value), name="agent-lead") as bus:
            agent = Agent(Role.LEAD, bus, Blobs(home.blobs), ForkServer(), home.attempts, places, planner)
            async with agent.running(spec):
                task_status.started()
                await anyio.sleep_forever()

    def drive(self, **policy: object) -> Drive:
        """A drive over the tickets that are there, one session at a time."""
        rules = Policy.model_validate({"operators": ("olga",), **policy})
        backlog, repository = FolderBacklog(self.train.repo / "backlog"), Repository(self.train.repo)
        settings = DriveSettings(
            backlog="backlog", repository=str(repository.path), tenant="default", policy=rules,
            policy_version="a" * 64, roots=(), wip=1,
        )  # fmt: skip
        choose = chooser(backlog, rules, repository, Home(self.train.home).pipelines)
        return Drive(self.bus, self.feed, settings, choose, lambda name: PIPELINE, partial(place_of, repository, rules))

    async def ask(self, session: str, command: Command) -> None:
        """A person's command, which must be accepted."""
        stream, sender = StreamId("default", "session", session), Sender.OPERATOR.value
        verdict = await self.running.operator.send(
            CommandEnvelope(uuid7(), stream, datetime.now(UTC), OLGA, sender, session, "", command)
        )
        assert verdict["accepted"], verdict

    async def until(self, there: Callable[[Event], bool]) -> EventEnvelope[Event]:
        """The first event that `there` accepts, as soon as it was seen."""
        while (found := next((e for e in self.seen if there(e.event)), None)) is None:
            await self.feed.change()
        return found

    def of(self, *kinds: type[Event]) -> list[Event]:
        """The events of some kinds, in order."""
        return [envelope.event for envelope in self.seen if isinstance(envelope.event, kinds)]

    def taken(self) -> list[int]:
        """The tickets for which sessions started, in order."""
        return [event.ticket.id for event in self.of(ev.SessionStarted) if isinstance(event, ev.SessionStarted)]

    def session(self, ticket: int) -> str:
        """The ticket's newest session."""
        return [row.id for row in self.feed.board.sessions.values() if row.ticket.id == ticket][-1]


@asynccontextmanager
async def ground(train: Train) -> AsyncIterator[Ground]:
    """Everything but agents, on the user's repository."""
    home = Home(train.home)
    home.prepare()
    seen: list[EventEnvelope[Event]] = []

    def listen(envelope: EventEnvelope[Event], row: SessionRow | None) -> None:
        seen.append(envelope)

    with anyio.fail_after(PATIENCE):
        async with (
            system(home, Settings(), "a test", agents=False) as running,
            await connect(running.server.login(Sender.AUTOPILOT.value), name="autopilot") as bus,
            Feed(bus, "default", listen).running() as feed,
            anyio.create_task_group() as tasks,
        ):
            yield Ground(train, running, feed, bus, tasks, seen)
            tasks.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


async def test_failures_in_a_row_stop_a_drive_and_one_success_between_them_does_not(train: Train) -> None:
    for number, title in enumerate(("Good", "Fails", "Good", "Fails", "Fails", "Good"), 1):
        train.ticket(number, title)
    async with ground(train) as on:
        await on.agent(Light())
        summary = await on.drive(max_consecutive_failures=2).run()
        await on.until(lambda event: isinstance(event, DriveEnded))
        assert on.taken() == [1, 2, 3, 4, 5]
        sessions = (on.session(4), on.session(5))
    assert [row["ticket"] for row in summary.completed] == [1, 3]
    assert sorted(row["ticket"] for row in summary.blocked) == [2, 4, 5]
    why = "2 sessions in a row ended blocked (the policy allows 2), last: plan-it: ticket 5 cannot be used"
    assert summary.stopped == why
    assert summary.skipped == [{"ticket": 6, "reason": f"not started: {why}"}]
    assert on.of(BreakerOpened) == [BreakerOpened(sessions=sessions, reason=why)]


async def test_without_a_limit_a_drive_goes_on_whatever_fails(train: Train) -> None:
    for number in (1, 2, 3):
        train.ticket(number, "Fails")
    async with ground(train) as on:
        await on.agent(Light())
        summary = await on.drive().run()
        assert on.taken() == [1, 2, 3]
    assert summary.stopped is None
    assert on.of(BreakerOpened) == []


async def test_a_priority_that_a_person_gives_counts_for_what_a_running_drive_takes_next(train: Train) -> None:
    labels = {2: ["Task", "auto", "now"], 3: ["Task", "auto", "next"], 4: ["Task", "auto"]}
    for number, listed in labels.items():
        train.ticket(number, "Fails", labels=listed)
    async with ground(train) as on:
        planner = Light()
        await on.agent(planner)
        await on.drive().run()
        assert on.taken() == [2, 3, 4], "by their labels"
        for number, listed in labels.items():
            train.ticket(number, "Good", "Mended.", labels=listed)
        train.ticket(1, "Held", risk="low", labels=["Task", "auto", "now"], created="2026-01-01T00:00:00Z")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.drive().run)
            await planner.at_work.wait()
            await on.ask(on.session(2), cmd.ChangePriority(priority=Priority.FUTURE))
            await on.ask(on.session(4), cmd.ChangePriority(priority=Priority.NOW))
            planner.release.set()
        assert on.taken()[3:] == [1, 4, 3, 2]
    orders = [event.order for event in on.of(SelectionRecorded) if isinstance(event, SelectionRecorded)]
    assert (1, 2, 3, 4) in orders
    assert (4, 3, 2) in orders


async def test_a_phase_taken_away_from_a_replica_goes_to_another_one(train: Train) -> None:
    train.ticket(1, "Held")
    async with ground(train) as on:
        hangs, works = Light(), Light()
        works.release.set()
        await on.agent(hangs)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.drive().run)
            await hangs.at_work.wait()
            await on.ask(on.session(1), cmd.ReassignAttempt(phase="plan-it", reason="hangs"))
            refused = await on.until(lambda event: isinstance(event, ev.CommandRefused))
            assert isinstance(refused.event, ev.CommandRefused)
            assert (refused.event.command, refused.event.code) == ("claim_attempt", "taken_away")
            await on.agent(works)
        claims = [event for event in on.of(ev.AttemptClaimed) if isinstance(event, ev.AttemptClaimed)]
        assert [claim.attempt for claim in claims] == [1, 2]
        assert claims[0].holder != claims[1].holder
        assert on.feed.board.sessions[on.session(1)].status == "completed"
