"""Consuming: forgotten requests, handlers that misbehave, leaving in a hurry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from bus import pulling
from bus.consuming import pause
from bus.nats_bus import connect
from bus.port import (
    Ack,
    BusUnavailable,
    Delivery,
    GiveUp,
    Outcome,
    OutgoingEvent,
)
from bus.server import EmbeddedServer
from bus.wire import Message
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import (
    COMMANDS,
    DEADLINE,
    TRAINING,
    Log,
    command,
    conductor,
    events,
    eventually,
    forever,
    stays_quiet,
)


async def test_a_consumer_that_is_made_later_is_found(server: EmbeddedServer) -> None:
    log = Log()
    async with (
        await connect(server.login("training")) as agent,
        agent.consume(TRAINING, log),
        await connect(server.login("conductor")) as bus,
    ):
        await bus.publish_events(events(2))
        await log.until(2)


async def test_a_request_the_server_forgot_is_made_again(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()
    requests: list[str] = []
    publish = agent.connection.publish

    async def forgetful(subject: str, payload: bytes = b"", **more: Any) -> None:
        if "MSG.NEXT" in subject:
            requests.append(subject)
            if len(requests) == 1:
                return
        await publish(subject, payload, **more)

    monkeypatch.setattr(pulling, "HEARTBEAT_SECONDS", 0.2)
    agent.connection.publish = forgetful  # type: ignore[method-assign]
    await bus.publish_events(events(1))
    async with agent.consume(TRAINING, log):
        await log.until(1, 5.0)


async def test_heartbeats_keep_a_quiet_request_alive(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(pulling, "EXPIRES_SECONDS", 1.5)
    bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()
    async with agent.consume(TRAINING, log):
        await stays_quiet(log, 2.0)  # several heartbeats, one expiry
        await bus.publish_events(events(1))
        await log.until(1, 2.0)


async def test_a_deleted_consumer_is_made_again_by_the_conductor(harness: NatsHarness) -> None:
    """Nobody may delete one over the bus; its directory vanishes while the server is down."""
    bus, operator = await harness.bus("conductor"), await harness.bus("operator")
    async with bus.consume(COMMANDS, conductor(bus)):
        await operator.send(command())
        await harness.lose_disk()
        assert await operator.send(command(), timeout=DEADLINE)


async def test_the_conductor_makes_its_consumer_when_pulling_shows_it_missing(harness: NatsHarness) -> None:
    spec = replace(TRAINING, name="agent-training")
    bus = await harness.bus("conductor", (COMMANDS,))  # this one makes no other consumers
    restored = asyncio.Event()

    async def restore() -> None:
        restored.set()

    agent = await harness.bus("training")
    loop = pulling.PullLoop(agent.connection, spec, capacity=1, chunk=1, largest=1, restore=restore)
    async with loop:
        running = asyncio.create_task(loop.run())
        await asyncio.wait_for(restored.wait(), DEADLINE)
        await harness.prepare(spec)
        await bus.publish_events(events(1))
        arrival = await asyncio.wait_for(loop.arrived.get(), DEADLINE)
        assert arrival.raw == b"body of e1"
        running.cancel()
        await asyncio.wait({running})


async def test_a_message_whose_handler_never_survives_is_put_aside(harness: NatsHarness) -> None:
    bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
    spec, log = replace(TRAINING, max_deliver=2, ack_wait=60.0), Log()

    async def stuck(delivery: Delivery) -> Outcome:
        await log(delivery)
        await asyncio.Event().wait()
        return Ack()

    await harness.prepare(spec)
    await bus.publish_events(events(1))
    for count in (1, 2):
        async with agent.consume(spec, stuck):
            await log.until(count)
    async with agent.consume(spec, log):
        await eventually(operator.dead_letters)
    assert len(log.deliveries) == 2
    assert "delivered 2 times and never finished" in (await operator.dead_letters())[0]["reason"]


async def test_a_dead_letter_that_cannot_be_written_is_written_later(
    harness: NatsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
    log = Log(GiveUp("no"), GiveUp("no, again"))
    request, failures = agent.connection.request, 0

    async def failing(subject: str, payload: bytes = b"", **more: Any) -> Message:
        nonlocal failures
        if ".dead." in subject and not failures:
            failures += 1
            raise BusUnavailable("disk full")
        return await request(subject, payload, **more)

    agent.connection.request = failing  # type: ignore[method-assign]
    await harness.prepare(TRAINING)
    async with agent.consume(TRAINING, log):
        await bus.publish_events(events(1))
        await eventually(operator.dead_letters)
    assert failures == 1
    assert [dead["reason"] for dead in await operator.dead_letters()] == ["no, again"]


async def test_a_dead_letter_of_the_largest_message_fits(harness: NatsHarness) -> None:
    bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
    raw = b"\xff" + b"x" * 4_170_000
    await harness.prepare(TRAINING)
    await bus.publish_events([OutgoingEvent("vt.default.evt.s.phase_started.training", "big", raw)])
    async with agent.consume(TRAINING, Log(GiveUp("ü" * 50_000))):
        await eventually(operator.dead_letters)
    [dead] = await operator.dead_letters()
    assert dead["message"].encode("utf-8", "surrogateescape") == raw
    assert dead["reason"].startswith("üüü")
    assert await operator.dead_letters(0) == []


async def test_a_handler_that_returns_nothing_has_failed(harness: NatsHarness) -> None:
    bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]

    async def careless(delivery: Delivery) -> Any:
        return None

    spec = replace(TRAINING, max_deliver=1)
    await harness.prepare(spec)
    await bus.publish_events(events(1))
    async with agent.consume(spec, careless):
        await eventually(operator.dead_letters)
    assert "returned None, not an Outcome" in (await operator.dead_letters())[0]["reason"]


async def test_something_cancelled_inside_a_handler_is_the_handlers_failure(harness: NatsHarness) -> None:
    bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()

    async def handle(delivery: Delivery) -> Outcome:
        await log(delivery)
        if delivery.attempt == 1:
            inner = asyncio.create_task(forever())
            inner.cancel()
            await inner
        return Ack()

    await harness.prepare(TRAINING)
    await bus.publish_events(events(2))
    async with agent.consume(TRAINING, handle):
        await log.until(4)
    assert sorted(log.names) == ["e1", "e1", "e2", "e2"]


async def test_what_ends_the_process_ends_the_context(harness: NatsHarness) -> None:
    bus, agent = await harness.bus("conductor"), await harness.bus("training")

    class Stop(BaseException):
        pass

    async def handle(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        raise Stop

    await harness.prepare(TRAINING)
    await bus.publish_events(events(1))
    with pytest.raises(Stop):
        async with agent.consume_batches(TRAINING, handle):
            await forever()


async def test_a_handler_that_will_not_be_cancelled_is_asked_again(harness: NatsHarness) -> None:
    bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()

    async def stubborn(delivery: Delivery) -> Outcome:
        await log(delivery)
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        await forever()
        return Ack()

    await harness.prepare(TRAINING)
    await bus.publish_events(events(1))
    async with agent.consume(TRAINING, stubborn):
        await log.until(1)


async def test_messages_are_handed_back_when_the_surrounding_scope_is_cancelled(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    one, two = await harness.bus("training"), await harness.bus("training")
    spec, log, other = replace(TRAINING, ack_wait=60.0), Log(), Log()

    async def stuck(delivery: Delivery) -> Outcome:
        await log(delivery)
        await forever()
        return Ack()

    await harness.prepare(spec)
    await bus.publish_events(events(1))
    with anyio.CancelScope() as scope:
        async with one.consume(spec, stuck):
            await log.until(1)
            scope.cancel()
            await forever()
    async with two.consume(spec, other):
        await other.until(1, 3.0)


async def test_leaving_while_the_server_is_away_does_not_hang(harness: NatsHarness) -> None:
    bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()
    observer = await harness.bus("observer")
    loop, proceed = asyncio.get_running_loop(), asyncio.Event()

    async def stuck(delivery: Delivery) -> Outcome:
        await log(delivery)
        await proceed.wait()
        await delivery.in_progress()
        return Ack()

    await harness.prepare(replace(TRAINING, ack_wait=0.3))
    await bus.publish_events(events(2))
    async with (
        agent.consume(replace(TRAINING, ack_wait=0.3), stuck),
        observer.follow(("vt.*.evt.>",), Log().note),
        observer.subscribe("vt.*.tel.>", Log().live),
    ):
        await log.until(1)
        await harness.kill()
        await eventually(lambda: not agent.connection.connected)
        proceed.set()
        await eventually(lambda: not observer.connection.connected)
        began = loop.time()
    await agent.close()
    await observer.close()
    assert loop.time() - began < 5.0
    await harness.server.restart()


def test_the_backoffs_last_step_repeats() -> None:
    assert [pause(TRAINING, attempt) for attempt in (1, 2, 3, 9)] == [0.05, 0.1, 0.1, 0.1]
    assert pause(replace(TRAINING, backoff=()), 1) == 0.0


async def test_what_the_server_says_to_an_old_request_does_not_end_the_new_one(harness: NatsHarness) -> None:
    agent = await harness.bus("training")
    loop = pulling.PullLoop(agent.connection, TRAINING, capacity=1, chunk=1, largest=1)
    async with loop:
        running = asyncio.create_task(loop.run())
        await eventually(lambda: loop._expected == 1)
        old = Message(subject=f"{loop._inbox}.0", headers={"Status": "408"})
        loop._receive(old)
        assert loop._expected == 1
        running.cancel()
        await asyncio.wait({running})


async def test_a_batch_of_nothing_but_strays_reaches_no_handler(harness: NatsHarness) -> None:
    bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]

    async def never(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        raise AssertionError(f"handed over: {deliveries}")

    # The server's answer to an agent's command, which the agent sent astray.
    stray = "vt.default.evt.s.phase_started.training"
    await agent.connection.publish("vt.default.cmd.s.claim_attempt.training", b"x", reply=stray)
    async with agent.consume_batches(TRAINING, never):
        await eventually(operator.dead_letters)
    assert await bus.last_event() is None
