"""Ten thousand sessions that wait at a gate: what a restart of the conductor takes, and what it costs to let them wait.

The record is filled by the conductor itself; then `valuetrain conductor run` is started as a process of its own on it,
beside a NATS server that has its events, killed, and started again. It serves when a command has its receipt: the
approval of a session's gate, which is folded from the record for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio

from benchmarks import samples
from benchmarks.measure import Figure
from benchmarks.orchestration import MACHINE
from bus.nats_bus import NatsBus, connect
from bus.port import BusError
from cli.bootstrap import embedded
from cli.home import Home
from cli.settings import Settings
from conductor.service import Conductor
from conductor.state import SessionState
from schemas.commands import ClaimAttempt, DecideGate, RecordEffect, ReportWork, StartSession
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.pipeline import GateDefinition, PhaseDefinition, PipelineDefinition
from schemas.policy import Approver, Policy
from schemas.ticket import Budget, Ticket
from schemas.values import Actor, Mode, Role, Sender
from store.sqlite import SqliteStore

SESSIONS = (1_000, 10_000)
ROUNDS = 3
AT_ONCE = 250
IDLE_SECONDS = 10.0
LEASE = 3
"""The number of the event that gives it: the session's third."""
PERSON = Actor(name="dana", channel="cli", verified_as="os:dana")
PIPELINE = PipelineDefinition(
    name="waiting",
    description="One phase with a gate for a person.",
    phases=(
        PhaseDefinition(
            name="step",
            agent=Role.DATA,
            mode=Mode.BUILD,
            purpose="Wait.",
            skills=("data.x",),
            gate=GateDefinition(human="always", expires_seconds=30 * 86_400.0),
        ),
    ),
)


def figures() -> Iterator[Figure]:
    """Seconds for a restart, and the share of a core that waiting takes."""
    for sessions in SESSIONS:
        with samples.scratch() as folder:
            restarts, idle = anyio.run(_measure, folder, sessions)
        yield Figure(f"restart of the conductor, {sessions:,} sessions wait at gates", "s", tuple(restarts), "under 5")
        yield Figure(f"a core's share while {sessions:,} sessions wait", "%", (idle,), "none by session")


async def _measure(folder: Path, sessions: int) -> tuple[list[float], float]:
    home = Home(folder)
    home.prepare()
    with closing(SqliteStore.open(home.record)) as store:
        gates = await _fill(Conductor(store), sessions)
        events = store.last_position()
    async with embedded(home, Settings()) as server:
        with _conducting(home, server.url):
            async with await connect(server.login("observer")) as observer:
                await _relayed(observer, events)
        restarts, idle = [], 0.0
        async with await connect(server.login(Sender.OPERATOR.value)) as operator:
            for gate in gates:
                began = time.perf_counter()
                with _conducting(home, server.url) as process:
                    await _approve(operator, gate)
                    restarts.append(time.perf_counter() - began)
                    before = _cpu_seconds(process.pid)
                    await anyio.sleep(IDLE_SECONDS)
                    idle = 100.0 * (_cpu_seconds(process.pid) - before) / IDLE_SECONDS
    return restarts, idle


@contextmanager
def _conducting(home: Home, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The product's own conductor as a process, killed after the block."""
    words = [sys.executable, "-m", "cli.main", "conductor", "run", "--home", str(home.path)]
    environment = os.environ | {"VALUETRAIN_NATS_URL": url}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def _fill(conductor: Conductor, sessions: int) -> list[tuple[str, str]]:
    """Take sessions up to their gate. Some of them with their gates."""
    data, autopilot = Role.DATA.value, Sender.AUTOPILOT.value
    steps: tuple[tuple[Command, str], ...] = (
        (_START, autopilot),
        (ClaimAttempt(phase="step", attempt=1, holder="bench"), data),
        (
            ReportWork(
                phase="step", attempt=1, lease=LEASE, summary="nothing", artifacts=(), ticked=(), measurements=()
            ),
            data,
        ),
    )
    gates: list[tuple[str, str]] = []
    for first in range(0, sessions, AT_ONCE):
        names = [samples.session(number).name for number in range(first, min(first + AT_ONCE, sessions))]
        for command, sender in steps:
            await _accepted(conductor, [_envelope(name, command, sender) for name in names])
        states = [conductor.load(_stream(name)) for name in names]
        assert all(isinstance(state, SessionState) for state in states)
        effects = [(state.id, state.effects[0].id) for state in states if isinstance(state, SessionState)]
        receipts = [RecordEffect(effect=effect, kind="commit", commit=MACHINE) for _, effect in effects]
        await _accepted(conductor, [_envelope(n, r, autopilot) for (n, _), r in zip(effects, receipts, strict=True)])
        if len(gates) < ROUNDS:
            for name in names[:ROUNDS]:
                state = conductor.load(_stream(name))
                assert isinstance(state, SessionState)
                assert state.open_gate is not None
                gates.append((name, state.open_gate.id))
    return gates


async def _accepted(conductor: Conductor, envelopes: list[CommandEnvelope]) -> None:
    for verdict in await conductor.handle_commands(envelopes):
        assert verdict["accepted"], verdict


async def _relayed(observer: NatsBus, events: int) -> None:
    """Wait until the server holds all events."""
    held = 0
    while held < events:
        await anyio.sleep(0.1)
        with suppress(BusError):  # the conductor makes the streams first
            held = await observer.last_sequence()


async def _approve(operator: NatsBus, gate: tuple[str, str]) -> None:
    """Until somebody answers."""
    command = _envelope(gate[0], DecideGate(gate=gate[1], decision="approve", reason="fine"), Sender.OPERATOR.value)
    while True:
        try:
            verdict = await operator.send(command, timeout=1.0)
        except BusError:
            continue
        assert verdict["accepted"], verdict
        return


def _stream(name: str) -> StreamId:
    return StreamId("default", "session", name)


def _envelope(name: str, command: Command, sender: str) -> CommandEnvelope:
    return CommandEnvelope(uuid7(), _stream(name), datetime.now(UTC), PERSON, sender, name, "", command)


_START = StartSession(
    ticket=Ticket(id=1, title="Waiting", pipeline="waiting", budget=Budget(minutes=1e5)),
    ticket_digest="0" * 64,
    drive="d-bench",
    pipeline=PIPELINE,
    policy=Policy(approvers=(Approver(name=PERSON.name),)),
    policy_version="0" * 64,
    repository="none",
    base_commit=MACHINE,
    branch="phase/waiting",
    roots=(),
    seed=1,
)


def _cpu_seconds(pid: int) -> float:
    """What the process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
