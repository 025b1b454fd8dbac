"""Sending commands through lost messages and lost answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus import publishing, sending
from bus.port import (
    Ack,
    BusUnavailable,
    Delivery,
    NoReceipt,
    Outcome,
)
from schemas.envelope import decode_command
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import (
    COMMANDS,
    DEADLINE,
    Log,
    command,
    conductor,
    eventually,
    stays_quiet,
)


async def test_a_sender_hears_that_the_server_is_gone_and_succeeds_when_it_is_back(harness: NatsHarness) -> None:
    bus, operator = await harness.bus("conductor"), await harness.bus("operator")
    one = command()
    async with bus.consume(COMMANDS, conductor(bus)):
        await harness.kill()
        with pytest.raises(BusUnavailable, match=f"retry_phase {one.id} could not be stored within 0.5 s"):
            await operator.send(one, timeout=0.5)
        await harness.server.restart()
        assert (await operator.send(one, timeout=DEADLINE))["command"] == one.id


async def test_a_sender_waiting_for_its_receipt_when_the_server_dies_gets_it_afterwards(harness: NatsHarness) -> None:
    bus, operator, log = await harness.bus("conductor"), await harness.bus("operator"), Log()
    one, answering = command(), False
    answer = conductor(bus)

    async def handle(delivery: Delivery) -> Outcome:
        await log(delivery)
        return await answer(delivery) if answering else Ack()

    async with bus.consume(COMMANDS, handle):
        sending_one = asyncio.create_task(operator.send(one, timeout=DEADLINE))
        await log.until(1)
        await harness.kill()
        answering = True
        await harness.server.restart()
        assert (await sending_one)["command"] == one.id


async def test_a_lost_answer_to_storing_does_not_make_two_commands(
    harness: NatsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first copy is stored but the server's answer is lost: the same id again finds it there."""
    bus, operator, log = await harness.bus("conductor"), await harness.bus("operator"), Log()
    monkeypatch.setattr(sending, "RESEND_SECONDS", 60.0)
    store, lost = publishing.store, False

    async def lossy(*args: Any, **more: Any) -> Any:
        nonlocal lost
        stored = await store(*args, **more)
        if not lost:
            lost = True
            raise BusUnavailable("answer lost")
        assert stored.duplicate
        return stored

    monkeypatch.setattr("bus.sending.store", lossy)
    one = command()
    sending_one = asyncio.create_task(operator.send(one, timeout=DEADLINE))
    await eventually(lambda: lost)
    answer = conductor(bus)

    async def handle(delivery: Delivery) -> Outcome:
        await log(delivery)
        return await answer(delivery)  # type: ignore[no-any-return]

    async with bus.consume(COMMANDS, handle):
        assert (await sending_one)["command"] == one.id
        await stays_quiet(log, 0.2)


async def test_only_the_first_receipt_counts(harness: NatsHarness) -> None:
    bus, operator = await harness.bus("conductor"), await harness.bus("operator")

    async def handle(delivery: Delivery) -> Outcome:
        for number in (1, 2):
            await bus.reply(delivery, {"number": number})
        return Ack()

    async with bus.consume(COMMANDS, handle):
        assert await operator.send(command()) == {"number": 1}
        assert await operator.connection.round_trip()


async def test_a_receipt_while_cut_off_is_lost_and_the_sender_asks_again(harness: NatsHarness) -> None:
    bus, log = await harness.bus("conductor"), Log()
    operator = await harness.bus("operator")
    with pytest.raises(NoReceipt):
        await operator.send(command(), timeout=0.3)
    async with bus.consume(COMMANDS, log):
        await log.until(1)
    await harness.kill()
    await eventually(lambda: not bus.connection.connected)
    await bus.reply(log.deliveries[0], {"lost": True})
    assert decode_command(log.deliveries[0].raw).sender == "operator"
    await harness.server.restart()
