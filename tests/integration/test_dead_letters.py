"""Dead letters end to end on a real server: recorded while a system runs, decided on then and between drives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
from typer.testing import CliRunner

from bus.messages import stored_headers
from bus.nats_bus import NatsBus, connect
from bus.publishing import store
from bus.server import EmbeddedServer, login
from bus.streams import CONDUCTOR
from cli.app import app
from cli.bootstrap import System, system
from cli.home import Home
from cli.settings import Settings
from schemas.commands import RetryPhase
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.values import Actor
from tests.conformance.bus_kit import NOON, Log, eventually
from tests.integration.train import Ran, Train

SESSION = "s1-nobody"
SUBJECT = f"vt.default.cmd.{SESSION}.abort_session.operator"


async def _send(home: Path, *commands: tuple[str, bytes]) -> None:
    """Put raw commands on the bus of the running system, as the operator's login may."""
    async with await connect(login(home / "bus", "operator")) as bus:
        for number, (name, raw) in enumerate(commands):
            subject = f"vt.default.cmd.{SESSION}.{name}.operator"
            await store(bus.connection, "VT_COMMANDS", subject, raw, stored_headers("VT_COMMANDS", f"{name}-{number}"))


def _newer(id: str) -> bytes:
    """A command of a version this program does not know."""
    actor = {"name": "dana", "channel": "cli", "verified_as": "os:dana"}
    head = {"id": id, "type": "retry_phase", "version": 9, "tenant": "default", "kind": "session", "stream": SESSION}
    rest = {"time": "2026-11-21T09:00:00Z", "actor": actor, "correlation_id": "c", "causation_id": "", "sender": "x"}
    return json.dumps({**head, **rest, "data": {}}).encode()


class Desk:
    """A person at the command line, in this process: `dlq` with the home given."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *words: str) -> Ran:
        result = CliRunner().invoke(app, [*words, "--home", str(self.path)])
        return Ran(result.exit_code, result.stdout, result.stderr)

    async def ask(self, *words: str) -> Ran:
        """The same in a thread, while a system runs in this one."""
        return await anyio.to_thread.run_sync(self.__call__, *words)

    async def letters(self, running: System) -> list[dict[str, Any]]:
        """The open dead letters, after a look."""
        await running.dead_letters.look()
        rows: list[dict[str, Any]] = (await self.ask("dlq", "list", "--json")).json
        return rows


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    # A process opens its log once and for good; here one process is many commands, and the system beside them.
    monkeypatch.setattr("cli.operator.configure", lambda path: None)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield Desk(tmp_path / "home")
    structlog.reset_defaults()


async def _good(running: System) -> None:
    """Commands that are answered, one after the other: the batch in which the poison was is over with the second."""
    stream, actor = StreamId("default", "session", SESSION), Actor(name="dana", channel="cli", verified_as="os:dana")
    for _ in range(2):
        command = CommandEnvelope(uuid7(), stream, NOON, actor, "operator", "c", "", RetryPhase())
        assert (await running.operator.send(command))["code"] == "unknown_session"


async def test_poison_between_good_commands(desk: Desk) -> None:
    async with system(Home(desk.path), Settings(), "a test", agents=False, effects=False) as running:
        await _good(running)
        await _send(desk.path, ("abort_session", b"\xff no JSON"), ("retry_phase", _newer("c-9")))
        await _good(running)
        garbage, newer = await desk.letters(running)
        assert (garbage["consumer"], garbage["deliveries"], garbage["status"]) == ("conductor", 1, "open")
        assert garbage["subject"] == SUBJECT
        assert "not JSON" in garbage["reason"]
        assert "version 9" in newer["reason"]
        assert {"letter", "time", "trace"} <= set(garbage)

        listed, shown = await desk.ask("dlq", "list"), await desk.ask("dlq", "show", garbage["letter"])
        assert garbage["letter"] in listed.out
        assert "no JSON" in shown.out
        assert (await desk.ask("dlq", "show", garbage["letter"], "--json")).json["message"] == "\\xff no JSON"
        missing = await desk.ask("dlq", "show", "dl-0000000000")
        assert missing.code == 1
        assert garbage["letter"] in missing.err, "it names the open ones"

        done = await desk.ask("dlq", "requeue", newer["letter"], "--as", "dana", "--json")
        assert done.code == 0, done.out + done.err
        assert done.json["message_id"] == f"requeue.{newer['letter']}.1"
        await _good(running)
        again = [row for row in await desk.letters(running) if row["letter"] != garbage["letter"]]
        assert [row["sha256"] for row in again] == [newer["sha256"]], "given up again: a new dead letter"
        assert again[0]["letter"] != newer["letter"]

        assert (await desk.ask("dlq", "discard", garbage["letter"])).code == 1, "a discard needs a reason"
        assert (await desk.ask("dlq", "discard", garbage["letter"], "--reason", "a test")).code == 0
        assert (await desk.ask("dlq", "requeue", garbage["letter"])).code == 1, "it is decided"
        rows = (await desk.ask("dlq", "list", "--all", "--json")).json
        assert sorted(row["status"] for row in rows) == ["discarded", "open", "requeued"]
    events = [event for event in desk("tail", "--json").json if event["kind"] == "system"]
    types = [event["type"] for event in events]
    assert types.count("dead_letter_recorded") == 3
    [discarded] = [event for event in events if event["type"] == "dead_letter_discarded"]
    assert discarded["data"] == {"reason": "a test"}
    assert discarded["actor"]["verified_as"].startswith("os:")
    assert "dead_letter_released" in types
    assert "dead_letter_requeued" in types
    assert desk("audit", "verify").code == 0


async def test_a_command_is_put_back_until_its_queue_has_handed_it_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue's word that it holds a message is not enough: a power cut may take it."""
    taken, asked = NatsBus.taken, list[int]()

    async def lost_twice(bus: NatsBus, sequence: int) -> bool:
        asked.append(sequence)
        return len(asked) > 2 and await taken(bus, sequence)

    async with system(Home(desk.path), Settings(), "a test", agents=False, effects=False) as running:
        await _send(desk.path, ("retry_phase", _newer("c-9")))
        await _good(running)
        (letter,) = await desk.letters(running)
        monkeypatch.setattr(NatsBus, "taken", lost_twice)
        done = await desk.ask("dlq", "requeue", letter["letter"], "--as", "dana", "--json")
        assert done.code == 0, done.out + done.err
        assert len(asked) > 2
        shown = (await desk.ask("dlq", "show", letter["letter"], "--json")).json
        assert shown["status"] == "requeued"


async def test_a_message_that_cannot_go_back_stays_open(desk: Desk) -> None:
    async with system(Home(desk.path), Settings(), "a test", agents=False, effects=False) as running:
        await _send(desk.path, ("abort_session", b"poison"))
        await _good(running)
        [row] = await desk.letters(running)
        kept = running.blobs.path(row["sha256"])
        kept.unlink()
        failed = await desk.ask("dlq", "requeue", row["letter"])
        assert failed.code == 1
        assert "still open" in failed.err
        assert "BlobMissing" in failed.err
        running.blobs.put(b"poison")
        assert (await desk.ask("dlq", "requeue", row["letter"], "--json")).json["message_id"].endswith(".2")


async def test_what_was_given_up_unseen_is_recorded_once(desk: Desk) -> None:
    """A system that died between giving up and recording; then another start that sees the letter again."""
    async with system(Home(desk.path), Settings(), "a test", agents=False, effects=False) as running:
        pass
    async with EmbeddedServer(desk.path / "bus") as server, await connect(server.login("conductor")) as bus:
        log = Log(ValueError("poison"))
        await _send(desk.path, ("abort_session", b"poison"))
        async with bus.consume(replace(CONDUCTOR, max_deliver=1), log):
            await log.until(1)

            async def buried() -> bool:
                return bool(await bus.dead_letters())

            await eventually(buried)
    for _ in range(2):
        async with system(Home(desk.path), Settings(), "a test", agents=False, effects=False) as running:
            [row] = await desk.letters(running)
        assert "ValueError: poison" in row["reason"]
        assert "Traceback" in row["trace"]
    between = await desk.ask("dlq", "requeue", row["letter"], "--as", "dana")
    assert f"{row['letter']} is on {SUBJECT} again" in between.out


def test_a_drive_names_new_dead_letters(train: Train) -> None:
    async def poison() -> None:
        async with EmbeddedServer(train.home / "bus"):
            await _send(train.home, ("abort_session", b"poison"))

    assert "dead_letters" not in train.run("drive", "--json").json
    asyncio.run(poison())
    [given_up] = train.run("drive", "--json").json["dead_letters"]
    assert "not JSON" in given_up["reason"]
    assert given_up["subject"] == SUBJECT
    assert "dead_letters" not in train.run("drive", "--json").json, "only new ones"
