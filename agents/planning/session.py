"""What a task of the planner works with: the attempt, the model, a place on the disk, an end in time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agents.llm.port import Model
from agents.planning.context import MOST
from agents.planning.conversation import Conversation, Ended
from agents.planning.editing import BOUNDS
from agents.planning.journal import Journal
from agents.planning.prompts import system, task
from agents.planning.steps import Steps, digest
from agents.planning.tools import Tool, Toolbox
from agents.planning.untrusted import shortened
from agents.planning.workplace import Workplace
from agents.port import Attempt, AttemptError, RunSkill, SkillRun
from schemas.model_calls import Message
from schemas.values import ArtifactRef, FailureClass, Usage
from workspace.blobs import Blobs
from workspace.sandbox.port import Limits

ModelOf = Callable[[Attempt, str], Model]
"""The model for one task (`build`, `design`, `review`, `skills`) of an attempt."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all sessions of a planner share. `facts` are settings that skills are told, too; `limits` are those of one
    command, `replies` is the most of
    one conversation, `characters` the most of it that is sent."""

    model_of: ModelOf
    blobs: Blobs
    facts: Mapping[str, str]
    limits: Limits = BOUNDS
    replies: int = 60
    characters: int = MOST


@dataclass(slots=True)
class Session:
    """One attempt's conversation in the making: its model, its place on the disk, its end in time."""

    means: Means
    attempt: Attempt
    run_skill: RunSkill
    steps: Steps = field(default_factory=lambda: Steps(""))
    doubts: tuple[str, ...] = ()
    """What a reviewer should know of where the tools ran."""
    _began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until the attempt's time, or the ticket's, is over; a little less, so that it can be reported."""
        phase = self.attempt.phase
        most = min(phase.timeout_seconds, phase.remaining_seconds)
        return most - min(10.0, 0.05 * most) - (time.monotonic() - self._began)

    def out_of_time(self) -> Ended:
        """The end of an attempt whose time is over."""
        why = "the time of the attempt, or of the ticket, is over"
        return Ended("limit_reached", why, self.steps.detail("limit_reached", why))

    def keep(self, data: bytes) -> str:
        """Store bytes; their SHA-256."""
        return self.means.blobs.put(data)[0]

    @property
    def workplace(self) -> Workplace:
        """Where the attempt's files lie, those of a killed run of it included."""
        return Workplace(self.attempt.directory, self.attempt.phase.phase)

    def read(self, name: str) -> str:
        """The text of an artifact that an earlier phase left and that is no secret of the harness; empty if there is
        none."""
        refs = [ref for ref in self.attempt.phase.artifacts if ref.name == name and not ref.sealed]
        return self.means.blobs.read(refs[0].sha256).decode("utf-8", "replace") if refs else ""

    def material(self, *names: str) -> dict[str, str]:
        """What a model is shown of such artifacts: beginning and end of the long ones."""
        return {name: shortened(text, 12_000, 4_000) for name in names if (text := self.read(name))}

    async def talk(
        self,
        what: str,
        role: str,
        order: str,
        material: Mapping[str, str],
        tools: tuple[Tool, ...],
        most: int = 0,
        *,
        guided: bool = True,
    ) -> str:
        """A conversation about the task `what`, until it submits: its summary. `guided`: the model is told what the
        person who forked the session instructs it to do. Raises Ended and AttemptError."""
        phase = self.attempt.phase
        instructions = phase.guidance.instructions if phase.guidance and guided else ""
        told = (
            Message(role="system", content=system(role, instructions)),
            Message(role="user", content=task(order, phase, material)),
        )
        journal = Journal(self._journal(what), digest("".join(each.content for each in told)))
        self.steps = Steps(what)
        return await Conversation(
            model=self.means.model_of(self.attempt, what),
            toolbox=Toolbox(tools, self.keep),
            journal=journal,
            steps=self.steps,
            messages=list(told),
            most=most or self.means.replies,
            characters=self.means.characters,
            tell=lambda line: self.attempt.tell(f"planner.{what}", line),
        ).run()

    def result(
        self,
        summary: str,
        files: Mapping[str, tuple[bytes, str]],
        warnings: tuple[str, ...] = (),
        failed: AttemptError | None = None,
    ) -> SkillRun:
        """What the conversation left, with its steps as an artifact; `files` are bytes and media type by name. `failed`
        is why it did not submit, where the phase stands without it."""
        if failed is None:
            steps = self.steps.document("submitted", summary)
        else:
            steps = self.steps.document(failed.exit_ if isinstance(failed, Ended) else "unavailable", failed.reason)
        document = (json.dumps(steps, indent=2) + "\n").encode()
        named = {**files, f"plan-{self.attempt.phase.phase}.json": (document, "application/json")}
        refs = []
        for name, (data, media) in named.items():
            sha256, size = self.means.blobs.put(data)
            refs.append(ArtifactRef(name=name, sha256=sha256, size=size, media_type=media))
        return SkillRun(
            skill=f"planner.{self.steps.task}",
            summary=summary,
            artifacts=tuple(refs),
            ticked=(),
            measurements=(),
            acceptance=(),
            warnings=(*self.doubts, *self.steps.warnings(), *warnings),
            usage=Usage(),
        )

    def _journal(self, what: str) -> Path:
        return self.workplace.directory / f"{what}.jsonl"


def failed(problem: Exception, what: str) -> AttemptError:
    """A fault of the place or the disk: to be tried again."""
    return AttemptError(FailureClass.TRANSIENT, f"{what}: {problem}")
