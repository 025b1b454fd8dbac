"""A store against a model of it: hypothesis looks for a sequence of calls after which they differ.

`machine(open_store)` makes the state machine; `open_store(fresh)` opens the record, a new one if `fresh`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.envelope import StreamId, encode_event
from store.port import (
    AlreadyHandled,
    Append,
    Appended,
    AppendResult,
    ArmedTimer,
    Handled,
    Store,
    TimerCleared,
    TimerSet,
    VersionConflict,
    View,
)
from tests.conformance.store import DRIVE, FOREIGN, NOON, ONE, TWO, event

STREAMS = (ONE, TWO, DRIVE, FOREIGN)
NAMES = st.sampled_from(["a", "b", "c"])
BODIES = st.dictionaries(NAMES, st.integers(-9, 9) | st.text(max_size=3), max_size=2)


@dataclass(frozen=True)
class Wish:
    """An append as drawn: `lag` is how far its version is behind (or ahead of) the stream's when it is made."""

    stream: StreamId
    lag: int
    events: int
    command: int | None
    accepted: bool
    timers: tuple[TimerSet | TimerCleared, ...]
    views: tuple[View, ...]


WISHES = st.builds(
    Wish,
    stream=st.sampled_from(STREAMS),
    lag=st.sampled_from([0, 0, 0, 0, 1, -1]),
    events=st.integers(0, 3),
    command=st.none() | st.integers(0, 12),
    accepted=st.booleans(),
    timers=st.lists(
        st.builds(TimerSet, NAMES, st.integers(-3, 3).map(lambda h: NOON + timedelta(hours=h)), st.binary(max_size=3))
        | st.builds(TimerCleared, NAMES),
        max_size=3,
    ).map(tuple),
    views=st.lists(st.builds(View, st.sampled_from(["session", "gate"]), NAMES, st.none() | BODIES), max_size=3).map(
        tuple
    ),
)


@dataclass
class Model:
    """The store's promises in the plainest possible form."""

    log: list[tuple[StreamId, bytes]] = field(default_factory=list)
    versions: dict[StreamId, int] = field(default_factory=dict)
    inbox: dict[str, tuple[StreamId, Handled]] = field(default_factory=dict)
    timers: dict[tuple[StreamId, str], ArmedTimer] = field(default_factory=dict)
    cursors: dict[str, tuple[int, str]] = field(default_factory=dict)
    views: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    def append(self, wanted: Append) -> AppendResult:
        """What the store must answer, having done it."""
        stream, entry = wanted.stream, wanted.handled
        if entry and entry.command_id in self.inbox:
            return AlreadyHandled(self.inbox[entry.command_id][1])
        version = self.versions.get(stream, 0)
        if version != wanted.expected_version:
            return VersionConflict(stream, wanted.expected_version, version)
        first = len(self.log) + 1
        self.log += [(stream, encode_event(envelope)) for envelope in wanted.events]
        if wanted.events:
            self.versions[stream] = version + len(wanted.events)
        if entry:
            self.inbox[entry.command_id] = (stream, entry)
        for timer in wanted.timers:
            if isinstance(timer, TimerSet):
                self.timers[stream, timer.key] = ArmedTimer(stream, timer.key, timer.due, timer.command)
            else:
                self.timers.pop((stream, timer.key), None)
        for view in wanted.views:
            key = (stream.tenant, view.kind, view.id)
            if view.body is None:
                self.views.pop(key, None)
            else:
                self.views[key] = view.body
        if not wanted.events:
            return Appended(version, 0, 0)
        return Appended(self.versions[stream], first, len(self.log))


def machine(open_store: Callable[[bool], Store]) -> type[RuleBasedStateMachine]:
    """The state machine for one backend."""

    class StoreMachine(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            self.store = open_store(True)
            self.model = Model()

        def teardown(self) -> None:
            if hasattr(self, "store"):
                assert self.store.verify().findings == ()
                self.store.close()

        def _append(self, wish: Wish, version: int) -> Append:
            expected = max(0, version - wish.lag)
            entry = None
            if wish.command is not None:
                name = f"c-{wish.command}"
                entry = Handled(name, name.encode(), wish.accepted, {"verdict": wish.accepted})
            events = tuple(event(wish.stream, expected + n) for n in range(1, wish.events + 1))
            return Append(wish.stream, expected, events, entry, wish.timers, wish.views)

        @rule(wish=WISHES)
        def append(self, wish: Wish) -> None:
            wanted = self._append(wish, self.model.versions.get(wish.stream, 0))
            assert self.store.append(wanted) == self.model.append(wanted)

        @rule(wishes=st.lists(WISHES, min_size=2, max_size=6))
        def append_batch(self, wishes: list[Wish]) -> None:
            wanted, expected = [], []
            for wish in wishes:
                wanted.append(self._append(wish, self.model.versions.get(wish.stream, 0)))
                expected.append(self.model.append(wanted[-1]))
            assert self.store.append_batch(wanted) == expected

        @rule(name=NAMES, position=st.integers(0, 99))
        def move_cursor(self, name: str, position: int) -> None:
            self.store.move_cursor(name, position, f"e-{position}")
            self.model.cursors[name] = (position, f"e-{position}")

        @rule()
        def reopen(self) -> None:
            self.store.close()
            self.store = open_store(False)

        @rule(after=st.integers(0, 20), limit=st.integers(1, 5))
        def tail(self, after: int, limit: int) -> None:
            rows = self.store.read_all(after, limit)
            assert [(row.stream, row.raw) for row in rows] == self.model.log[after : after + limit]

        @rule(stream=st.sampled_from(STREAMS), after=st.integers(0, 8), length=st.none() | st.integers(0, 4))
        def read(self, stream: StreamId, after: int, length: int | None) -> None:
            up_to = None if length is None else after + length
            expected = [raw for of, raw in self.model.log if of == stream][after:up_to]
            assert [row.raw for row in self.store.read_raw(stream, after, up_to)] == expected
            assert [encode_event(envelope) for envelope in self.store.read(stream, after, up_to)] == expected

        @rule(stream=st.sampled_from(STREAMS))
        def commands(self, stream: StreamId) -> None:
            assert self.store.commands(stream) == [entry for of, entry in self.model.inbox.values() if of == stream]

        @rule(hours=st.none() | st.integers(-4, 4))
        def due(self, hours: int | None) -> None:
            moment = None if hours is None else NOON + timedelta(hours=hours)
            expected = [timer for timer in self.model.timers.values() if moment is None or timer.due <= moment]
            found = self.store.timers(moment)
            assert [timer.due for timer in found] == sorted(timer.due for timer in expected)
            assert {(timer.stream, timer.key): timer for timer in found} == {
                (timer.stream, timer.key): timer for timer in expected
            }

        @rule(stream=st.sampled_from(STREAMS), kind=st.sampled_from(["session", "gate"]))
        def views(self, stream: StreamId, kind: str) -> None:
            tenant = stream.tenant
            expected = [body for (of, of_kind, _), body in self.model.views.items() if (of, of_kind) == (tenant, kind)]
            assert self.store.views(tenant, kind) == expected

        @invariant()
        def heads_agree(self) -> None:
            if not hasattr(self, "store"):
                return
            assert self.store.last_position() == len(self.model.log)
            for stream in STREAMS:
                assert self.store.version(stream) == self.model.versions.get(stream, 0)
            for name, cursor in self.model.cursors.items():
                assert self.store.cursor(name) == cursor
            sessions = [stream for stream in dict.fromkeys(of for of, _ in self.model.log) if stream.kind == "session"]
            for tenant in ("default", "other"):
                assert self.store.streams(tenant, "session") == [of for of in sessions if of.tenant == tenant]

    return StoreMachine
