"""From a command's publication to its event at a subscriber, and how many commands a second can be kept up.

A real NATS server (`sync_interval: always`), a record in SQLite (FULL), the conductor with its relay in one process,
the senders with the subscriber in another. The command is `claim_attempt`: each attempt of each session gets one, and a
replica that takes a task over sends another; it is accepted, and makes one event.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio

from benchmarks import samples
from benchmarks.measure import Figure
from benchmarks.processes import Meter
from bus.nats_bus import NatsBus, connect
from bus.server import EmbeddedServer
from schemas.commands import ClaimAttempt, StartSession
from schemas.envelope import CommandEnvelope, decode_command
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.values import Role, Sender
from tests.golden.make_history import HISTORY

RATES = (200, 1_000)
SESSIONS = (64, 256)
SECONDS = 5.0
ROUNDS = 3
WARM_UP = 0.2
"""The share of a round's first commands that is not counted."""

START = next(
    command.command
    for line in HISTORY.read_bytes().splitlines()
    if b'"sender":' in line[:600] and isinstance((command := decode_command(line)).command, StartSession)
)


class Train:
    """What is measured: who sends, and when each command was sent and its event seen."""

    def __init__(self, sender: NatsBus, starter: NatsBus, tag: str, processes: dict[str, int]) -> None:
        """`processes` are the process ids of all that take part, by name."""
        self._sender, self._starter = sender, starter
        self._tag = tag
        self.processes = processes
        self.sent: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.arrived = anyio.Event()

    async def event(self, subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        """The subscriber."""
        if b'"type":"attempt_claimed"' in raw[:200]:
            start = raw.index(b'"causation_id":"') + len(b'"causation_id":"')
            self.seen[raw[start : raw.index(b'"', start)].decode()] = time.perf_counter()
            self.arrived.set()
            self.arrived = anyio.Event()

    async def start(self, sessions: int) -> None:
        """Start the sessions, so that each waits for its first attempt to be claimed."""
        async with anyio.create_task_group() as tasks:
            for number in range(sessions):
                tasks.start_soon(self._send, self._starter, number, START, Sender.AUTOPILOT.value)

    async def claim(self, number: int) -> None:
        """One command, until its receipt is there."""
        command = ClaimAttempt(phase=START.pipeline.phases[0].name, attempt=1, holder="bench")
        await self._send(self._sender, number, command, START.pipeline.phases[0].agent.value)

    async def _send(self, bus: NatsBus, number: int, command: Command, sender: str) -> None:
        stream = samples.session(f"{self._tag}-{number}")
        now, id_ = datetime.now(UTC), uuid7()
        envelope = CommandEnvelope(id_, stream, now, samples.ACTOR, sender, stream.name, "", command)
        self.sent[id_] = time.perf_counter()
        verdict = await bus.send(envelope, timeout=60.0)
        assert verdict["accepted"], verdict

    async def all_seen(self, ids: set[str]) -> None:
        """Wait until the subscriber has seen the event of each command."""
        while not ids <= self.seen.keys():
            await self.arrived.wait()


def figures() -> Iterator[Figure]:
    """Milliseconds, commands a second, and microseconds of CPU time a command."""
    with samples.scratch() as folder:
        latencies, sustained, costs = anyio.run(_measure, folder)
    for rate, runs in latencies.items():
        p50, p99 = zip(*runs, strict=True)
        aims = ("under 3", "under 20") if rate == 200 else ("", "")
        yield Figure(f"command sent to event seen, {rate:,}/s, p50", "ms", p50, aims[0])
        yield Figure(f"command sent to event seen, {rate:,}/s, p99", "ms", p99, aims[1])
    for sessions, rates in sustained.items():
        yield Figure(f"commands sustained, {sessions} sessions", "/s", tuple(rates), "6,000")
    for load, runs in costs.items():
        for process in runs[0]:
            yield Figure(f"  CPU a command, {load}: {process}", "µs", tuple(run[process] for run in runs))
        yield Figure(f"  CPU a command, {load}: all", "µs", tuple(sum(run.values()) for run in runs))


Costs = dict[str, list[dict[str, float]]]
"""Microseconds of CPU time a command by process, one entry a round, by load."""


async def _measure(folder: Path) -> tuple[dict[int, list[tuple[float, float]]], dict[int, list[float]], Costs]:
    costs: Costs = {}
    latencies: dict[int, list[tuple[float, float]]] = {rate: [] for rate in RATES}
    sustained: dict[int, list[float]] = {sessions: [] for sessions in SESSIONS}
    for number in range(ROUNDS):
        async with _train(folder, f"r{number}") as train:
            await train.start(max(SESSIONS))
            for rate in RATES:
                meter = Meter(train.processes)
                latencies[rate].append(await _at_rate(train, rate))
                costs.setdefault(f"{rate:,}/s", []).append(meter.microseconds(len(train.sent)))
            for sessions in SESSIONS:
                meter = Meter(train.processes)
                sustained[sessions].append(await _flat_out(train, sessions))
                costs.setdefault(f"{sessions} sessions", []).append(meter.microseconds(len(train.sent)))
    return latencies, sustained, costs


@asynccontextmanager
async def _train(folder: Path, tag: str) -> AsyncIterator[Train]:
    async with EmbeddedServer(folder / f"bus-{tag}") as server:
        words = [sys.executable, "-m", "benchmarks.serve", str(folder / f"{tag}.db"), str(server.directory)]
        async with await anyio.open_process(words, stderr=None) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                said = await process.stdout.receive()
                assert said.startswith(b"ready"), said.decode()
                role = START.pipeline.phases[0].agent
                async with (
                    await connect(server.login(Role(role).value)) as sender,
                    await connect(server.login(Sender.AUTOPILOT.value)) as starter,
                    await connect(server.login("observer")) as observer,
                ):
                    processes = {
                        "nats-server": server.info.pid,
                        "conductor": process.pid,
                        "senders and subscriber": os.getpid(),
                    }
                    train = Train(sender, starter, tag, processes)
                    async with observer.follow(("vt.default.evt.>",), train.event, 0):
                        yield train
            finally:
                with anyio.CancelScope(shield=True), suppress(anyio.BrokenResourceError):
                    await process.stdin.aclose()
                    await process.wait()


async def _at_rate(train: Train, rate: int) -> tuple[float, float]:
    """p50 and p99 in milliseconds. The clock decides when to send, not the answers: a slow one delays no other."""
    train.sent.clear()
    train.seen.clear()
    sessions = max(SESSIONS)
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(int(rate * SECONDS)):
            pause = began + number / rate - time.perf_counter()
            if pause > 0:
                await anyio.sleep(pause)
            tasks.start_soon(train.claim, number % sessions)
    await train.all_seen(set(train.sent))
    counted = list(train.sent)[int(WARM_UP * len(train.sent)) :]
    took = sorted(1_000 * (train.seen[each] - train.sent[each]) for each in counted)
    return statistics.median(took), took[int(0.99 * len(took))]


async def _flat_out(train: Train, sessions: int) -> float:
    """Commands a second when every session sends its next command as soon as the last one is answered."""
    train.sent.clear()
    train.seen.clear()
    began = time.perf_counter()

    async def keep_sending(number: int) -> None:
        while time.perf_counter() - began < SECONDS:
            await train.claim(number)

    async with anyio.create_task_group() as tasks:
        for number in range(sessions):
            tasks.start_soon(keep_sending, number)
    await train.all_seen(set(train.sent))
    return len(train.sent) / (time.perf_counter() - began)
