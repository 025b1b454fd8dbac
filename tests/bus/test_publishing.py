"""Publishing events: limits, and a server that goes away."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from bus import streams
from bus.answers import ApiError
from bus.nats_bus import connect
from bus.port import (
    BusError,
    BusUnavailable,
    OutgoingEvent,
)
from bus.publishing import FEW
from bus.server import EmbeddedServer
from bus.wire import Message
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import (
    DEADLINE,
    TRAINING,
    Log,
    command,
    event,
    events,
    eventually,
)


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
    assert loop.time() - began < 2.0
    await harness.server.restart()
    await eventually(lambda: bus.connection.connects == 2)
    assert await bus.connection.round_trip()
    assert await bus.last_event() == (1, "e1")


async def test_a_publish_under_way_when_the_link_breaks_fails_at_once(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    await harness.freeze()
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
    await harness.freeze()
    try:
        with pytest.raises(BusUnavailable, match=r"did not answer on \$JS.API.STREAM.INFO.VT_EVENTS within 0.2 s"):
            await bus.connection.api("STREAM.INFO.VT_EVENTS", timeout=0.2)
        assert not await bus.connection.round_trip(timeout=0.2)
    finally:
        harness.thaw()
    # nats-py's reader dies when the answer comes to a flush that was cancelled: ours are not.
    assert await bus.connection.round_trip(timeout=DEADLINE)


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

    async def older(subject: str, payload: bytes = b"", **more: Any) -> Message:
        answer = await request(subject, payload, **more)
        answer.data = json.dumps({"stream": "VT_EVENTS", "seq": 2}).encode()
        return answer

    bus.connection.request = older  # type: ignore[method-assign]
    with pytest.raises(BusError, match=f"stored None of {FEW + 1} events"):
        await bus.publish_events(events(FEW + 1))


async def test_what_the_server_refuses_is_told_with_its_reason(harness: NatsHarness) -> None:
    bus = await harness.bus("conductor")
    wrong = replace(event("e1"), headers=(("Nats-Expected-Last-Sequence", "99"),))
    for batch in ([wrong], [wrong, event("e2")], [wrong, *events(FEW)]):
        with pytest.raises(ApiError, match="wrong last sequence"):
            await bus.publish_events(batch)
    assert await bus.last_event() is None


@pytest.mark.parametrize("before", [0, 1])
async def test_behind_a_refused_event_nothing_is_stored(harness: NatsHarness, before: int) -> None:
    bus = await harness.bus("conductor")
    await bus.publish_events(events(before))
    wrong = replace(event("wrong"), headers=(("Nats-Expected-Last-Sequence", "99"),))
    with pytest.raises(ApiError, match="wrong last sequence"):
        await bus.publish_events([event("a"), wrong, event("b"), event("c")])
    assert await bus.last_event() == (before + 1, "a")
    assert await bus.publish_events([event("b"), event("c")]) == [before + 2, before + 3]


@pytest.mark.parametrize("number", [2, 5, FEW, FEW + 1])
async def test_what_is_published_again_keeps_its_place(harness: NatsHarness, number: int) -> None:
    bus, others, log = await harness.bus("conductor"), await harness.bus("conductor"), Log()
    assert await bus.publish_events(events(number)) == list(range(1, number + 1))
    assert await others.publish_events([event("other")]) == [number + 1]
    assert await bus.publish_events(events(number)) == list(range(1, number + 1))
    assert await bus.publish_events([event("e2"), event("new"), event("newer")]) == [2, number + 2, number + 3]
    assert await bus.publish_events([event("last"), event("very-last")]) == [number + 4, number + 5]
    async with (await harness.bus("observer")).follow(("vt.*.evt.>",), log.note):
        await log.until(number + 5)
    ids = [each.headers["Nats-Msg-Id"] for each in log.deliveries]
    assert ids == [*(f"e{n + 1}" for n in range(number)), "other", "new", "newer", "last", "very-last"]
