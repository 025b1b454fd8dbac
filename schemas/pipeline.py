"""Pipeline definitions: what a YAML file under `pipelines/` must say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.values import SIGNATURE, ArtifactName, Mode, PhaseName, Role, Value, later

YEAR = 366 * 24 * 3600.0
"""The longest pause or time limit, in seconds: beyond it a time may leave the calendar."""


NAMED_TWICE = "named_twice"
"""The type of pydantic's error for a name that occurs twice: who knows the lines of both can say it better."""

OUT_OF_ORDER = "out_of_order"
"""The same for phases that do not make a graph."""


def _out_of_order(reason: str) -> PydanticCustomError:
    return PydanticCustomError(OUT_OF_ORDER, "{reason}", {"reason": reason})


def _twice(what: str, names: Iterable[str]) -> PydanticCustomError:
    listed = {"what": what, "names": ", ".join(sorted(names))}
    return PydanticCustomError(NAMED_TWICE, "{what} named twice: {names}", listed)


class ChecklistItem(Value):
    """One thing a phase must (or may) do. A required item blocks the phase's exit until it is ticked."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,60}$")]
    text: str
    required: bool = True


class GateDefinition(Value):
    """The decision at a phase's exit.

    `human`: `never`, `always`, or `when` (then `when` is a criterion over the ticket and what was measured, and a
    person is asked if it holds). `quorum` is how many distinct eligible people must approve.
    """

    human: Literal["never", "always", "when"] = "never"
    when: str | None = None
    quorum: Annotated[int, Field(ge=1)] = 1
    expires_seconds: Annotated[float, Field(gt=0, le=YEAR)] | None = later(None)
    """How long people have: then the gate expires and goes to the policy's `escalate_to`, or the session blocks."""

    @model_validator(mode="after")
    def _when_has_expression(self) -> Self:
        if (self.human == "when") != (self.when is not None):
            raise ValueError("`when: <criterion>` goes with `human: when`, and only with it")
        return self


class RepeatRule(Value):
    """A way back: to phase `to`, which must come before this one, at most `iterations` times in a session.

    To a phase of mode `build` it is an iteration, to one of mode `design` a pivot. It is taken when the criterion
    `when` holds after the phase's work, without `when` if the exit criteria are not met, and when an approver sends the
    gate back. Phase `to` and all that come after it start again; the limit reached, the session blocks.
    """

    to: PhaseName
    when: str | None = None
    iterations: Annotated[int, Field(ge=1, le=100)]


class RetryPolicy(Value):
    """How often a phase is tried and how long the pause before try n is: `base · 2^(n-2)` seconds, at most `cap`.

    `jitter` takes up to that share off the pause, so that many sessions do not come back at one moment.
    """

    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    base_seconds: Annotated[float, Field(ge=0, le=YEAR)] = 1.0
    cap_seconds: Annotated[float, Field(ge=0, le=YEAR)] = 60.0
    jitter: Annotated[float, Field(ge=0, le=1)] = later(0.0)

    def delay(self, attempt: int, chance: float = 0.0) -> float:
        """Seconds to wait before `attempt` (2 is the first retry). `chance`, from 0 to 1, is how much of the jitter is
        taken off."""
        pause = min(self.base_seconds * 2.0 ** max(0, attempt - 2), self.cap_seconds)
        return float(pause * (1.0 - self.jitter * chance))


class PhaseDefinition(Value):
    """A named stage with one owning agent."""

    name: PhaseName
    agent: Role
    mode: Mode
    purpose: str
    skills: Annotated[tuple[str, ...], Field(min_length=1)]
    checklist: tuple[ChecklistItem, ...] = ()
    artifacts: tuple[ArtifactName, ...] = ()
    criteria: tuple[str, ...] = ()
    acceptance: bool = False
    """Whether the ticket's acceptance criteria must hold at this phase's exit."""
    sign: tuple[str, ...] = ()
    """Artifacts the effect executor signs before the phase is committed; each becomes `<name>.dsse.json`."""
    gate: GateDefinition = GateDefinition()
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: Annotated[float, Field(gt=0, le=YEAR)] = 600.0
    after: tuple[PhaseName, ...] | None = later(None)
    """The phases that must be over before this one starts; by default the one above it. `[]` starts at once."""
    skip_when: str | None = later(None)
    """A criterion, held when the phase's turn comes: if it holds, the phase is skipped. An unknown figure does not."""
    repeat: tuple[RepeatRule, ...] = later(())
    idle_seconds: Annotated[float, Field(gt=0, le=YEAR)] | None = later(None)
    """A claimed attempt that gives no sign of life for so long is expired."""

    apply: ArtifactName | None = later(None)
    """An artifact that is a patch: the effect executor applies it to the session's branch with the phase's commit."""

    planned: bool = later(False)
    """Whether a planner that has a model plans the phase, where one is set; else the playbook runs its skills."""

    registers: ArtifactName | None = later(None)
    """An artifact that becomes a new version of the ticket's model in the registry once the phase's gate has passed."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for what, names in (("checklist item", [i.id for i in self.checklist]), ("artifact", list(self.artifacts))):
            doubled = {n for n in names if names.count(n) > 1}
            if doubled:
                raise _twice(what, doubled)
        return self

    @model_validator(mode="after")
    def _signed_are_produced(self) -> Self:
        if unknown := sorted(set(self.sign) - set(self.artifacts)):
            raise ValueError(f"`sign` names what is not among the phase's artifacts: {', '.join(unknown)}")
        if self.apply is not None and self.apply not in self.artifacts:
            raise ValueError(f"`apply` names what is not among the phase's artifacts: {self.apply}")
        if self.registers is not None and self.registers not in self.artifacts:
            raise ValueError(f"`registers` names what is not among the phase's artifacts: {self.registers}")
        if made := sorted(a for a in self.artifacts if a.endswith(SIGNATURE)):
            raise ValueError(f"signatures are made by `sign`, not by the phase: {', '.join(made)}")
        return self


class PipelineDefinition(Value):
    """The phases a kind of ticket goes through: a directed graph without circles, since a phase comes only after phases
    that stand above it in the file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    version: Annotated[int, Field(ge=1)] = 1
    description: str
    phases: Annotated[tuple[PhaseDefinition, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique_phases(self) -> Self:
        names = [p.name for p in self.phases]
        doubled = {n for n in names if names.count(n) > 1}
        if doubled:
            raise _twice("phase", doubled)
        return self

    @model_validator(mode="after")
    def _after_what_stands_above(self) -> Self:
        above: set[str] = set()
        for phase in self.phases:
            if unknown := sorted(set(phase.after or ()) - above):
                raise _out_of_order(
                    f"phase {phase.name} comes `after` {', '.join(unknown)}, which stands not above it: a phase comes "
                    f"after phases that stand above it in the file"
                )
            above.add(phase.name)
        return self

    @model_validator(mode="after")
    def _ways_back(self) -> Self:
        for phase in self.phases:
            targets = [rule.to for rule in phase.repeat]
            if doubled := sorted({to for to in targets if targets.count(to) > 1}):
                raise _out_of_order(
                    f"phase {phase.name} repeats {', '.join(doubled)} twice: one way back for each phase"
                )
            for to in targets:
                if phase.name not in self.descendants.get(to, ()):
                    raise _out_of_order(f"phase {phase.name} repeats {to}, which does not come before it")
                if self.phase(to).mode not in (Mode.BUILD, Mode.DESIGN):
                    what = f"of mode {self.phase(to).mode.value}: a session iterates to build or pivots to design"
                    raise _out_of_order(f"phase {phase.name} repeats {to}, which is {what}")
        return self

    @model_validator(mode="after")
    def _no_artifact_of_two_at_once(self) -> Self:
        """Which of two parallel phases wrote an artifact last would be chance."""
        for at, one in enumerate(self.phases):
            apart = (p for p in self.phases[at + 1 :] if p.name not in self.descendants[one.name])
            for other in apart:
                if both := sorted(set(one.artifacts) & set(other.artifacts)):
                    names = f"{one.name} and {other.name} may run at the same time and both"
                    raise _out_of_order(f"{names} produce {', '.join(both)}: give them names of their own")
        return self

    @cached_property
    def before(self) -> Mapping[str, tuple[str, ...]]:
        """For each phase those it comes directly after, in the order of the file."""
        before: dict[str, tuple[str, ...]] = {}
        above: tuple[str, ...] = ()
        for phase in self.phases:
            before[phase.name] = above if phase.after is None else tuple(n for n in before if n in phase.after)
            above = (phase.name,)
        return before

    @cached_property
    def descendants(self) -> Mapping[str, frozenset[str]]:
        """For each phase all those that come after it, directly or not."""
        found: dict[str, set[str]] = {phase.name: set() for phase in self.phases}
        for name in reversed(found):
            for parent in self.before[name]:
                found[parent] |= {name, *found[name]}
        return {name: frozenset(names) for name, names in found.items()}

    @cached_property
    def _by_name(self) -> Mapping[str, PhaseDefinition]:
        return {phase.name: phase for phase in self.phases}

    @property
    def changes_code(self) -> bool:
        """Whether one of its phases changes the repository's own files."""
        return any(phase.apply is not None for phase in self.phases)

    @property
    def judges_acceptance(self) -> bool:
        """Whether one of its phases holds the ticket's acceptance criteria."""
        return any(phase.acceptance for phase in self.phases)

    def without_registry(self) -> PipelineDefinition:
        """The same pipeline where there is no model registry: nothing is registered."""
        phases = tuple(phase.model_copy(update={"registers": None}) for phase in self.phases)
        return PipelineDefinition(name=self.name, version=self.version, description=self.description, phases=phases)

    @property
    def registers_models(self) -> bool:
        """Whether one of its phases writes to the model registry."""
        return any(phase.registers is not None for phase in self.phases)

    def phase(self, name: str) -> PhaseDefinition:
        """The phase called `name`. Raises KeyError with the known names."""
        if (phase := self._by_name.get(name)) is not None:
            return phase
        raise KeyError(f"pipeline {self.name!r} has no phase {name!r}; it has {', '.join(p.name for p in self.phases)}")
