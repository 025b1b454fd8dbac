"""Reading what a stream has come to: from its events, and from a snapshot where a session is long."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import structlog

import conductor
import schemas
from conductor.fold import fold
from conductor.forking import Past
from conductor.small import Small, begin, evolve_small
from conductor.snapshots import BadSnapshot, decode, encode
from conductor.state import SessionState, initial
from schemas.envelope import CommandEnvelope, StreamId
from schemas.forking import ForkSession
from store.port import Snapshot, Store

_log = structlog.get_logger("conductor")
Aggregate = SessionState | Small
LONG = 500
"""Whoever had to fold more events than these writes a snapshot. Reading one takes about as long as folding 130."""


def load(store: Store, stream: StreamId) -> Aggregate:
    """The state after the stream's events. Raises StoreCorrupt, StoreUnavailable."""
    if stream.kind != "session":
        small = begin(stream)
        for envelope in store.read(stream):
            small = evolve_small(small, envelope.event, envelope.sequence)
        return small
    return _session(store, stream)


def past_of(store: Store, envelope: CommandEnvelope) -> Past | None:
    """What a fork is made of, for any other command None: events that are never changed again, so it is the same
    whenever it is asked for. Raises StoreCorrupt, StoreUnavailable."""
    command = envelope.command
    if not isinstance(command, ForkSession):
        return None
    stream = StreamId(envelope.stream.tenant, "session", command.source)
    state = fold(initial(command.source), store.read(stream, 0, max(command.sequence, 0)))
    last = [stored.hash.hex() for stored in store.read_raw(stream, state.version - 1, state.version)]
    return Past(state, last[0] if state.version else "")


def _session(store: Store, stream: StreamId) -> SessionState:
    known = _known(store, stream)
    state = fold(known, store.read(stream, known.version))
    if state.version - known.version > LONG:
        for last in store.read_raw(stream, state.version - 1, state.version):
            store.keep_snapshot(Snapshot(stream, state.version, last.hash, form(), encode(state)))
    return state


def _known(store: Store, stream: StreamId) -> SessionState:
    """The snapshot's state, if there is one that this program wrote and the record still agrees with."""
    kept = store.snapshot(stream)
    if kept is None or kept.form != form():
        return initial(stream.name)
    if [event.hash for event in store.read_raw(stream, kept.sequence - 1, kept.sequence)] != [kept.hash]:
        return initial(stream.name)
    try:
        state = decode(kept.body)
    except BadSnapshot as problem:
        # A cache costs nothing but time: the next one takes its place.
        _log.warning("snapshot_unreadable", session=stream.name, reason=str(problem))
        return initial(stream.name)
    return state if (state.id, state.version) == (stream.name, kept.sequence) else initial(stream.name)


def deviates(store: Store, stream: StreamId) -> bool:
    """Whether the stream's snapshot says anything else than its events: somebody changed it. Raises StoreCorrupt."""
    kept = store.snapshot(stream)
    if kept is None or kept.form != form() or stream.kind != "session":
        return False  # nobody believes it
    known = _known(store, stream)
    return known.version > 0 and known != fold(initial(stream.name), store.read(stream, 0, kept.sequence))


@cache
def form() -> str:
    """A digest of the code that says what a state is: after an update no snapshot of before is believed."""
    return digest([Path(str(package.__file__)).parent for package in (conductor, schemas)])


def digest(packages: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of the modules in `packages`."""
    found = hashlib.sha256()
    for package in packages:
        for file in sorted(package.glob("*.py")):
            found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
