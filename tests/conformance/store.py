"""What every store must do, written once: subclass `StoreConformance`, give it a fixture `reopen`, and it runs.

`reopen()` closes the store it gave before, if any, and opens the same record again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from schemas.envelope import EventEnvelope, StreamId, encode_event
from schemas.ids import uuid7
from schemas.messages import Event
from schemas.session import SessionResumed
from schemas.values import Actor
from store.chain import GENESIS, link
from store.port import (
    AlreadyHandled,
    Append,
    Appended,
    ArmedTimer,
    Handled,
    Snapshot,
    Store,
    StoreError,
    TimerCleared,
    TimerSet,
    VersionConflict,
    View,
)

Reopen = Callable[[], Store]

ALICE = Actor(name="alice", channel="cli", verified_as="1000")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONE = StreamId("default", "session", "s-one")
TWO = StreamId("default", "session", "s-two")
DRIVE = StreamId("default", "drive", "d-one")
FOREIGN = StreamId("other", "session", "s-one")


def event(stream: StreamId, sequence: int, reason: str = "go on", id: str | None = None) -> EventEnvelope[Event]:
    """An event of `stream` with its own id."""
    body = SessionResumed(phase="build", by=ALICE, reason=reason)
    return EventEnvelope(id or uuid7(), stream, sequence, NOON, ALICE, "correlation", "causation", body)


def append(stream: StreamId, version: int, count: int = 1, **more: Any) -> Append:
    """An append of `count` events on top of `version`."""
    return Append(stream, version, tuple(event(stream, version + n) for n in range(1, count + 1)), **more)


def handled(command_id: str, accepted: bool = True, **verdict: Any) -> Handled:
    """An inbox entry."""
    return Handled(command_id, f"raw of {command_id}".encode(), accepted, verdict)


class StoreConformance:
    """The port's promises."""

    @pytest.fixture
    def store(self, reopen: Reopen) -> Store:
        """An empty store."""
        return reopen()

    # Appending and reading

    def test_an_empty_store_holds_nothing(self, store: Store) -> None:
        assert store.version(ONE) == 0
        assert list(store.read(ONE)) == []
        assert store.read_all(0, 10) == []
        assert store.last_position() == 0
        assert store.streams("default") == []
        assert store.handled("c") is None
        assert store.position_of("e") is None
        assert store.cursor("relay") == (0, "")
        assert store.view("default", "session", "s") is None
        assert store.verify().findings == ()
        assert store.append_batch([]) == []

    def test_events_come_back_as_they_went_in(self, store: Store, reopen: Reopen) -> None:
        wanted = append(ONE, 0, 3)
        assert store.append(wanted) == Appended(version=3, first_position=1, last_position=3)
        for again in (lambda: store, reopen):
            each = again()
            assert tuple(each.read(ONE)) == wanted.events
            assert [row.raw for row in each.read_raw(ONE)] == [encode_event(envelope) for envelope in wanted.events]
            assert each.version(ONE) == 3

    def test_positions_count_all_streams_and_sequences_each_its_own(self, store: Store) -> None:
        store.append(append(ONE, 0))
        assert store.append(append(TWO, 0, 2)) == Appended(2, 2, 3)
        assert store.append(append(ONE, 1)) == Appended(2, 4, 4)
        rows = store.read_all(0, 10)
        assert [(row.position, row.stream, row.sequence) for row in rows] == [
            (1, ONE, 1),
            (2, TWO, 1),
            (3, TWO, 2),
            (4, ONE, 2),
        ]
        assert store.last_position() == 4
        assert [store.position_of(row.id) for row in rows] == [1, 2, 3, 4]

    def test_every_event_is_linked_to_the_one_before(self, store: Store, reopen: Reopen) -> None:
        store.append(append(ONE, 0, 2))
        store = reopen()
        store.append_batch([append(TWO, 0), append(ONE, 2)])
        previous = GENESIS
        for row in store.read_raw(ONE):
            assert row.hash == link(previous, row.raw)
            previous = row.hash

    def test_a_part_of_a_stream(self, store: Store) -> None:
        store.append(append(ONE, 0, 5))
        assert [envelope.sequence for envelope in store.read(ONE, after=2)] == [3, 4, 5]
        assert [envelope.sequence for envelope in store.read(ONE, after=1, up_to=3)] == [2, 3]
        assert [row.sequence for row in store.read_raw(ONE, after=4)] == [5]
        assert list(store.read(ONE, after=5)) == []
        assert list(store.read(ONE, after=9)) == []

    def test_long_streams_are_read_whole(self, store: Store) -> None:
        store.append(append(ONE, 0, 2_500))
        assert [row.sequence for row in store.read_raw(ONE)] == list(range(1, 2_501))
        assert [envelope.sequence for envelope in store.read(ONE, after=1_000, up_to=2_000)] == list(
            range(1_001, 2_001)
        )

    def test_a_reader_that_stops_early_holds_nothing_up(self, store: Store) -> None:
        store.append(append(ONE, 0, 3))
        reading = store.read(ONE)
        next(reading)
        store.append(append(ONE, 3))
        assert store.version(ONE) == 4
        assert sum(1 for _ in reading) >= 2

    def test_the_log_in_slices(self, store: Store) -> None:
        store.append(append(ONE, 0, 3))
        store.append(append(TWO, 0, 3))
        assert [row.position for row in store.read_all(0, 2)] == [1, 2]
        assert [row.position for row in store.read_all(4, 100)] == [5, 6]
        assert store.read_all(6, 100) == []

    def test_streams_in_order_of_their_first_event(self, store: Store) -> None:
        store.append_batch([append(TWO, 0), append(DRIVE, 0), append(FOREIGN, 0), append(ONE, 0), append(TWO, 1)])
        assert store.streams("default") == [TWO, DRIVE, ONE]
        assert store.streams("default", "session") == [TWO, ONE]
        assert store.streams("other") == [FOREIGN]

    # Conflicts

    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_a_wrong_version_writes_nothing(self, store: Store, expected: int) -> None:
        store.append(append(ONE, 0, 2))
        stale = append(ONE, expected, handled=handled("c"), views=(View("session", "s", {"a": 1}),))
        assert store.append(stale) == VersionConflict(ONE, expected, 2)
        assert store.version(ONE) == 2
        assert store.handled("c") is None
        assert store.view("default", "session", "s") is None

    def test_a_decision_without_events_needs_the_right_version_too(self, store: Store) -> None:
        store.append(append(ONE, 0, 2))
        assert store.append(Append(ONE, 1, (), handled("c"))) == VersionConflict(ONE, 1, 2)
        assert store.append(Append(ONE, 2, (), handled("c"))) == Appended(2, 0, 0)
        assert store.handled("c") == handled("c")

    def test_a_batch_gives_each_its_own_verdict(self, store: Store) -> None:
        store.append(append(ONE, 0, handled=handled("c-1", note="first")))
        results = store.append_batch(
            [
                append(ONE, 0, handled=handled("c-2")),
                append(TWO, 0, handled=handled("c-3")),
                append(TWO, 0, handled=handled("c-1")),
                append(TWO, 1, 2, handled=handled("c-4")),
                append(TWO, 3, handled=handled("c-3")),
                append(TWO, 1),
                append(ONE, 1),
            ]
        )
        assert results == [
            VersionConflict(ONE, 0, 1),
            Appended(1, 2, 2),
            AlreadyHandled(handled("c-1", note="first")),
            Appended(3, 3, 4),
            AlreadyHandled(handled("c-3")),
            VersionConflict(TWO, 1, 3),
            Appended(2, 5, 5),
        ]
        assert [row.stream for row in store.read_all(0, 10)] == [ONE, TWO, TWO, TWO, ONE]
        assert store.verify().findings == ()

    def test_a_handled_command_is_known_for_ever(self, store: Store, reopen: Reopen) -> None:
        entry = handled("c", accepted=False, code="stale", detail={"gate": ["g-1"]})
        store.append(append(ONE, 0, handled=entry))
        store.append(append(ONE, 1))
        for again in (lambda: store, reopen):
            each = again()
            assert each.append(append(ONE, 0, handled=handled("c"))) == AlreadyHandled(entry)
            assert each.append(append(ONE, 2, handled=handled("c"))) == AlreadyHandled(entry)
            assert each.handled("c") == entry
            assert each.handled_among(["c"]) == each.handled_among(["d", "c", "e\"'"]) == {"c": entry}
            assert each.handled_among([]) == each.handled_among(["d"]) == {}
            assert each.version(ONE) == 2

    def test_commands_of_a_stream_in_the_order_they_were_handled(self, store: Store, reopen: Reopen) -> None:
        store.append(append(ONE, 0, handled=handled("z")))
        store.append_batch([append(TWO, 0, handled=handled("m")), Append(ONE, 1, (), handled("a", accepted=False))])
        store = reopen()
        store.append(append(ONE, 1, handled=handled("k")))
        assert store.commands(ONE) == [handled("z"), handled("a", accepted=False), handled("k")]
        assert store.commands(TWO) == [handled("m")]
        assert store.commands(DRIVE) == []

    # What is a bug of the caller

    @pytest.mark.parametrize(
        "events",
        [
            (event(ONE, 2),),
            (event(ONE, 1), event(ONE, 3)),
            (event(ONE, 1), event(ONE, 1)),
            (event(TWO, 1),),
        ],
        ids=["starts late", "gap", "twice", "of another stream"],
    )
    def test_events_must_follow_each_other(self, store: Store, events: tuple[EventEnvelope[Event], ...]) -> None:
        with pytest.raises(ValueError, match="must be number"):
            store.append_batch([append(TWO, 0), Append(ONE, 0, events)])
        assert store.last_position() == 0

    def test_an_event_id_is_used_once(self, store: Store) -> None:
        store.append(Append(ONE, 0, (event(ONE, 1, id="e-1"),)))
        with pytest.raises(StoreError, match="same id"):
            store.append_batch([append(DRIVE, 0), Append(TWO, 0, (event(TWO, 1, id="e-1"),))])
        assert store.last_position() == 1
        assert store.append(append(TWO, 0)) == Appended(1, 2, 2)
        assert store.verify().findings == ()

    # Timers

    def test_timers_are_armed_replaced_and_cleared(self, store: Store, reopen: Reopen) -> None:
        hour = timedelta(hours=1)
        store.append(append(ONE, 0, timers=(TimerSet("retry", NOON + hour, b"later"), TimerSet("lease", NOON, b"now"))))
        store.append(append(TWO, 0, timers=(TimerSet("retry", NOON - hour, b"soon"), TimerCleared("never armed"))))
        soon, now = ArmedTimer(TWO, "retry", NOON - hour, b"soon"), ArmedTimer(ONE, "lease", NOON, b"now")
        later = ArmedTimer(ONE, "retry", NOON + hour, b"later")
        assert store.timers() == [soon, now, later]
        assert store.next_due() == soon.due
        store = reopen()
        assert store.timers(NOON) == [soon, now], "a timer is due at its moment, not after it"
        assert store.timers(NOON - timedelta(microseconds=1)) == [soon]
        store.append(append(ONE, 1, timers=(TimerCleared("lease"), TimerSet("retry", NOON, b"sooner"))))
        assert store.timers() == [soon, ArmedTimer(ONE, "retry", NOON, b"sooner")]

    def test_the_last_word_on_a_timer_counts(self, store: Store) -> None:
        first, second = TimerSet("t", NOON, b"1"), TimerSet("t", NOON, b"2")
        store.append(append(ONE, 0, timers=(first, TimerCleared("t"), second)))
        store.append_batch([append(TWO, 0, timers=(first,)), append(TWO, 1, timers=(TimerCleared("t"),))])
        assert store.timers() == [ArmedTimer(ONE, "t", NOON, b"2")]

    def test_a_timers_moment_is_exact_and_in_any_zone(self, store: Store) -> None:
        due = datetime(2026, 11, 21, 14, 0, 0, 123457, tzinfo=timezone(timedelta(hours=2)))
        store.append(append(ONE, 0, timers=(TimerSet("t", due, b""),)))
        assert store.timers()[0].due == due
        with pytest.raises(ValueError, match="without zone"):
            store.append(append(ONE, 1, timers=(TimerSet("t", due.replace(tzinfo=None), b""),)))

    # Cursors and views

    def test_a_cursor_moves_both_ways(self, store: Store, reopen: Reopen) -> None:
        store.move_cursor("relay", 7, "e-7")
        store.move_cursor("metrics", 1, "e-1")
        assert reopen().cursor("relay") == (7, "e-7")
        store = reopen()
        store.move_cursor("relay", 2, "e-2")
        assert store.cursor("relay") == (2, "e-2")
        assert store.cursor("metrics") == (1, "e-1")

    def test_views_are_replaced_whole_and_keep_their_place(self, store: Store, reopen: Reopen) -> None:
        first, second = {"state": "running", "n": [1, 2.5, None]}, {"state": "blocked"}
        store.append(append(ONE, 0, views=(View("session", "b", first), View("session", "a", second))))
        store.append(append(FOREIGN, 0, views=(View("session", "a", {"of": "another tenant"}),)))
        store.append(append(ONE, 1, views=(View("session", "b", {"state": "done"}), View("gate", "g", {}))))
        store = reopen()
        assert store.views("default", "session") == [{"state": "done"}, second]
        assert store.view("default", "session", "a") == second
        assert store.view("other", "session", "a") == {"of": "another tenant"}
        assert store.view("default", "gate", "g") == {}
        store.append(append(ONE, 2, views=(View("session", "b", None), View("session", "never there", None))))
        assert store.view("default", "session", "b") is None
        assert store.views("default", "session") == [second]

    def test_a_view_removed_and_written_again_is_new(self, store: Store) -> None:
        store.append(append(ONE, 0, views=(View("k", "a", {"n": 1}), View("k", "b", {"n": 2}))))
        store.append(append(ONE, 1, views=(View("k", "a", None), View("k", "a", {"n": 3}))))
        assert store.views("default", "k") == [{"n": 2}, {"n": 3}]

    # Snapshots

    def test_a_snapshot_takes_the_place_of_the_one_before(self, store: Store, reopen: Reopen) -> None:
        first = Snapshot(ONE, 3, bytes(32), "form", b"\x00body")
        second, other = (
            replace(first, sequence=9, hash=b"h" * 32, form="next", body=b""),
            replace(first, stream=FOREIGN),
        )
        assert store.snapshot(ONE) is None
        for snapshot in (first, other, second):
            store.keep_snapshot(snapshot)
        store = reopen()
        assert (store.snapshot(ONE), store.snapshot(FOREIGN), store.snapshot(TWO)) == (second, other, None)

    def test_snapshots_may_go_at_any_time(self, store: Store) -> None:
        store.append(append(ONE, 0))
        for stream in (ONE, TWO):
            store.keep_snapshot(Snapshot(stream, 1, bytes(32), "form", b"body"))
        assert (store.forget_snapshots(), store.forget_snapshots()) == (2, 0)
        assert store.snapshot(ONE) is None
        assert store.verify().findings == ()

    # Verifying and closing

    def test_verify_counts_what_it_checked(self, store: Store) -> None:
        store.append_batch([append(ONE, 0, 3), append(TWO, 0), append(FOREIGN, 0, 2)])
        everything, one_tenant = store.verify(), store.verify("other")
        assert (everything.streams, everything.events, everything.findings) == (3, 6, ())
        assert (one_tenant.streams, one_tenant.events, one_tenant.findings) == (1, 2, ())

    def test_a_closed_store_says_so(self, store: Store) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.version(ONE)
        with pytest.raises(StoreError, match="closed"):
            store.append(append(ONE, 0))
