"""Sessions of ten phases that do nothing, durable after each, beside LangGraph and DBOS doing ten such steps.

A real NATS server (`sync_interval: always`), a record in SQLite (FULL), the conductor with its relay in one process,
the real agents' loop in another with a planner that has nothing to do. A phase costs three commands here, each
published, committed and relayed: the agent's claim and report, and the receipt of the commit it asks for, of which
everything but git itself is carried out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from agents.loop import Agent
from agents.port import Attempt, RunSkill, SkillRun
from benchmarks import samples
from benchmarks.measure import Figure
from benchmarks.orchestration_peers import STEPS
from bus.nats_bus import NatsBus, connect
from bus.port import Ack, Delivery, Outcome
from bus.server import EmbeddedServer
from bus.streams import EFFECTS, agent_consumer
from schemas.commands import RecordEffect, StartSession
from schemas.envelope import CommandEnvelope, EventEnvelope, decode_event
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.pipeline import PhaseDefinition, PipelineDefinition
from schemas.policy import Policy
from schemas.session import EffectRequested
from schemas.ticket import Budget, Ticket
from schemas.values import Mode, Role, Sender, Usage
from workspace.blobs import Blobs
from workspace.children import ForkServer

CONCURRENCY = (1, 16, 256)
SESSIONS = {1: 30, 16: 160, 256: 512}
ROUNDS = 3
MACHINE = "0" * 40
"""The commit that is not made."""

PIPELINE = PipelineDefinition(
    name="nothing",
    description="Ten phases that do nothing.",
    phases=tuple(
        PhaseDefinition(name=f"step-{number}", agent=Role.DATA, mode=Mode.BUILD, purpose="Nothing.", skills=("data.x",))
        for number in range(STEPS)
    ),
)


class Nothing:
    """The planner: no skill to run."""

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        """At once."""
        return [SkillRun("data.x", "nothing", (), (), (), (), (), Usage())]


class Train:
    """Starts sessions and sees them end."""

    def __init__(self, autopilot: NatsBus) -> None:
        self._bus = autopilot
        self._ended: dict[str, anyio.Event] = {}

    async def seen(self, subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        """The subscriber."""
        if ".session_completed." in f"{subject}.":
            self._ended[decode_event(raw).stream.name].set()
        assert ".session_blocked." not in f"{subject}.", raw

    async def session(self, name: str) -> float:
        """Seconds from the command that starts a session to the sight of its last event."""
        command = StartSession(
            ticket=Ticket(id=1, title="Nothing", pipeline="nothing", budget=Budget(minutes=1e5)),
            ticket_digest="0" * 64,
            drive="d-bench",
            pipeline=PIPELINE,
            policy=Policy(),
            policy_version="0" * 64,
            repository="none",
            base_commit=MACHINE,
            branch=f"phase/{name}",
            roots=(),
            seed=1,
        )
        ended = self._ended[samples.session(name).name] = anyio.Event()
        began = time.perf_counter()
        await self._bus.send(_envelope(name, command), timeout=120.0)
        await ended.wait()
        return time.perf_counter() - began

    async def effect(self, delivery: Delivery) -> Outcome:
        """The receipt of a commit that is not made."""
        cause: EventEnvelope[Any] = decode_event(delivery.raw)
        assert isinstance(cause.event, EffectRequested)
        name = cause.stream.name.removeprefix(samples.session("").name)
        await self._bus.send(
            _envelope(name, RecordEffect(effect=cause.event.effect, kind="commit", commit=MACHINE)), timeout=120.0
        )
        return Ack()


def _envelope(name: str, command: Command) -> CommandEnvelope:
    stream = samples.session(name)
    sender = Sender.AUTOPILOT.value
    return CommandEnvelope(uuid7(), stream, datetime.now(UTC), samples.ACTOR, sender, stream.name, "", command)


def figures() -> Iterator[Figure]:
    """Phase steps a second, and milliseconds for a session of ten."""
    with samples.scratch() as folder:
        ours: dict[int, list[tuple[float, float]]] = {}
        peers: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for number in range(ROUNDS):
            for concurrency in CONCURRENCY:
                runs = SESSIONS[concurrency]
                measured = anyio.run(_measure, folder / f"{number}-{concurrency}", concurrency, runs)
                ours.setdefault(concurrency, []).append(measured)
                for peer in ("langgraph", "dbos"):
                    where = folder / f"{peer}-{number}-{concurrency}"
                    where.mkdir()
                    peers.setdefault((peer, concurrency), []).append(_peer(peer, where, concurrency, runs))
    for concurrency in CONCURRENCY:
        rates, medians = zip(*ours[concurrency], strict=True)
        aim = {1: ("", "under 40")}.get(concurrency, ("1,000", ""))
        yield Figure(f"phase steps, {concurrency} sessions at once", "/s", rates, aim[0])
        yield Figure(f"session of {STEPS} phases, {concurrency} at once, p50", "ms", medians, aim[1])
        for peer in ("langgraph", "dbos"):
            rates, medians = zip(*peers[peer, concurrency], strict=True)
            yield Figure(f"  {peer}: steps, {concurrency} at once", "/s", rates)
            yield Figure(f"  {peer}: run of {STEPS} steps, {concurrency} at once, p50", "ms", medians)


def _result(whole: float, each: list[float]) -> tuple[float, float]:
    return len(each) * STEPS / whole, 1_000 * sorted(each)[len(each) // 2]


def _peer(name: str, folder: Path, concurrency: int, runs: int) -> tuple[float, float]:
    words = [sys.executable, "-m", "benchmarks.orchestration_peers", name, str(folder), str(concurrency), str(runs)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return _result(answer["seconds"], answer["each"])


async def _measure(folder: Path, concurrency: int, runs: int) -> tuple[float, float]:
    folder.mkdir()
    took: list[float] = []
    async with _train(folder) as train:
        await train.session("first")  # the consumers' first fetch, the first imports
        left = iter(range(runs))

        async def one_after_the_other() -> None:
            for number in left:
                took.append(await train.session(str(number)))

        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(one_after_the_other)
        return _result(time.perf_counter() - began, took)


@asynccontextmanager
async def _train(folder: Path) -> AsyncIterator[Train]:
    async with EmbeddedServer(folder / "bus") as server:
        words = [sys.executable, "-m", "benchmarks.serve", str(folder / "record.db"), str(server.directory)]
        async with await anyio.open_process(words, stderr=None) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                said = await process.stdout.receive()
                assert said.startswith(b"ready"), said.decode()
                async with (
                    await connect(server.login(Role.DATA.value)) as working,
                    await connect(server.login(Sender.AUTOPILOT.value)) as autopilot,
                    await connect(server.login("observer")) as observer,
                    _agent(working, folder).running(replace(agent_consumer(Role.DATA), max_in_flight=max(CONCURRENCY))),
                ):
                    train = Train(autopilot)
                    effects = replace(EFFECTS, max_in_flight=max(CONCURRENCY))
                    async with (
                        autopilot.consume(effects, train.effect),
                        observer.follow(("vt.default.evt.>",), train.seen, 0),
                    ):
                        yield train
            finally:
                with anyio.CancelScope(shield=True), suppress(anyio.BrokenResourceError):
                    await process.stdin.aclose()
                    await process.wait()


def _agent(bus: NatsBus, folder: Path) -> Agent:
    """The product's own loop; its fork server is never started, since nothing runs a skill."""
    children = ForkServer(())
    places = anyio.CapacityLimiter(max(CONCURRENCY))
    return Agent(Role.DATA, bus, Blobs(folder / "blobs"), children, folder / "attempts", places, planner=Nothing())
