"""The rulebook alone: commands decided and folded per second on one core, events folded, memory of a live session."""

from __future__ import annotations

import gc
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
from schemas.envelope import CommandEnvelope, StreamId
from schemas.messages import Command, Event
from schemas.pipeline import ChecklistItem, PhaseDefinition, PipelineDefinition
from schemas.policy import Policy
from schemas.ticket import Budget, Ticket
from schemas.values import Actor, ArtifactRef, Measurement, Mode, Role, TickedItem, Usage

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


def _decided(script: list[CommandEnvelope]) -> float:
    """Commands per second, with all that follows from each."""
    began = time.process_time()
    for _ in range(SESSIONS):
        state = initial("s-bench")
        for envelope in script:
            state = handle(state, envelope).state
    return SESSIONS * len(script) / (time.process_time() - began)


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
    yield Figure(
        "decide and evolve, ten-phase sessions", "cmd/s", tuple(_decided(script) for _ in range(RUNS)), "100,000"
    )
    short, long = _long(script, 1), _long(script, 10)
    per_short = tuple(_folded(short, SESSIONS) for _ in range(RUNS))
    per_long = tuple(_folded(long, SESSIONS // 5) for _ in range(RUNS))
    yield Figure(f"fold a session of {len(short)} events", "ev/s", per_short)
    yield Figure(f"fold a session of {len(long)} events", "ev/s", per_long, "no slower: linear")
    yield Figure("memory of a live session", "kB", tuple(_kilobytes(script) for _ in range(RUNS)), "50")
