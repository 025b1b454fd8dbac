"""What `valuetrain doctor` says of the bus and of stored inputs, on a real server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest

from cli.checks import examine
from tests.bus.certificates import authority
from tests.bus.own_server import OwnServer


def check(home: Path, name: str) -> dict[str, Any]:
    (found,) = [each for each in examine(home) if each["check"] == name]
    return found


def settings(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    (home / "config.yaml").write_text(text)
    return home


def test_a_server_of_ones_own_is_logged_in_to(tmp_path: Path) -> None:
    async def looked_at() -> tuple[dict[str, Any], dict[str, Any]]:
        async with OwnServer(tmp_path / "server", "default") as server:
            home = settings(tmp_path / "home", f"nats_url: {server.url}\n")
            shutil.copytree(server.home("default") / "credentials", home / "bus" / "credentials")
            inside = await anyio.to_thread.run_sync(check, home, "bus")
            strange = settings(tmp_path / "strange", f"nats_url: {server.url}\n")
            return inside, await anyio.to_thread.run_sync(check, strange, "bus")

    inside, strange = anyio.run(looked_at)
    assert inside["ok"], inside
    assert "lets the operator in" in inside["found"]
    assert not strange["ok"]
    assert "credentials server-config" in strange["found"], "what to do is said"
    assert not (tmp_path / "strange" / "bus").exists(), "nothing is made by looking"


def test_a_server_that_is_not_there_is_a_fault_and_so_are_files_for_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.checks.BUS_SECONDS", 0.5)

    async def seeds() -> Path:
        async with OwnServer(tmp_path / "server", "default") as server:
            return server.home("default") / "credentials"

    home = settings(tmp_path / "home", "nats_url: nats://127.0.0.1:9\n")
    shutil.copytree(anyio.run(seeds), home / "bus" / "credentials")
    gone = check(home, "bus")
    assert not gone["ok"]
    assert "is it running?" in gone["found"]

    files = authority(tmp_path).issue("server")
    embedded = settings(
        tmp_path / "tls", f"nats_tls_certificate: {files.certificate}\nnats_tls_key: {tmp_path / 'none.key'}\n"
    )
    assert not check(embedded, "bus")["ok"]
    settings(embedded, f"nats_tls_certificate: {files.certificate}\nnats_tls_key: {files.key}\n")
    assert "over TLS with" in check(embedded, "bus")["found"]


def test_stored_inputs_that_fill_the_disk_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(tmp_path / "home", "backfills")["found"] == "none are stored"
    job = tmp_path / "home" / "backfills" / "job"
    job.mkdir(parents=True)
    (job / "part.parquet").write_bytes(b"x" * 2_000_000)
    assert check(tmp_path / "home", "backfills")["found"].startswith("2.0 MB stored in ")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("cli.checks.shutil.disk_usage", lambda _: usage)
    full = check(tmp_path / "home", "backfills")
    assert not full["ok"]
    assert "feature expire" in full["remedy"]
