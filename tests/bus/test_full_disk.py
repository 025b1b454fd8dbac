"""A server whose disk was full starts again by itself as soon as there is room."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import anyio
import pytest

from bus.full_disk import FullDisk
from bus.nats_bus import connect
from bus.port import BusError, BusUnavailable, OutgoingEvent
from bus.server import EmbeddedServer
from tests.integration.test_full_disk import IN_NAMESPACE

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("line", "full"),
    [
        ("[7] [ERR] Filestore [VT_EVENTS] Critical write error: write 3.blk: no space left on device", True),
        ("[7] [ERR] JetStream: Disk quota exceeded", True),
        ("[7] [INF] Server is ready", False),
    ],
)
def test_what_the_log_says(tmp_path: Path, line: str, full: bool) -> None:
    file = tmp_path / "nats-server.log"
    file.write_text("from the time before: no space left\n")
    disk = FullDisk(file, file.stat().st_size)
    assert not disk.seen(), "of the time before"
    with file.open("a") as log:
        log.write(line + "\n")
    assert disk.seen() is full
    assert not disk.seen(), "said once"
    file.write_text("no space\n")  # rotated
    assert not disk.seen()
    file.unlink()
    assert not disk.seen()
    file.write_text("no space left\n")
    assert disk.seen()


async def test_it_waits_until_there_is_room(tmp_path: Path) -> None:
    file = tmp_path / "nats-server.log"
    file.write_text("no space left on device\n")
    disk = FullDisk(file, enough=1 << 62, look=0.01)
    with anyio.move_on_after(0.2) as waiting:
        await disk.over()
    assert waiting.cancelled_caught, "no disk has that much room"
    await FullDisk(file, look=0.01).over()


def _in_a_disk_of(size: str, place: Path, what: str) -> subprocess.CompletedProcess[str] | None:
    """This module run as a program on a file system of its own; None (and a warning) where the kernel allows none."""
    place.mkdir()
    namespace = [word.replace("size=4m", f"size={size}") for word in IN_NAMESPACE]
    try:
        allowed = subprocess.run([*namespace, place, "true"], capture_output=True, text=True, check=False)
        refusal = allowed.stderr if allowed.returncode else ""
    except FileNotFoundError as problem:
        refusal = str(problem)
    if refusal:
        warnings.warn(f"the kernel allows no mount namespace here ({refusal.strip()}): not tried", stacklevel=2)
        return None
    command = [*namespace, place, sys.executable, "-m", "tests.bus.test_full_disk", what, place]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_real_server_on_a_real_full_disk(tmp_path: Path) -> None:
    done = _in_a_disk_of("700m", tmp_path / "small", "fills")
    if done is not None:
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("in order: 1 2 3\n")


def test_a_disk_too_small_for_the_streams_is_named(tmp_path: Path) -> None:
    done = _in_a_disk_of("100m", tmp_path / "small", "starts")
    if done is not None:
        assert done.returncode == 0, done.stderr
        assert "no room for the JetStream stream VT_COMMANDS: it sets aside 512 MiB" in done.stdout
        assert "free some space" in done.stdout


async def _start_in_the_small_place(place: Path) -> None:
    """Say why a conductor cannot make its streams."""
    async with EmbeddedServer(place / "bus") as server:
        try:
            await connect(server.login("conductor"), name="conductor")
        except BusError as problem:
            print(problem)


async def _in_the_small_place(place: Path) -> None:
    """Publish, fill the disk, publish in vain, make room, let the server start again, publish."""
    ballast = place / "ballast"

    def event(number: int) -> OutgoingEvent:
        return OutgoingEvent("vt.default.evt.s.phase_completed._", f"e-{number}", b"x" * 100_000)

    async with (
        EmbeddedServer(place / "bus") as server,
        await connect(server.login("conductor"), name="conductor") as bus,
    ):
        sequences = await bus.publish_events([event(1)])
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(800 << 20))
        with pytest.raises(BusUnavailable), anyio.fail_after(60):
            while True:
                await bus.publish_events([event(2)])
        ballast.unlink()
        with anyio.fail_after(60):
            await server.stuck()
        await server.restart()
        with anyio.fail_after(60):
            while len(sequences) < 3:
                try:
                    sequences += await bus.publish_events([event(2), event(3)])
                except BusUnavailable:
                    await anyio.sleep(0.1)
    print("in order:", *sequences)


if __name__ == "__main__":
    work = {"fills": _in_the_small_place, "starts": _start_in_the_small_place}[sys.argv[1]]
    anyio.run(work, Path(sys.argv[2]))
