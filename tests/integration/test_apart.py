"""The components as processes of their own: SQLite and the embedded NATS; PostgreSQL and a server of one's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bus.server import find_binary
from tests.integration.test_crash import _all_gone, _line
from tests.integration.train import Train
from tests.ports import free_port
from tests.store.postgres_server import PostgresServer

DEADLINE = 60.0
IDLE = ("feature", "training", "evaluation", "devsecops", "risk")
"""Agents that have no phase in the light pipeline."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def running(train: Train, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until it is told to stop: SIGTERM, exit code 0, and nothing of it is left."""
    process = train.start(*words)
    try:
        yield process
        process.terminate()
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, out + err
        assert "Traceback" not in out + err
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert _all_gone(train)


def _components(train: Train) -> dict[str, dict[str, Any]]:
    document = json.loads((train.home / "components.json").read_text())
    return {row["name"]: row for row in document["components"]}


def _leaders(train: Train) -> list[int]:
    """The processes that began to relay, in order."""
    lines = (train.home / "valuetrain.log").read_text().splitlines()
    return [json.loads(line)["pid"] for line in lines if '"conductor_leads"' in line]


@pytest.mark.slow
def test_up_takes_a_ticket_end_to_end(train: Train) -> None:
    """SQLite and the embedded NATS; an agent and the conductor are killed meanwhile and started again."""
    train.ticket(1, "Predict a vote", data=train.data("votes.csv"), target="vote")
    with running(train, "up") as up:
        _line(up, "components serve")
        assert (train.home / "components.json").stat().st_mode & 0o777 == 0o600
        before = _components(train)
        assert {row["kind"] for row in before.values()} == {"nats", "conductor", "agent", "effects"}
        busy = train.run("conductor", "run")
        assert busy.code == 1
        assert "already writes the record" in busy.err
        assert train.run("drive", "--agents").code == 2, "its agents are the running system's"
        for name in ("conductor-1", "data-1"):
            os.kill(before[name]["pid"], signal.SIGKILL)
        driven = train.run("drive", "--json")
        assert driven.code == 0, driven.out + driven.err
        assert [row["ticket"] for row in driven.json["completed"]] == [1]
        after = _components(train)
        assert all(after[name]["restarts"] == 1 for name in ("conductor-1", "data-1"))
    assert not (train.home / "components.json").exists()
    assert train.run("audit", "verify").code == 0


@contextmanager
def own_server(train: Train) -> Iterator[None]:
    """A nats-server of one's own with the configuration that the command prints; the commands use it from then on."""
    port = free_port()
    place = train.repo.parent / "nats"
    place.mkdir()
    config = str(place / "nats.conf")
    words = ("--listen", f"127.0.0.1:{port}", "--store-dir", str(place))
    assert train.run("credentials", "server-config", *words, "-o", config).code == 0
    train.settings["VALUETRAIN_NATS_URL"] = f"nats://127.0.0.1:{port}"
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([str(find_binary()), "-c", config], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.chaos
def test_two_conductors_on_postgresql_with_a_given_server(train: Train, postgres: PostgresServer) -> None:
    """The one that relays is killed in the middle; the other one takes over, a person decides, the ticket ends."""
    votes = train.data("votes.csv")
    train.ticket(1, "Predict a vote", data=votes, target="vote", risk="medium", pipeline=train.light())
    train.settings["VALUETRAIN_STORE_URL"] = postgres.url(postgres.create())
    with own_server(train):
        unanswered = train.run("drive")
        assert unanswered.code == 1
        assert "conductor run" in unanswered.err
        nobody = [word for role in IDLE for word in ("--replicas", f"{role}=0")]
        with running(train, "up", "--conductors", "2", "--backlog", "backlog", "--every", "1", *nobody) as up:
            _line(up, "extraction")
            [leader] = _leaders(train)
            os.kill(leader, signal.SIGKILL)
            _line(up, "waits for a person")
            assert len(set(_leaders(train))) == 2, "another one relays"
            [gate] = train.run("gate", "list", "--json").json
            assert train.run("gate", "approve", gate["gate"], "--as", "dana").code == 0
            _line(up, "COMPLETED")
        [session] = train.run("session", "list", "--json").json
        assert session["status"] == "completed"
        assert train.run("session", "replay", session["session"], "--verify", "--json").json["difference"] is None
        assert train.run("audit", "verify", "--json").json["findings"] == []
