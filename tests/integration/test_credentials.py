"""Logins and a NATS server of one's own, by the command line."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import structlog
from typer.testing import CliRunner

from bus.credentials import read_handed_out, read_seed
from bus.given import GivenServer
from bus.nats_bus import connect
from bus.permissions import ROLES
from bus.port import Login, PermissionDenied, Tls
from bus.server import find_binary, login
from cli.app import app
from cli.bootstrap import system
from cli.errors import CliError
from cli.home import Home
from cli.settings import Settings, load
from tests.bus.certificates import authority
from tests.bus.own_server import OwnServer
from tests.integration.train import Ran, Train


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


def run(home: Path, *words: str) -> Ran:
    result = CliRunner().invoke(app, ["credentials", *words, "--home", str(home)])
    return Ran(result.exit_code, result.stdout, result.stderr)


class Configured(OwnServer):
    """The real nats-server on a file the command wrote."""

    def __init__(self, directory: Path, file: Path) -> None:
        super().__init__(directory)
        self._file = file

    def configure(self) -> Path:
        return self._file


def configured(home: Path, file: Path, *words: str) -> Ran:
    ran = run(home, "server-config", "--listen", "127.0.0.1:0", "-o", str(file), *words)
    assert ran.code == 0, ran.err
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"listen": "127.0.0.1:-1"}))  # a free port
    return ran


async def test_a_server_on_the_printed_configuration_takes_every_role(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "nats.conf"
    ran = configured(home, file, "--store-dir", str(tmp_path / "store"))
    assert "tenants default, 13 roles" in ran.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert not any(read_seed(home / "bus", role) in file.read_text() for role in ROLES)
    assert find_binary().exists()
    async with Configured(tmp_path / "nats", file) as server:
        given = GivenServer(server.url, home / "bus")
        for role in ("conductor", *ROLES):
            async with await connect(given.login(role)) as bus:
                assert bus.connection.connected
        (home / "config.yaml").write_text(f"nats_url: {server.url}\n")
        observer = run(home, "observer")
        assert observer.code == 0, observer.err
        async with await connect(read_handed_out(observer.out)) as bus:
            assert await bus.last_sequence() == 0
            with pytest.raises(PermissionDenied):
                await bus.connection.request("vt.default.evt.s.x._", b"{}")
        rotated = run(home, "rotate", "observer")
        assert "still takes the old login" in rotated.out, rotated.err
        assert (tmp_path / "store" / "jetstream" / "default").is_dir()


async def test_several_tenants_with_tls(tmp_path: Path) -> None:
    tls, home, file = authority(tmp_path).issue("server"), tmp_path / "home", tmp_path / "nats.conf"
    words = ["--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key), "--store-dir", str(tmp_path / "s")]
    ran = configured(home, file, "--tenant", "acme", "--tenant", "beta", "--tenant", "acme", *words, "--json")
    assert ran.json["tenants"] == ["acme", "beta"]
    # Each tenant's logins are moved to its own home; making the configuration again changes nothing.
    before = file.read_text()
    for tenant in ("acme", "beta"):
        (tmp_path / tenant / "bus").mkdir(parents=True)
        moved = tmp_path / tenant / "bus" / "credentials"
        moved.mkdir()
        for seed in (home / "bus" / "tenants" / tenant / "credentials").glob("*.seed"):
            seed.rename(moved / seed.name)
    configured(home, file, "--tenant", "acme", "--tenant", "beta", *words)
    assert file.read_text() == before
    async with Configured(tmp_path / "nats", file) as server:
        url = server.url.replace("nats://", "tls://")
        for tenant in ("acme", "beta"):
            settings = Settings(tenant=tenant, nats_url=url, nats_tls_ca=tls.ca)
            given = GivenServer(url, tmp_path / tenant / "bus", settings.nats_tls)
            async with await connect(given.login("conductor")) as bus:
                assert (await bus.connection.request(f"vt.{tenant}.evt.s.x._", b"{}")).data


async def test_a_whole_system_speaks_tls_and_goes_on_after_a_rotation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls, home = authority(tmp_path).issue("server"), Home(tmp_path / "home")
    settings = Settings(nats_tls_ca=tls.ca, nats_tls_certificate=tls.certificate, nats_tls_key=tls.key)
    caplog.set_level("WARNING")
    async with system(home, settings, "a test", agents=False, effects=False):
        before = run(home.path, "observer", "--json").json
        assert before["url"].startswith("tls://127.0.0.1:")
        train = Train(tmp_path)
        words = ["credentials", "rotate", "--home", str(home.path)]
        rotated = await anyio.to_thread.run_sync(train.run, *words, "observer")
        assert "takes only the new login" in rotated.out, rotated.err
        with pytest.raises(PermissionDenied):
            await connect(Login(before["url"], "observer", before["seed"], Tls(tls.ca)))
        assert rotated.err == ""
        rotated = await anyio.to_thread.run_sync(train.run, *words, "conductor", "--json")
        assert rotated.json == {"role": "conductor", "server": "takes it"}
        async with await connect(login(home.bus, "operator")) as bus:
            assert await bus.last_sequence() == 0
    assert not caplog.messages  # asyncio has nothing to warn people of


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["server-config", "--tls-ca", "ca.pem"], "TLS needs --tls-certificate and --tls-key"),
        (["server-config", "--tls-key", "key.pem"], "TLS needs --tls-certificate and --tls-key"),
        (["server-config", "--tenant", "No Tenant"], "'No Tenant' is no tenant"),
        (["server-config", "--listen", "4222"], "--listen '4222' is no address"),
        (["server-config", "--listen", "h:99999"], "is no address"),
        (["rotate", "root"], "there is no role 'root'; the roles are autopilot, "),
    ],
)
def test_wrong_usage(tmp_path: Path, words: list[str], match: str) -> None:
    ran = run(tmp_path / "home", *words)
    assert ran.code == 2
    assert match in ran.err


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    unwritable = run(tmp_path / "home", "server-config", "-o", str(tmp_path / "none" / "nats.conf"))
    assert unwritable.code == 1
    assert "cannot be written: No such file" in unwritable.err
    never = run(tmp_path / "fresh", "rotate", "lead")
    assert never.code == 1
    assert "nothing to replace" in never.err
    assert run(tmp_path / "home", "rotate", "lead").out.startswith("lead: the next start takes the new login only")
    assert run(tmp_path / "home", "rotate", "lead", "--json").json == {"role": "lead", "server": "to be told"}


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("nats_url: nats://u:hunter2@host", "setting 'nats_url' .*no user and no password"),
        ("nats_url: nats://host\nnats_port: 4222", "nats_port is for the embedded server"),
        ("nats_url: nats://host\nnats_server: /bin/nats", "nats_server is for the embedded server"),
        ("nats_tls_key: key.pem", "belong together"),
        ("nats_url: tls://host\nnats_tls_certificate: c.pem", "belong together"),
        ("nats_tls_ca: ca.pem", "nats_tls_ca alone verifies nobody"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, lines: str, match: str) -> None:
    (tmp_path / "config.yaml").write_text(lines)
    with pytest.raises(CliError, match=match) as caught:
        load(tmp_path / "config.yaml")
    assert "hunter2" not in str(caught.value)
