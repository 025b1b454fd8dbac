"""An observer in another language, from nothing but what is handed out: the login, the schemas, docs/observers.md.

Needs node and npm (Debian: `apt-get install nodejs npm`). Its packages are installed once, beside it, from the lock.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
from typer.testing import CliRunner

from cli.app import app
from cli.bootstrap import System, system
from cli.home import Home
from cli.settings import Settings
from schemas.envelope import EventEnvelope, StreamId, decode_event
from schemas.ids import uuid7
from schemas.messages import EVENTS, Event
from schemas.values import Actor
from store.port import Append
from tests.golden.samples import MESSAGES

FOLDER = Path(__file__).parent
DEADLINE = 60.0


@pytest.fixture(scope="module")
def node() -> str:
    """The interpreter, with the observer's packages installed beside it."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("this machine has no npm; apt-get install nodejs npm")
    if (found := shutil.which("node")) is None:
        pytest.fail("npm is here but node is not: apt-get install nodejs")
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (FOLDER / "package-lock.json").stat().st_mtime:
        words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"npm cannot install what package-lock.json names:\n{done.stderr}"
        installed.touch()
    return found


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


def test_the_lock_pins_each_package_and_names_no_place() -> None:
    packages = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    lock = json.loads((FOLDER / "package-lock.json").read_text("utf-8"))["packages"]
    assert lock.pop("")["dependencies"] == packages
    assert all(version[0].isdigit() for version in packages.values()), "exact versions"
    for name, entry in lock.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name


def _every_event() -> list[Event]:
    """One of each type, every field filled: the committed samples."""
    lines = MESSAGES.read_bytes().splitlines()
    return [decode_event(line).event for line in lines if "sender" not in json.loads(line)]


async def test_it_reads_every_kind_of_event_and_may_not_publish(node: str, tmp_path: Path) -> None:
    login, schemas = tmp_path / "observer.creds", tmp_path / "schemas.json"
    schemas.write_text(_cli("schema", "export", "--json"), "utf-8")
    events = _every_event()
    assert {event.message_type.name for event in events} == set(EVENTS)
    async with system(Home(tmp_path / "home"), Settings(), "a test", agents=False, effects=False) as running:
        _cli("credentials", "observer", "-o", str(login), "--home", str(tmp_path / "home"))
        before, after = events[: len(events) // 2], events[len(events) // 2 :]
        await _publish(running, before, 0)
        command = [node, str(FOLDER / "observer.mjs"), str(login), str(schemas), str(len(events))]
        process = await anyio.open_process(command, cwd=FOLDER)
        try:
            with anyio.fail_after(DEADLINE):
                lines = _Lines(process)
                got = [await lines.next() for _ in before]
                await _publish(running, after, len(before))  # while it listens
                got += [await lines.next() for _ in after]
                last = await lines.next()
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.aclose()
    assert process.returncode == 0
    assert [line["event"]["type"] for line in got] == [event.message_type.name for event in events]
    assert [line["event"]["sequence"] for line in got] == list(range(1, len(events) + 1))
    assert sorted(last["refused"]) == [
        "$JS.API.CONSUMER.CREATE.VT_EVENTS.mine",
        "vt.default.cmd.s1.decide_gate.operator",
        "vt.default.evt.s1.gate_passed._",
        "vt.default.tel.s1.observer.progress",
    ]


async def _publish(running: System, events: list[Event], version: int) -> None:
    """Write `events` into the record as they are; the relay finds them within a second."""
    stream, actor = StreamId("default", "session", "s1-all"), Actor(name="test", channel="cli", verified_as="os:test")
    envelopes = tuple(
        EventEnvelope(uuid7(), stream, number, datetime.now(UTC), actor, "c", "c", event)
        for number, event in enumerate(events, version + 1)
    )
    append = Append(stream=stream, expected_version=version, events=envelopes)
    await anyio.to_thread.run_sync(running.store.append_batch, [append])


class _Lines:
    """The JSON lines of a process; what it says on standard error when it ends early."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._rest = b""

    async def next(self) -> Any:
        while b"\n" not in self._rest:
            try:
                self._rest += await self._process.stdout.receive()
            except anyio.EndOfStream:
                raise AssertionError((await self._process.stderr.receive()).decode()) from None
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


def _cli(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout
