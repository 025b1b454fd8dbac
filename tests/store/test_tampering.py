"""Somebody changes the record behind the program's back; every way of doing so is found and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.envelope import StreamId, encode_event
from store.chain import LOG, link
from store.port import Finding, StoreCorrupt, StoreError
from store.sqlite import SqliteStore
from tests.conformance.store import FOREIGN, NOON, ONE, TWO, append, event

Tamper = Callable[["Intruder"], object]


HEAD = "tenant = 'default' AND name = 's-one'"


class Intruder:
    """One who may write the file: works on the events of stream ONE by raw SQL."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def sql(self, statement: str, *values: object) -> None:
        """Run a statement in which `:one` is stream ONE."""
        where = "tenant = 'default' AND kind = 'session' AND stream = 's-one'"
        self.db.execute(statement.replace(":one", where), values)

    def raw(self, sequence: int) -> bytes:
        """The bytes of an event."""
        return self._row("raw", sequence)

    def hash(self, sequence: int) -> bytes:
        """The hash of an event; of number 0, what the first is linked to."""
        return self._row("hash", sequence) if sequence else bytes(32)

    def _row(self, column: str, sequence: int) -> bytes:
        query = f"SELECT {column} FROM events WHERE stream = 's-one' AND tenant = 'default' AND sequence = ?"
        (value,) = self.db.execute(query, (sequence,)).fetchone()
        assert isinstance(value, bytes)
        return value

    def write(self, sequence: int, raw: bytes) -> None:
        """Put `raw` into an event's place and nothing else."""
        self.sql("UPDATE events SET raw = ? WHERE :one AND sequence = ?", raw, sequence)

    def relink(self, first: int, last: int = 5) -> None:
        """Compute the hashes anew from event `first` on, as the program would."""
        for sequence in range(first, last + 1):
            hash_ = link(self.hash(sequence - 1), self.raw(sequence))
            self.sql("UPDATE events SET hash = ? WHERE :one AND sequence = ?", hash_, sequence)

    def set_head(self, version: int) -> None:
        """Make the head row fit."""
        hash_ = self.hash(version)
        self.db.execute(f"UPDATE streams SET version = ?, hash = ? WHERE {HEAD}", (version, hash_))

    def shift(self, first: int, by: int) -> None:
        """Renumber the events from `first` on (by way of negative numbers, since they are unique)."""
        self.sql("UPDATE events SET sequence = -sequence WHERE :one AND sequence >= ?", first)
        self.sql("UPDATE events SET sequence = -sequence + ? WHERE :one AND sequence < 0", by)

    def insert(self, sequence: int, raw: bytes, hash_: bytes, id_: str) -> None:
        """Add a row at the end of the log."""
        self.sql(
            "INSERT INTO events SELECT max(position) + 1, 'default', 'session', 's-one', ?, ?, ?, ? FROM events",
            *(sequence, id_, raw, hash_),
        )

    def forge(self, sequence: int, linked: bool = True) -> None:
        """Insert a false event at `sequence`."""
        false = event(ONE, sequence, "approved, honestly")
        raw = encode_event(false)
        hash_ = link(self.hash(sequence - 1), raw) if linked else b"\x11" * 32
        self.insert(sequence, raw, hash_, false.id)

    def swap(self, columns: str) -> None:
        """Exchange columns of the events 3 and 4."""
        rows = dict(
            self.db.execute("SELECT sequence, position FROM events WHERE stream = 's-one' AND tenant='default'")
        )
        names = [name.strip() for name in columns.split(",")]
        values = {
            sequence: self.db.execute(f"SELECT {columns} FROM events WHERE position = ?", (rows[sequence],)).fetchone()
            for sequence in (3, 4)
        }
        setting = ", ".join(f"{name} = ?" for name in names)
        parked = [-7 if name in ("position", "sequence") else f"parked {name}" for name in names]
        keep = [b"" if name in ("raw", "hash") else park for name, park in zip(names, parked, strict=True)]
        self.db.execute(f"UPDATE events SET {setting} WHERE position = ?", (*keep, rows[3]))
        self.db.execute(f"UPDATE events SET {setting} WHERE position = ?", (*values[3], rows[4]))
        back = -7 if "position" in names else rows[3]
        self.db.execute(f"UPDATE events SET {setting} WHERE position = ?", (*values[4], back))


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    """Five events in ONE, some in others before, between and after."""
    store.append(append(TWO, 0, 2))
    store.append(append(ONE, 0, 3))
    store.append(append(FOREIGN, 0, 3))
    store.append(append(ONE, 3, 2))
    store.append(append(TWO, 2, 1))
    return store


@pytest.fixture
def intruder(path: Path) -> Iterator[Intruder]:
    """Has the file open beside the program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield Intruder(db)


def changed(i: Intruder) -> bytes:
    return i.raw(3).replace(b"go on", b"no go")


def change(i: Intruder) -> None:
    i.write(3, changed(i))


def change_and_rehash_it(i: Intruder) -> None:
    change(i)
    i.relink(3, last=3)


def change_and_rehash_all(i: Intruder) -> None:
    change(i)
    i.relink(3)


def make_no_json(i: Intruder) -> None:
    i.write(3, b"\x00\xff not JSON")


def make_no_json_and_rehash(i: Intruder) -> None:
    make_no_json(i)
    i.relink(3)
    i.set_head(5)


def make_unknown(i: Intruder) -> None:
    i.write(3, i.raw(3).replace(b"session_resumed", b"session_renamed"))
    i.relink(3)
    i.set_head(5)


def make_newer(i: Intruder) -> None:
    i.write(3, i.raw(3).replace(b'"version":1', b'"version":9'))
    i.relink(3)
    i.set_head(5)


def make_type_a_list(i: Intruder) -> None:
    i.write(3, i.raw(3).replace(b'"session_resumed"', b'["session_resumed"]'))
    i.relink(3)
    i.set_head(5)


def make_sequence_endless(i: Intruder) -> None:
    i.write(3, i.raw(3).replace(b'"sequence":3', b'"sequence":' + b"3" * 5_000))


def make_id_no_text(i: Intruder) -> None:
    i.sql("UPDATE events SET id = CAST(x'ff' AS TEXT) WHERE :one AND sequence = 3")


def two_headers(i: Intruder) -> None:
    """The first sequence is what a hasty reader sees, the last what JSON means."""
    i.write(3, i.raw(3).replace(b'"sequence":3', b'"sequence":8').replace(b'"time"', b'"sequence":3,"time"'))
    i.relink(3)
    i.set_head(5)


def remove(i: Intruder) -> None:
    i.sql("DELETE FROM events WHERE :one AND sequence = 3")


def remove_first(i: Intruder) -> None:
    i.sql("DELETE FROM events WHERE :one AND sequence = 1")


def remove_and_close_ranks(i: Intruder) -> None:
    remove(i)
    i.shift(4, -1)
    i.set_head(4)


def remove_close_ranks_and_rehash(i: Intruder) -> None:
    remove(i)
    i.shift(4, -1)
    i.relink(3, last=4)
    i.set_head(4)


def move_away(i: Intruder) -> None:
    i.sql("UPDATE events SET stream = 's-elsewhere' WHERE :one AND sequence = 3")


def truncate(i: Intruder) -> None:
    i.sql("DELETE FROM events WHERE :one AND sequence >= 4")


def raise_head(i: Intruder) -> None:
    i.db.execute(f"UPDATE streams SET version = 7 WHERE {HEAD}")


def lower_head(i: Intruder) -> None:
    i.db.execute(f"UPDATE streams SET version = 4 WHERE {HEAD}")


def change_head(i: Intruder) -> None:
    i.db.execute(f"UPDATE streams SET hash = x'00' WHERE {HEAD}")


def remove_head(i: Intruder) -> None:
    i.db.execute(f"DELETE FROM streams WHERE {HEAD}")


def insert(i: Intruder) -> None:
    i.shift(3, 1)
    i.forge(3, linked=False)


def insert_linked(i: Intruder) -> None:
    i.shift(3, 1)
    i.forge(3)


def insert_at_end(i: Intruder) -> None:
    i.forge(6)


def insert_before_all(i: Intruder) -> None:
    i.insert(0, i.raw(1), i.hash(1), "e-0")


def put_in_anothers(i: Intruder) -> None:
    (raw, hash_) = i.db.execute("SELECT raw, hash FROM events WHERE tenant = 'other' AND sequence = 3").fetchone()
    i.write(3, raw)
    i.sql("UPDATE events SET hash = ? WHERE :one AND sequence = 3", hash_)


def change_id(i: Intruder) -> None:
    i.sql("UPDATE events SET id = 'e-3' WHERE :one AND sequence = 3")


def swap_events(i: Intruder) -> None:
    i.swap("id, raw, hash")


def swap_bytes(i: Intruder) -> None:
    i.swap("raw")


def swap_positions(i: Intruder) -> None:
    i.swap("position")


WAYS: list[tuple[Tamper, int, str]] = [
    (change, 3, "changed"),
    (change_and_rehash_it, 4, "changed"),
    (change_and_rehash_all, 5, "changed"),
    (make_no_json, 3, "changed"),
    (make_no_json_and_rehash, 3, "unreadable"),
    (make_unknown, 3, "unreadable"),
    (make_newer, 3, "unreadable"),
    (make_type_a_list, 3, "unreadable"),
    (make_sequence_endless, 3, "changed"),
    (make_id_no_text, 3, "changed"),
    (two_headers, 3, "unreadable"),
    (change_id, 3, "changed"),
    (change_head, 5, "changed"),
    (remove, 3, "removed"),
    (remove_first, 1, "removed"),
    (remove_and_close_ranks, 3, "removed"),
    (remove_close_ranks_and_rehash, 3, "removed"),
    (remove_head, 0, "removed"),
    (truncate, 4, "truncated"),
    (raise_head, 6, "truncated"),
    (lower_head, 5, "inserted"),
    (insert, 3, "inserted"),
    (insert_linked, 4, "inserted"),
    (insert_at_end, 6, "inserted"),
    (insert_before_all, 0, "inserted"),
    (put_in_anothers, 3, "inserted"),
    (swap_events, 3, "reordered"),
    (swap_bytes, 3, "reordered"),
    (swap_positions, 4, "reordered"),
]


@pytest.mark.parametrize(("way", "sequence", "problem"), WAYS, ids=[way.__name__ for way, _, _ in WAYS])
def test_tampering_is_found_and_named(
    filled: SqliteStore, intruder: Intruder, way: Tamper, sequence: int, problem: str
) -> None:
    assert filled.verify().findings == ()
    way(intruder)
    (finding,) = filled.verify().findings
    assert (finding.stream, finding.sequence, finding.problem) == (ONE, sequence, problem), finding.detail
    assert finding.detail
    assert filled.verify("other").findings == (), "another tenant's streams are in order"
    assert [found.stream for found in filled.verify("default").findings] == [ONE]


def test_an_event_moved_to_a_stream_of_its_own_is_missed_there_and_here(
    filled: SqliteStore, intruder: Intruder
) -> None:
    move_away(intruder)
    found = {(finding.stream.name, finding.sequence, finding.problem) for finding in filled.verify().findings}
    assert found == {("s-one", 3, "removed"), ("s-elsewhere", 1, "removed")}


def test_every_damaged_stream_is_named(filled: SqliteStore, intruder: Intruder) -> None:
    change(intruder)
    intruder.db.execute("DELETE FROM events WHERE stream = 's-two' AND sequence = 3")
    found = {(finding.stream, finding.sequence, finding.problem) for finding in filled.verify().findings}
    assert found == {(ONE, 3, "changed"), (TWO, 3, "truncated")}


def test_a_stream_removed_without_a_trace_leaves_a_gap(filled: SqliteStore, intruder: Intruder) -> None:
    intruder.sql("DELETE FROM events WHERE :one")
    remove_head(intruder)
    (finding,) = filled.verify().findings
    assert finding == Finding(LOG, 3, "removed", "no event has the global position 3, where later ones are")


def test_a_head_row_without_events(filled: SqliteStore, intruder: Intruder) -> None:
    intruder.db.execute("INSERT INTO streams VALUES ('default', 'session', 's-ghost', 2, x'00', 1, 2)")
    (finding,) = filled.verify().findings
    ghost = StreamId("default", "session", "s-ghost")
    assert (finding.stream, finding.sequence, finding.problem) == (ghost, 1, "truncated")


def test_text_cannot_be_put_where_bytes_belong(filled: SqliteStore, intruder: Intruder) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in BLOB column"):
        intruder.sql("UPDATE events SET raw = 'text' WHERE :one")


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (change, "event 3 of session 's-one'.* is not what was written"),
        (change_and_rehash_it, "event 4 of session 's-one'.* is not what was written"),
        (make_no_json_and_rehash, "event 3 of session 's-one'.* cannot be read"),
        (remove, "event 3 of session 's-one'.* is missing .*found is 4"),
        (remove_close_ranks_and_rehash, "event 3 of session 's-one'.* wrong place: its bytes say event 4"),
        (change_id, "event 3 of session 's-one'.* wrong place"),
    ],
)
def test_reading_stops_at_what_was_tampered_with(
    filled: SqliteStore, intruder: Intruder, way: Tamper, message: str
) -> None:
    way(intruder)
    reading = filled.read(ONE)
    assert [next(reading).sequence, next(reading).sequence] == [1, 2]
    with pytest.raises(StoreCorrupt, match=message):
        list(reading)
    with pytest.raises(StoreCorrupt):
        list(filled.read(ONE, after=2))


def test_appending_to_a_stream_whose_head_was_set_back_is_refused(filled: SqliteStore, intruder: Intruder) -> None:
    lower_head(intruder)
    with pytest.raises(StoreCorrupt, match="heads do not fit the events"):
        filled.append(append(ONE, 4))
    assert filled.last_position() == 11


def test_a_view_or_verdict_that_is_no_json(filled: SqliteStore, intruder: Intruder) -> None:
    intruder.db.execute("INSERT INTO views VALUES (1, 'default', 'session', 's', '{')")
    with pytest.raises(StoreCorrupt, match="JSON"):
        filled.view("default", "session", "s")


def test_a_table_that_is_gone(filled: SqliteStore, intruder: Intruder) -> None:
    intruder.db.execute("DROP TABLE timers")
    with pytest.raises(StoreError, match="no such table"):
        filled.timers(NOON)


def test_bytes_in_another_notation_are_understood(filled: SqliteStore, intruder: Intruder) -> None:
    """What the quick look at the header does not recognise is decoded, and judged by what it says."""
    written = list(filled.read(ONE))
    intruder.write(3, intruder.raw(3).replace(b'{"id":', b'{ "id": '))
    intruder.relink(3)
    intruder.set_head(5)
    assert filled.verify().findings == ()
    assert list(filled.read(ONE)) == written


def test_an_id_that_json_escapes_is_read_like_any_other(store: SqliteStore) -> None:
    whole = append(ONE, 0, 5)
    events = tuple(replace(event, id='a\\b"c') if event.sequence == 3 else event for event in whole.events)
    store.append(replace(whole, events=events))
    assert tuple(store.read(ONE)) == events
    assert store.verify().findings == ()
