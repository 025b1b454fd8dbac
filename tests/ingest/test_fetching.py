"""The effect `fetch`, by the real reader in its child: what is told, what is stored, and what nobody is shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from autopilot.board import SessionRow
from autopilot.fetching import Reader, SourceFetcher
from bus.port import Ack, Delivery, Outcome, Retry
from ingest.errors import SourceError
from ingest.settings import Sources, SqlSource
from schemas.commands import RecordEffect, RecordEffectFailure
from schemas.envelope import EventEnvelope, StreamId, encode_event
from schemas.messages import Command, Event
from schemas.session import EffectRequested
from schemas.values import Actor
from tests.conductor.rig import PIPELINE, TICKET
from tests.ingest.conftest import PASSWORD
from tests.store.postgres_server import PostgresServer
from workspace.blobs import Blobs

Make = Callable[..., SqlSource]
EFFECT = "s12-abcde.fetch.2"


class Desk:
    """The session as the effect executor would see it, and what it was told."""

    def __init__(self) -> None:
        self.told: list[Command] = []
        self.verdict: dict[str, Any] = {"accepted": True}
        self.session = SessionRow(
            id="s12-abcde", ticket=TICKET, digest="a" * 64, pipeline=PIPELINE, branch="b", repository="r",
            base_commit="c", drive="d", pending_effects={EFFECT: None},
        )  # fmt: skip

    async def row(self, envelope: EventEnvelope[Event]) -> SessionRow | None:
        return self.session

    async def tell(self, cause: EventEnvelope[Event], command: Command) -> dict[str, Any]:
        self.told.append(command)
        return self.verdict


def delivery(kind: Any = "fetch", target: str = "clinic/it", attempt: int = 1) -> Delivery:
    effect = EffectRequested(effect=EFFECT, kind=kind, phase="plan-it", attempt=0, target=target)
    envelope = EventEnvelope(
        id="e-2", stream=StreamId("default", "session", "s12-abcde"), sequence=2, time=datetime.now(UTC),
        actor=Actor(name="c", channel="system", verified_as="c"), correlation_id="s", causation_id="c", event=effect,
    )  # fmt: skip

    async def in_progress() -> None:
        """The bus does that by itself."""

    return Delivery("subject", encode_event(envelope), {}, 2, attempt, in_progress)


def reader_of(source: SqlSource, base: Path) -> Reader:
    (base / "pw").touch(mode=0o600)
    (base / "pw").write_text(PASSWORD)
    fields = source.model_dump() | {"password_file": Path("pw")}
    return Reader(lambda: Sources(sql=(SqlSource.model_validate(fields),)), base, {})


def fetcher(source: SqlSource, base: Path, desk: Desk) -> SourceFetcher:
    bus: Any = None  # handled here without one
    return SourceFetcher(bus, desk, Blobs(base / "blobs"), reader_of(source, base), pauses=(1.5, 2.5))


def files(base: Path) -> list[str]:
    return sorted(str(p.relative_to(base)) for p in (base / "blobs").rglob("*") if p.is_file())


async def test_rows_become_a_sealed_artifact_and_a_receipt(clinic: Make, tmp_path: Path) -> None:
    desk = Desk()
    assert await fetcher(clinic("many"), tmp_path, desk).handle(delivery()) == Ack()
    (receipt,) = desk.told
    assert isinstance(receipt, RecordEffect)
    snapshot = receipt.snapshot
    assert snapshot is not None
    assert (snapshot.source, snapshot.item, snapshot.rows, snapshot.format) == ("clinic", "it", 20_000, "parquet")
    assert files(tmp_path) == [f"blobs/sealed/{snapshot.sha256[:2]}/{snapshot.sha256}"]
    assert Blobs(tmp_path / "blobs").verify(snapshot.sha256, sealed=True) == snapshot.size
    assert PASSWORD not in receipt.model_dump_json()


async def test_equal_rows_are_stored_once_and_others_are_another_version(
    clinic: Make, postgres: PostgresServer, tmp_path: Path
) -> None:
    reader = reader_of(clinic('vis"its; DROP TABLE kinds; --'), tmp_path)
    blobs = Blobs(tmp_path / "blobs")
    first, again = await reader.fetch("clinic/it", blobs), await reader.fetch("clinic/it", blobs)
    assert first.sha256 == again.sha256
    assert len(files(tmp_path)) == 1
    with psycopg.connect(postgres.url("record_1"), autocommit=True) as db:
        db.execute('INSERT INTO "vis""its; DROP TABLE kinds; --" VALUES (41, 82)')
        later = await reader.fetch("clinic/it", blobs)
        db.execute('DELETE FROM "vis""its; DROP TABLE kinds; --" WHERE a = 41')
    assert (later.rows, later.sha256 != first.sha256) == (41, True)


async def test_a_server_that_is_away_is_asked_a_few_times_and_then_the_session_is_told(
    clinic: Make, postgres: PostgresServer, tmp_path: Path
) -> None:
    desk = Desk()
    hand = fetcher(clinic("many"), tmp_path, desk)
    postgres.stop()
    try:
        outcomes: list[Outcome] = [await hand.handle(delivery(attempt=attempt)) for attempt in (1, 2, 3)]
    finally:
        postgres.start()
    assert [each.delay for each in outcomes if isinstance(each, Retry)] == [1.5, 2.5]
    assert outcomes[2] == Ack()
    (failure,) = desk.told
    assert isinstance(failure, RecordEffectFailure)
    assert "cannot be reached" in failure.reason
    assert "see that it runs" in failure.reason


@pytest.mark.parametrize(("target", "table", "said"), [
    ("clinic/other", "many", "source clinic has no item 'other'"),
    ("elsewhere/it", "many", "there is no source 'elsewhere'"),
    ("clinic/it", "empty", "clinic/it has no rows"),
    ("clinic/it", "hidden", "may not be read by reader"),
])  # fmt: skip
async def test_what_no_waiting_puts_right_is_told_at_once(
    clinic: Make, tmp_path: Path, target: str, table: str, said: str
) -> None:
    desk = Desk()
    assert await fetcher(clinic(table), tmp_path, desk).handle(delivery(target=target)) == Ack()
    (failure,) = desk.told
    assert isinstance(failure, RecordEffectFailure)
    assert said in failure.reason
    assert not (tmp_path / "blobs").exists()


async def test_a_reader_that_hangs_is_killed_with_its_connection(
    clinic: Make, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's own limit is not the only one."""
    monkeypatch.setattr("autopilot.fetching.GRACE", -1.5)
    source = clinic("slow", limits={"seconds": 3})
    with pytest.raises(SourceError, match=r"clinic/it took longer than 3 s"):
        await reader_of(source, tmp_path).fetch("clinic/it", Blobs(tmp_path / "blobs"))
    assert not (tmp_path / "blobs").exists()


async def test_nobody_reads_for_a_session_that_does_not_wait(clinic: Make, tmp_path: Path) -> None:
    """After NATS lost its memory every effect of the past is delivered again."""
    desk = Desk()
    hand = fetcher(clinic("many"), tmp_path, desk)
    desk.session.pending_effects.clear()
    assert await hand.handle(delivery()) == Ack()
    assert await hand.handle(delivery(kind="commit")) == Ack()
    assert (desk.told, (tmp_path / "blobs").exists()) == ([], False)


async def test_a_file_of_sources_that_cannot_be_used_closes(tmp_path: Path) -> None:
    def broken() -> Sources:
        raise ValueError("sources.yaml: line 2: `sql[1].usr` is no known field")

    with pytest.raises(SourceError, match="is no known field; correct that file"):
        await Reader(broken, tmp_path, {}).fetch("clinic/it", Blobs(tmp_path / "blobs"))
