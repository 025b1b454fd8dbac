"""A server of one's own: what its URL may be, whose logins it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.credentials import ensure_credentials, ensure_public_keys, public_key, read_seed
from bus.given import GivenServer
from bus.nats_bus import connect
from bus.permissions import ROLES
from bus.port import BusError, BusUnavailable, Login, PermissionDenied, Tls, TlsFailed
from bus.server import EmbeddedServer
from bus.server_config import server_configuration
from tests.bus.own_server import OwnServer

PASSWORD = "hunter2"


async def test_every_role_logs_in_and_nobody_else(tmp_path: Path) -> None:
    async with OwnServer(tmp_path / "nats", "default") as server:
        given = server.given("default")
        async with await connect(given.login("conductor")):
            for role in ROLES:
                async with await connect(given.login(role)) as bus:
                    assert bus.connection.connected
        stranger = tmp_path / "stranger"
        ensure_credentials(stranger, ROLES)
        with pytest.raises(PermissionDenied):
            await connect(GivenServer(server.url, stranger).login("observer"))
        seedless = Login(server.url, "observer", "SUnonsense")
        with pytest.raises(BusError, match="cannot connect"):
            await connect(seedless)


async def test_several_urls_are_one_cluster(server: EmbeddedServer) -> None:
    given = GivenServer(f"nats://127.0.0.1:1, {server.url}", server.directory)
    async with await connect(given.login("operator")) as bus:
        assert bus.connection.connected
    with pytest.raises(BusUnavailable, match="no NATS server answered"):
        await connect(GivenServer("nats://127.0.0.1:1", server.directory).login("operator"), timeout=0.3)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        (f"nats://user:{PASSWORD}@host:4222", "no user and no password"),
        (f"tls://{PASSWORD}@host", "no user and no password"),
        (f"nats://a,nats://u:{PASSWORD}@b", "no user and no password"),
        (f"{PASSWORD}:4222", "must be nats://HOST:PORT"),
        ("http://host:4222", "must be nats://HOST:PORT"),
        ("nats://", "must be nats://HOST:PORT"),
        ("nats://host:4222/path", "must be nats://HOST:PORT"),
        ("nats://host:port", "is no URL"),
        ("nats://[host", "is no URL"),
        ("", "must be nats://HOST:PORT"),
        ("nats://a,tls://b", "mixes"),
    ],
)
def test_urls_that_are_refused(tmp_path: Path, url: str, match: str) -> None:
    with pytest.raises(BusError, match=match) as caught:
        GivenServer(url, tmp_path)
    assert PASSWORD not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        BusError, match=r"lead.seed does not exist; make it with `valuetrain credentials server-config`"
    ):
        GivenServer("nats://host", tmp_path).login("lead")
    with pytest.raises(TlsFailed, match=r"none.pem for TLS cannot be read"):
        GivenServer("tls://host", tmp_path, Tls(tmp_path / "none.pem"))


def test_a_configuration_holds_no_seed(tmp_path: Path) -> None:
    keys = ensure_credentials(tmp_path, ROLES)
    text = repr(server_configuration({"acme": keys}, listen="127.0.0.1:4222", store_dir=Path("/data")))
    for role in ROLES:
        assert read_seed(tmp_path, role) not in text
        assert keys[role] in text


def test_a_tenants_public_half_is_enough_once_its_seed_was_moved(tmp_path: Path) -> None:
    keys = ensure_public_keys(tmp_path, ["lead", "data"], elsewhere=True)
    assert keys["lead"] == public_key(read_seed(tmp_path, "lead"))
    (tmp_path / "credentials" / "lead.seed").unlink()
    assert ensure_public_keys(tmp_path, ["lead", "data"], elsewhere=True) == keys
    # In the home that uses it, a missing seed is made anew.
    assert ensure_public_keys(tmp_path, ["lead"])["lead"] != keys["lead"]
    (tmp_path / "credentials" / "data.seed").unlink()
    (tmp_path / "credentials" / "data.pub").write_text("SUnonsense")
    with pytest.raises(BusError, match=r"data.pub holds no public nkey"):
        ensure_public_keys(tmp_path, ["data"], elsewhere=True)
