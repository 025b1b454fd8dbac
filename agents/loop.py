"""An agent: claims an attempt, lets its planner run skills, reports. It needs a bus login and a workspace only."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog

from agents.playbook import Playbook
from agents.port import Attempt, AttemptError, Planner, SkillRun
from agents.workbench import Workbench
from bus.port import Ack, Bus, BusError, ConsumerSpec, Delivery, GiveUp, NoReceipt, Outcome, Retry
from schemas.commands import ClaimAttempt, ExtendAttempt, ReportFailure, ReportWork
from schemas.envelope import CommandEnvelope, EventEnvelope, StreamId, UnreadableMessage, decode_event
from schemas.ids import short_token, uuid7
from schemas.messages import Command, Event
from schemas.session import PhaseStarted
from schemas.subjects import telemetry_subject
from schemas.values import TAKEN_AWAY, Actor, ArtifactRef, FailureClass, Role, TickedItem
from workspace.blobs import Blobs
from workspace.children import ForkServer
from workspace.leftovers import clear_dead, held, keep

_log = structlog.get_logger("agent")
LEFT_TO_OTHERS = 2.0
"""Seconds until a phase that was taken away from this replica is delivered again, to whichever replica asks first."""


class Agent:
    """One replica of one role. Replicas share the role's consumer; the lease says which of them may report."""

    def __init__(
        self,
        role: Role,
        bus: Bus,
        blobs: Blobs,
        children: ForkServer,
        directory: Path,
        places: anyio.CapacityLimiter,
        planner: Planner | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """`directory` is where attempts work; `places` is how many skills may run at once on this machine; `facts` are
        settings that skills are told (`tracking_uri`): never secrets.
        """
        self.role = role
        self._bus = bus
        self._blobs = blobs
        self._children = children
        self._directory = directory
        self._places = places
        self._facts = dict(facts or {})
        self._planner: Planner = planner or Playbook()
        self._holder = f"{role.value}-{short_token()}"
        self._actor = Actor(name=role.value, channel="bus", verified_as=f"login:{role.value}")
        self._lines, self._told = anyio.create_memory_object_stream[tuple[str, bytes]](1000)

    @asynccontextmanager
    async def running(self, spec: ConsumerSpec) -> AsyncIterator[None]:
        """Work on attempts while the context is open."""
        if dead := await anyio.to_thread.run_sync(clear_dead, self._directory):
            _log.info("dead_attempts_cleared", directories=[f"{each.parent.name}/{each.name}" for each in dead])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell)
            async with self._bus.consume(spec, self.handle):
                yield
            tasks.cancel_scope.cancel()

    async def _tell(self) -> None:
        """Pass progress on to observers, in order; it is live only, so a line that cannot be sent is let go."""
        async for subject, raw in self._told:
            try:
                await self._bus.tell(subject, raw)
            except BusError as problem:
                _log.debug("telemetry_lost", reason=str(problem))

    async def handle(self, delivery: Delivery) -> Outcome:
        """One PhaseStarted: claim, work, report. Acknowledged only after the conductor's receipt."""
        try:
            envelope = decode_event(delivery.raw)
        except UnreadableMessage as problem:
            return GiveUp(str(problem))
        phase = envelope.event
        if not isinstance(phase, PhaseStarted) or phase.agent is not self.role:
            return GiveUp(f"{envelope.type} is not for {self.role.value}")
        claim = ClaimAttempt(phase=phase.phase, attempt=phase.attempt, holder=self._holder)
        verdict = await self._send(envelope, claim)
        if not verdict["accepted"]:
            _log.info("attempt_not_claimed", session=envelope.stream.name, phase=phase.phase, reason=verdict["reason"])
            if verdict["code"] == TAKEN_AWAY:
                return Retry(LEFT_TO_OTHERS, verdict["reason"])
            return Ack()
        name = f"{phase.phase}-{phase.attempt}-{verdict['lease']}"
        attempt = Attempt(
            session=envelope.stream.name,
            phase=phase,
            lease=verdict["lease"],
            directory=self._directory / envelope.stream.name / name,
        )
        with held(attempt.directory):
            return await self._attempt(envelope, attempt, verdict)

    async def _attempt(self, envelope: EventEnvelope[Event], attempt: Attempt, verdict: dict[str, Any]) -> Outcome:
        """Work on a claimed attempt, and report."""
        phase = attempt.phase
        async with anyio.create_task_group() as beside:
            if (idle := verdict.get("idle_seconds")) is not None:
                beside.start_soon(self._breathe, envelope, attempt, float(idle) / 3.0)
            report = await self._work(envelope, attempt)
            beside.cancel_scope.cancel()
        verdict = await self._send(envelope, report)
        if not verdict["accepted"]:
            _log.warning("report_refused", session=attempt.session, phase=phase.phase, reason=verdict["reason"])
        elif isinstance(report, ReportWork):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(attempt.directory, ignore_errors=True))
        else:
            with suppress(OSError):  # only kept to be looked at
                await anyio.to_thread.run_sync(keep, attempt.directory, report.reason)
        return Ack()

    async def _work(self, envelope: EventEnvelope[Event], attempt: Attempt) -> ReportWork | ReportFailure:
        tell = self._teller(envelope, attempt)
        bench = Workbench(self.role, attempt, self._blobs, self._children, tell, self._places, self._facts)
        phase = attempt.phase
        try:
            runs = await self._planner.work(replace(attempt, used=bench.count, tell=tell), bench.run)
        except AttemptError as problem:
            return ReportFailure(
                phase=phase.phase,
                attempt=phase.attempt,
                lease=attempt.lease,
                failure=problem.failure,
                reason=problem.reason,
                detail=problem.detail,
                usage=bench.usage,
            )
        except Exception as problem:  # the planner's own fault: a failed attempt, never a dead agent
            _log.exception("planner_failed", session=attempt.session, phase=phase.phase)
            return ReportFailure(
                phase=phase.phase,
                attempt=phase.attempt,
                lease=attempt.lease,
                failure=FailureClass.AGENT,
                reason=f"{self.role.value} failed: {type(problem).__name__}: {problem}",
                usage=bench.usage,
            )
        return _report(attempt, runs, bench)

    async def _breathe(self, cause: EventEnvelope[Event], attempt: Attempt, pause: float) -> None:
        """A sign of life every `pause` seconds, until the conductor says that the attempt is over."""
        phase = attempt.phase
        while True:
            await anyio.sleep(pause)
            sign = ExtendAttempt(phase=phase.phase, attempt=phase.attempt, lease=attempt.lease)
            verdict = await self._send(cause, sign)
            if not verdict["accepted"]:
                _log.warning("attempt_over", session=attempt.session, phase=phase.phase, reason=verdict["reason"])
                return

    def _teller(self, envelope: EventEnvelope[Event], attempt: Attempt) -> Callable[[str, str], None]:
        subject = telemetry_subject(envelope.stream.tenant, attempt.session, self.role, "progress")

        def tell(skill: str, line: str) -> None:
            body = {"session": attempt.session, "phase": attempt.phase.phase, "skill": skill, "line": line[:500]}
            try:
                self._lines.send_nowait((subject, json.dumps(body).encode()))
            except anyio.WouldBlock:
                _log.debug("telemetry_dropped", session=attempt.session, skill=skill)

        return tell

    async def _send(self, cause: EventEnvelope[Event], command: Command) -> dict[str, Any]:
        """Send until the receipt is there: a bus that forgets costs a repeat, never a loss."""
        envelope = CommandEnvelope(
            id=uuid7(),
            stream=StreamId(cause.stream.tenant, "session", cause.stream.name),
            time=datetime.now(UTC),
            actor=self._actor,
            sender=self.role.value,
            correlation_id=cause.correlation_id,
            causation_id=cause.id,
            command=command,
        )
        while True:
            try:
                return await self._bus.send(envelope)
            except NoReceipt as problem:
                _log.warning("no_receipt_yet", session=cause.stream.name, command=envelope.type, reason=str(problem))
            except BusError as problem:
                _log.warning("bus_unavailable", session=cause.stream.name, command=envelope.type, reason=str(problem))
                await anyio.sleep(1.0)


def _report(attempt: Attempt, runs: list[SkillRun], bench: Workbench) -> ReportWork:
    """All runs of the attempt as one report; the newest artifact of a name counts."""
    artifacts: dict[str, ArtifactRef] = {a.name: a for run in runs for a in run.artifacts}
    ticked: dict[str, TickedItem] = {}
    for run in runs:
        for item in run.ticked:
            ticked.setdefault(item.item, item)
    return ReportWork(
        phase=attempt.phase.phase,
        attempt=attempt.phase.attempt,
        lease=attempt.lease,
        summary="; ".join(run.summary for run in runs),
        artifacts=tuple(artifacts.values()),
        ticked=tuple(ticked.values()),
        measurements=tuple(m for run in runs for m in run.measurements),
        acceptance=tuple(c for run in runs for c in run.acceptance),
        warnings=tuple(w for run in runs for w in run.warnings),
        usage=bench.usage,
    )
