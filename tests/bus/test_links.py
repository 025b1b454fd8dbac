"""Links: what breaks, what closes, what is lost at limits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import structlog.testing
from nats import errors

from bus import connection as connection_module
from bus import streams
from bus.connection import Connection
from bus.nats_bus import NatsBus, connect
from bus.port import (
    BusUnavailable,
    Login,
    PermissionDenied,
)
from bus.server import EmbeddedServer
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import (
    DEADLINE,
    TRAINING,
    Log,
    events,
    eventually,
    forever,
    published,
)


async def provoked(bus: NatsBus) -> None:
    """Make the server close the connection for good, as it does with a client that breaks the protocol."""
    bus.connection.client._max_payload = 100_000_000
    await bus.connection.client.publish("vt.default.tel.s.training.x", b"x" * 5_000_000)


async def test_a_connection_closed_for_good_ends_what_relies_on_it(harness: NatsHarness) -> None:
    agent = await harness.bus("training")
    with pytest.raises(BusUnavailable, match="closed for good"):
        async with agent.consume(TRAINING, Log()):
            await provoked(agent)
            await forever()
    with pytest.raises(BusUnavailable):
        await agent.connection.api("CONSUMER.INFO.VT_EVENTS.agent-training")
    with pytest.raises(BusUnavailable, match="cannot subscribe"):
        async with agent.consume(TRAINING, Log()):
            raise AssertionError
    await agent.close()


async def test_closing_ends_what_waits(harness: NatsHarness) -> None:
    await harness.bus("conductor")
    operator = await harness.bus("operator")
    await harness.freeze()
    waiting = asyncio.create_task(operator.last_sequence())
    await asyncio.sleep(0)
    closing = asyncio.create_task(operator.close())
    await asyncio.wait({closing}, timeout=DEADLINE)
    harness.thaw()
    assert closing.done()
    with pytest.raises(BusUnavailable):
        await waiting


async def test_closing_survives_what_the_client_raises(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.2)
    for behaviour in (asyncio.CancelledError(), RuntimeError("dead link"), None):
        bus = await connect(server.login("operator"))
        close = bus.connection.client.close

        async def bad(behaviour: BaseException | None = behaviour, close: Any = close) -> None:
            await close()
            if behaviour is None:
                await forever()
            else:
                raise behaviour

        bus.connection.client.close = bad  # type: ignore[method-assign]
        await asyncio.wait_for(bus.close(), DEADLINE)


async def test_a_burst_is_heard_whole_and_in_order(harness: NatsHarness) -> None:
    observer, agent = await harness.bus("observer"), await harness.bus("training")
    heard: list[bytes] = []
    async with observer.subscribe("vt.*.tel.>", lambda subject, raw, headers: heard.append(raw)):
        for number in range(5_000):
            await agent.tell("vt.default.tel.s.training.x", str(number).encode())
        await eventually(lambda: len(heard) == 5_000)
    assert heard == [str(number).encode() for number in range(5_000)]


async def test_the_conductor_goes_on_restoring_until_it_succeeds(
    harness: NatsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bus import nats_bus

    monkeypatch.setattr(nats_bus, "RESTORE_PAUSE_SECONDS", 0.05)
    bus = await harness.bus("conductor")
    ensure, failures = streams.ensure, 0

    async def failing(connection: Connection, *more: Any, **options: Any) -> None:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise BusUnavailable("not yet")
        await ensure(connection, *more, **options)

    monkeypatch.setattr(streams, "ensure", failing)
    await harness.lose_disk()

    await published(bus, events(1))
    assert failures == 2
    await eventually(lambda: bus._restoring is not None and bus._restoring.done())
    # A second reconnect while restoring is under way does not start another.
    failures = 0
    bus._begin_restoring()
    bus._begin_restoring()
    await eventually(lambda: failures == 2)
    bus._begin_restoring()
    await bus.close()


async def test_a_subscription_the_server_does_not_confirm_is_an_error(
    harness: NatsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = await harness.bus("observer")

    async def silent(timeout: float = 2.0) -> bool:
        return False

    monkeypatch.setattr(observer.connection, "round_trip", silent)
    with pytest.raises(BusUnavailable, match="did not confirm"):
        async with observer.subscribe("vt.*.tel.>", Log().live):
            raise AssertionError


async def test_a_role_can_have_several_servers_to_try(server: EmbeddedServer) -> None:
    login = server.login("operator")
    async with await connect(Login(f"nats://127.0.0.1:1,{login.url}", login.role, login.seed)) as bus:
        assert bus.connection.connected


async def test_errors_of_the_client_are_kept_for_the_report(harness: NatsHarness) -> None:
    operator = await harness.bus("operator")
    await operator.connection._on_error(errors.Error("nats: something new"))
    assert str(operator.connection._last_problem) == "nats: something new"
    with pytest.raises(PermissionDenied):
        await operator.connection.request("vt.default.evt.s.x._")


async def test_a_login_refused_at_a_reconnect_is_logged(harness: NatsHarness) -> None:
    await harness.bus("conductor")
    handed_out = replace(harness.server.login("operator"), seed_file=None)
    operator = await connect(handed_out)
    with structlog.testing.capture_logs() as logs:
        await harness.kill()
        (harness.server.directory / "credentials" / "operator.seed").unlink()
        await harness.server.restart()  # with another key for this role
        await eventually(lambda: any(line["event"] == "bus_login_refused" for line in logs))
    assert not operator.connection.connected
    await operator.close()


async def test_closing_under_a_consumer_ends_its_context(harness: NatsHarness) -> None:
    agent = await harness.bus("training")
    with pytest.raises(BusUnavailable, match="was closed"):
        async with agent.consume(TRAINING, Log()):
            await agent.close()
            await forever()


async def test_while_cut_off_nothing_is_subscribed(harness: NatsHarness) -> None:
    observer, agent = await harness.bus("observer"), await harness.bus("training")
    await harness.kill()
    await eventually(lambda: not (observer.connection.connected or agent.connection.connected))
    assert not await observer.connection.round_trip()
    with pytest.raises(BusUnavailable, match="did not confirm"):
        async with observer.subscribe("vt.*.tel.>", Log().live):
            raise AssertionError
    with pytest.raises(BusUnavailable, match="did not confirm"):
        async with agent.consume(TRAINING, Log()):
            raise AssertionError
    await harness.server.restart()
