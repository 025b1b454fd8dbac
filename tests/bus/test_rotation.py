"""Replacing a role's key while everything runs."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from bus import rotation
from bus.credentials import new_seed
from bus.nats_bus import connect
from bus.port import BusError, PermissionDenied
from bus.rotation import rotate, taken
from bus.server import EmbeddedServer
from tests.bus.conftest import NatsHarness
from tests.bus.own_server import OwnServer
from tests.conformance.bus_kit import TRAINING, Log, events, eventually, published


async def test_a_running_embedded_server_takes_the_new_key_only(harness: NatsHarness) -> None:
    server, log = harness.server, Log()
    conductor, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
    old = server.login("training")
    async with agent.consume(TRAINING, log):
        assert rotate(server.directory, "training")
        assert server.login("training").seed != old.seed
        await eventually(lambda: agent.connection.connects == 2)  # sent away, and back with the new key
        await published(conductor, events(1))
        await log.until(1)
    with pytest.raises(PermissionDenied, match="refused the login 'training'"):
        await connect(old)
    assert operator.connection.connects == 1  # nobody else notices
    # What makes streams and publishes may be rotated too, and all of it holds after a new start.
    assert rotate(server.directory, "conductor")
    await eventually(lambda: conductor.connection.connects == 2)
    os.kill(server.info.pid, signal.SIGKILL)
    await server.exited()
    await server.restart()
    await published(conductor, events(2))
    with pytest.raises(PermissionDenied):
        await connect(old)


async def test_a_login_that_was_handed_out_is_refused_from_then_on(server: EmbeddedServer) -> None:
    async with await connect(server.login("conductor")):
        handed_out = replace(server.login("observer"), seed_file=None)
        async with await connect(handed_out) as observer:
            assert rotate(server.directory, "observer")
            await eventually(lambda: not observer.connection.connected)
        with pytest.raises(PermissionDenied):
            await connect(handed_out)
        async with await connect(server.login("observer")) as again:
            assert await again.last_sequence() == 0


async def test_a_server_that_does_not_take_the_new_key_is_told_of(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rotate(server.directory, "data")
    await taken(server.directory, "data")
    monkeypatch.setattr(rotation, "TAKEN_SECONDS", 0.5)
    monkeypatch.setattr(signal, "SIGHUP", 0)  # as if it refused the whole configuration
    assert rotate(server.directory, "data")
    with pytest.raises(BusError, match=r"does not take the new key of 'data', so the old one may still be good"):
        await taken(server.directory, "data")


async def test_while_nothing_runs_the_next_start_takes_it(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        old = server.login("data")
    assert not rotate(tmp_path, "data")
    async with EmbeddedServer(tmp_path) as server:
        async with await connect(server.login("data")):
            pass
        with pytest.raises(PermissionDenied):
            await connect(replace(old, url=server.url))


async def test_a_server_of_ones_own_takes_it_when_it_is_reloaded(tmp_path: Path) -> None:
    async with OwnServer(tmp_path / "nats", "acme") as server:
        old = server.login("operator")
        async with await connect(server.login("conductor")), await connect(old) as operator:
            assert not rotate(server.home("acme"), "operator", own=False)
            server.reload()
            await eventually(lambda: operator.connection.connects == 2)
            assert await operator.last_sequence() == 0
        with pytest.raises(PermissionDenied):
            await connect(replace(old, seed_file=None))


async def test_a_seed_that_cannot_be_read_again_leaves_the_one_there_is(harness: NatsHarness) -> None:
    operator = await harness.bus("operator")
    file = harness.server.login("operator").seed_file
    assert file is not None
    text = file.read_text()
    await harness.kill()
    file.write_text("nonsense")
    restarting = harness.server.restart
    with pytest.raises(BusError, match="holds no nkey seed"):
        await restarting()
    file.write_text(text)
    await restarting()
    await eventually(lambda: operator.connection.connected)


def test_what_was_never_there_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"no credentials for role 'lead'.*nothing to replace"):
        new_seed(tmp_path, "lead")
    with pytest.raises(BusError, match="nothing to replace"):
        rotate(tmp_path, "lead")


async def test_a_server_that_says_why_it_hangs_up_is_come_back_to(harness: NatsHarness) -> None:
    """This server only hangs up; others say why first, after which nats-py would close for good."""
    operator = await harness.bus("operator")
    await operator.connection.client._process_err("'Authorization Violation'")
    await eventually(lambda: operator.connection.connects == 2)
    assert await operator.last_sequence() == 0
