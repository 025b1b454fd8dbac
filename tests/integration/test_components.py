"""Components one by one: what keeps one from starting, how it takes over, what `up` does with one that dies."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from pydantic import SecretStr

from bus.nats_bus import connect
from bus.server import find_binary
from cli import parts, supervising
from cli.bootstrap import embedded, system
from cli.errors import CliError
from cli.home import Home
from cli.opening import open_store
from cli.parts import check_tenant, conducting
from cli.settings import Settings
from cli.supervising import Child, Supervisor
from cli.topology import components, replicas_of
from schemas.commands import StartDrive
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.values import Actor, Role
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, append
from tests.integration.train import Train
from tests.ports import free_port
from tests.store.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server for the tests that need one."""
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A database with nothing in it."""
    return postgres.url(postgres.create())


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Train]:
    """A home whose settings name a nats-server of one's own, which runs."""
    train = Train(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    words = ("--listen", address, "--store-dir", str(tmp_path), "-o", str(tmp_path / "nats.conf"))
    assert train.run("credentials", "server-config", *words).code == 0
    train.settings["VALUETRAIN_NATS_URL"] = f"nats://{address}"
    with (tmp_path / "nats.log").open("wb") as log:
        server = subprocess.Popen([str(find_binary()), "-c", str(tmp_path / "nats.conf")], stdout=log, stderr=log)
    yield train
    server.kill()
    server.wait()


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_one_conductor_on_sqlite_and_one_that_stands_by(apart: Train) -> None:
    first = apart.start("conductor", "run")
    second = None
    try:
        assert "conductor is serving" in _said(first)
        refused = apart.run("conductor", "run")
        assert refused.code == 1
        assert f"(process {first.pid}) already writes the record" in refused.err
        second = apart.start("conductor", "run", "--standby")
        assert second.stderr is not None
        assert "standing by" in second.stderr.readline()
        first.kill()
        assert "conductor is serving" in _said(second)
        second.send_signal(signal.SIGTERM)
        out, _ = second.communicate(timeout=30)
        assert (second.returncode, out) == (0, "conductor stopped\n")
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate()


def test_a_login_the_server_does_not_know_ends_a_component(apart: Train) -> None:
    """Another home's keys: no waiting puts that right."""
    for seed in (apart.home / "bus" / "credentials").iterdir():
        seed.unlink()
    home = apart.repo / "other"
    assert apart.run("credentials", "server-config", "--home", str(home)).code == 0
    ran = apart.run("conductor", "run", "--home", str(home))
    assert ran.code == 1
    assert "refused the login 'conductor'" in ran.err
    assert len(ran.err.splitlines()) == 1
    missing = apart.run("agent", "run", "data")
    assert missing.code == 1
    assert "no credentials for role 'data'" in missing.err


def test_a_component_needs_a_system_or_a_server(tmp_path: Path) -> None:
    ran = Train(tmp_path).run("conductor", "run")
    assert ran.code == 1
    assert "valuetrain up" in ran.err
    assert "nats_url" in ran.err
    refused = Train(tmp_path).run("up", "--conductors", "2")
    assert refused.code == 2
    assert "PostgreSQL" in refused.err


def test_a_record_belongs_to_one_tenant(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "record.db")
    check_tenant(store, "acme")
    store.append(append(ONE, 0))
    check_tenant(store, "default")
    with pytest.raises(CliError, match="belongs to tenant 'default' and the settings say 'acme'"):
        check_tenant(store, "acme")


async def test_a_drive_refuses_the_record_of_another_tenant(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    store = SqliteStore.open(home.record)
    store.append(append(ONE, 0))
    store.close()
    with pytest.raises(CliError, match="tenant 'default'"):
        async with system(home, Settings(tenant="acme"), "a test", agents=False, effects=False):
            pass


def test_what_up_starts(tmp_path: Path) -> None:
    counts = replicas_of(["training=2", "risk=0"])
    first, rest = components(Home(tmp_path), 2, counts, None, None, 10.0)
    assert [child.name for child in first] == ["conductor-1", "conductor-2"]
    names = [child.name for child in rest]
    assert names[-1] == "effects"
    assert {"training-1", "training-2"} <= set(names)
    assert "risk-1" not in names
    assert {child.role for child in rest if child.role} == {role.value for role in Role} - {"risk"}
    for text in ("training", "training=x", "nobody=1", "training=-1", "training=65"):
        with pytest.raises(CliError, match="ROLE=N"):
            replicas_of([text])


async def test_one_that_cannot_start_ends_everything_with_its_line() -> None:
    supervisor = Supervisor(lambda child, line: None, lambda: None)
    with pytest.raises(CliError, match=r"x ended with exit code 2: .*there is no agent 'nobody'"):
        await supervisor.run(Child("x", "agent", ("agent", "run", "nobody")))


async def test_one_that_ends_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "BACKOFF", (0.0, 0.0))
    child = Child("x", "agent", ("agent", "--help"))
    with pytest.raises(CliError, match=r"3 times in a row"):
        await Supervisor(lambda child, line: None, lambda: None).run(child)
    assert child.restarts == 2


async def test_what_one_conductor_commits_the_other_one_relays_at_once(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay would look again by itself after far too long: so it was told."""
    monkeypatch.setattr(parts, "RELAY_PAUSE", 3600.0)
    home, settings = Home(tmp_path / "home"), Settings(store_url=SecretStr(url))
    seen = anyio.Event()

    async def note(subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        if b"drive_started" in raw:
            seen.set()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(embedded(home, settings))
        pair = []
        for _ in range(2):
            store = await anyio.to_thread.run_sync(open_store, home, settings)
            stack.callback(store.close)
            start = conducting(home, settings, server, store, store.lease("relay"), alone=not pair)
            pair.append(await stack.enter_async_context(start))
        leader, other = pair
        assert (leader.leads, other.leads) == (True, False)
        stack.enter_context(anyio.fail_after(60))
        async with await connect(server.login("operator")) as bus, bus.follow(("vt.default.evt.>",), note):
            actor = Actor(name="autopilot", channel="bus", verified_as="autopilot")
            start_drive = StartDrive(backlog="b", repository="r", policy_version="a" * 64, wip=1)
            stream = StreamId("default", "drive", "d-one")
            command = CommandEnvelope(uuid7(), stream, datetime.now(UTC), actor, "autopilot", "d-one", "", start_drive)
            [verdict] = await other.conductor.handle_commands([command])
            assert verdict["accepted"]
            await seen.wait()
