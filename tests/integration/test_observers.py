"""Reading along: `tail` from any position, over a restart of the bus, and a read-only login to hand out."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
from typer.testing import CliRunner

from bus.credentials import read_handed_out
from bus.nats_bus import connect
from bus.port import BusError, PermissionDenied
from cli.app import app
from cli.bootstrap import System, system
from cli.errors import CliError
from cli.home import Home
from cli.settings import Settings
from cli.tailing import wanted
from schemas.commands import RecordSelection, StartDrive
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.values import Actor
from tests.integration.train import ROOT, Ran

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
START = StartDrive(backlog="backlog", repository="r", policy_version="a" * 64, wip=1)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def _happen(running: System, drive: str, *commands: Command, time: datetime = NOW) -> None:
    """Let `commands` be decided on a drive, an event each."""
    actor, stream = Actor(name="autopilot", channel="bus", verified_as="autopilot"), StreamId("default", "drive", drive)
    for command in commands:
        envelope = CommandEnvelope(uuid7(), stream, time, actor, "autopilot", drive, "", command)
        [verdict] = await running.conductor.handle_commands([envelope])
        assert verdict["accepted"], verdict


def _run(home: Home, *words: str) -> Ran:
    result = CliRunner().invoke(app, [*words, "--home", str(home.path)])
    return Ran(result.exit_code, result.stdout, result.stderr)


def _start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SELECT = RecordSelection(order=(1,), passed_over={})


async def test_a_tail_sees_each_event_once_over_a_restart_of_the_bus(home: Home) -> None:
    async with system(home, Settings(), "a test", agents=False, effects=False) as running:
        await _happen(running, "d-one", START, SELECT)
        words = [sys.executable, "-m", "cli.main", "tail", "--follow", "--json", "--type", "selection_recorded"]
        tail = await anyio.to_thread.run_sync(_start, [*words, "--home", str(home.path)])
        try:
            assert tail.stdout is not None
            seen = [json.loads(await anyio.to_thread.run_sync(tail.stdout.readline))]
            os.kill(running.server.info.pid, signal.SIGKILL)
            await _happen(running, "d-one", *[SELECT] * 20)
            while len(seen) < 21:
                seen.append(json.loads(await anyio.to_thread.run_sync(tail.stdout.readline)))
        finally:
            tail.terminate()
            _, err = await anyio.to_thread.run_sync(tail.communicate)
    assert [event["sequence"] for event in seen] == list(range(2, 23)), err
    assert tail.returncode == 130


async def test_from_any_position_of_the_record(home: Home) -> None:
    async with system(home, Settings(), "a test", agents=False, effects=False) as running:
        await _happen(running, "d-one", START, SELECT)
        await _happen(running, "d-two", START, SELECT, time=datetime.now(UTC))

    def shown(*words: str) -> list[str]:
        return [f"{e['stream']}#{e['sequence']}" for e in _run(home, "tail", "--json", *words).json]

    assert shown() == ["d-one#1", "d-one#2", "d-two#1", "d-two#2"]
    assert shown("--type", "drive_started") == ["d-one#1", "d-two#1"]
    assert shown("--type", "drive_started", "--type", "selection_recorded") == shown()
    assert shown("--since", "-5m") == shown("--since", "5m") == ["d-two#1", "d-two#2"]
    assert shown("--since", "2026-11-20T09:00:00Z") == shown()
    assert shown("--since", "2099-01-01") == []
    assert "d-two" in _run(home, "tail", "--since", "-1h").out
    unknown = _run(home, "tail", "--type", "nonsense")
    assert unknown.code == 2
    assert "no event 'nonsense'" in unknown.err


def test_what_since_means() -> None:
    assert wanted("s1-x", (), "12", NOW).sequence == 12
    assert wanted(None, (), "-90s", NOW).moment == NOW - timedelta(seconds=90)
    assert wanted(None, (), "-1d", NOW).moment == NOW - timedelta(days=1)
    assert wanted(None, (), "2026-11-20T10:00+01:00", NOW).moment == NOW
    assert wanted("s1-x", ("gate_opened",), None, NOW).filters("acme") == ("vt.acme.evt.s1-x.gate_opened.*",)
    assert wanted(None, (), None, NOW).filters("acme") == ("vt.acme.evt.*.*.*",)
    for text in ("12", "yesterday", "-10y", "-999999999999d", ""):
        with pytest.raises(CliError):
            wanted(None, (), text, NOW)


async def test_an_observers_login_reads_and_cannot_publish(home: Home, tmp_path: Path) -> None:
    file, got = tmp_path / "observer.creds", []
    async with system(home, Settings(), "a test", agents=False, effects=False) as running:
        ran = _run(home, "credentials", "observer", "-o", str(file))
        assert ran.code == 0, ran.err
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        login = read_handed_out(file.read_text("utf-8"))
        assert (login.url, login.role) == (running.server.url, "observer")
        assert login.seed not in ran.out + ran.err + repr(login)
        printed = _run(home, "credentials", "observer")
        assert printed.out == file.read_text("utf-8")
        assert "secret" in printed.err
        document: dict[str, Any] = _run(home, "credentials", "observer", "--json").json
        assert document == {"role": "observer", "url": login.url, "tenant": "default", "seed": login.seed}
        assert "seed" not in _run(home, "credentials", "observer", "-o", str(file), "--json").json

        await _happen(running, "d-one", START, SELECT)
        arrived = anyio.Event()

        async def note(subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
            got.append(json.loads(raw)["type"])
            if len(got) == 2:
                arrived.set()

        async with await connect(login) as bus, bus.follow(("vt.default.evt.>",), note):
            with anyio.fail_after(15):
                await arrived.wait()
            for subject in ("vt.default.evt.d-one.gate_passed._", "vt.default.cmd.s1.decide_gate.operator"):
                with pytest.raises(PermissionDenied):
                    await bus.connection.request(subject, b"{}")
    assert got == ["drive_started", "selection_recorded"]
    gone = _run(home, "credentials", "observer")
    assert gone.code == 1
    assert "no system runs" in gone.err


@pytest.mark.parametrize(
    "text", ["", "url: nats://127.0.0.1:1\nrole: observer\n", "url: x\nrole: observer\nSUnonsense"]
)
def test_other_files_are_no_login(text: str) -> None:
    with pytest.raises(BusError, match="no login"):
        read_handed_out(text)
