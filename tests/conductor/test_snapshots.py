"""Snapshots: the same state for less reading, believed only while they fit, and never needed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import conductor
import schemas
from conductor import loading
from conductor.fold import fold
from conductor.snapshots import BadSnapshot, decode, encode
from conductor.state import SessionState, initial
from schemas.envelope import EventEnvelope, decode_command, decode_event
from schemas.messages import Event
from store.port import Append, Store
from store.sqlite import SqliteStore
from tests.golden.make_graph_history import HISTORY as GRAPH
from tests.golden.make_history import ABORTED, HISTORY, RESTORED, STREAM

SOURCES = [Path(str(package.__file__)).parent for package in (conductor, schemas)]
HISTORIES = (HISTORY, RESTORED, ABORTED, GRAPH)


def events(history: Path) -> list[EventEnvelope[Event]]:
    found = []
    for line in history.read_bytes().splitlines():
        try:
            decode_command(line)
        except ValueError:
            found.append(decode_event(line))
    return found


@pytest.mark.parametrize("history", HISTORIES, ids=lambda path: path.name)
def test_the_states_there_were_come_back(history: Path) -> None:
    recorded = events(history)
    state = initial(recorded[0].stream.name)
    for number, envelope in enumerate(recorded):
        state = fold(state, [envelope])
        if number % 7 == 0 or envelope is recorded[-1]:  # all of them take half a minute
            body = encode(state)
            assert decode(body) == state
            assert len(encode(decode(body))) <= len(body)


def test_what_earlier_states_share_is_written_once() -> None:
    recorded = events(RESTORED)
    state = fold(initial(recorded[0].stream.name), recorded)
    assert len(state.rests) > 5
    assert encode(state).count(b'"PipelineDefinition"') == 1


BODY = encode(fold(initial(STREAM.name), events(HISTORY)))


@given(at=st.integers(0, len(BODY) - 1), byte=st.integers(0, 255))
def test_a_damaged_body_is_refused_or_says_what_it_says(at: int, byte: int) -> None:
    damaged = BODY[:at] + bytes([byte]) + BODY[at + 1 :]
    try:
        assert isinstance(decode(damaged), SessionState)
    except BadSnapshot:
        pass


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"nodes":[],"root":1}', b'{"nodes":[["s","Path",{}]],"root":1}'])
def test_what_is_no_state_is_refused(body: bytes) -> None:
    with pytest.raises(BadSnapshot):
        decode(body)


# In the record


class Counting:
    """A store that counts the events it hands out to be folded."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read_events = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, *given: Any) -> Iterator[EventEnvelope[Event]]:
        for envelope in self._store.read(*given):
            self.read_events += 1
            yield envelope


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    monkeypatch.setattr(loading, "LONG", 20)
    with_events = SqliteStore.open(tmp_path / "record.db")
    recorded = events(HISTORY)
    with_events.append(Append(STREAM, 0, tuple(recorded[:-3])))
    yield with_events
    with_events.close()


def go_on(store: SqliteStore) -> None:
    """The rest of the history."""
    recorded = events(HISTORY)
    store.append(Append(STREAM, len(recorded) - 3, tuple(recorded[-3:])))


def load(store: SqliteStore) -> tuple[SessionState, int]:
    """The session as the conductor loads it, and how many events that took."""
    counting = Counting(store)
    state = loading.load(counting, STREAM)  # type: ignore[arg-type]
    assert isinstance(state, SessionState)
    return state, counting.read_events


def test_a_long_session_is_folded_once(store: SqliteStore) -> None:
    whole = len(events(HISTORY))
    assert load(store)[1] == whole - 3
    go_on(store)
    state, read = load(store)
    assert read == 3
    assert state == fold(initial(STREAM.name), events(HISTORY))


def test_a_short_session_has_none(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LONG", 500)
    load(store)
    assert store.snapshot(STREAM) is None


def changed(store: SqliteStore, **how: Any) -> None:
    kept = store.snapshot(STREAM)
    assert kept is not None
    store.keep_snapshot(replace(kept, **how))


@pytest.mark.parametrize(
    "how",
    [
        {"form": "of an earlier program"},
        {"hash": bytes(32)},
        {"body": b"{"},
        {"sequence": 10_000},
        {"body": encode(initial("another"))},
    ],
    ids=lambda how: next(iter(how)),
)
def test_what_does_not_fit_is_not_believed(store: SqliteStore, how: dict[str, Any]) -> None:
    expected, read = load(store)
    changed(store, **how)
    assert load(store) == (expected, read)
    assert load(store) == (expected, 0), "and the next one took its place"


def test_a_deleted_one_costs_only_time(store: SqliteStore) -> None:
    expected, read = load(store)
    store.forget_snapshots()
    assert load(store) == (expected, read)


def test_a_forged_one_is_found(store: SqliteStore) -> None:
    state, _ = load(store)
    assert not loading.deviates(store, STREAM)
    changed(store, body=encode(replace(state, interventions=99)))
    assert loading.deviates(store, STREAM)


def test_events_that_were_changed_are_not_hidden_by_it(store: SqliteStore, tmp_path: Path) -> None:
    """The snapshot fits one link of the chain; whoever verifies reads all of them."""
    load(store)
    with sqlite3.connect(tmp_path / "record.db") as db:
        db.execute("UPDATE events SET raw = CAST(replace(CAST(raw AS TEXT), 'a', 'b') AS BLOB) WHERE sequence = 3")
    db.close()
    assert [finding.sequence for finding in store.verify().findings] == [3]


def test_a_program_that_changed_writes_another_form(tmp_path: Path) -> None:
    assert loading.form() == loading.digest(SOURCES)
    for package in SOURCES:
        copy = tmp_path / package.name
        shutil.copytree(package, copy)
        (copy / "__init__.py").write_text("changed = True")
        assert loading.digest([copy if p == package else p for p in SOURCES]) != loading.form()
