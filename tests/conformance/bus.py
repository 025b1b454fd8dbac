"""What every bus must do, written once: subclass `BusConformance`, give it a fixture `harness`, and it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bus.port import (
    Ack,
    BusError,
    Delivery,
    NoReceipt,
    Outcome,
    OutgoingEvent,
)
from schemas.envelope import CommandEnvelope, decode_command
from schemas.subjects import telemetry_subject
from tests.conformance.bus_consuming import ConsumingConformance
from tests.conformance.bus_kit import (
    COMMANDS,
    DEADLINE,
    TRAINING,
    Harness,
    Log,
    command,
    conductor,
    event,
    events,
    eventually,
    published,
    stays_quiet,
)


class BusConformance(ConsumingConformance):
    """The port's promises, one test each."""

    # -- events ------------------------------------------------------------------------------------------------

    async def test_published_events_get_consecutive_sequences_in_order(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        assert await bus.publish_events(events(1)) == [1]
        assert await bus.publish_events(events(5)[1:]) == [2, 3, 4, 5]
        assert await bus.publish_events([]) == []

    async def test_many_events_go_out_in_order(self, harness: Harness) -> None:
        bus, log = await harness.bus("conductor"), Log()
        assert await bus.publish_events(events(1201)) == list(range(1, 1202))
        async with (await harness.bus("observer")).follow(("vt.*.evt.>",), log.note):
            await log.until(1201)
        assert log.names == [each.id for each in events(1201)]

    async def test_a_published_event_arrives_as_it_is_stored(self, harness: Harness) -> None:
        bus, log = await harness.bus("conductor"), Log()
        raw = bytes(range(256)) + "ü".encode()
        await bus.publish_events([OutgoingEvent("vt.default.evt.s.x._", "e1", raw, (("Ce-Type", "x"),))])
        async with (await harness.bus("observer")).follow(("vt.*.evt.>",), log.note):
            await log.until(1)
        delivery = log.deliveries[0]
        assert (delivery.subject, delivery.raw, delivery.sequence) == ("vt.default.evt.s.x._", raw, 1)
        assert delivery.headers["Ce-Type"] == "x"
        assert delivery.headers["Nats-Msg-Id"] == "e1"

    async def test_an_event_published_twice_is_stored_once(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        first = await bus.publish_events(events(3))
        assert await bus.publish_events(events(3)) == first
        assert await bus.publish_events(events(1)) == [1]
        # A batch whose beginning, middle or end the server knows already.
        assert await bus.publish_events(events(6)) == [1, 2, 3, 4, 5, 6]
        mixed = [event("n1"), event("e2"), event("n2"), event("n3"), event("e6")]
        assert await bus.publish_events(mixed) == [7, 2, 8, 9, 6]

    async def test_the_last_event_is_known(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        assert await bus.last_event() is None
        await bus.publish_events(events(3))
        assert await bus.last_event() == (3, "e3")

    async def test_the_last_sequence_is_where_a_follower_has_caught_up(self, harness: Harness) -> None:
        bus, observer = await harness.bus("conductor"), await harness.bus("observer")
        assert await observer.last_sequence() == 0
        await bus.publish_events(events(3))
        assert await observer.last_sequence() == 3

    # -- commands ----------------------------------------------------------------------------------------------

    async def test_a_command_gets_its_receipt(self, harness: Harness) -> None:
        bus, operator, agent = [await harness.bus(role) for role in ("conductor", "operator", "training")]
        seen: list[CommandEnvelope] = []
        async with bus.consume(COMMANDS, conductor(bus, seen)):
            one, two = command(), command("training")
            assert await operator.send(one) == {"command": one.id, "by": "operator"}
            assert await agent.send(two) == {"command": two.id, "by": "training"}
        assert [envelope.command for envelope in seen] == [one.command, two.command]

    async def test_many_commands_at_once_get_their_own_receipts(self, harness: Harness) -> None:
        bus, operator = await harness.bus("conductor"), await harness.bus("operator")

        async def handle(deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            one = conductor(bus)
            return [await one(delivery) for delivery in deliveries]

        sent = [command() for _ in range(50)]
        async with bus.consume_batches(COMMANDS, handle):
            receipts = await asyncio.gather(*(operator.send(each) for each in sent))
        assert [receipt["command"] for receipt in receipts] == [each.id for each in sent]

    async def test_a_command_without_receipt_is_sent_again(self, harness: Harness) -> None:
        bus, operator = await harness.bus("conductor"), await harness.bus("operator")
        log, answer = Log(), conductor(bus)

        async def handle(delivery: Delivery) -> Outcome:
            await log(delivery)
            return Ack() if len(log.deliveries) == 1 else await answer(delivery)

        one = command()
        async with bus.consume(COMMANDS, handle):
            assert (await operator.send(one, timeout=DEADLINE))["command"] == one.id
        assert {decode_command(each.raw).id for each in log.deliveries} == {one.id}
        assert len(log.deliveries) == 2

    async def test_the_same_command_sent_later_is_answered_again_and_soon(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        one, loop = command(), asyncio.get_running_loop()
        async with bus.consume(COMMANDS, conductor(bus)):
            first = await (await harness.bus("operator")).send(one)
            began = loop.time()
            assert await (await harness.bus("operator")).send(one) == first
        assert loop.time() - began < 1.9

    async def test_a_command_nobody_answers_gives_no_receipt(self, harness: Harness) -> None:
        operator = await harness.bus("operator")
        await harness.bus("conductor")
        with pytest.raises(NoReceipt, match="conductor running"):
            await operator.send(command(), timeout=0.3)

    async def test_a_receipt_nobody_waits_for_is_lost_silently(self, harness: Harness) -> None:
        bus, operator, log = await harness.bus("conductor"), await harness.bus("operator"), Log()
        with pytest.raises(NoReceipt):
            await operator.send(command(), timeout=0.2)
        await operator.close()
        async with bus.consume(COMMANDS, log):
            await log.until(1)
            await bus.reply(log.deliveries[0], {"ok": True})
            await bus.reply(log.deliveries[0]._replace(headers={}), {"ok": True})

    # -- following and live ------------------------------------------------------------------------------------

    async def test_following_starts_where_it_is_told(self, harness: Harness) -> None:
        bus, observer = await harness.bus("conductor"), await harness.bus("observer")
        await bus.publish_events(events(5))
        everything, later, new = Log(), Log(), Log()
        async with (
            observer.follow(("vt.*.evt.>",), everything.note),
            observer.follow(("vt.*.evt.>",), later.note, start=4),
            observer.follow(("vt.*.evt.>",), new.note, start=0),
        ):
            await bus.publish_events([event("fresh")])
            await everything.until(6)
            await later.until(3)
            await new.until(1)
        assert everything.names == ["e1", "e2", "e3", "e4", "e5", "fresh"]
        assert [delivery.sequence for delivery in everything.deliveries] == [1, 2, 3, 4, 5, 6]
        assert later.names == ["e4", "e5", "fresh"]
        assert new.names == ["fresh"]

    async def test_following_keeps_to_its_filters(self, harness: Harness) -> None:
        bus, observer, one, two = await harness.bus("conductor"), await harness.bus("observer"), Log(), Log()
        await bus.publish_events([event("a", "gate_opened._"), event("b"), event("c", "gate_passed._")])
        async with (
            observer.follow(("vt.*.evt.*.gate_opened.*",), one.note),
            observer.follow(("vt.*.evt.*.gate_opened.*", "vt.*.evt.*.gate_passed.*"), two.note),
        ):
            await bus.publish_events([event("d"), event("e", "gate_opened._"), event("f", "gate_passed._")])
            await one.until(2)
            await two.until(4)
        assert one.names == ["a", "e"]
        assert two.names == ["a", "c", "e", "f"]

    async def test_following_goes_on_after_a_crash_without_gap_or_repeat(self, harness: Harness) -> None:
        bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
        async with observer.follow(("vt.*.evt.>",), log.note):
            await bus.publish_events(events(10))
            await log.until(5)
            await harness.crash()
            await published(bus, events(20))
            await log.until(20)
            await stays_quiet(log, 0.3)
        assert log.names == [each.id for each in events(20)]

    async def test_a_follower_that_fails_ends_its_context(self, harness: Harness) -> None:
        bus, observer = await harness.bus("conductor"), await harness.bus("observer")
        await bus.publish_events(events(1))
        with pytest.raises(LookupError, match="mine"):
            async with observer.follow(("vt.*.evt.>",), Log(LookupError("mine")).note):
                await asyncio.wait_for(asyncio.Event().wait(), DEADLINE)

    async def test_live_messages_reach_who_listens(self, harness: Harness) -> None:
        observer, agent = await harness.bus("observer"), await harness.bus("training")
        subject = telemetry_subject("default", "S-one", "training", "progress")
        one, two = Log(), Log()
        async with observer.subscribe("vt.*.tel.>", one.live):
            await agent.tell(subject, b"first")
            await one.until(1)
        async with observer.subscribe("vt.*.tel.S-one.>", two.live):
            await agent.tell(subject, b"second")
            await two.until(1)
        assert [(each.subject, each.raw) for each in one.deliveries] == [(subject, b"first")]
        assert [(each.subject, each.raw) for each in two.deliveries] == [(subject, b"second")]

    async def test_a_listener_that_fails_ends_its_context(self, harness: Harness) -> None:
        observer, agent = await harness.bus("observer"), await harness.bus("training")
        subject = telemetry_subject("default", "s", "training", "progress")

        def fail(subject: str, raw: bytes, headers: dict[str, str]) -> None:
            raise LookupError("mine")

        async def listen() -> None:
            async with observer.subscribe("vt.*.tel.>", fail):
                await agent.tell(subject, b"1")
                await agent.tell(subject, b"2")
                await asyncio.wait_for(asyncio.Event().wait(), DEADLINE)

        with pytest.raises(LookupError, match="mine"):
            await listen()

    # -- accidents ---------------------------------------------------------------------------------------------

    async def test_consuming_goes_on_after_a_crash(self, harness: Harness) -> None:
        bus, agent, log = await harness.bus("conductor"), await harness.bus("training"), Log()
        spec = replace(TRAINING, ack_wait=1.0, max_deliver=8)
        await harness.prepare(spec)
        await bus.publish_events(events(5))
        async with agent.consume(spec, log):
            await log.until(3)
            await harness.crash()
            await published(bus, events(10))
            await eventually(lambda: set(log.names) == {each.id for each in events(10)})

    async def test_a_sender_waits_through_a_crash(self, harness: Harness) -> None:
        bus, operator = await harness.bus("conductor"), await harness.bus("operator")
        one = command()
        async with bus.consume(COMMANDS, conductor(bus)):
            sending = asyncio.create_task(operator.send(one, timeout=DEADLINE))
            await harness.crash()
            assert (await sending)["command"] == one.id

    async def test_after_closing_nothing_works_and_closing_again_does_nothing(self, harness: Harness) -> None:
        bus = await harness.bus("conductor")
        await bus.close()
        await bus.close()
        with pytest.raises(BusError):
            await bus.publish_events(events(1))
