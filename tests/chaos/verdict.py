"""The verdict: what must be true of every run, whatever was done to it.

`collect` gathers what the record, the bus, the repository and the processes' own notes hold; `judge` compares. They are
two, so that tests can doctor what was gathered and see each check fail.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio

from bus.nats_bus import connect
from bus.server import login
from cli.opening import open_store
from cli.settings import Settings
from conductor.fold import fold
from conductor.replay import verify_decisions
from conductor.state import initial
from schemas.envelope import StreamId, decode_command, decode_event
from store import checkpoints
from store.port import Store
from tests.chaos.child import ACKS
from tests.chaos.components import SEEN
from tests.chaos.rig import PATIENCE, Rig
from tests.chaos.workload import EVENTS, TENANT


@dataclass(frozen=True, slots=True)
class Kept:
    """An event of the record."""

    position: int
    stream: str
    sequence: int
    id: str
    digest: str
    type: str
    cause: str


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as it came over the bus, with its place in the JetStream stream."""

    place: int
    id: str
    stream: str
    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Result:
    """How a session ended: nothing here depends on times, leases, or how often an attempt was made."""

    status: str
    phases: tuple[tuple[str, bool], ...]
    gates: tuple[tuple[str, str, tuple[str, ...]], ...]
    artifacts: tuple[tuple[str, str], ...]
    measured: tuple[tuple[str, float], ...]
    commits: tuple[str, ...]
    files: tuple[tuple[str, str], ...]


@dataclass
class Evidence:
    """All that a run left behind."""

    events: list[Kept] = field(default_factory=list)
    inbox: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """By command id: its stream and the verdict in the record."""
    acknowledged: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Each receipt somebody saw: command id and verdict."""
    seen: list[Seen] = field(default_factory=list)
    """What the observer saw, from the first event on, over all faults."""
    held: list[Seen] = field(default_factory=list)
    """What the bus holds at the end."""
    findings: list[str] = field(default_factory=list)
    """What the walk over hash chains, checkpoints and signatures found."""
    signed: int = 0
    """Checkpoints."""
    differences: list[str] = field(default_factory=list)
    """What deciding every session again found."""
    letters: list[str] = field(default_factory=list)
    timers: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    remade: int = 0
    """How often the rig took the JetStream streams away: only then may the observer see events again."""
    left_over: list[str] = field(default_factory=list)


def collect(rig: Rig, seconds: float = PATIENCE / 2) -> Evidence:
    """Wait until everything is on the bus and seen, for `seconds` at most, stop all components, and gather."""
    store = open_store(rig.home, Settings(store_url=rig.store_url))  # type: ignore[arg-type]
    try:
        evidence = Evidence(remade=rig.counts["streams taken away"])
        evidence.held = anyio.run(_held, rig, store, seconds)
        _await_observer(rig, store, seconds)
        rig.stop()
        evidence.left_over = rig.left_over()
        evidence.seen = [Seen(*json.loads(line)) for line in (rig.evidence / SEEN).read_text().splitlines()]
        for path in sorted(rig.evidence.glob(f"{ACKS}-*.jsonl")):
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):  # a writer that was killed in the middle of a line had not seen it through
                    evidence.acknowledged.append(tuple(json.loads(line)))
        _read_record(rig, store, evidence)
        for stream in store.streams(TENANT, "session"):
            evidence.results[stream.name] = _result(rig, store, stream)
        return evidence
    finally:
        store.close()


async def _held(rig: Rig, store: Store, seconds: float) -> list[Seen]:
    """Follow the bus from its first event until it has shown the newest of the record."""
    held: list[Seen] = []
    last = store.read_all(store.last_position() - 1, 1)[0].id
    there = anyio.Event()

    async def take(subject: str, raw: bytes, headers: dict[str, str], place: int) -> None:
        held.append(_seen(raw, place))
        if held[-1].id == last:
            there.set()

    async with await connect(login(rig.home.bus, "observer"), name="verdict") as bus, bus.follow(EVENTS, take):
        with anyio.move_on_after(seconds):
            await there.wait()
        await anyio.sleep(0.5)  # what should not be there may come behind
    return held


def _seen(raw: bytes, place: int) -> Seen:
    envelope = decode_event(raw)
    return Seen(place, envelope.id, _name(envelope.stream), envelope.sequence, hashlib.sha256(raw).hexdigest())


def _name(stream: StreamId) -> str:
    return f"{stream.tenant}/{stream.kind}/{stream.name}"


def _await_observer(rig: Rig, store: Store, seconds: float) -> None:
    """Until the observer has written down the newest event; what it never saw, `judge` will name."""
    last = store.read_all(store.last_position() - 1, 1)[0].id

    async def wait() -> None:
        with anyio.move_on_after(seconds):
            while last not in (rig.evidence / SEEN).read_text()[-2000:]:  # noqa: ASYNC110 - a file tells nobody
                await anyio.sleep(0.1)

    anyio.run(wait)


def _read_record(rig: Rig, store: Store, evidence: Evidence) -> None:
    position = 0
    while rows := store.read_all(position, 1000):
        for row in rows:
            envelope = decode_event(row.raw)
            digest = hashlib.sha256(row.raw).hexdigest()
            name = _name(row.stream)
            evidence.events.append(
                Kept(row.position, name, row.sequence, row.id, digest, envelope.type, envelope.causation_id)
            )
        position = rows[-1].position
    for stream in store.streams(TENANT):
        for entry in store.commands(stream):
            evidence.inbox[entry.command_id] = (_name(stream), entry.verdict)
            if decode_command(entry.raw).id != entry.command_id:
                evidence.findings.append(f"inbox entry {entry.command_id} holds another command")
        if stream.kind == "session":
            report = verify_decisions(store, stream)
            evidence.differences += [f"{stream.name}: {report.difference}"] if report.difference else []
    keys = [checkpoints.load_public_key(path) for path in rig.home.record_public_keys]
    checked: Any = store  # every backend keeps checkpoints beside the store port
    evidence.findings += [str(finding) for finding in checkpoints.verify(checked, *keys).findings]
    evidence.signed = len(checked.checkpoints())
    evidence.letters = [f"{row['subject']}: {row['reason']}" for row in store.views(TENANT, "letter")]
    evidence.timers = [f"{timer.stream.name}: {timer.key}" for timer in store.timers()]


def _result(rig: Rig, store: Store, stream: StreamId) -> Result:
    state = fold(initial(stream.name), store.read(stream))
    begun = state.branch and rig.git("branch", "--list", state.branch)
    listed = rig.git("ls-tree", "-r", state.branch).splitlines() if begun else []
    commits = rig.git("log", "--reverse", "--format=%s", f"main..{state.branch}").splitlines() if begun else []
    files = [(path, line.split()[2]) for line in listed for path in [line.split("\t")[1]]]
    return Result(
        status=state.status.value,
        phases=tuple((phase.name, phase.completed) for phase in state.phases.values()),
        gates=tuple((g.phase, g.status, tuple(a.by.name for a in g.approvals)) for g in state.gates.values()),
        artifacts=tuple(sorted((a.name, a.sha256) for a in state.artifacts.values())),
        measured=tuple(sorted((f"{s}.{n}", v) for s, values in state.measured.items() for n, v in values.items())),
        commits=tuple(commits),
        # The overview shows times and attempts, and the checkout's folder does too.
        files=tuple((path, blob) for path, blob in files if not path.endswith("ACTIVE_SESSION.md")),
    )


def judge(evidence: Evidence, expected: dict[str, Result]) -> list[str]:
    """Everything that is wrong, in words; empty when all is as it must be."""
    return [
        *_acknowledged(evidence),
        *_caused(evidence),
        *_gapless(evidence),
        *_on_the_bus(evidence),
        *(f"record: {finding}" for finding in evidence.findings),
        *([] if evidence.signed else ["record: there is no checkpoint"]),
        *(f"replay: {difference}" for difference in evidence.differences),
        *(f"dead letter: {letter}" for letter in evidence.letters),
        *(f"timer still armed: {timer}" for timer in evidence.timers),
        *(f"process left: {process}" for process in evidence.left_over),
        *_ended(evidence.results, expected),
    ]


def _acknowledged(evidence: Evidence) -> Iterable[str]:
    """Each receipt that anybody saw is the inbox's verdict."""
    for id_, verdict in evidence.acknowledged:
        if id_ not in evidence.inbox:
            yield f"acknowledged and lost: command {id_}"
        elif evidence.inbox[id_][1] != verdict:
            yield f"command {id_} was answered {verdict} and the record has {evidence.inbox[id_][1]}"


def _caused(evidence: Evidence) -> Iterable[str]:
    """Each verdict names exactly the events that its command caused, and each event has a command."""
    caused: dict[str, list[Kept]] = defaultdict(list)
    for event in evidence.events:
        caused[event.cause].append(event)
        if event.cause not in evidence.inbox:
            yield f"event {event.stream}#{event.sequence} {event.type}: no command {event.cause} is in the inbox"
    for id_, (stream, verdict) in evidence.inbox.items():
        said = [(stream, name, sequence) for name, sequence in verdict["events"]]
        done = [(event.stream, event.type, event.sequence) for event in caused[id_]]
        if said != done:
            yield f"command {id_} was to have caused {said} and the record has {done}"


def _gapless(evidence: Evidence) -> Iterable[str]:
    """Positions and sequences count without a gap, ids are unique."""
    for number, event in enumerate(evidence.events, 1):
        if event.position != number:
            yield f"position {number}: the next event has {event.position}"
            break
    sequences: Counter[str] = Counter()
    for event in evidence.events:
        sequences[event.stream] += 1
        if event.sequence != sequences[event.stream]:
            yield f"{event.stream}: event {sequences[event.stream]} has sequence {event.sequence}"
            break
    for id_, times in Counter(event.id for event in evidence.events).items():
        if times > 1:
            yield f"event id {id_} is there {times} times"


def _on_the_bus(evidence: Evidence) -> Iterable[str]:
    """The bus holds the record, in order, each event once; so did the observer see it, but for streams made anew."""
    record = [(event.stream, event.sequence, event.id, event.digest) for event in evidence.events]
    yield from _same("the bus", record, [(e.stream, e.sequence, e.id, e.digest) for e in evidence.held])
    first = list({seen.id: seen for seen in evidence.seen}.values())  # a dict keeps the place of the first
    yield from _same("the observer", record, [(e.stream, e.sequence, e.id, e.digest) for e in first])
    if repeats(evidence) and not evidence.remade:
        again = next(id_ for id_, times in Counter(seen.id for seen in evidence.seen).items() if times > 1)
        yield f"the observer saw event {again} again, and no stream was made anew"


def _same(who: str, record: list[Any], other: list[Any]) -> Iterable[str]:
    if record == other:
        return
    missing, more = Counter(record) - Counter(other), Counter(other) - Counter(record)
    if missing:
        yield f"{who} lacks {len(missing)} events, first {next(iter(missing))[:2]}"
    if more:
        yield f"{who} has {sum(more.values())} events too many, first {next(iter(more))[:2]}"
    if not missing and not more:
        at = next(n for n, (one, two) in enumerate(zip(record, other, strict=True)) if one != two)
        yield f"{who} has another order from position {at + 1} on"


def repeats(evidence: Evidence) -> int:
    """How many events the observer saw again."""
    return len(evidence.seen) - len({seen.id for seen in evidence.seen})


def _ended(results: dict[str, Result], expected: dict[str, Result]) -> Iterable[str]:
    """Every session ended as it does without faults."""
    for session in sorted(results.keys() | expected.keys()):
        here, there = results.get(session), expected.get(session)
        if here is None or there is None:
            yield f"session {session} is {'missing' if here is None else 'one too many'}"
            continue
        for name in Result.__dataclass_fields__:
            is_, should = getattr(here, name), getattr(there, name)
            if is_ != should:
                yield f"session {session}: {name} is {is_}, without faults {should}"
