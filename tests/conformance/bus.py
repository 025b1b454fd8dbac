"""What every bus must do, written once: subclass `BusConformance`, give it a fixture `harness`, and it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from bus.port import (
    Ack,
    Bus,
    BusError,
    ConsumerSpec,
    Delivery,
    GiveUp,
    NoReceipt,
    Outcome,
    OutgoingEvent,
    Retry,
)
from schemas.commands import ClaimAttempt, RetryPhase
from schemas.envelope import CommandEnvelope, StreamId, decode_command
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.subjects import command_sender, telemetry_subject
from schemas.values import Actor

DEADLINE = 15.0
"""Seconds after which a test that waits has failed; nothing here takes a tenth of it."""

ALICE = Actor(name="alice", channel="cli", verified_as="1000")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SESSION = StreamId("default", "session", "S-one")  # subjects keep upper case, the server's refusals do not

COMMANDS = ConsumerSpec("VT_COMMANDS", "conductor", ("vt.*.cmd.>",), max_in_flight=4)
TRAINING = ConsumerSpec(
    "VT_EVENTS", "agent-training", ("vt.*.evt.*.phase_started.training",), backoff=(0.05, 0.1), max_deliver=3
)


class Harness(Protocol):
    """What a bus's tests provide: connections, consumers, and accidents."""

    async def bus(self, role: str) -> Bus:
        """A new connection as `role`, closed when the test ends."""

    async def prepare(self, spec: ConsumerSpec) -> None:
        """Make the durable consumer exist exactly so."""

    async def crash(self) -> None:
        """The server dies without warning and is back, with its disk, when this returns."""


def event(name: str, kind: str = "phase_started.training", session: str = "S-one") -> OutgoingEvent:
    """An event with the id `name`."""
    return OutgoingEvent(f"vt.default.evt.{session}.{kind}", name, f"body of {name}".encode(), (("Ce-Id", name),))


def events(count: int, kind: str = "phase_started.training") -> list[OutgoingEvent]:
    """Events e1, e2, …"""
    return [event(f"e{number}", kind) for number in range(1, count + 1)]


def command(sender: str = "operator", id: str | None = None) -> CommandEnvelope:
    """A command that `sender` may send."""
    body: Command = RetryPhase(reason="again")
    if sender != "operator":
        body = ClaimAttempt(phase="build", attempt=1, holder="replica-1")
    return CommandEnvelope(id or uuid7(), SESSION, NOON, ALICE, sender, "correlation", "causation", body)


class Log:
    """A handler that notes what it gets and answers what it is told; `until(n)` waits for n deliveries."""

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.deliveries: list[Delivery] = []
        self._outcomes = list(outcomes)
        self._changed = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> Outcome:
        self.deliveries.append(delivery)
        self._changed.set()
        outcome = self._outcomes.pop(0) if self._outcomes else Ack()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """The same for `consume_batches`."""
        return [await self(delivery) for delivery in deliveries]

    async def note(self, subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        """The same for `follow`."""
        await self(Delivery(subject, raw, headers, sequence, 1, _nothing))

    def live(self, subject: str, raw: bytes, headers: dict[str, str]) -> None:
        """The same for `subscribe`."""
        self.deliveries.append(Delivery(subject, raw, headers, 0, 1, _nothing))
        self._changed.set()

    @property
    def names(self) -> list[str]:
        """The events' names in the order they came."""
        return [delivery.raw.decode().removeprefix("body of ") for delivery in self.deliveries]

    async def until(self, count: int, deadline: float = DEADLINE) -> None:
        """Wait for `count` deliveries in all. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while len(self.deliveries) < count:
                self._changed.clear()
                await self._changed.wait()


async def _nothing() -> None:
    return None


async def eventually(condition: Callable[[], Any], deadline: float = DEADLINE) -> None:
    """Wait until `condition` holds (a coroutine function is awaited). Raises TimeoutError."""
    async with asyncio.timeout(deadline):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.01)


async def stays_quiet(log: Log, seconds: float) -> None:
    """No further delivery comes within `seconds`."""
    with pytest.raises(TimeoutError):
        await log.until(len(log.deliveries) + 1, seconds)


def conductor(bus: Bus, seen: list[CommandEnvelope] | None = None) -> Callable[[Delivery], Any]:
    """A handler that answers every command with its id and the sender the server verified."""

    async def handle(delivery: Delivery) -> Outcome:
        envelope = decode_command(delivery.raw).sent_by(command_sender(delivery.subject))
        if seen is not None:
            seen.append(envelope)
        await bus.reply(delivery, {"command": envelope.id, "by": envelope.sender})
        return Ack()

    return handle


class BusConformance:
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
            return Ack() if len(log.deliveries) == 1 else await answer(delivery)  # type: ignore[no-any-return]

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
        assert loop.time() - began < 1.0

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
            await bus.reply(replace(log.deliveries[0], headers={}), {"ok": True})

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
        spec = replace(TRAINING, ack_wait=0.6)
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
                await stays_quiet(other, 1.8)
                release.set()
                await stays_quiet(other, 0.8)
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

            async def published() -> bool:
                try:
                    await bus.publish_events(events(20))
                except BusError:
                    return False
                return True

            await eventually(published)
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
        observer, agent, log = await harness.bus("observer"), await harness.bus("training"), Log()
        subject = telemetry_subject("default", "S-one", "training", "progress")
        await agent.tell(subject, b"before")
        async with observer.subscribe("vt.*.tel.>", log.live):
            await agent.tell(subject, b"now")
            await log.until(1)
        await agent.tell(subject, b"after")
        assert [(each.subject, each.raw) for each in log.deliveries] == [(subject, b"now")]

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

            async def published() -> bool:
                try:
                    await bus.publish_events(events(10))
                except BusError:
                    return False
                return True

            await eventually(published)
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
