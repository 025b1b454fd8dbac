"""TLS: what is verified, what is said when it fails, and that nothing is ever sent in plain text instead."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog.testing

from bus.credentials import handed_out, read_handed_out
from bus.nats_bus import NatsBus, connect
from bus.port import Login, Tls, TlsFailed
from bus.server import EmbeddedServer, ServerError, login
from bus.server_config import tls_block
from bus.tls import check_files
from tests.bus.certificates import Authority, authority
from tests.bus.own_server import OwnServer
from tests.conformance.bus_kit import DEADLINE, Log, events, eventually, published


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.fixture
async def server(tmp_path: Path, ca: Authority) -> AsyncIterator[EmbeddedServer]:
    """An embedded server that serves TLS."""
    async with EmbeddedServer(tmp_path / "nats", tls=ca.issue("server")) as server:
        yield server


def trusting(given: Login, ca: Path | None) -> Login:
    return replace(given, tls=Tls(ca))


async def refused(given: Login, match: str) -> None:
    """A clear error at once, not after the time for a server that is away."""
    with pytest.raises(TlsFailed, match=match):
        async with await asyncio.wait_for(connect(given, timeout=60.0), DEADLINE):
            raise AssertionError("it is connected")


async def test_everything_travels_encrypted_and_any_process_finds_the_ca(server: EmbeddedServer) -> None:
    assert server.url.startswith("tls://127.0.0.1:")
    for given in (server.login("conductor"), login(server.directory, "conductor")):
        async with await connect(given) as bus:
            assert bus.connection.client.encrypted
            assert await bus.publish_events(events(1)) == [1]


async def test_a_server_that_cannot_be_trusted(server: EmbeddedServer, tmp_path: Path, ca: Authority) -> None:
    given = server.login("operator")
    await refused(trusting(given, authority(tmp_path, "other").file), r"cannot be trusted \(.*\); trusted: .*other.pem")
    await refused(trusting(given, None), r"cannot be trusted .*operating system's CAs")
    await refused(replace(given, url=given.url.replace("127.0.0.1", "localhost")), r"[Hh]ostname mismatch")


async def test_a_certificate_for_another_host_or_time(tmp_path: Path, ca: Authority) -> None:
    for name, tls, match in (
        ("host", ca.issue("elsewhere", hosts=("nats.example",)), "IP address mismatch"),
        ("time", ca.issue("old", days=-1), "certificate has expired"),
    ):
        async with EmbeddedServer(tmp_path / name, tls=tls) as server:
            await refused(server.login("operator"), match)


async def test_a_plain_client_is_told_what_the_server_wants(server: EmbeddedServer) -> None:
    given = server.login("operator")
    await refused(replace(given, url=given.url.replace("tls://", "nats://"), tls=None), r"wants TLS: use a tls:// URL")


async def test_a_server_without_tls_gets_not_one_byte(tmp_path: Path, ca: Authority) -> None:
    """Its greeting is plain text: whoever is on the way could have taken the offer of TLS out of it."""
    heard: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + json.dumps({"version": "2.15.1", "max_payload": 1000, "nonce": "n"}).encode() + b"\r\n")
        heard.append(await reader.read(1000))
        writer.close()

    async with EmbeddedServer(tmp_path / "nats") as server:
        await refused(trusting(server.login("operator"), ca.file), r"offers no TLS, and nothing is sent in plain text")
        plain = server.login("operator")
    listening = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        for given in (trusting(plain, ca.file), replace(plain, url=plain.url.replace("nats://", "tls://"))):
            await refused(replace(given, url=f"{given.url.partition(':')[0]}://127.0.0.1:{port}"), "offers no TLS")
        await eventually(lambda: len(heard) >= 2)
    assert set(heard) == {b""}


async def test_a_server_that_asks_for_a_certificate_of_ours(tmp_path: Path, ca: Authority) -> None:
    its, ours = ca.issue("server"), ca.issue("client")
    stranger = authority(tmp_path, "other").issue("stranger")
    assert its.certificate
    assert its.key
    block = tls_block(its.certificate, its.key, ca.file)
    async with OwnServer(tmp_path / "nats", "default", tls=block, verify=ours) as server:
        given = server.login("conductor")
        async with await connect(given) as bus:
            assert bus.connection.client.encrypted
        await refused(trusting(given, ca.file), "certificate of ours")
        await refused(replace(given, tls=replace(stranger, ca=ca.file)), "certificate of ours")


async def test_a_killed_server_is_found_again_over_tls(server: EmbeddedServer) -> None:
    log = Log()
    async with (
        await connect(server.login("conductor")) as bus,
        await connect(server.login("observer")) as observer,
        observer.follow(("vt.*.evt.>",), log.note),
    ):
        await bus.publish_events(events(1))
        await log.until(1)
        os.kill(server.info.pid, signal.SIGKILL)
        await server.exited()
        await server.restart()
        await published(bus, events(2))
        await log.until(2)
        assert log.names == ["e1", "e2"]
        assert bus.connection.client.encrypted


async def test_a_server_that_comes_back_without_tls_or_as_another_is_not_spoken_to(
    tmp_path: Path, ca: Authority
) -> None:
    directory = tmp_path / "nats"
    async with EmbeddedServer(directory, tls=ca.issue("server")) as server:
        port = int(server.url.rpartition(":")[2])
        given = server.login("conductor")
        bus = await connect(given)
        await server.stop()
    for tls in (None, authority(tmp_path, "other").issue("imposter")):
        with structlog.testing.capture_logs() as logs:
            async with EmbeddedServer(directory, port=port, tls=tls):
                await eventually(lambda logs=logs: any(line["event"] == "bus_tls_failed" for line in logs))  # type: ignore[misc]
                assert not bus.connection.connected
    async with EmbeddedServer(directory, port=port, tls=ca.issue("renewed")):
        await eventually(lambda: bus.connection.connected)
    await bus.close()


async def test_an_observers_file_says_tls(server: EmbeddedServer) -> None:
    text = handed_out(server.login("observer"), "default")
    assert f"url: {server.url}\n" in text
    got = read_handed_out(text)
    assert got.tls is None
    await refused(got, "cannot be trusted")  # TLS all the same, by its URL; the reader is told of the CA by other ways
    assert server.info.ca is not None
    bus: NatsBus
    async with await connect(trusting(got, Path(server.info.ca))) as bus:
        assert bus.connection.client.encrypted


def test_files_that_cannot_be_used_are_named(tmp_path: Path, ca: Authority) -> None:
    good = ca.issue("server")
    other = ca.issue("other")
    nothing, nonsense = tmp_path / "nothing.pem", tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    check_files(good)
    check_files(Tls())
    for files, match in (
        (replace(good, key=None), r"certificate .*server.pem for TLS has no key"),
        (replace(good, certificate=None), r"key .*server.key for TLS has no certificate"),
        (replace(good, ca=nothing), r"CA .*nothing.pem for TLS cannot be read: No such file"),
        (replace(good, ca=nonsense), r"CA .*nonsense.pem for TLS holds no certificate"),
        (replace(good, certificate=nonsense), r"certificate .*nonsense.pem for TLS holds no certificate"),
        (replace(good, certificate=tmp_path), "Is a directory"),
        (replace(good, key=nothing), r"key .*nothing.pem for TLS cannot be read"),
        (replace(good, key=other.key), r"other.key does not belong to the certificate"),
    ):
        with pytest.raises(TlsFailed, match=match):
            check_files(files)
    assert good.key is not None
    good.key.chmod(0o640)
    with pytest.raises(TlsFailed, match=r"can be read by others \(mode 0640\): chmod 600"):
        check_files(good)


async def test_a_server_with_bad_files_does_not_start(tmp_path: Path, ca: Authority) -> None:
    with pytest.raises(TlsFailed, match="needs a certificate and its key"):
        await EmbeddedServer(tmp_path / "nats", tls=Tls(ca.file)).start()
    with pytest.raises(ServerError, match="no server runs"):
        login(tmp_path / "nats", "observer")
