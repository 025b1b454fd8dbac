"""Headers as they go out and come in: what is written faster than nats-py writes it must be just as safe."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats import errors
from nats.aio import client

from bus.client import header_block
from bus.nats_bus import NatsBus
from bus.port import BusError
from bus.wire import LeanParser, block_headers, header_lines
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import eventually

NAMES = st.text(string.ascii_letters + string.digits + "-_.!", min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.binary(max_size=200) | st.dictionaries(NAMES, VALUES).map(lambda found: _block(found)))
def test_header_lines_are_read_as_nats_py_reads_them(raw: bytes) -> None:
    assert header_lines(raw) == client.Client._parse_header_lines(raw)


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (b"", {}),
        (b"NATS/1.0\r\n\r\n", {}),
        (b"NATS/1.0\r\nA: 1\r\n\r\n", {"A": "1"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
        (b"NATS/1.0 100 Idle Heartbeat\r\nB: 2\r\n\r\n", {"Status": "100", "Description": "Idle Heartbeat", "B": "2"}),
        (b"NATS/1.0503\r\nA: 1\r\n\r\n", {"A": "1"}),
        (b"NATS/1.0 abc\r\nA: 1\r\n\r\n", {"A": "1"}),
    ],
)
def test_a_block_has_a_status_and_headers(block: bytes, headers: dict[str, str]) -> None:
    assert block_headers(block) == headers


def _said(messages: list[tuple[str, str, dict[str, str], bytes]]) -> bytes:
    """As the server sends it, with other things in between."""
    said = b""
    for number, (subject, reply, headers, payload) in enumerate(messages):
        block = header_block(headers)
        to = f"{reply} " if reply else ""
        size = len(block) + len(payload)
        head = f"HMSG {subject} 1 {to}{len(block)} {size}" if block else f"MSG {subject} 1 {to}{size}"
        said += head.encode() + b"\r\n" + block + payload + b"\r\n"
        said += (b"", b"PING\r\n", b"+OK\r\n")[number % 3]
    return said


SUBJECTS = st.text("abc.", min_size=1, max_size=8)
MESSAGES = st.tuples(
    SUBJECTS, st.just("") | SUBJECTS, st.dictionaries(st.sampled_from("AB"), st.just("1")), st.binary(max_size=40)
)


@given(st.lists(MESSAGES, max_size=6), st.lists(st.integers(1, 30), max_size=40), st.booleans())
async def test_messages_are_read_whole_however_they_arrive(
    messages: list[tuple[str, str, dict[str, str], bytes]], cuts: list[int], known: bool
) -> None:
    """In pieces of any size, and whether the subscription is one of ours or of nats-py's."""
    found: list[tuple[str, str, dict[str, str], bytes]] = []

    def deliver(sid: int, subject: str, reply: str, payload: bytes, block: bytes) -> bool:
        found.append((subject, reply, block_headers(block), payload))
        return True

    class Link:
        pings = 0

        async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
            deliver(sid, subject.decode(), reply.decode(), data, headers or b"")

        async def _process_ping(self) -> None:
            self.pings += 1

    link = Link()
    parser = LeanParser(link, deliver if known else lambda *_: False)
    said = _said(messages)
    for cut in cuts:
        await parser.parse(said[:cut])
        said = said[cut:]
    await parser.parse(said)
    assert found == messages
    assert link.pings == len(messages[1::3])
    assert not parser.buf


@pytest.mark.parametrize("line", [b"MSG a 1\r\n", b"MSG a 1 x\r\n", b"HMSG a b 1 2\r\n", b"MSG \r\n"])
async def test_a_line_that_is_no_message_ends_the_link(line: bytes) -> None:
    with pytest.raises(errors.ProtocolError):
        await LeanParser(None, lambda *_: True).parse(line)


def _block(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


async def _echoed(bus: NatsBus, headers: dict[str, str]) -> list[dict[str, str]]:
    """What arrives of a message with these headers, and of one behind it."""
    seen: list[dict[str, str]] = []
    async with bus.subscribe("_INBOX.conductor.echo", lambda subject, raw, headers: seen.append(headers)):
        await bus.connection.publish("_INBOX.conductor.echo", b"x", headers=headers)
        await bus.connection.publish("_INBOX.conductor.echo", b"x", headers={"Last": "1"})
        await eventually(lambda: len(seen) == 2)
    return seen


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ("plain", "plain"),
        ("  spaces around  ", "spaces around"),
        ("Grüße 😀", "Grüße 😀"),
        ("", ""),
        ("x\r\nForged: 1", "x  Forged: 1"),
        ("x\nForged: 1", "x Forged: 1"),
        ("x\rForged: 1", "x Forged: 1"),
        ("x\r\n\r\nPUB a 1\r\nb", "x    PUB a 1  b"),
    ],
)
async def test_a_value_stays_within_its_line(harness: NatsHarness, value: str, arrives: str) -> None:
    bus = await harness.bus("conductor")
    assert await _echoed(bus, {"One": value, "Two": "2"}) == [{"One": arrives, "Two": "2"}, {"Last": "1"}]


@pytest.mark.parametrize("name", ["x: y", "x\r\nForged", "x y", "x\n"])
async def test_a_name_that_is_none_is_refused(harness: NatsHarness, name: str) -> None:
    bus = await harness.bus("conductor")
    if name == "x\n":  # nats-py trims it
        assert (await _echoed(bus, {name: "1"}))[0] == {"x": "1"}
        return
    with pytest.raises(BusError, match="cannot publish on"):
        await bus.connection.publish("_INBOX.conductor.echo", b"", headers={name: "1", "Two": "2"})
