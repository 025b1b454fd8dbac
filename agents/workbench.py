"""The workbench: runs skills for one attempt, in child processes, on staged artifacts, within mode and budget."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agents.discovery import AnySkill, skill
from agents.leftovers import take_over
from agents.plugins import PluginSkill, claims, note
from agents.port import Attempt, AttemptError, SkillRun
from agents.skill import MEDIA_TYPES, SkillOutput
from schemas.envelope import timestamp
from schemas.values import ArtifactRef, FailureClass, Measurement, Role, Usage
from workspace.blobs import BlobError, Blobs
from workspace.children import ForkServer
from workspace.leftovers import KEPT
from workspace.outcomes import ChildOutOfMemory, ChildResult, ChildTimeout, ServerLost

HARNESS_SCOPES = frozenset({"metrics", "baseline", "champion", "review", "audit", "robustness", "fairness", "decay"})
"""What acceptance criteria read: only skills of the harness, which see the sealed labels, may measure it."""

MEMORY_LIMIT = 8 * 1024**3
"""Bytes a skill's process may allocate; a guard against runaways, far above what the shipped skills use."""


class Workbench:
    """Runs the skills of one attempt. Not shared between attempts."""

    def __init__(
        self,
        role: Role,
        attempt: Attempt,
        blobs: Blobs,
        children: ForkServer,
        progress: Callable[[str, str], None],
        places: anyio.CapacityLimiter,
        facts: Mapping[str, str],
    ) -> None:
        """`places` is how many skills may run at once on this machine; `facts` are added to what skills are told."""
        self._role = role
        self._attempt = attempt
        self._blobs = blobs
        self._children = children
        self._progress = progress
        self._places = places
        self._facts = facts
        self._artifacts = {a.name: a for a in attempt.phase.artifacts}
        self._measured = {scope: dict(values) for scope, values in attempt.phase.measured.items()}
        self._made: dict[str, tuple[Measurement, ...]] = {}  # artifacts of this attempt, and what their makers measured
        self._started = time.monotonic()
        self._runs = 0
        self.usage = Usage()

    async def run(self, name: str, parameters: dict[str, Any]) -> SkillRun:
        """Run the skill `name`. Raises AttemptError with the failure class and what to do."""
        cls = self._allowed(name)
        self._runs += 1
        directory = self._attempt.directory / f"{self._runs:02d}-{name}"
        seconds, bound = self._seconds(cls)
        self._progress(name, "started")
        try:
            inputs = await anyio.to_thread.run_sync(self._stage, cls, directory)
            kept = await anyio.to_thread.run_sync(self._kept, cls)
            request = self._request(cls, parameters, inputs, directory, seconds) | {"kept": kept}
            async with self._places:
                answer = await self._child(cls, request, directory, seconds, bound)
            if "failure" in answer:
                raise AttemptError(FailureClass(answer["failure"]), answer["reason"], answer["detail"])
            result = await anyio.to_thread.run_sync(self._collect, cls, answer["output"], directory)
        except (BlobError, OSError) as problem:
            raise AttemptError(FailureClass.TRANSIENT, f"{name}: {problem}") from problem
        self._progress(name, result.summary)
        return result

    def _allowed(self, name: str) -> AnySkill:
        """Skills outside the phase's mode or the agent's role are refused."""
        try:
            cls = skill(name)
        except KeyError as problem:
            raise AttemptError(FailureClass.POLICY, str(problem.args[0])) from problem
        phase = self._attempt.phase
        if cls.role is not self._role:
            raise AttemptError(FailureClass.POLICY, f"skill {name} belongs to {cls.role.value}, not {self._role.value}")
        if phase.mode not in cls.modes:
            allowed = ", ".join(sorted(m.value for m in cls.modes))
            raise AttemptError(FailureClass.POLICY, f"skill {name} is for mode {allowed}, not {phase.mode.value}")
        return cls

    def _seconds(self, cls: AnySkill) -> tuple[float, str]:
        """How long the skill may take, and which bound that is."""
        phase = self._attempt.phase
        spent = time.monotonic() - self._started
        bounds = {
            "skill": cls.seconds,
            "phase": phase.timeout_seconds - spent,
            "budget": phase.remaining_seconds - spent,
        }
        bound = min(bounds, key=lambda key: bounds[key])
        if bounds[bound] <= 0.0:
            raise AttemptError(FailureClass.LIMIT, f"no time left for {cls.name}: the {bound}'s time is used up")
        return bounds[bound], bound

    def _stage(self, cls: AnySkill, directory: Path) -> dict[str, str]:
        """Copy the declared artifacts into a fresh directory; sealed ones only for the harness."""
        shutil.rmtree(directory, ignore_errors=True)
        (directory / "in").mkdir(parents=True, mode=0o700)
        (directory / "out").mkdir(mode=0o700)
        inputs: dict[str, str] = {}
        for name in (*cls.needs, *cls.optional):
            ref = self._artifacts.get(name)
            if ref is None:
                if name in cls.needs:
                    raise AttemptError(FailureClass.AGENT, f"{cls.name} needs {name}, which no phase has produced")
                continue
            if ref.sealed and not cls.harness:
                raise AttemptError(FailureClass.POLICY, f"{cls.name} may not read {name}: it is sealed for the harness")
            target = directory / "in" / name
            source = self._blobs.path(ref.sha256, sealed=ref.sealed)
            shutil.copyfile(source, target)  # a copy: through a link a skill could write into the artifact store
            inputs[name] = str(target)
        return inputs

    def _rows(self, cls: AnySkill, directory: Path) -> list[str]:
        """The folder with the rows of a named source, for a skill that opens the ticket's data."""
        snapshot = self._attempt.phase.ticket.snapshot
        if snapshot is None or not cls.reads_source:
            return []
        folder = directory / "source"
        folder.mkdir(mode=0o700)
        stored = self._blobs.path(snapshot.sha256, sealed=snapshot.artifact.sealed)
        shutil.copyfile(stored, folder / f"{snapshot.sha256}.{snapshot.format}")
        return [str(folder)]

    def _kept(self, cls: AnySkill) -> str | None:
        """Where the skill keeps what a killed run need not do again; of such a run itself, if there was one."""
        if not cls.resumes:
            return None
        place = take_over(self._attempt.directory, self._attempt.phase.phase, KEPT) / cls.name
        place.mkdir(exist_ok=True, mode=0o700)
        return str(place)

    def _request(
        self, cls: AnySkill, parameters: dict[str, Any], inputs: dict[str, str], directory: Path, seconds: float
    ) -> dict[str, Any]:
        phase = self._attempt.phase
        artifacts, measured = self._told(cls)
        return {
            "skill": cls.name,
            "plugin": dict(cls.origin) if issubclass(cls, PluginSkill) else None,
            "parameters": parameters,
            "ticket": phase.ticket.model_dump(mode="json"),
            "acceptance": list(phase.acceptance),
            "inputs": inputs,
            "out": str(directory / "out"),
            "roots": [*phase.roots, *self._rows(cls, directory)],
            "measured": measured,
            "seed": phase.seed,
            "now": timestamp(phase.started),
            "session": self._attempt.session,
            "seconds": seconds,
            "max_data_bytes": phase.max_data_bytes,
            "facts": {
                **self._facts,
                "pipeline": phase.pipeline,
                "artifacts": artifacts,
                "approvals": list(phase.approvals),
                "usage": phase.spent.model_dump(mode="json"),
                "sandbox_hosts": list(phase.sandbox_hosts),
            },
        }

    def _told(self, cls: AnySkill) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
        """The artifacts (name to SHA-256) and figures a skill gets to know: of those that may run beside it in this
        attempt only what it needs, since the others may be done or not."""
        if not cls.beside:
            return {name: ref.sha256 for name, ref in self._artifacts.items()}, self._measured
        phase = self._attempt.phase
        needed = [name for name in (*cls.needs, *cls.optional) if name in self._made]
        artifacts = {a.name: a.sha256 for a in phase.artifacts}
        artifacts |= {name: self._artifacts[name].sha256 for name in needed}
        measured = {scope: dict(values) for scope, values in phase.measured.items()}
        for m in (each for name in needed for each in self._made[name]):
            measured.setdefault(m.scope, {})[m.name] = m.value
        return artifacts, measured

    async def _child(
        self, cls: AnySkill, request: dict[str, Any], directory: Path, seconds: float, bound: str
    ) -> dict[str, Any]:
        result = await self._children.run(
            "agents.worker:run",
            {"request": request},
            cwd=directory,
            log=directory / "log.txt",
            seconds=seconds,
            memory_bytes=MEMORY_LIMIT,
            on_progress=lambda line: self._progress(cls.name, line),
        )
        self._count(result)
        problem = result.failure
        if problem is None:
            answer: dict[str, Any] = result.value
            return answer
        if isinstance(problem, ChildTimeout):
            failure = FailureClass.LIMIT if bound == "budget" else FailureClass.AGENT
            raise AttemptError(failure, f"{cls.name} was stopped after {seconds:.0f} s (the {bound}'s limit)")
        if isinstance(problem, ChildOutOfMemory):
            raise AttemptError(FailureClass.LIMIT, f"{cls.name}: {problem}")
        failure = FailureClass.TRANSIENT if isinstance(problem, ServerLost) else FailureClass.AGENT
        raise AttemptError(failure, f"{cls.name}: {problem}")

    def count(self, usage: Usage) -> None:
        """Add what was used to the attempt's sum."""
        self.usage = self.usage.plus(usage)

    def _count(self, result: ChildResult) -> None:
        used = Usage(
            wall_seconds=result.wall_seconds,
            cpu_seconds=result.cpu_seconds,
            peak_rss_bytes=result.peak_rss_bytes,
        )
        self.count(used)

    def _collect(self, cls: AnySkill, output: dict[str, Any], directory: Path) -> SkillRun:
        """Put what the skill wrote into the artifact store and read its result."""
        common = {name: output[name] for name in SkillOutput.model_fields if name in output}
        result = SkillOutput.model_validate(common)
        if not cls.harness and (claimed := sorted({m.scope for m in result.measurements} & HARNESS_SCOPES)):
            raise AttemptError(
                FailureClass.POLICY, f"{cls.name} may not measure {', '.join(claimed)}: the harness does"
            )
        if problem := claims(cls, result):
            raise AttemptError(FailureClass.POLICY, f"{cls.name} is a plugin's skill: it {problem}")
        if not cls.harness and result.paths:
            reason = f"{cls.name} may not say which files a change touches: the harness does, since owners depend on it"
            raise AttemptError(FailureClass.POLICY, reason)
        refs = []
        for path in sorted((directory / "out").iterdir()):
            if path.is_symlink() or not path.is_file():
                raise AttemptError(FailureClass.AGENT, f"{cls.name} left {path.name}, which is not a plain file")
            sealed = path.name in cls.sealed
            sha256, size = self._blobs.put(path, sealed=sealed)
            media = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
            touched = tuple(sorted(result.paths.get(path.name, ())))
            ref = ArtifactRef(name=path.name, sha256=sha256, size=size, media_type=media, sealed=sealed, paths=touched)
            refs.append(ref)
        self._artifacts.update({ref.name: ref for ref in refs})
        self._made.update({ref.name: result.measurements for ref in refs})
        for m in result.measurements:
            self._measured.setdefault(m.scope, {})[m.name] = m.value
        (directory / "output.json").write_text(json.dumps(output), "utf-8")
        return SkillRun(
            skill=cls.name,
            summary=result.summary,
            artifacts=tuple(refs),
            ticked=result.ticked,
            measurements=result.measurements,
            acceptance=result.acceptance,
            warnings=(*note(cls), *result.warnings),
            usage=self.usage,
        )
