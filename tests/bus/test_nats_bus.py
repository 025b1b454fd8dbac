"""What the NATS implementation does beyond the port's promises: accidents, limits, repairs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from nats import errors
from nats.aio.msg import Msg

from bus import connection as connection_module
from bus import following, pulling, sending, streams
from bus.connection import ApiError, Connection
from bus.consuming import pause
from bus.nats_bus import NatsBus, connect
from bus.port import (
    Ack,
    BusError,
    BusUnavailable,
    ConsumerSpec,
    Delivery,
    GiveUp,
    Login,
    NoReceipt,
    Outcome,
    OutgoingEvent,
    PermissionDenied,
)
from bus.server import EmbeddedServer
from schemas.envelope import decode_command
from tests.bus.conftest import NatsHarness
from tests.conformance.bus import (
    COMMANDS,
    DEADLINE,
    TRAINING,
    Log,
    command,
    conductor,
    event,
    events,
    eventually,
    stays_quiet,
)


async def forever() -> None:
    await asyncio.wait_for(asyncio.Event().wait(), DEADLINE)


# -- connecting --------------------------------------------------------------------------------------------------------


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


# -- publishing --------------------------------------------------------------------------------------------------------


async def test_while_cut_off_a_publish_fails_at_once_and_is_not_delivered_later(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    await bus.publish_events(events(1))
    await harness.kill()
    await eventually(lambda: not bus.connection.connected)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for attempt in (bus.publish_events([event("ghost")]), bus.publish_events([event("g2"), event("g3")])):
        with pytest.raises(BusUnavailable, match="not connected"):
            await attempt
    await bus.tell("vt.default.tel.s.conductor.x", b"lost")
    assert loop.time() - began < 0.5
    await harness.server.restart()
    await eventually(lambda: bus.connection.connects == 2)
    assert await bus.connection.round_trip()
    assert await bus.last_event() == (1, "e1")


async def test_a_publish_under_way_when_the_link_breaks_fails_at_once(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    os.kill(harness.server.info.pid, signal.SIGSTOP)
    publishing = asyncio.create_task(bus.publish_events(events(3)))
    pending = asyncio.create_task(bus.publish_events([event("single")]))
    await asyncio.sleep(0)
    await harness.kill()
    for task in (publishing, pending):
        with pytest.raises(BusUnavailable):
            await asyncio.wait_for(task, 5.0)
    await harness.server.restart()


async def test_a_silent_server_is_not_waited_for_for_ever(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    os.kill(harness.server.info.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BusUnavailable, match=r"did not answer on \$JS.API.STREAM.INFO.VT_EVENTS within 0.2 s"):
            await bus.connection.api("STREAM.INFO.VT_EVENTS", timeout=0.2)
        assert not await bus.connection.round_trip(timeout=0.2)
    finally:
        os.kill(harness.server.info.pid, signal.SIGCONT)
    assert await bus.connection.round_trip()


async def test_what_is_too_large_is_refused_before_it_is_sent(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    with pytest.raises(BusError, match=r"too large: 4\d{6} bytes, the limit is 41\d{5}"):
        await bus.publish_events([OutgoingEvent("vt.d.evt.s.x._", "big", b"x" * 4_194_304)])
    assert await bus.publish_events([OutgoingEvent("vt.d.evt.s.x._", "fits", b"x" * 4_170_000)]) == [1]
    assert bus.connection.connects == 1


async def test_large_events_go_out_in_several_batches(harness: NatsHarness) -> None:
    bus, log = await harness.bus("conductor"), Log()
    large = [OutgoingEvent("vt.d.evt.s.x._", f"l{n}", bytes([n]) * 3_000_000) for n in range(7)]
    assert await bus.publish_events(large) == [1, 2, 3, 4, 5, 6, 7]
    async with (await harness.bus("observer")).follow(("vt.*.evt.>",), log.note):
        await log.until(7)
    assert [each.raw[0] for each in log.deliveries] == list(range(7))


async def test_a_subject_that_is_none_is_refused(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    with pytest.raises(BusError, match="cannot publish on"):
        await bus.publish_events([OutgoingEvent("vt.d evt", "x", b"")])
    with pytest.raises(BusError, match="cannot subscribe"):
        async with bus.subscribe("vt.>.x", Log().live):
            raise AssertionError


async def test_a_stream_that_does_not_exist_yet_is_unavailable(server: EmbeddedServer) -> None:
    async with await connect(server.login("operator")) as operator:
        with pytest.raises(BusUnavailable, match="could not be stored"):
            await operator.send(command(), timeout=0.3)
        with pytest.raises(ApiError, match="stream not found"):
            await operator.last_sequence()


async def test_a_full_stream_refuses_and_says_so(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = await harness.bus("conductor")
    small = streams.STREAMS["VT_EVENTS"] | {"max_bytes": 2000, "discard": "new"}
    monkeypatch.setitem(streams.STREAMS, "VT_EVENTS", small)
    await harness.prepare(TRAINING)
    with pytest.raises(BusError, match=r"VT_EVENTS cannot store|JetStream refused .*maximum bytes exceeded"):
        await bus.publish_events([OutgoingEvent("vt.d.evt.s.x._", f"e{n}", b"x" * 900) for n in range(5)])


async def test_a_batch_the_server_took_in_part_is_an_error(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    request = bus.connection.request

    async def older(subject: str, payload: bytes = b"", **more: Any) -> Msg:
        answer = await request(subject, payload, **more)
        answer.data = json.dumps({"stream": "VT_EVENTS", "seq": 2}).encode()
        return answer

    bus.connection.request = older  # type: ignore[method-assign]
    with pytest.raises(BusError, match="stored None of 2 events"):
        await bus.publish_events(events(2))


# -- sending -----------------------------------------------------------------------------------------------------------


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
        return await answer(delivery) if answering else Ack()  # type: ignore[no-any-return]

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
    store, lost = sending.store, False

    async def lossy(*args: Any, **more: Any) -> Any:
        nonlocal lost
        stored = await store(*args, **more)
        if not lost:
            lost = True
            raise BusUnavailable("answer lost")
        assert stored.duplicate
        return stored

    monkeypatch.setattr(sending, "store", lossy)
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


# -- consuming ---------------------------------------------------------------------------------------------------------


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

    async def failing(subject: str, payload: bytes = b"", **more: Any) -> Msg:
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


# -- following ---------------------------------------------------------------------------------------------------------


async def test_following_a_stream_made_anew_begins_again(harness: NatsHarness) -> None:
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    async with observer.follow(("vt.*.evt.>",), log.note):
        await bus.publish_events(events(5))
        await log.until(5)
        await harness.lose_disk()

        async def published() -> bool:
            try:
                await bus.publish_events(events(7))
            except BusError:
                return False
            return True

        await eventually(published)
        await log.until(12)
    assert log.names == [*(each.id for each in events(5)), *(each.id for each in events(7))]


async def test_following_before_the_stream_is_made(server: EmbeddedServer) -> None:
    log = Log()
    async with (
        await connect(server.login("observer")) as observer,
        observer.follow(("vt.*.evt.>",), log.note, start=0),
        await connect(server.login("conductor")) as bus,
    ):
        await bus.publish_events(events(1))
        await log.until(1)


async def test_following_only_new_ones_needs_a_server(harness: NatsHarness) -> None:
    observer = await harness.bus("observer")
    await harness.kill()
    await eventually(lambda: not observer.connection.connected)
    with pytest.raises(BusUnavailable):
        async with observer.follow(("vt.*.evt.>",), Log().note, start=0):
            raise AssertionError
    await harness.server.restart()


async def test_a_follower_finds_what_nobody_rang_for(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(following._Follower, "ring", lambda self, message: None)
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    async with observer.follow(("vt.*.evt.>",), log.note):
        await stays_quiet(log, 0.5)
        await bus.publish_events(events(2))
        await log.until(2, 2.0)


async def test_a_follower_rung_too_early_asks_again(harness: NatsHarness) -> None:
    """The bell may ring before the replica that answers has the message."""
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    bell = following._Follower(observer.connection, ("vt.*.evt.>",), log.note)
    running = asyncio.create_task(bell.run())
    bell.ring(Msg(observer.connection.client, headers={"Nats-Sequence": "1"}))
    await stays_quiet(log, 0.2)
    await bus.publish_events(events(1))
    await log.until(1, 2.0)
    running.cancel()
    await asyncio.wait({running})


async def test_messages_lost_on_the_way_are_read_again(harness: NatsHarness) -> None:
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    await bus.publish_events(events(20))
    replies, lost = observer.connection.replies, 0

    @contextlib.contextmanager
    def lossy(handler: Any) -> Any:
        def receive(message: Msg) -> None:
            nonlocal lost
            if (message.headers or {}).get("Nats-Sequence") == "7" and not lost:
                lost += 1
                return
            handler(message)

        with replies(receive) as reply:
            yield reply

    observer.connection.replies = lossy  # type: ignore[method-assign]
    async with observer.follow(("vt.*.evt.>",), log.note):
        await log.until(20)
    assert lost == 1
    assert log.names == [each.id for each in events(20)]


async def test_a_stream_that_cannot_be_read_now_is_unavailable(harness: NatsHarness) -> None:
    from bus.reading import read_range

    observer = await harness.bus("observer")
    replies = observer.connection.replies

    @contextlib.contextmanager
    def refusing(handler: Any) -> Any:
        with replies(lambda message: handler(Msg(observer.connection.client, headers={"Status": "408"}))) as reply:
            yield reply

    observer.connection.replies = refusing  # type: ignore[method-assign]
    with pytest.raises(BusUnavailable, match="VT_EVENTS cannot be read now: 408"):
        await read_range(observer.connection, "VT_EVENTS", 1, 10)


async def test_holes_do_not_matter_to_who_reads_backwards(
    harness: NatsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bus import reading

    monkeypatch.setattr(reading, "_PAGE", 3)
    bus, observer = await harness.bus("conductor"), await harness.bus("observer")
    # At most one message a subject: the stream deletes the older ones itself, and leaves holes.
    thin = streams.STREAMS["VT_EVENTS"] | {"max_msgs_per_subject": 1}
    monkeypatch.setitem(streams.STREAMS, "VT_EVENTS", thin)
    await harness.prepare(TRAINING)
    await bus.publish_events([event(f"e{n}", f"kind_{n % 3 if n < 15 else 9}._") for n in range(20)])
    found = [record.sequence async for record in reading.backwards(observer.connection, "VT_EVENTS")]
    assert found == [20, 15, 14, 13]
    assert await bus.last_event() == (20, "e19")


# -- links -------------------------------------------------------------------------------------------------------------


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
    os.kill(harness.server.info.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(operator.last_sequence())
    await asyncio.sleep(0)
    closing = asyncio.create_task(operator.close())
    await asyncio.wait({closing}, timeout=DEADLINE)
    os.kill(harness.server.info.pid, signal.SIGCONT)
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


async def test_drops_at_a_slow_listener_are_counted(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PENDING_MESSAGES", 2)
    observer, agent = await harness.bus("observer"), await harness.bus("training")
    heard: list[bytes] = []
    async with observer.subscribe("vt.*.tel.>", lambda subject, raw, headers: heard.append(raw)):
        for number in range(50):
            await agent.tell("vt.default.tel.s.training.x", str(number).encode())
        await agent.connection.round_trip()
        await eventually(lambda: observer.connection.dropped + len(heard) == 50)
    assert observer.connection.dropped > 0


async def test_the_conductor_goes_on_restoring_until_it_succeeds(
    harness: NatsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bus import nats_bus

    monkeypatch.setattr(nats_bus, "RESTORE_PAUSE_SECONDS", 0.05)
    bus = await harness.bus("conductor")
    ensure, failures = streams.ensure, 0

    async def failing(connection: Connection, *more: Any) -> None:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise BusUnavailable("not yet")
        await ensure(connection, *more)

    monkeypatch.setattr(streams, "ensure", failing)
    await harness.lose_disk()

    async def published() -> bool:
        try:
            return await bus.publish_events(events(1)) == [1]
        except BusError:
            return False

    await eventually(published)
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


@pytest.fixture(autouse=True)
async def no_task_is_left_over() -> AsyncIterator[None]:
    """Whatever a test opens is closed at its end, and no task of the bus lives on."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if "bus/" in repr(task.get_coro())}
    assert not left
