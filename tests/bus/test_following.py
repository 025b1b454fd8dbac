"""Following, and reading backwards, when things are missing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from bus import following, nats_bus, streams
from bus.answers import ApiError
from bus.connection import Connection
from bus.nats_bus import connect
from bus.port import (
    BusError,
    BusUnavailable,
)
from bus.server import EmbeddedServer
from bus.wire import Message
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import (
    TRAINING,
    Log,
    event,
    events,
    eventually,
    published,
    stays_quiet,
)


async def test_following_a_stream_made_anew_begins_again(harness: NatsHarness) -> None:
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    async with observer.follow(("vt.*.evt.>",), log.note):
        await bus.publish_events(events(5))
        await log.until(5)
        await harness.lose_disk()
        await published(bus, events(7))
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
    bell.ring(Message(headers={"Nats-Sequence": "1"}))
    await stays_quiet(log, 0.2)
    await bus.publish_events(events(1))
    await log.until(1, 2.0)
    running.cancel()
    await asyncio.wait({running})


async def test_who_has_caught_up_reads_nothing_again(harness: NatsHarness) -> None:
    """What comes right at the position is handed over as the server repeats it."""
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    await bus.publish_events(events(2))
    publish, asked = observer.connection.publish, 0

    async def counting(subject: str, *args: Any, **kwargs: Any) -> None:
        nonlocal asked
        asked += "DIRECT.GET" in subject
        await publish(subject, *args, **kwargs)

    observer.connection.publish = counting  # type: ignore[method-assign]
    async with observer.follow(("vt.*.evt.>",), log.note):
        await log.until(2)
        before = asked
        for each in events(30)[2:]:  # one by one: the server repeats an atomic batch before it tells of its end
            await bus.publish_events([each])
        await log.until(30)
    assert log.names == [each.id for each in events(30)]
    assert asked - before <= 1  # the first may ring while the follower still reads


@pytest.mark.parametrize("lost", [{2}, {1, 3}, {3, 4, 5}])
async def test_what_is_not_repeated_is_read(harness: NatsHarness, lost: set[int]) -> None:
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    subscribe = observer.connection.subscribe

    async def lossy(subject: str, handler: Any) -> Any:
        def receive(message: Message) -> None:
            if int(message.headers["Nats-Sequence"]) not in lost:
                handler(message)

        return await subscribe(subject, receive)

    observer.connection.subscribe = lossy  # type: ignore[method-assign]
    async with observer.follow(("vt.*.evt.>",), log.note):
        for each in events(6):
            await bus.publish_events([each])
        await log.until(6)
    assert log.names == [each.id for each in events(6)]


async def test_a_slow_follower_misses_nothing(harness: NatsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is repeated while the handler is at work than is kept."""
    monkeypatch.setattr(following, "KEPT", 3)
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    held = asyncio.Event()

    async def slow(subject: str, raw: bytes, headers: dict[str, str], sequence: int) -> None:
        await held.wait()
        await log.note(subject, raw, headers, sequence)

    async with observer.follow(("vt.*.evt.>",), slow):
        for each in events(12):
            await bus.publish_events([each])
        assert await observer.connection.round_trip()
        held.set()
        await log.until(12)
    assert log.names == [each.id for each in events(12)]


async def test_a_stream_that_repeats_headers_only_is_read(harness: NatsHarness) -> None:
    """One of an older version, until its conductor is updated."""
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    await bus.connection.api(
        "STREAM.UPDATE.VT_EVENTS",
        streams.STREAMS["VT_EVENTS"]
        | {"name": "VT_EVENTS", "republish": {"src": ">", "dest": "live.>", "headers_only": True}},
    )
    async with observer.follow(("vt.*.evt.>",), log.note):
        for each in events(3):
            await bus.publish_events([each])
        await log.until(3)
    assert [each.raw for each in log.deliveries] == [each.raw for each in events(3)]
    await streams.ensure(bus.connection)
    config = (await bus.connection.api("STREAM.INFO.VT_EVENTS"))["config"]
    assert not config["republish"].get("headers_only")


async def test_an_answer_led_astray_is_only_a_bell(harness: NatsHarness) -> None:
    """A reader may have the server answer to any subject, and leave out the headers of what is stored."""
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    curious, subscribe, astray = await harness.bus("observer"), observer.connection.subscribe, 0

    async def lossy(subject: str, handler: Any) -> Any:
        def receive(message: Message) -> None:
            nonlocal astray
            astray += "Nats-Msg-Id" not in message.headers
            if "Nats-Msg-Id" not in message.headers or message.headers["Nats-Sequence"] == "1":
                handler(message)

        return await subscribe(subject, receive)

    observer.connection.subscribe = lossy  # type: ignore[method-assign]
    async with observer.follow(("vt.*.evt.>",), log.note):
        await bus.publish_events(events(1))
        await log.until(1)
        await bus.publish_events(events(2)[1:])
        body = b'{"seq": 2, "no_hdr": true}'
        await curious.connection.publish("$JS.API.DIRECT.GET.VT_EVENTS", body, reply=f"live.{events(2)[1].subject}")
        await log.until(2)
    assert astray
    assert log.names == [each.id for each in events(2)]


async def test_messages_lost_on_the_way_are_read_again(harness: NatsHarness) -> None:
    bus, observer, log = await harness.bus("conductor"), await harness.bus("observer"), Log()
    await bus.publish_events(events(20))
    replies, lost = observer.connection.replies, 0

    @contextlib.contextmanager
    def lossy(handler: Any) -> Any:
        def receive(message: Message) -> None:
            nonlocal lost
            if message.headers.get("Nats-Sequence") == "7" and not lost:
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
        with replies(lambda message: handler(Message(headers={"Status": "408"}))) as reply:
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


async def test_the_last_event_is_found_before_holes(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    await bus.publish_events(events(3))
    api = bus.connection.api

    async def holed(action: str, body: dict[str, Any] | None = None, timeout: float = 5.0) -> dict[str, Any]:
        if body == {"seq": 3}:
            raise ApiError(action, {"code": 404, "err_code": 10037, "description": "no message found"})
        return await api(action, body, timeout)

    bus.connection.api = holed  # type: ignore[method-assign]
    assert await bus.last_event() == (2, "e2")

    async def broken(action: str, body: dict[str, Any] | None = None, timeout: float = 5.0) -> dict[str, Any]:
        if body is not None:
            raise ApiError(action, {"code": 500, "err_code": 10023, "description": "not enough memory"})
        return await api(action, body, timeout)

    bus.connection.api = broken  # type: ignore[method-assign]
    with pytest.raises(ApiError, match="not enough memory"):
        await bus.last_event()


async def test_streams_deleted_under_a_running_system_are_made_again(
    harness: NatsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that may pull can lead an empty answer to the JetStream API, which takes it for a request."""
    monkeypatch.setattr(nats_bus, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.2)
    bus, agent, observer = [await harness.bus(role) for role in ("conductor", "training", "observer")]
    ensure, failures, followed = streams.ensure, 1, Log()

    async def looked(connection: Connection, *more: Any, **options: Any) -> None:
        nonlocal failures
        failures -= 1
        if failures == 0:
            raise BusUnavailable("not now")  # it looks again
        await ensure(connection, *more, **options)

    monkeypatch.setattr(streams, "ensure", looked)
    async with observer.follow(("vt.*.evt.>",), followed.note):
        await bus.publish_events(events(2))
        await followed.until(2)
        for stream in ("VT_COMMANDS", "VT_TELEMETRY", "VT_DEAD", "VT_EVENTS"):
            created = (await bus.connection.api(f"STREAM.INFO.{stream}"))["created"]
            subject = "$JS.API.CONSUMER.MSG.NEXT.VT_EVENTS.agent-training"
            for _ in range(3):  # the answer is empty once the two events were taken
                await agent.connection.publish(
                    subject, b'{"batch": 1, "no_wait": true}', reply=f"$JS.API.STREAM.DELETE.{stream}"
                )

            async def anew(stream: str = stream, created: str = created) -> bool:
                try:
                    return bool((await bus.connection.api(f"STREAM.INFO.{stream}"))["created"] != created)
                except BusError:
                    return False

            await eventually(anew)
        await published(bus, events(3))  # as the relay does, and who follows begins anew
        await eventually(lambda: followed.names[-3:] == ["e1", "e2", "e3"])
    assert failures < 0
