"""A work queue from before commands were written without waiting for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bus import nats_bus, permissions, renewing, streams
from bus.answers import ApiError
from bus.connection import Connection
from bus.nats_bus import NatsBus, connect
from bus.port import Ack, BusUnavailable, Delivery, NoReceipt, Outcome
from bus.server import EmbeddedServer
from schemas.envelope import decode_command
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import COMMANDS, DEADLINE, Log, command, conductor, eventually

OLD = {key: value for key, value in streams.STREAMS["VT_COMMANDS"].items() if key != "persist_mode"}


@pytest.fixture
async def old(server: EmbeddedServer) -> EmbeddedServer:
    """A server whose work queue waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(streams.STREAMS, "VT_COMMANDS", OLD)
        async with await connect(server.login("conductor")):
            pass
    return server


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks after the streams does so often."""
    monkeypatch.setattr(nats_bus, "LOOK_SECONDS", 0.05)


async def info(bus: NatsBus) -> dict[str, Any]:
    return await bus.connection.api("STREAM.INFO.VT_COMMANDS")


async def test_an_empty_queue_is_made_anew_at_the_next_start(old: EmbeddedServer) -> None:
    async with await connect(old.login("conductor")) as bus, await connect(old.login("operator")) as operator:
        assert (await info(bus))["config"]["persist_mode"] == "async"
        one = command()
        async with bus.consume(COMMANDS, conductor(bus)):
            assert (await operator.send(one))["command"] == one.id


@pytest.mark.usefixtures("soon")
async def test_what_waits_in_the_queue_is_handled_before_it_is_made_anew(old: EmbeddedServer) -> None:
    waiting = [command() for _ in range(3)]
    async with await connect(old.login("operator")) as operator:
        for each in waiting:
            with pytest.raises(NoReceipt):
                await operator.send(each, timeout=0.2)
        log = Log()
        async with await connect(old.login("conductor")) as bus:
            before = await info(bus)
            assert (before["config"].get("persist_mode"), before["state"]["messages"]) == (None, 3)
            assert before["config"]["subjects"] == OLD["subjects"]
            async with bus.consume(COMMANDS, log):
                await log.until(3)

                async def anew() -> bool:
                    try:
                        return (await info(bus))["config"].get("persist_mode") == "async"
                    except ApiError:  # at this moment there is none
                        return False

                await eventually(anew)
                # The loop that asked the old one for messages gets those of the new one.
                sending = asyncio.create_task(operator.send(one := command(), timeout=DEADLINE))
                await log.until(4)
                await bus.reply(log.deliveries[-1], {"command": one.id})
                assert (await sending)["command"] == one.id
            assert [decode_command(each.raw).id for each in log.deliveries[:3]] == [each.id for each in waiting]
            assert log.deliveries[-1].sequence > before["state"]["last_seq"]


async def test_a_command_sent_in_between_is_not_deleted(old: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    one, ask, sent = command(), Connection.api, False
    async with await connect(old.login("operator")) as operator:

        async def slow(connection: Connection, action: str, *more: Any, **options: Any) -> dict[str, Any]:
            nonlocal sent
            if action == "STREAM.UPDATE.VT_COMMANDS" and not sent:  # which closes it
                sent = True
                with pytest.raises(NoReceipt):
                    await operator.send(one, timeout=0.2)
            return await ask(connection, action, *more, **options)

        monkeypatch.setattr(Connection, "api", slow)
        async with await connect(old.login("conductor")) as bus:
            monkeypatch.undo()
            found = await info(bus)
            assert (found["config"]["subjects"], found["state"]["messages"]) == (OLD["subjects"], 1)
            log = Log()
            async with bus.consume(COMMANDS, log):
                await log.until(1)
            assert decode_command(log.deliveries[0].raw).id == one.id


async def test_a_closed_queue_takes_nothing_and_is_opened_by_the_next_start(old: EmbeddedServer) -> None:
    """As a crash in the middle leaves it, with a message or without."""
    for held in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(streams.STREAMS, "VT_COMMANDS", OLD)
            async with await connect(old.login("conductor")) as bus, await connect(old.login("operator")) as operator:
                if held:
                    with pytest.raises(NoReceipt):
                        await operator.send(command(), timeout=0.2)
                closed = (await info(bus))["config"] | {"subjects": [renewing.CLOSED]}
                await bus.connection.api("STREAM.UPDATE.VT_COMMANDS", closed)
                with pytest.raises((BusUnavailable, NoReceipt)):
                    await operator.send(command(), timeout=0.2)
                assert (await info(bus))["state"]["messages"] == held
        async with await connect(old.login("conductor")) as bus:
            found = (await info(bus))["config"]
            assert found["subjects"] == OLD["subjects"]
            assert found.get("persist_mode") == (None if held else "async")

            async def acknowledge(delivery: Delivery) -> Outcome:
                return Ack()

            async with bus.consume(COMMANDS, acknowledge):

                async def empty() -> bool:
                    return not (await info(bus))["state"]["messages"]

                await eventually(empty)


async def test_two_conductors_at_once_make_one(old: EmbeddedServer) -> None:
    buses = await asyncio.gather(*(connect(old.login("conductor")) for _ in range(3)))
    try:
        assert (await info(buses[0]))["config"]["persist_mode"] == "async"
        async with await connect(old.login("operator")) as operator, buses[1].consume(COMMANDS, conductor(buses[1])):
            one = command()
            assert (await operator.send(one, timeout=DEADLINE))["command"] == one.id
    finally:
        for bus in buses:
            await bus.close()


@pytest.fixture
def forbidding() -> Iterator[None]:
    """A server with the subject permissions of an older version."""
    with pytest.MonkeyPatch.context() as patch:
        now = permissions._conductor
        patch.setattr(permissions, "_conductor", lambda tenant: [s for s in now(tenant) if "STREAM.DELETE" not in s])
        yield


@pytest.mark.usefixtures("forbidding")
async def test_where_the_login_may_not_delete_it_the_queue_stays_and_people_are_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with EmbeddedServer(tmp_path_factory.mktemp("nats")) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(streams.STREAMS, "VT_COMMANDS", OLD)
            await (await connect(server.login("conductor"))).close()
        with structlog.testing.capture_logs() as logs:
            bus = await connect(server.login("conductor"))
        (told,) = [each for each in logs if each["event"] == "bus_stream_not_made_anew"]
        assert "credentials server-config" in told["advice"]
        async with bus, await connect(server.login("operator")) as operator, bus.consume(COMMANDS, conductor(bus)):
            assert (await info(bus))["config"].get("persist_mode") is None
            one = command()
            assert (await operator.send(one, timeout=DEADLINE))["command"] == one.id
            assert bus._finished


async def test_several_servers_keep_their_own_mode(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = await harness.bus("conductor")
    asked: list[dict[str, Any]] = []

    async def refuse(connection: Connection, name: str, wanted: dict[str, Any], change: bool) -> bool:
        asked.append(wanted)
        return True

    monkeypatch.setattr(streams, "_ensure_stream", refuse)
    assert await streams.ensure(bus.connection, (), replicas=3)
    assert all("persist_mode" not in each for each in asked)
