"""The hash chain: how events are linked, and how a walk over them finds what was tampered with.

Nothing here knows a database. The walk is one pass in commit order (sequential reads, one state a stream); only a
stream that does not add up is read a second time, slowly, to say what happened to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain as concatenated
from typing import NamedTuple, TypeAlias

import schemas.registry  # noqa: F401  (declares every event: without it all would be unknown)
from schemas.consecutive import Consecutive
from schemas.envelope import EventEnvelope, StreamId, UnreadableMessage, decode_event, sort_text
from schemas.messages import EVENTS, Event
from store.port import Finding, StoreCorrupt, StoredEvent, Verification

GENESIS = bytes(32)
"""What the first event of a stream is linked to."""

LOG = StreamId("", "system", "log")
"""The place named in a finding about the log as a whole; the finding's sequence is a global position."""

Row: TypeAlias = tuple[int, str, bytes, bytes]
"""An event of a known stream: sequence, id, raw, hash."""


@dataclass(frozen=True, slots=True)
class Linked:
    """Events of a known stream whose links were checked by whoever read them, numbered without a gap from the one that
    was to come; never none. `hashes` holds 32 bytes for each."""

    ids: Sequence[str]
    raws: Sequence[bytes]
    hashes: bytes

    def rows(self, first: int) -> list[Row]:
        """The same, the first of which has the sequence `first`."""
        hashes = [self.hashes[start : start + 32] for start in range(0, len(self.hashes), 32)]
        return list(zip(range(first, first + len(self.ids)), self.ids, self.raws, hashes, strict=True))


Signed = Mapping[StreamId, Mapping[int, bytes]]
"""Per stream, the version → hash pairs that checkpoints vouch for."""

# The header of the canonical form (`schemas.envelope.encode_event`). Reading it this way costs a quarter of parsing the
# JSON; what does not match is looked at again with the real decoder, so nothing hangs on the expression's completeness.
_HEADER = re.compile(
    rb'\{"id":"([^"\\]*)","type":"([^"\\]*)","version":(\d{1,9}),'
    rb'"tenant":"([^"\\]*)","kind":"([^"\\]*)","stream":"([^"\\]*)","sequence":(\d{1,18}),'
)


_BEFORE_TYPE = len('{"id":"","type":"')


class Head(NamedTuple):
    """The tip of a stream: sequence and hash of its last event, global positions of its first and last."""

    stream: StreamId
    version: int = 0
    hash: bytes = GENESIS
    first_position: int = 0
    last_position: int = 0


def link(previous: bytes, raw: bytes) -> bytes:
    """The chain's hash of an event: SHA-256(previous hash ‖ canonical bytes), 32 bytes."""
    return sha256(previous + raw).digest()


def checked(
    pages: Iterable[Sequence[Row] | Linked], stream: StreamId, after: int, previous: bytes
) -> Iterator[EventEnvelope[Event]]:
    """Decode the rows of `stream`, the first of which must follow sequence `after` whose hash is `previous`.

    Raises StoreCorrupt at the first row that does not: damaged history must not be acted on.
    """
    reader = Consecutive(stream)
    for page in pages:
        if isinstance(page, Linked):
            taken = yield from reader.read(after + 1, page.ids, page.raws)
            if taken < len(page.ids):
                yield from _all_by_themselves(page.rows(after + 1), taken, stream, after, previous)
            after, previous = after + len(page.ids), page.hashes[-32:]
            continue
        if not page:
            continue
        sequences, ids, raws, hashes = zip(*page, strict=True)
        following, taken = range(after + 1, after + 1 + len(page)), 0
        if sequences == tuple(following) and are_linked(previous, raws, hashes):
            taken = yield from reader.read(after + 1, ids, raws)
        if taken < len(page):
            yield from _all_by_themselves(page, taken, stream, after, previous)
        after, previous = following[-1], hashes[-1]


def _all_by_themselves(
    rows: Sequence[Row], taken: int, stream: StreamId, after: int, previous: bytes
) -> Iterator[EventEnvelope[Event]]:
    """What is left of `rows` once the first ones are taken."""
    return _one_by_one(rows[taken:], stream, after + taken, rows[taken - 1][3] if taken else previous)


def are_linked(previous: bytes, raws: Sequence[bytes], hashes: Sequence[bytes]) -> bool:
    """Is each of `hashes` the `link` of the one before (of `previous` for the first) with the bytes it stands for?"""
    for raw, hash_ in zip(raws, hashes, strict=True):
        if sha256(previous + raw).digest() != hash_:  # `link`, without a call for each event
            return False
        previous = hash_
    return True


def _one_by_one(rows: Sequence[Row], stream: StreamId, after: int, previous: bytes) -> Iterator[EventEnvelope[Event]]:
    """Rows that are not what is written every day: the first that is none that belongs here raises StoreCorrupt."""
    for expected, (sequence, id_, raw, hash_) in enumerate(rows, after + 1):
        if sequence != expected:
            raise _corrupt(stream, expected, f"is missing (the next one found is {sequence})")
        if link(previous, raw) != hash_:
            raise _corrupt(stream, expected, "is not what was written: its hash does not fit")
        try:
            envelope = decode_event(raw)
        except UnreadableMessage as problem:
            raise _corrupt(stream, expected, f"cannot be read: {problem}") from problem
        if (envelope.stream, envelope.sequence, envelope.id) != (stream, sequence, id_):
            raise _corrupt(stream, expected, f"is filed in the wrong place: its bytes say {_place(envelope)}")
        previous = hash_
        yield envelope


def _corrupt(stream: StreamId, sequence: int, what: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"event {sequence} of {stream.kind} {stream.name!r} (tenant {stream.tenant!r}) {what}; "
        "verify the whole record, and restore it from a backup if that confirms it"
    )


def _place(envelope: EventEnvelope[Event]) -> str:
    where = envelope.stream
    return f"event {envelope.sequence} of {where.kind} {where.name!r} (tenant {where.tenant!r}), id {envelope.id}"


def fits_header(row: StoredEvent) -> bool:
    """Do the row's columns say what its bytes say, and is the bytes' type and version known to this program?"""
    return _opens_as_written(row) or _fits_parsed(row)


def _opens_as_written(row: StoredEvent) -> bool:
    """Does the row begin as `encode_event` begins today? Comparing costs a third of parsing."""
    raw, stream = row.raw, row.stream
    start = _BEFORE_TYPE + len(row.id)
    known = EVENTS.get(raw[start : raw.find(b'"', start)].decode(errors="replace"))
    if known is None:
        return False
    sort = sort_text(known.name, known.version, stream.tenant, stream.kind, stream.name)
    plain = "\\" not in sort and "\\" not in row.id and '"' not in row.id
    return plain and raw.startswith(f'{{"id":"{row.id}",{sort},"sequence":{row.sequence},'.encode())


def _fits_parsed(row: StoredEvent) -> bool:
    match = _HEADER.match(row.raw)
    if match is None:
        return _fits_decoded(row)
    id_, name, version, tenant, kind, stream, sequence = match.groups()
    known = EVENTS.get(name.decode(errors="replace"))
    return (
        known is not None
        and 1 <= int(version) <= known.version
        and int(sequence) == row.sequence
        and id_ == row.id.encode()
        and stream == row.stream.name.encode()
        and tenant == row.stream.tenant.encode()
        and kind == row.stream.kind.encode()
    )


def _fits_decoded(row: StoredEvent) -> bool:
    try:
        envelope = decode_event(row.raw)
    except UnreadableMessage:
        return False
    return (envelope.stream, envelope.sequence, envelope.id) == (row.stream, row.sequence, row.id)


def verify(
    rows: Iterable[StoredEvent],
    heads: Mapping[StreamId, Head],
    signed: Signed,
    reread: Callable[[StreamId], Iterable[StoredEvent]],
    whole: bool = True,
) -> Verification:
    """Walk `rows` (events in commit order; `whole`: of all tenants) against the head rows and the signed heads.

    `reread` gives a stream's rows in order of their sequence column, whatever it says; it is called for suspects only.
    """
    tips: dict[StreamId, _Tip] = {}
    count, gap = 0, 0
    for row in rows:
        count += 1
        if row.position != count and not gap:
            gap = count
        tip = tips.get(row.stream)
        if tip is None:
            tip = tips[row.stream] = _Tip(signed.get(row.stream, {}))
        if tip.sound:
            tip.take(row)
    for stream in concatenated(heads, signed):
        if stream not in tips:
            tips[stream] = _Tip(signed.get(stream, {}))
    findings = tuple(
        diagnose(stream, reread(stream), heads.get(stream), tip.signed)
        for stream, tip in tips.items()
        if not tip.agrees_with(heads.get(stream))
    )
    if whole and gap and not findings:  # a stream removed with its head row leaves no other trace
        findings = (Finding(LOG, gap, "removed", f"no event has the global position {gap}, where later ones are"),)
    return Verification(streams=len(tips), events=count, findings=findings)


class _Tip:
    """How far the walk has come in one stream, and whether all has been in order so far."""

    __slots__ = ("hash", "sequence", "signed", "sound")

    def __init__(self, signed: Mapping[int, bytes]) -> None:
        self.sequence = 0
        self.hash = GENESIS
        self.signed = signed
        self.sound = True

    def take(self, row: StoredEvent) -> None:
        """Go on to `row`, if it is the event that comes next."""
        self.sound = (
            row.sequence == self.sequence + 1
            and sha256(self.hash + row.raw).digest() == row.hash  # `link`, without a call for each event
            and (not self.signed or self.signed.get(row.sequence, row.hash) == row.hash)
            and fits_header(row)
        )
        self.sequence, self.hash = row.sequence, row.hash

    def agrees_with(self, head: Head | None) -> bool:
        """Does the stream end where its head row and the checkpoints say?"""
        if not self.sound or head is None or (head.version, head.hash) != (self.sequence, self.hash):
            return False
        return not self.signed or max(self.signed) <= self.sequence


def diagnose(stream: StreamId, rows: Iterable[StoredEvent], head: Head | None, signed: Mapping[int, bytes]) -> Finding:
    """Name the first bad event of a stream that is known not to add up, and how it is bad.

    `rows` are in order of their sequence column. One who may write the file may write every column, so the bytes are
    compared with the columns as well as with the chain.
    """

    def finding(sequence: int, problem: str, detail: str) -> Finding:
        return Finding(stream, sequence, problem, detail)

    sequence, previous, position, misplaced = 0, GENESIS, 0, 0
    rows = iter(rows)
    for row in rows:
        expected = sequence + 1
        if row.sequence < expected:
            return finding(row.sequence, "inserted", f"there is no event {row.sequence}: sequences start at 1")
        if row.sequence > expected:
            return finding(expected, "removed", f"events {expected} to {row.sequence - 1} are missing")
        linked = link(previous, row.raw) == row.hash
        if not fits_header(row) or not linked:
            return finding(expected, *_how_bad(row, linked, rows))
        if row.sequence in signed and signed[row.sequence] != row.hash:
            return finding(expected, "changed", "a signed checkpoint vouches for another history up to this event")
        if head is not None and expected > head.version:
            return finding(expected, "inserted", f"the stream's head row says it ends with event {head.version}")
        if row.position < position:
            misplaced = misplaced or expected
        sequence, previous, position = expected, row.hash, row.position
    promised = max([0 if head is None else head.version, *signed])
    if promised > sequence:
        source = "the stream's head row" if head is not None and head.version == promised else "a signed checkpoint"
        return finding(sequence + 1, "truncated", f"{source} says that there are events up to {promised}")
    if head is None:
        return finding(0, "removed", "the stream's head row is missing")
    if head.version == sequence and head.hash != previous:
        return finding(sequence, "changed", "the stream's head row holds another hash than its last event")
    return finding(misplaced, "reordered", "its global position is before that of the event it follows")


def _how_bad(row: StoredEvent, linked: bool, later: Iterator[StoredEvent]) -> tuple[str, str]:
    """Problem and detail for a row that stands at the right sequence but is not the event that belongs there."""
    try:
        envelope = decode_event(row.raw)
    except UnreadableMessage as problem:
        if linked:
            return "unreadable", f"the bytes are as they were stored, but: {problem}"
        return "changed", f"the hash does not fit the bytes, which are no event any more: {problem}"
    if envelope.stream != row.stream:
        return "inserted", f"the bytes are {_place(envelope)}"
    if envelope.sequence < row.sequence:
        return "inserted", f"the bytes are {_place(envelope)}, which stands before"
    if envelope.sequence == row.sequence and envelope.id == row.id and linked:
        # Only the header expression can have refused it: two headers in one object, say.
        return "unreadable", "the bytes are not in the canonical form"
    displaced = any(_sequence_in(other) == row.sequence for other in later)
    if envelope.sequence > row.sequence:
        if displaced:
            return "reordered", f"the bytes are {_place(envelope)}"
        return "removed", f"the bytes are {_place(envelope)}; event {row.sequence} itself is gone"
    if displaced:
        return "inserted", f"the event that was number {row.sequence} stands further on"
    if envelope.id != row.id:
        return "changed", f"the id column says {row.id}, the bytes say {envelope.id}"
    return "changed", "the hash does not fit the bytes and the event before"


def _sequence_in(row: StoredEvent) -> int | None:
    match = _HEADER.match(row.raw)
    return int(match[7]) if match else None
