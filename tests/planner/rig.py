"""A planner at work on a small real project: real checkout, real sandbox, real skills, a model from a script."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from agents.llm.port import Model, ModelError
from agents.planner import LlmPlanner
from agents.planning.session import Means
from agents.port import Attempt, AttemptError, SkillRun
from agents.skill import MEDIA_TYPES, InputError
from agents.skills.devsecops.change import DevsecopsChange
from agents.skills.evaluation.review import EvaluationReview
from agents.skills.lead.change_design import LeadChangeDesign
from agents.skills.lead.change_scope import ChangeScopeParameters, LeadChangeScope
from schemas.model_calls import Message, Reply, ToolCall
from schemas.session import PhaseStarted
from schemas.ticket import Ticket
from schemas.values import ArtifactRef, FailureClass, Mode, Role, Usage
from tests.llm.scripted import ScriptedModel, says
from tests.skills.code_project import ticket_for
from tests.skills.harness import run_skill
from workspace.blobs import Blobs

SKILLS = {cls.name: cls for cls in (LeadChangeScope, LeadChangeDesign, DevsecopsChange, EvaluationReview)}
_ids = count(1)


def call(name: str, **arguments: Any) -> ToolCall:
    """A call of the scripted model."""
    return ToolCall(id=f"call-{next(_ids)}", name=name, arguments=json.dumps(arguments))


def replies(*calls: ToolCall) -> list[Reply]:
    """One reply for each call."""
    return [says("", each) for each in calls]


@dataclass
class Bench:
    """What an attempt of `software-change` finds, on the repository `repo`."""

    repo: Path
    place: Path
    ticket: Ticket
    used: list[Usage] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    @classmethod
    def on(cls, repo: Path, place: Path, **fields: object) -> Bench:
        """With the ticket of the small project, which brings no patch."""
        return cls(repo, place, ticket_for(repo, place / "backlog", None, **fields))

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.place / "blobs")

    def attempt(self, phase: str, artifacts: tuple[ArtifactRef, ...] = (), lease: int = 1, **fields: Any) -> Attempt:
        known: dict[str, Any] = {
            "scope": (Role.LEAD, Mode.SCOPE, ("lead.change_scope",), False),
            "design": (Role.LEAD, Mode.DESIGN, ("lead.change_design",), True),
            "build": (Role.DEVSECOPS, Mode.BUILD, ("devsecops.change",), True),
            "evaluate": (Role.EVALUATION, Mode.EVALUATE, ("evaluation.review",), False),
        }
        agent, mode, skills, planned = known[phase]
        started: dict[str, Any] = {
            "phase": phase, "agent": agent, "mode": mode, "attempt": 1, "skills": skills, "ticket": self.ticket,
            "acceptance": (), "artifacts": artifacts, "measured": {}, "roots": (str(self.place / "backlog"),),
            "max_data_bytes": 1000, "seed": 1, "timeout_seconds": 300.0, "remaining_seconds": 300.0,
            "started": datetime(2026, 11, 1, tzinfo=UTC), "pipeline": "software-change", "planned": planned,
        }  # fmt: skip
        return Attempt(
            session="s1-abcde",
            phase=PhaseStarted(**(started | fields)),
            lease=lease,
            directory=self.place / "attempts" / f"{phase}-1-{lease}",
            used=self.used.append,
            tell=lambda what, line: self.told.append(f"{what} {line}"),
        )

    def planner(self, model: Model, **bounds: Any) -> LlmPlanner:
        facts = {"sandbox": bounds.pop("sandbox", "bubblewrap")}
        return LlmPlanner(Means(lambda attempt, task: model, self.blobs, facts, **bounds))

    def brief(self) -> tuple[ArtifactRef, ...]:
        """What phase `scope` leaves, as the skill writes it."""
        return self.skill("lead.change_scope", ChangeScopeParameters(planned=True), ())[1].artifacts

    def skill(self, name: str, parameters: Any, artifacts: tuple[ArtifactRef, ...]) -> tuple[Any, SkillRun]:
        """Run a skill as the workbench does, in this process."""
        files = {ref.name: self.blobs.path(ref.sha256) for ref in artifacts}
        output, made = run_skill(
            SKILLS[name], self.ticket, self.place / "skills", files, roots=(self.place / "backlog",),
            parameters=parameters,
        )  # fmt: skip
        refs = []
        for path in made.values():
            sha256, size = self.blobs.put(path)
            media = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
            refs.append(ArtifactRef(name=path.name, sha256=sha256, size=size, media_type=media))
        run = SkillRun(
            name, output.summary, tuple(refs), output.ticked, output.measurements, output.acceptance, output.warnings,
            Usage(),
        )  # fmt: skip
        return output, run

    async def work(self, model: Model, attempt: Attempt, **bounds: Any) -> list[SkillRun]:
        """The planner's work on the attempt, skills run as above."""

        async def run(name: str, parameters: dict[str, Any]) -> SkillRun:
            self.ran.append(name)
            try:
                return self.skill(name, SKILLS[name].parameters.model_validate(parameters), attempt.phase.artifacts)[1]
            except InputError as problem:
                raise AttemptError(FailureClass.INPUT, str(problem)) from problem

        return await self.planner(model, **bounds).work(attempt, run)

    async def build(
        self, *calls: ToolCall | Reply | ModelError, lease: int = 1, hosts: tuple[str, ...] = (), **bounds: Any
    ) -> Built:
        """Phase `build` with a model that makes these calls, under a policy with these `sandbox_hosts`."""
        script = ScriptedModel([says("", each) if isinstance(each, ToolCall) else each for each in calls])
        attempt = self.attempt("build", self.brief(), lease, sandbox_hosts=hosts)
        runs = await self.work(script, attempt, **bounds)
        return Built(runs, script, self)


@dataclass
class Built:
    """What a phase came to."""

    runs: list[SkillRun]
    script: ScriptedModel
    bench: Bench

    def read(self, name: str) -> str:
        """An artifact's text."""
        (ref,) = [ref for run in self.runs for ref in run.artifacts if ref.name == name]
        return self.bench.blobs.read(ref.sha256).decode()

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The calls that were recorded."""
        (name,) = [ref.name for run in self.runs for ref in run.artifacts if ref.name.startswith("plan-")]
        steps: list[dict[str, Any]] = json.loads(self.read(name))["steps"]
        return steps

    @property
    def warnings(self) -> str:
        return "\n".join(line for run in self.runs for line in run.warnings)


def told(script: ScriptedModel, number: int = -1) -> str:
    """What the model was told last before its reply `number`."""
    message: Message = script.asked[number].messages[-1]
    return message.content
