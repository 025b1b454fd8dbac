"""Connecting: who is refused, what the conductor makes."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from bus import connection as connection_module
from bus import streams
from bus.answers import ApiError
from bus.nats_bus import connect
from bus.port import (
    BusError,
    BusUnavailable,
    ConsumerSpec,
)
from bus.server import EmbeddedServer
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import (
    DEADLINE,
    TRAINING,
    events,
)


async def test_a_server_that_is_not_there_is_named(server: EmbeddedServer) -> None:
    login = server.login("operator")
    await server.stop()
    with pytest.raises(BusUnavailable, match=rf"no NATS server answered at {login.url} within 0.6 s .*is it running"):
        await connect(login, timeout=0.6)


async def test_a_server_that_comes_up_late_is_waited_for(server: EmbeddedServer) -> None:
    login = server.login("conductor")
    os.kill(server.info.pid, signal.SIGKILL)
    await server.exited()
    connecting = asyncio.create_task(connect(login, timeout=DEADLINE))
    await server.restart()
    async with await connecting as bus:
        assert await bus.publish_events(events(1)) == [1]


async def test_an_old_server_is_refused(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_OLDEST_SERVER", (99, 0))
    with pytest.raises(BusError, match=r"v2\..* nats-server 99\.0 or newer"):
        await connect(server.login("operator"))


async def test_a_conductor_that_cannot_make_the_streams_does_not_start(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await connect(server.login("conductor")):
        changed = streams.STREAMS["VT_COMMANDS"] | {"retention": "limits"}
        monkeypatch.setitem(streams.STREAMS, "VT_COMMANDS", changed)
        with pytest.raises(BusError, match=r"VT_COMMANDS exists with retention workqueue instead of limits.*delete"):
            await connect(server.login("conductor"))


async def test_two_conductors_agree_about_the_streams(server: EmbeddedServer) -> None:
    async with await connect(server.login("conductor")) as one, await connect(server.login("conductor")) as two:
        assert await one.publish_events(events(2)) == [1, 2]
        assert await two.publish_events(events(3)) == [1, 2, 3]


async def test_changed_settings_reach_the_server(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    api = (await harness.bus("conductor")).connection.api
    monkeypatch.setitem(streams.STREAMS, "VT_DEAD", streams.STREAMS["VT_DEAD"] | {"max_bytes": 1_000_000})
    await harness.prepare(replace(TRAINING, ack_wait=7.0))
    assert (await api("STREAM.INFO.VT_DEAD"))["config"]["max_bytes"] == 1_000_000
    config = (await api("CONSUMER.INFO.VT_EVENTS.agent-training"))["config"]
    assert config["ack_wait"] == 7_000_000_000
    assert config["max_deliver"] == TRAINING.max_deliver + streams.UNSEEN_DELIVERIES
    assert "backoff" not in config


async def test_a_consumer_that_cannot_be_changed_is_named(harness: NatsHarness) -> None:
    with pytest.raises(BusError, match=r"consumer agent-training of VT_EVENTS cannot be updated filter_subjects"):
        await harness.prepare(replace(TRAINING, filters=("not.of.this.stream", "vt.>", "vt.a.>")))
    with pytest.raises(BusError, match=r"consumer conductor-2 of VT_COMMANDS cannot be created"):
        await harness.prepare(ConsumerSpec("VT_COMMANDS", "conductor-2", ("vt.*.cmd.>",)))


async def test_other_refusals_while_making_things_come_through(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")

    async def refuse(action: str, body: dict[str, Any] | None = None, timeout: float = 1) -> dict[str, Any]:
        raise ApiError(action, {"code": 503, "err_code": 10008, "description": "not now"})

    bus.connection.api = refuse  # type: ignore[method-assign]
    with pytest.raises(ApiError, match="not now"):
        await streams.ensure(bus.connection)
    with pytest.raises(ApiError, match="not now"):
        await streams._ensure_consumer(bus.connection, TRAINING)
