"""The system under test: a ticket through a shipped pipeline, decided by the conductor's own rules.

Nothing here judges. Skills run in the agents' own workbench (roles, modes, sealed artifacts, what only the harness may
measure), the pure core (`conductor.fold.handle`) holds their reports against checklists, criteria and gates, and this
module only carries messages between the two and gives receipts for effects. Skills run in this process instead of a
child of the fork server: the same function, without the fork.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import anyio

from agents import discovery, worker
from agents.playbook import Playbook
from agents.port import Attempt, AttemptError, SkillRun
from agents.skill import Skill
from agents.workbench import Workbench
from conductor.fold import handle
from conductor.pipelines import load
from conductor.state import SessionState, Status, initial
from schemas import commands as cmd
from schemas import registry as _registry  # noqa: F401  # declares every message
from schemas import session as ev
from schemas.envelope import CommandEnvelope, StreamId
from schemas.messages import Command, Event
from schemas.pipeline import PipelineDefinition
from schemas.policy import Approver, Policy
from schemas.ticket import Ticket
from schemas.values import Actor, ArtifactRef, FailureClass, Role, TickedItem
from workspace.blobs import Blobs
from workspace.children import ForkServer
from workspace.outcomes import ChildResult

Verdict = Literal["passed", "person", "refused", "crashed"]
_STREAM = "s-honesty"
_STARTED = datetime(2026, 11, 20, 9, tzinfo=UTC)
_DIGEST = "a" * 64
_PERSON = Actor(name="dana", channel="cli", verified_as="os:dana")


class Here(ForkServer):
    """Runs a skill in this process: a benchmark of a thousand short sessions should not fork ten thousand times."""

    async def run(self, function: str, arguments: Mapping[str, Any], **bounds: Any) -> ChildResult:
        """What the child would answer; the time it took is CPU time."""
        began = time.process_time()
        answer = worker.run(dict(arguments)["request"])
        return ChildResult(answer, None, time.process_time() - began)


class Patient(Workbench):
    """Gives every skill a hundred times its time: the clock on the wall would make verdicts of a busy machine."""

    def _seconds(self, cls: Any) -> tuple[float, str]:
        return 100.0 * cls.seconds, "skill"


@dataclass
class Trip:
    """What became of one ticket."""

    verdict: Verdict
    phase: str
    """Where it ended: the phase that was refused or waits for a person, or the last one."""
    reason: str
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def stopped(self) -> bool:
        """Whether it did not pass unattended. A crash of ours stops nothing by merit and does not count."""
        return self.verdict in ("person", "refused")


@contextmanager
def standing_in(*impostors: type[Skill[Any, Any]]) -> Iterator[None]:
    """Let `impostors` take the place of the skills whose names they bear. Raises RuntimeError when they do not: a
    benchmark that quietly ran the shipped skills would count defects that were never there."""
    known = discovery.shipped()
    before = {cls.name: known[cls.name] for cls in impostors}
    known.update({cls.name: cls for cls in impostors})
    try:
        if absent := [cls.name for cls in impostors if discovery.skill(cls.name) is not cls]:
            raise RuntimeError(f"the shipped {', '.join(absent)} cannot be replaced")
        yield
    finally:
        known.update(before)


def shipped(name: str, until: str | None = None) -> PipelineDefinition:
    """A shipped pipeline, up to and with the phase `until`; nothing is registered, since nothing is to be served."""
    pipeline = load(name)
    names = [phase.name for phase in pipeline.phases]
    end = len(names) if until is None else names.index(until) + 1
    kept = tuple(phase.model_copy(update={"registers": None}) for phase in pipeline.phases[:end])
    return pipeline.model_copy(update={"phases": kept})


def travel(
    ticket: Ticket, pipeline: PipelineDefinition, folder: Path, root: Path, seed: int, *, approve: bool = False
) -> Trip:
    """Take the ticket, whose files lie below `root`, through `pipeline`; attempts and artifacts go below `folder`.

    With `approve` a person who is asked says yes and it goes on; the verdict is that somebody was asked all the same.
    """
    return anyio.run(_Session(ticket, pipeline, folder, root, seed, approve=approve).run)


class _Session:
    def __init__(
        self, ticket: Ticket, pipeline: PipelineDefinition, folder: Path, root: Path, seed: int, *, approve: bool
    ) -> None:
        self.approve = approve
        self.asked: tuple[Verdict, str] | None = None
        self.folder, self.blobs = folder, Blobs(folder / "artifacts")
        self.state: SessionState = initial(_STREAM)
        self.events: list[Event] = []
        self.crash = ""
        self.tried = 0
        self.start = cmd.StartSession(
            ticket=ticket, ticket_digest=_DIGEST, drive="d", pipeline=pipeline, policy=Policy(
                approvers=(Approver(name="dana"),)
            ), policy_version=_DIGEST, repository="/r", base_commit="c", branch="b", roots=(str(root),), seed=seed,
        )  # fmt: skip

    async def run(self) -> Trip:
        began = time.perf_counter()
        self._say(self.start, "autopilot")
        while self.state.status in (Status.ACTIVE, Status.WAITING):
            if self.state.status is Status.WAITING:
                self.asked = self.asked or self._verdict()
                if not self.approve:
                    break
                gate = next(each for each in self.state.gates.values() if each.status == "open")
                self._say(cmd.DecideGate(gate=gate.id, decision="approve"), "operator", _PERSON)
            elif self.state.effects:
                self._receipt()
            else:
                started = [e for e in self.events if isinstance(e, ev.PhaseStarted)]
                if len(started) == self.tried or not await self._work(started[-1]):
                    break
        return self._trip(time.perf_counter() - began)

    def _say(self, command: Command, sender: str, person: Actor | None = None) -> None:
        actor = person or Actor(name=sender, channel="bus", verified_as=f"login:{sender}")
        stream = StreamId("default", "session", _STREAM)
        number = f"c-{len(self.events)}"
        outcome = handle(self.state, CommandEnvelope(number, stream, _STARTED, actor, sender, number, "", command))
        if outcome.refusal is not None:
            raise RuntimeError(f"{type(command).__name__} was refused: {outcome.refusal}")
        self.state = outcome.state
        self.events += outcome.events

    def _receipt(self) -> None:
        effect = self.state.effects[0]
        receipt: dict[str, Any] = {"effect": effect.id, "kind": effect.kind}
        if effect.kind == "commit":
            receipt["commit"] = "e" * 40
        elif effect.kind == "sign":
            receipt["artifacts"] = tuple(
                ArtifactRef(name=f"{a.name}.dsse.json", sha256=_DIGEST, size=1) for a in effect.artifacts
            )
        self._say(cmd.RecordEffect.model_validate(receipt), "autopilot")

    async def _work(self, phase: ev.PhaseStarted) -> bool:
        """One attempt; False when it crashed, which is no verdict."""
        self.tried += 1
        sender = phase.agent.value
        self._say(cmd.ClaimAttempt(phase=phase.phase, attempt=phase.attempt, holder="h"), sender)
        attempt = Attempt(_STREAM, phase, self.state.lease, self.folder / f"{phase.phase}-{phase.attempt}")
        bench = Patient(
            Role(phase.agent), attempt, self.blobs, Here(), lambda skill, line: None, anyio.CapacityLimiter(1), {}
        )
        told = {"phase": phase.phase, "attempt": phase.attempt, "lease": self.state.lease}
        try:
            runs = await Playbook().work(attempt, bench.run)
        except AttemptError as problem:
            if problem.failure is FailureClass.AGENT and "SkillError" not in problem.reason:
                self.crash = f"{problem.reason}\n{problem.detail}"
                return False
            # A SkillError is a skill's own refusal; it would be tried again, and come to the same.
            failure = FailureClass.INPUT if problem.failure is FailureClass.AGENT else problem.failure
            report = {**told, "failure": failure, "reason": problem.reason, "usage": bench.usage}
            self._say(cmd.ReportFailure.model_validate(report), sender)
            return True
        self._say(cmd.ReportWork.model_validate(told | _report(runs) | {"usage": bench.usage}), sender)
        return True

    def _trip(self, seconds: float) -> Trip:
        state = self.state
        files = {
            name: self.blobs.path(ref.sha256, sealed=ref.sealed)
            for name, ref in state.artifacts.items()
            if not name.endswith(".dsse.json")
        }
        warnings = tuple(w for e in self.events if isinstance(e, ev.WorkReported) for w in e.warnings)
        started = [e.phase for e in self.events if isinstance(e, ev.PhaseStarted)]
        common = {"measured": {k: dict(v) for k, v in state.measured.items()}, "files": files}
        verdict, reason = self._verdict()
        if self.asked and verdict == "passed":
            verdict, reason = self.asked
        return Trip(verdict, started[-1] if started else "", reason, **common, warnings=warnings, seconds=seconds)

    def _verdict(self) -> tuple[Verdict, str]:
        if self.crash:
            return "crashed", self.crash
        last = self.events[-1]
        if self.state.status is Status.COMPLETED:
            return "passed", ""
        if self.state.status is Status.WAITING:
            opened = [e for e in self.events if isinstance(e, ev.GateOpened)]
            return "person", f"{opened[-1].reason}; {self._risks()}"
        if self.state.status is Status.BLOCKED:
            blocked = next(e for e in reversed(self.events) if isinstance(e, ev.SessionBlocked))
            return "refused", f"{blocked.reason}; {self._risks()}"
        failed = next((e.reason for e in reversed(self.events) if isinstance(e, ev.AttemptFailed)), "")
        return "crashed", f"the session is {self.state.status} after {type(last).__name__}: {failed}"

    def _risks(self) -> str:
        """What the skills warned of in the phase it ended in, and what a risk review said."""
        last = next((e for e in reversed(self.events) if isinstance(e, ev.WorkReported)), None)
        told = list(last.warnings) if last else []
        if profile := self.state.artifacts.get("risk-profile.json"):
            told += json.loads(self.blobs.path(profile.sha256, sealed=False).read_text("utf-8"))["reasons"]
        return "; ".join(told)[:600]


def _report(runs: list[SkillRun]) -> dict[str, Any]:
    """All runs of an attempt as one report, as an agent makes it: the newest artifact of a name counts."""
    ticked: dict[str, TickedItem] = {}
    for run in runs:
        for item in run.ticked:
            ticked.setdefault(item.item, item)
    return {
        "summary": "; ".join(run.summary for run in runs),
        "artifacts": tuple({a.name: a for run in runs for a in run.artifacts}.values()),
        "ticked": tuple(ticked.values()),
        "measurements": tuple(m for run in runs for m in run.measurements),
        "acceptance": tuple(c for run in runs for c in run.acceptance),
        "warnings": tuple(w for run in runs for w in run.warnings),
    }
