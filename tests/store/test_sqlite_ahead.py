"""A long stream, which another process reads and checks: the same events and the same errors as without it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.envelope import encode_event
from store import sqlite_ahead, sqlite_reader
from store.chain import link
from store.port import StoreCorrupt
from store.sqlite import SqliteStore
from tests.conformance.store import ONE, TWO, append, event

EVENTS = 23
OWN = 6
"""Events after which the other process is started."""

Started = list["subprocess.Popen[bytes]"]


@pytest.fixture
def store(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> SqliteStore:
    """A record whose stream of 23 events counts as a long one: two pages of 3 are read here, the others elsewhere."""
    monkeypatch.setattr("store.sqlite.PAGE", 3)
    monkeypatch.setattr("store.sqlite._OWN_PAGES", 2)
    monkeypatch.setattr("store.sqlite_ahead.LONG", 2)
    store.append(append(TWO, 0))
    store.append(append(ONE, 0, EVENTS))
    return store


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that were started."""
    processes: Started = []
    start = sqlite_ahead._started

    def noted() -> subprocess.Popen[bytes]:
        processes.append(start())
        return processes[-1]

    monkeypatch.setattr("store.sqlite_ahead._started", noted)
    return processes


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events came with each page of the other process."""
    sizes: list[int] = []
    read = sqlite_ahead._page

    def noted(answer: object) -> object:
        page = read(answer)  # type: ignore[arg-type]
        sizes.extend([] if page is None else [len(page.ids)])
        return page

    monkeypatch.setattr("store.sqlite_ahead._page", noted)
    return sizes


def sequences(store: SqliteStore, after: int = 0, up_to: int | None = None) -> list[int]:
    return [envelope.sequence for envelope in store.read(ONE, after, up_to)]


def tamper(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)


def test_every_part_is_read_once(store: SqliteStore, pages: list[int]) -> None:
    written = list(append(ONE, 0, EVENTS).events)
    assert [replace(each, id="") for each in store.read(ONE)] == [replace(each, id="") for each in written]
    assert pages == [3, 3, 3, 3, 3, 2]
    pages.clear()
    assert sequences(store, 0, EVENTS - 3) == list(range(1, EVENTS - 2))
    assert sequences(store, 5, EVENTS + 9) == list(range(6, EVENTS + 1))
    assert pages == [3, 3, 3, 3, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(("after", "up_to"), [(0, OWN), (0, OWN + 1), (EVENTS - OWN - 1, None), (EVENTS, None)])
def test_for_the_end_of_a_stream_no_process_is_started(
    store: SqliteStore, started: Started, after: int, up_to: int | None
) -> None:
    assert sequences(store, after, up_to) == list(range(after + 1, (up_to or EVENTS) + 1))
    assert started == []


@pytest.mark.parametrize("bad", [OWN, OWN + 1, OWN + 5, EVENTS])
def test_the_first_bad_event_is_named(store: SqliteStore, path: Path, started: Started, bad: int) -> None:
    tamper(path, "UPDATE events SET raw = CAST(raw || ' ' AS BLOB) WHERE stream = ? AND sequence = ?", ONE.name, bad)
    found: list[int] = []
    with pytest.raises(StoreCorrupt, match=rf"event {bad} of .*hash does not fit"):
        for envelope in store.read(ONE):
            found.append(envelope.sequence)
    assert found == list(range(1, bad)), "what was handed out is what comes before it"
    assert len(started) == (bad > OWN)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM events WHERE stream = ? AND sequence = 12", "event 12 of .* is missing"),
        ("UPDATE events SET id = 'another' WHERE stream = ? AND sequence = 12", "event 12 of .* filed in the wrong"),
        ("UPDATE events SET id = 'a' || char(10) || 'b' WHERE stream = ? AND sequence = 12", "event 12 of .* filed in"),
        ("UPDATE events SET hash = zeroblob(32) WHERE stream = ? AND sequence = 12", "event 12 of .*hash does not fit"),
        ("UPDATE events SET hash = zeroblob(31) WHERE stream = ? AND sequence = 12", "event 12 of .*hash does not fit"),
    ],
)
def test_other_damage_is_named_too(store: SqliteStore, path: Path, statement: str, said: str) -> None:
    tamper(path, statement, ONE.name)
    with pytest.raises(StoreCorrupt, match=said):
        sequences(store)


def test_another_event_in_a_sound_chain_is_found(store: SqliteStore, path: Path) -> None:
    """Who may write the file can write hashes that fit; what the bytes say is looked at here, not there."""
    rows = list(store.read_raw(ONE))
    raws = [row.raw for row in rows]
    raws[11] = encode_event(event(TWO, 12))
    previous = rows[10].hash
    for row, raw in list(zip(rows, raws, strict=True))[11:]:
        previous = link(previous, raw)
        tamper(path, "UPDATE events SET raw = ?, hash = ? WHERE position = ?", raw, previous, row.position)
    with pytest.raises(StoreCorrupt, match=r"event 12 of .* is filed in the wrong place"):
        sequences(store)


def test_one_that_is_killed_is_not_missed(store: SqliteStore, started: Started) -> None:
    reading = store.read(ONE)
    found = [next(reading).sequence for _ in range(OWN + 1)]
    started[0].kill()
    started[0].wait()
    assert found + [envelope.sequence for envelope in reading] == list(range(1, EVENTS + 1))


def test_a_read_that_is_given_up_leaves_no_process(store: SqliteStore, started: Started) -> None:
    reading = store.read(ONE)
    assert [next(reading).sequence for _ in range(OWN + 1)][-1] == OWN + 1
    assert started[0].poll() is None or started[0].returncode == 0
    reading.close()  # type: ignore[attr-defined]
    assert started[0].returncode is not None


def stops_at_once() -> list[str]:
    return ["import sys", "sys.stdin.read()"]


def says_half(answer: bytes) -> Callable[[], list[str]]:
    return lambda: [*stops_at_once(), f"sys.stdout.buffer.write({answer!r})"]


FRAME = sqlite_reader.FRAME.pack(3, 11, 30)


@pytest.mark.parametrize(
    "script",
    [
        stops_at_once,
        lambda: ["raise SystemExit(1)"],
        says_half(FRAME[:5]),
        says_half(FRAME),
        says_half(FRAME + b"a\nb\nc"),
        says_half(FRAME + bytes(11 + 12 + 96) + bytes(29)),
        says_half(FRAME + bytes(11 + 12 + 96) + bytes(30)),
    ],
)
def test_one_that_says_too_little_is_not_missed(
    store: SqliteStore,
    script: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pages: list[int],
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text("\n".join(script()), "utf-8")
    monkeypatch.setattr("store.sqlite_reader.__file__", str(reader))
    assert sequences(store) == list(range(1, EVENTS + 1))
    assert pages == []


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_where_none_can_be_started_none_is_needed(
    store: SqliteStore, executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert sequences(store) == list(range(1, EVENTS + 1))
