"""Putting back what was given up: the consumer gets it, who follows does not see it twice, the relay is not misled."""

from __future__ import annotations

import pytest

from bus.port import Ack, BusError, GiveUp, PermissionDenied
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import COMMANDS, TRAINING, Log, command, event, events, eventually, stays_quiet

SUBJECT = "vt.default.evt.S-one.phase_started.training"


async def test_an_event_put_back_comes_to_its_consumer_only(harness: NatsHarness) -> None:
    conductor, agent, observer = [await harness.bus(role) for role in ("conductor", "training", "observer")]
    consumed, followed = Log(GiveUp("poison"), Ack(), Ack()), Log()
    async with agent.consume(TRAINING, consumed), observer.follow(("vt.*.evt.>",), followed.note):
        await conductor.publish_events(events(1))
        await consumed.until(1)
        for _ in range(2):  # the same id again changes nothing
            await conductor.put_back(SUBJECT, consumed.deliveries[0].raw, "requeue.dl-1.1")
        await consumed.until(2)
        last = await conductor.last_event()
        assert last is not None
        assert last[1] == "e1", "else the relay would take the stream for another and publish everything again"
        assert await observer.last_sequence() == last[0]
        await conductor.publish_events([event("e2")])
        await consumed.until(3)
        await followed.until(2)
        await stays_quiet(followed, 0.1)
    assert [each.raw for each in consumed.deliveries] == [b"body of e1", b"body of e1", b"body of e2"]
    assert consumed.deliveries[1].headers["Nats-Msg-Id"] == "requeue.dl-1.1"
    assert followed.names == ["e1", "e2"]


async def test_a_command_goes_back_under_the_login_that_sent_it(harness: NatsHarness) -> None:
    conductor, operator = await harness.bus("conductor"), await harness.bus("operator")
    subject, log = f"vt.default.cmd.S-one.{command().type}.operator", Log()
    with pytest.raises(PermissionDenied):
        await conductor.put_back(subject, b"{}", "requeue.dl-1.1")
    waiting = await operator.put_back(subject, b"{}", "requeue.dl-1.1")
    assert not await conductor.taken(waiting)
    async with conductor.consume(COMMANDS, log):
        sequence = await operator.put_back(subject, b"{}", "requeue.dl-1.1")
        await log.until(1)

        async def taken() -> bool:
            return await conductor.taken(sequence)

        await eventually(taken)
    assert (log.deliveries[0].subject, log.deliveries[0].raw) == (subject, b"{}")


@pytest.mark.parametrize("subject", ["vt.default.tel.s.training.x", "vt.default.dead.conductor", "vt", "other.a.cmd.x"])
async def test_what_no_consumer_reads_is_refused(harness: NatsHarness, subject: str) -> None:
    conductor = await harness.bus("conductor")
    with pytest.raises(BusError, match="nothing would read"):
        await conductor.put_back(subject, b"", "requeue.dl-1.1")


async def test_dead_letters_are_read_on_from_a_position(harness: NatsHarness) -> None:
    conductor, agent = await harness.bus("conductor"), await harness.bus("training")
    assert await conductor.dead_letters_from(1) == ([], 1)
    log = Log(*[GiveUp(f"no {number}") for number in range(1, 71)])
    async with agent.consume(TRAINING, log):
        await conductor.publish_events(events(70))
        await log.until(70)
    reasons, position = [], 1
    while (page := await conductor.dead_letters_from(position))[0]:
        reasons += [letter["reason"] for letter in page[0]]
        position = page[1]
    assert reasons == [f"no {number}" for number in range(1, 71)], "more than a page, in order, none twice"
    assert position == 71
    assert (await conductor.dead_letters_from(position)) == ([], 71)
    again, _ = await conductor.dead_letters_from(1000)
    assert again[0]["reason"] == "no 1", "a position beyond the end is one of a stream that was lost"
