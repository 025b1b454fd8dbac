"""The same tampering as with the SQLite file, by one who may write to the database: the same is found and named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from store.port import StoreError
from store.postgres import PostgresStore
from tests.conformance.store import NOON, ONE
from tests.store.test_checkpoints import (
    key,
    signed,
    test_a_changed_checkpoint,
    test_a_checkpoint_lists_what_grew,
    test_a_checkpoint_put_in_anothers_place,
    test_a_removed_checkpoint,
    test_an_unreadable_checkpoint_is_named_once,
    test_an_untouched_record_verifies,
    test_another_key,
    test_cutting_off_the_tail_and_setting_back_the_head,
    test_of_two_making_the_same_checkpoint_one_wins,
    test_removing_a_whole_stream,
    test_rewriting_history_with_all_hashes,
)
from tests.store.test_tampering import (
    WAYS,
    Intruder,
    Tamper,
    filled,
    make_id_no_text,
    test_a_head_row_without_events,
    test_a_stream_removed_without_a_trace_leaves_a_gap,
    test_a_view_or_verdict_that_is_no_json,
    test_an_event_moved_to_a_stream_of_its_own_is_missed_there_and_here,
    test_appending_to_a_stream_whose_head_was_set_back_is_refused,
    test_bytes_in_another_notation_are_understood,
    test_every_damaged_stream_is_named,
    test_reading_stops_at_what_was_tampered_with,
    truncate,
)
from tests.store.test_tampering import test_tampering_is_found_and_named as found_and_named

# Run here with the fixtures below.
__all__ = [
    "filled",
    "key",
    "signed",
    "test_a_changed_checkpoint",
    "test_a_checkpoint_lists_what_grew",
    "test_a_checkpoint_put_in_anothers_place",
    "test_a_head_row_without_events",
    "test_a_removed_checkpoint",
    "test_a_stream_removed_without_a_trace_leaves_a_gap",
    "test_a_view_or_verdict_that_is_no_json",
    "test_an_event_moved_to_a_stream_of_its_own_is_missed_there_and_here",
    "test_an_unreadable_checkpoint_is_named_once",
    "test_an_untouched_record_verifies",
    "test_another_key",
    "test_appending_to_a_stream_whose_head_was_set_back_is_refused",
    "test_bytes_in_another_notation_are_understood",
    "test_cutting_off_the_tail_and_setting_back_the_head",
    "test_every_damaged_stream_is_named",
    "test_of_two_making_the_same_checkpoint_one_wins",
    "test_reading_stops_at_what_was_tampered_with",
    "test_removing_a_whole_stream",
    "test_rewriting_history_with_all_hashes",
]


class Translated:
    """The intruder's SQLite statements on PostgreSQL."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self._db = db

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> psycopg.Cursor[Any]:
        """Run a statement with `?` for values and `x'00'` for bytes."""
        words = re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", statement).replace("?", "%s")
        return self._db.execute(words.encode(), values)


@pytest.fixture
def store(open_postgres: Callable[[], PostgresStore]) -> PostgresStore:
    """An empty record, open."""
    return open_postgres()


@pytest.fixture
def intruder(url: str) -> Iterator[Intruder]:
    """Has the database open beside the program."""
    with psycopg.connect(url, autocommit=True) as db:
        yield Intruder(Translated(db))  # type: ignore[arg-type]


IDS_ARE_TEXT = [way for way in WAYS if way[0] is not make_id_no_text]
"""PostgreSQL does not take bytes that are no UTF-8 for text."""


@pytest.mark.parametrize(("way", "sequence", "problem"), IDS_ARE_TEXT, ids=[way.__name__ for way, _, _ in IDS_ARE_TEXT])
def test_tampering_is_found_and_named(
    filled: PostgresStore, intruder: Intruder, way: Tamper, sequence: int, problem: str
) -> None:
    found_and_named(filled, intruder, way, sequence, problem)


def test_text_is_always_text_and_bytes_are_bytes(filled: PostgresStore, intruder: Intruder) -> None:
    for statement in (
        "UPDATE events SET id = convert_from('\\xff'::bytea, 'UTF8')",
        "UPDATE events SET raw = 'text'::text",
    ):
        with pytest.raises(psycopg.Error):
            intruder.db.execute(statement)


def test_a_table_that_is_gone(filled: PostgresStore, intruder: Intruder) -> None:
    assert filled.timers(NOON) == []
    intruder.db.execute("DROP TABLE timers")
    with pytest.raises(StoreError, match=r"refused: relation .timers. does not exist"):
        filled.timers(NOON)
    assert filled.version(filled.streams("default")[0]) == 3, "the connection is not spoilt"


def test_a_suspect_is_read_again_page_by_page(
    filled: PostgresStore, intruder: Intruder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.postgres.PAGE", 2)
    truncate(intruder)
    (finding,) = filled.verify().findings
    assert (finding.stream, finding.sequence, finding.problem) == (ONE, 4, "truncated")
