"""Headers as they go out and come in: what is written faster than nats-py writes it must be just as safe."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats import errors
from nats.aio import client

from bus.client import Client
from bus.nats_bus import NatsBus
from bus.port import BusError
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import eventually

NAMES = st.text(string.ascii_letters + string.digits + "-_.!", min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.binary(max_size=200) | st.dictionaries(NAMES, VALUES).map(lambda found: _block(found)))
def test_headers_are_read_as_nats_py_reads_them(raw: bytes) -> None:
    assert Client._parse_header_lines(raw) == client.Client._parse_header_lines(raw)


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
    with pytest.raises(errors.BadHeaderError):
        await bus.connection.client.publish("_INBOX.conductor.echo", b"", headers={name: "1"})
