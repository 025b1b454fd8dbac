"""What every bus must do with durable consumers; part of `BusConformance`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from bus.port import (
    Ack,
    Delivery,
    GiveUp,
    Outcome,
    Retry,
)
from tests.conformance.bus_kit import (
    DEADLINE,
    TRAINING,
    Harness,
    Log,
    event,
    events,
    eventually,
    stays_quiet,
)


class ConsumingConformance:
    """Each message handled once, again when it failed, put aside when it fails for good."""

    # -- consuming ---------------------------------------------------------------------------------------------

    async def test_an_acknowledged_message_never_comes_again(self, harness: Harness) -> None:
        bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()
        await harness.prepare(replace(TRAINING, ack_wait=0.5))
        await bus.publish_events(events(3))
        spec = replace(TRAINING, ack_wait=0.5)
        async with agent.consume(spec, log):
            await log.until(3)
            await bus.publish_events([event("other", "phase_started.risk"), event("late")])
            await log.until(4)
            await stays_quiet(log, 1.0)
        assert log.names == ["e1", "e2", "e3", "late"]
        assert [delivery.attempt for delivery in log.deliveries] == [1, 1, 1, 1]
        async with agent.consume(spec, log):
            await stays_quiet(log, 0.7)

    async def test_a_failed_message_comes_again_after_the_backoff(self, harness: Harness) -> None:
        bus, agent, loop = await harness.bus("conductor"), await harness.bus("training"), asyncio.get_running_loop()
        times: list[float] = []
        log = Log(ValueError("bad"), ValueError("bad"))

        async def handle(delivery: Delivery) -> Outcome:
            times.append(loop.time())
            return await log(delivery)

        spec = replace(TRAINING, backoff=(0.2, 0.4))
        await harness.prepare(spec)
        await bus.publish_events(events(1))
        async with agent.consume(spec, handle):
            await log.until(3)
        assert [delivery.attempt for delivery in log.deliveries] == [1, 2, 3]
        assert times[1] - times[0] > 0.18
        assert times[2] - times[1] > 0.38
        assert times[2] - times[0] < 3.0

    async def test_retry_waits_as_long_as_it_says(self, harness: Harness) -> None:
        bus, agent, loop = await harness.bus("conductor"), await harness.bus("training"), asyncio.get_running_loop()
        log = Log(Retry(0.3, "later"), Retry(0, "now"))
        await harness.prepare(TRAINING)
        async with agent.consume(TRAINING, log):
            await bus.publish_events(events(1))
            await log.until(1)
            began = loop.time()
            await log.until(2)
            assert loop.time() - began > 0.28
            await log.until(3)

    async def test_what_is_given_up_goes_to_the_dead_letters(self, harness: Harness) -> None:
        bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
        log = Log(GiveUp("no such\nphase ü"))
        await harness.prepare(TRAINING)
        assert await operator.dead_letters() == []
        async with agent.consume(TRAINING, log):
            await bus.publish_events(events(2))
            await log.until(2)
            await eventually(operator.dead_letters)
            await stays_quiet(log, 0.3)
        [dead] = await operator.dead_letters()
        assert dead["reason"] == "no such\nphase ü"
        assert dead["consumer"] == "agent-training"
        assert dead["subject"] == "vt.default.evt.S-one.phase_started.training"
        assert dead["deliveries"] == 1
        assert dead["message"] == "body of e1"
        assert datetime.fromisoformat(dead["time"][:19]).year > 2025
        assert json.dumps(dead)

    async def test_a_message_that_fails_each_time_goes_to_the_dead_letters(self, harness: Harness) -> None:
        bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
        log = Log(*(ValueError("does not fit"),) * 3)
        await harness.prepare(TRAINING)
        async with agent.consume(TRAINING, log):
            await bus.publish_events(events(1))
            await eventually(operator.dead_letters)
        assert [delivery.attempt for delivery in log.deliveries] == [1, 2, 3]
        [dead] = await operator.dead_letters()
        assert "ValueError: does not fit" in dead["reason"]
        assert "Traceback" in dead["trace"]
        assert dead["deliveries"] == 3

    async def test_retry_on_the_last_delivery_gives_up(self, harness: Harness) -> None:
        bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
        log = Log(*(Retry(0, "still locked"),) * 5)
        await harness.prepare(TRAINING)
        async with agent.consume(TRAINING, log):
            await bus.publish_events(events(1))
            await eventually(operator.dead_letters)
        assert len(log.deliveries) == 3
        assert "still locked" in (await operator.dead_letters())[0]["reason"]

    async def test_one_that_fails_does_not_keep_the_others_waiting(self, harness: Harness) -> None:
        bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()

        async def handle(delivery: Delivery) -> Outcome:
            await log(delivery)
            if delivery.raw == b"body of e1":
                raise ValueError("poison")
            return Ack()

        spec = replace(TRAINING, backoff=(5.0,))
        await harness.prepare(spec)
        await bus.publish_events(events(4))
        async with agent.consume(spec, handle):
            await log.until(4, 3.0)
        assert log.names == ["e1", "e2", "e3", "e4"]

    async def test_dead_letters_are_listed_newest_first(self, harness: Harness) -> None:
        bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
        log = Log(*(GiveUp("no"),) * 5)
        await harness.prepare(TRAINING)
        await bus.publish_events(events(5))
        async with agent.consume(TRAINING, log):
            await log.until(5)

            async def all_there() -> bool:
                return len(await operator.dead_letters()) == 5

            await eventually(all_there)
        assert [dead["message"] for dead in await operator.dead_letters(2)] == ["body of e5", "body of e4"]

    async def test_a_long_handler_keeps_its_message(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        one, two = await harness.bus("training"), await harness.bus("training")
        spec = replace(TRAINING, ack_wait=1.0)
        release, log, other = asyncio.Event(), Log(), Log()

        async def slow(delivery: Delivery) -> Outcome:
            await log(delivery)
            await delivery.in_progress()
            await release.wait()
            return Ack()

        await harness.prepare(spec)
        async with one.consume(spec, slow):
            await bus.publish_events(events(1))
            await log.until(1)
            async with two.consume(spec, other):
                await stays_quiet(other, 2.5)
                release.set()
                await stays_quiet(other, 1.2)
        assert len(log.deliveries) == 1

    async def test_on_leaving_unfinished_messages_are_handed_back_at_once(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        one, two = await harness.bus("training"), await harness.bus("training")
        spec = replace(TRAINING, ack_wait=60.0, max_in_flight=2)
        cancelled, log, other = asyncio.Event(), Log(), Log()

        async def stuck(delivery: Delivery) -> Outcome:
            await log(delivery)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError

        await harness.prepare(spec)
        await bus.publish_events(events(3))
        async with one.consume(spec, stuck):
            await log.until(2)
        assert cancelled.is_set()
        async with two.consume(spec, other):
            await other.until(3, 3.0)
        assert sorted(other.names) == ["e1", "e2", "e3"]
        assert {d.raw: d.attempt for d in other.deliveries} == {b"body of e1": 2, b"body of e2": 2, b"body of e3": 1}

    async def test_replicas_share_the_work(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        one, two = await harness.bus("training"), await harness.bus("training")
        logs = [Log(), Log()]
        await harness.prepare(TRAINING)
        await bus.publish_events(events(40))
        async with one.consume(TRAINING, logs[0]), two.consume(TRAINING, logs[1]):
            await eventually(lambda: sum(len(log.deliveries) for log in logs) == 40)
        assert sorted(logs[0].names + logs[1].names) == sorted(each.id for each in events(40))
        assert all(log.deliveries for log in logs)

    async def test_no_more_handlers_run_than_may(self, harness: Harness) -> None:
        bus, agent, spec = await harness.bus("conductor"), await harness.bus("training"), TRAINING
        spec = replace(spec, max_in_flight=3)
        running, most, log = 0, 0, Log()

        async def handle(delivery: Delivery) -> Outcome:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return await log(delivery)

        await harness.prepare(spec)
        await bus.publish_events(events(30))
        async with agent.consume(spec, handle):
            await log.until(30)
        assert most == 3

    # -- batches -----------------------------------------------------------------------------------------------

    async def test_batches_take_what_is_waiting(self, harness: Harness) -> None:
        bus, agent = await harness.bus("conductor"), await harness.bus("training")
        sizes: list[int] = []
        log = Log()

        async def handle(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            sizes.append(len(deliveries))
            return await log.batch(deliveries)

        await harness.prepare(TRAINING)
        await bus.publish_events(events(300))
        async with agent.consume_batches(TRAINING, handle, most=64):
            await log.until(300)
            assert max(sizes) <= 64
            assert len(sizes) < 100
            await bus.publish_events([event("single")])
            await log.until(301)
        assert sizes[-1] == 1
        assert log.names == [*(each.id for each in events(300)), "single"]

    async def test_each_message_of_a_batch_has_its_own_outcome(self, harness: Harness) -> None:
        bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
        log = Log(Ack(), GiveUp("no"), Retry(0.05, "later"), Ack())
        await harness.prepare(TRAINING)
        await bus.publish_events(events(4))
        async with agent.consume_batches(TRAINING, log.batch):
            await log.until(5)
            await eventually(operator.dead_letters)
        assert log.names == ["e1", "e2", "e3", "e4", "e3"]

    async def test_poison_in_a_batch_spoils_only_itself(self, harness: Harness) -> None:
        bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
        done: list[bytes] = []

        async def handle(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            if any(delivery.raw == b"body of e2" for delivery in deliveries):
                raise ValueError("poison")
            done.extend(delivery.raw for delivery in deliveries)
            return [Ack()] * len(deliveries)

        await harness.prepare(TRAINING)
        await bus.publish_events(events(5))
        async with agent.consume_batches(TRAINING, handle):
            await eventually(operator.dead_letters)
        assert sorted(done) == [f"body of e{n}".encode() for n in (1, 3, 4, 5)]

    async def test_a_batch_handler_must_answer_for_each(self, harness: Harness) -> None:
        bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]

        async def handle(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            return []

        await harness.prepare(TRAINING)
        await bus.publish_events(events(1))
        async with agent.consume_batches(TRAINING, handle):
            await eventually(operator.dead_letters)
        assert "for 1 messages" in (await operator.dead_letters())[0]["reason"]

    async def test_a_batch_is_handed_back_on_leaving(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        one, two = await harness.bus("training"), await harness.bus("training")
        spec, log, began = replace(TRAINING, ack_wait=60.0), Log(), asyncio.Event()

        async def stuck(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            began.set()
            await asyncio.Event().wait()
            return []

        await harness.prepare(spec)
        await bus.publish_events(events(20))
        async with one.consume_batches(spec, stuck, most=5):
            await asyncio.wait_for(began.wait(), DEADLINE)
        async with two.consume_batches(spec, log.batch):
            await log.until(20, 3.0)
        assert sorted(log.names) == sorted(each.id for each in events(20))
