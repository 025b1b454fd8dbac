"""The rulebook alone: commands decided and folded per second on one core, events folded, memory of a live session.

"Ten-phase sessions" is the train at its plainest: claim, report, receipt, ten times. "Recorded sessions" are the
commands of all golden histories, in the order and the proportions in which they came, refusals among them.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.measure import Figure
from conductor.evolve import evolve
from conductor.fold import handle
from conductor.state import SessionState, initial
from schemas import commands as cmd
from schemas import registry as _registry  # noqa: F401  # declares every message
from schemas.envelope import CommandEnvelope, StreamId, decode_command
from schemas.messages import Command, Event
from schemas.pipeline import ChecklistItem, PhaseDefinition, PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Budget, Ticket
from schemas.values import Actor, ArtifactRef, Measurement, Mode, Role, TickedItem, Usage
from tests.golden.make_graph_history import HISTORY as GRAPH
from tests.golden.make_history import STORIES

ACTOR = Actor(name="bench", channel="bus", verified_as="bench")
PHASES = 10
RUNS = 3
SESSIONS = 20
LIVE = 50

PIPELINE = PipelineDefinition(
    name="bench",
    description="Ten phases with a checklist item, an artifact, a criterion and an automatic gate each.",
    phases=tuple(
        PhaseDefinition(
            name=f"phase-{number}",
            agent=Role.LEAD,
            mode=Mode.BUILD,
            purpose="",
            skills=("lead.scope",),
            checklist=(ChecklistItem(id="done", text="done"),),
            artifacts=(f"result-{number}.json",),
            criteria=("metrics.score >= 0.5",),
        )
        for number in range(PHASES)
    ),
)


def _script(session: str) -> list[CommandEnvelope]:
    """All commands of one session from start to end: claim, report and receipt for each phase."""
    stream, at = StreamId("default", "session", session), datetime(2026, 11, 21, 9, tzinfo=UTC)
    state, commands = initial(session), []

    def say(command: Command, sender: str) -> None:
        nonlocal state
        envelope = CommandEnvelope(f"c-{len(commands)}", stream, at, ACTOR, sender, session, "", command)
        outcome = handle(state, envelope)
        assert outcome.refusal is None, outcome.refusal
        commands.append(envelope)
        state = outcome.state

    ticket = Ticket(id=1, title="bench", budget=Budget(usd=1e6, minutes=1e5))
    fields: dict[str, object] = {"ticket_digest": "a" * 64, "drive": "d", "pipeline": PIPELINE, "policy": Policy()}
    fields |= {
        "policy_version": "b" * 64,
        "repository": "/r",
        "base_commit": "c",
        "branch": "b",
        "roots": (),
        "seed": 1,
    }
    say(cmd.StartSession.model_validate(fields | {"ticket": ticket}), "autopilot")
    for phase in PIPELINE.phases:
        say(cmd.ClaimAttempt(phase=phase.name, attempt=1, holder="h"), "lead")
        report = cmd.ReportWork(
            phase=phase.name,
            attempt=1,
            lease=state.lease,
            summary="done",
            artifacts=tuple(ArtifactRef(name=name, sha256="d" * 64, size=1) for name in phase.artifacts),
            ticked=(TickedItem(item="done", evidence="seen"),),
            measurements=(Measurement(scope="metrics", name="score", value=0.9),),
            usage=Usage(wall_seconds=0.1),
        )
        say(report, "lead")
        say(cmd.RecordEffect(effect=state.effects[0].id, kind="commit", commit="e" * 40), "autopilot")
    assert state.status.value == "completed"
    return commands


def _recorded() -> list[list[CommandEnvelope]]:
    """The commands of each golden history."""
    stories = (path.read_bytes().splitlines() for path in (*STORIES, GRAPH))
    return [[decode_command(line) for line in lines if b'"sender":' in line[:600]] for lines in stories]


def _decided(scripts: list[list[CommandEnvelope]]) -> float:
    """Commands per second, with all that follows from each."""
    began = time.process_time()
    for _ in range(SESSIONS):
        for script in scripts:
            state = initial(script[0].stream.name)
            for envelope in script:
                state = handle(state, envelope).state
    return SESSIONS * sum(map(len, scripts)) / (time.process_time() - began)


def _each(scripts: list[list[CommandEnvelope]]) -> dict[str, float]:
    """Microseconds for a command, by its name, and by its name with `, refused`."""
    spent: dict[str, list[float]] = {}
    for script in scripts:
        state = initial(script[0].stream.name)
        for envelope in script:
            began = time.process_time()
            for _ in range(SESSIONS):
                outcome = handle(state, envelope)
            took = (time.process_time() - began) / SESSIONS * 1e6
            spent.setdefault(envelope.type + (", refused" if outcome.refusal else ""), []).append(took)
            state = outcome.state
    return {name: statistics.mean(times) for name, times in sorted(spent.items())}


def _folded(events: list[Event], times: int) -> float:
    """Events per second."""
    began = time.process_time()
    for _ in range(times):
        state = initial("s-bench")
        for sequence, event in enumerate(events, 1):
            state = evolve(state, event, sequence)
    return times * len(events) / (time.process_time() - began)


def _long(script: list[CommandEnvelope], factor: int) -> list[Event]:
    """A session of about `factor` times as many events: the middle of it is refusals, which any history is full of."""
    state, events = initial("s-bench"), []
    for envelope in script:
        outcome = handle(state, envelope)
        state = outcome.state
        events += outcome.events
        for _ in range(factor - 1):
            again = handle(state, replace(script[1], id="late"))
            state = again.state
            events += again.events
    return events


def _kilobytes(script: list[CommandEnvelope]) -> float:
    """Of one live session nine tenths on its way; what sessions share (pipeline, policy) is counted once for all."""
    reached = script[: len(script) * 9 // 10]
    gc.collect()
    tracemalloc.start()
    live: list[SessionState] = []
    for number in range(LIVE):
        state = initial(f"s-{number}")
        for envelope in reached:
            state = handle(state, envelope).state
        live.append(state)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / LIVE / 1024


def figures() -> Iterator[Figure]:
    """The pure core, on one core."""
    script = _script("s-bench")
    recorded = _recorded()
    plain, real = zip(*((_decided([script] * 4), _decided(recorded)) for _ in range(RUNS)), strict=True)
    yield Figure("decide and evolve, ten-phase sessions", "cmd/s", plain, "100,000")
    yield Figure("decide and evolve, recorded sessions", "cmd/s", real, "100,000")
    each = [_each(recorded) for _ in range(RUNS)]
    for name in each[0]:
        yield Figure(f"  {name}", "us", tuple(run[name] for run in each))
    short, long = _long(script, 1), _long(script, 10)
    per_short = tuple(_folded(short, SESSIONS) for _ in range(RUNS))
    per_long = tuple(_folded(long, SESSIONS // 5) for _ in range(RUNS))
    yield Figure(f"fold a session of {len(short)} events", "ev/s", per_short)
    yield Figure(f"fold a session of {len(long)} events", "ev/s", per_long, "no slower: linear")
    yield Figure("memory of a live session", "kB", tuple(_kilobytes(script) for _ in range(RUNS)), "50")
