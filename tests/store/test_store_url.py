"""The setting `store_url`: the whole program works on a record in PostgreSQL, and never shows the password."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from typer.testing import CliRunner

from cli import bootstrap, parts
from cli.app import app
from cli.errors import CliError
from cli.home import Home
from cli.opening import has_record, open_store, upgrade
from cli.reading import reading
from cli.settings import Settings, load
from store import leader
from store.migrate import HEAD
from store.port import NoRecord, StoreError, View
from store.postgres import PostgresStore
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, append
from tests.store.postgres_server import PostgresServer
from tests.store.test_postgres_crashes import mortal

__all__ = ["mortal"]

DEADLINE = 60.0
"""Seconds after which a test that waits has failed."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with nothing in it."""
    place = Home(tmp_path / ".valuetrain")
    place.prepare()
    return place


@pytest.fixture
def settings(home: Home, url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose record is in PostgreSQL, given by the environment."""
    monkeypatch.setenv("VALUETRAIN_STORE_URL", url)
    return load(home.config)


def test_the_url_comes_from_the_file_or_the_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(home.config).store_url is None
    home.config.write_text("store_url: postgresql://alice:pa55@one/record\n")
    settings = load(home.config)
    assert settings.store_url is not None
    assert settings.store_url.get_secret_value() == "postgresql://alice:pa55@one/record"
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "pa55" not in shown
    monkeypatch.setenv("VALUETRAIN_STORE_URL", "postgres://two/record")
    other = load(home.config).store_url
    assert other is not None
    assert other.get_secret_value() == "postgres://two/record"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("store_url: mysql://alice:pa55@one/record", "'store_url' .* must begin with postgresql://"),
        ("store_url: [pa55]", "'store_url'"),
        ("store_url: postgresql://alice:pa55: x", "cannot be read: line 1"),
        ("store_url: 'pa55", "cannot be read: line 2"),
        ("store_url: \x01pa55", "cannot be read"),
    ],
)
def test_a_url_that_is_none_is_not_repeated(home: Home, text: str, said: str) -> None:
    home.config.write_text(f"{text}\n")
    with pytest.raises(CliError, match=said) as caught:
        load(home.config)
    for problem in (caught.value, caught.value.__cause__):
        assert "pa55" not in str(problem)


def test_without_it_the_record_is_in_the_home(home: Home) -> None:
    settings = load(home.config)
    assert not has_record(home, settings)
    with pytest.raises(CliError, match="nothing is recorded"):
        home.existing()
    open_store(home, settings).close()
    assert has_record(home, settings)
    assert home.existing() == home
    store = open_store(home, settings, read_only=True)
    assert isinstance(store, SqliteStore)
    store.close()
    assert upgrade(home, settings) == (str(home.record), HEAD, HEAD)


def test_with_it_the_record_is_in_the_database(home: Home, settings: Settings) -> None:
    assert home.existing() == home
    store = open_store(home, settings)
    assert isinstance(store, PostgresStore)
    store.append(append(ONE, 0, views=(View("session", "s-one", {"session": "s-one"}),)))
    store.close()
    with reading(home.path) as record:
        assert record.sessions() == [{"session": "s-one"}]
        with pytest.raises(StoreError, match="for reading only"):
            record.store.append(append(ONE, 1))
    assert has_record(home, settings)
    assert not home.record.exists()


def test_an_empty_database_has_no_record(
    home: Home, postgres: PostgresServer, new_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALUETRAIN_STORE_URL", postgres.url(new_database))
    settings = load(home.config)
    assert not has_record(home, settings)
    with pytest.raises(NoRecord, match="no record yet"), reading(home.path):
        pass
    place, before, after = upgrade(home, settings)
    assert (before, after) == ("none", HEAD)
    assert postgres.password not in place


def test_without_the_driver_it_says_what_to_install(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("store.postgres", "psycopg"))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("store.postgres_schema")
    for work in (open_store, has_record, upgrade):
        with pytest.raises(CliError, match=r"pip install 'agenticops-value-train\[postgres\]'"):
            work(home, settings)


def test_the_commands_about_the_record(
    home: Home, settings: Settings, postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    run = CliRunner().invoke(app, ["db", "upgrade", "--home", str(home.path), "--json"])
    assert json.loads(run.output) == {
        "record": f"postgresql://postgres@127.0.0.1:{postgres.port}/{database}",
        "from": HEAD,
        "to": HEAD,
    }
    run = CliRunner().invoke(app, ["db", "backup", str(tmp_path / "backup.db"), "--home", str(home.path)])
    assert run.exit_code == 0, run.output
    assert (tmp_path / "backup.db").exists()
    assert postgres.password not in run.output
    run = CliRunner().invoke(app, ["audit", "verify", "--home", str(home.path)])
    assert postgres.password not in run.output


async def relayed(running: bootstrap.System, count: int) -> None:
    """Until the bus has `count` events."""
    with anyio.fail_after(DEADLINE):
        while await running.operator.last_sequence() < count:
            await anyio.lowlevel.checkpoint()


async def test_a_system_relays_from_it_also_after_a_restart(
    home: Home, settings: Settings, mortal: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "RELAY_PAUSE", 0.01)
    monkeypatch.setattr(leader, "RENEW_EVERY", 0.05)
    monkeypatch.setattr(leader, "TRY_EVERY", 0.01)
    first = open_store(home, settings)
    first.append(append(ONE, 0, 3))
    first.close()
    async with bootstrap.system(home, settings, "a test", agents=False, effects=False) as running:
        await relayed(running, 3)
        mortal.stop()
        mortal.start()
        assert await anyio.to_thread.run_sync(running.store.append, append(ONE, 3))
        await relayed(running, 4)


async def test_a_second_home_on_the_same_record_is_refused(
    home: Home, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "LEAD_SECONDS", 0.1)
    store = open_store(home, settings)
    assert isinstance(store, PostgresStore)
    store.append(append(ONE, 0))
    lease = store.lease("relay")
    assert lease.acquire()
    with pytest.raises(CliError, match="from a home of its own"):
        async with bootstrap.system(Home(tmp_path / "other"), settings, "a test", agents=False, effects=False):
            pass
    assert store.checkpoints() == [], "what it may not relay, it must not sign either"
    lease.release()
    store.close()
    async with bootstrap.system(home, settings, "a test", agents=False, effects=False) as running:
        await relayed(running, 1)
