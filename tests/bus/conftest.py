"""A real NATS server for each test (it starts in some 40 ms), and connections to it as any role."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.conformance.bus", "tests.conformance.bus_consuming", "tests.conformance.bus_kit")

from bus import streams  # noqa: E402
from bus.nats_bus import NatsBus, connect  # noqa: E402
from bus.port import BusError, ConsumerSpec  # noqa: E402
from bus.processes import PROC  # noqa: E402
from bus.server import EmbeddedServer  # noqa: E402
from tests.conformance.bus_kit import eventually  # noqa: E402


class NatsHarness:
    """See `tests.conformance.bus.Harness`; also more violent accidents."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self._open: list[NatsBus] = []
        self._conductor: NatsBus | None = None

    async def bus(self, role: str, consumers: tuple[ConsumerSpec, ...] = streams.CONSUMERS) -> NatsBus:
        if role != "conductor" and self._conductor is None:
            await self.bus("conductor")  # the streams have to be made by somebody
        bus = await connect(self.server.login(role), consumers=consumers)
        self._open.append(bus)
        if role == "conductor":
            self._conductor = bus
        return bus

    async def prepare(self, spec: ConsumerSpec) -> None:
        conductor = self._conductor or await self.bus("conductor")
        await streams.ensure(conductor.connection, [spec])

    async def kill(self) -> None:
        """The server is gone, without warning."""
        os.kill(self.server.info.pid, signal.SIGKILL)
        assert await self.server.exited() == -signal.SIGKILL

    async def freeze(self) -> None:
        """The server says nothing any more, but its connections stay."""
        pid = self.server.info.pid
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: _stopped(pid))  # each of its threads finishes what it is at

    def thaw(self) -> None:
        os.kill(self.server.info.pid, signal.SIGCONT)

    async def crash(self) -> None:
        await self.kill()
        await self.server.restart()

    async def lose_disk(self) -> None:
        """The server dies and comes back with nothing."""
        await self.kill()
        shutil.rmtree(self.server.directory / "jetstream")
        await self.server.restart()

    async def close(self) -> None:
        await asyncio.gather(*(bus.close() for bus in self._open))


def _stopped(pid: int) -> bool:
    if not PROC.is_dir():
        return True
    states = [path.read_text().rpartition(")")[2].split()[0] for path in (PROC / str(pid) / "task").glob("*/stat")]
    return set(states) == {"T"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server of the test's own."""
    async with EmbeddedServer(tmp_path / "nats") as server:
        yield server
        with contextlib.suppress(BusError, ProcessLookupError):
            os.kill(server.info.pid, signal.SIGKILL)  # what it holds nobody needs; 0.1 s less each time


@pytest.fixture
async def harness(server: EmbeddedServer) -> AsyncIterator[NatsHarness]:
    """Connections to it."""
    harness = NatsHarness(server)
    yield harness
    await harness.close()


@pytest.fixture(autouse=True)
async def no_task_is_left_over() -> AsyncIterator[None]:
    """Whatever a test opens is closed at its end, and no task of the bus lives on."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if "bus/" in repr(task.get_coro())}
    assert not left
