"""Pipeline definitions: what a YAML file under `pipelines/` must say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.values import SIGNATURE, ArtifactName, Mode, PhaseName, Role, Value

YEAR = 366 * 24 * 3600.0
"""The longest pause or time limit, in seconds: beyond it a time may leave the calendar."""


NAMED_TWICE = "named_twice"
"""The type of pydantic's error for a name that occurs twice: who knows the lines of both can say it better."""


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

    @model_validator(mode="after")
    def _when_has_expression(self) -> Self:
        if (self.human == "when") != (self.when is not None):
            raise ValueError("`when: <criterion>` goes with `human: when`, and only with it")
        return self


class RetryPolicy(Value):
    """How often a phase is tried and how long the pause before try n is: `base · 2^(n-2)` seconds, at most `cap`."""

    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    base_seconds: Annotated[float, Field(ge=0, le=YEAR)] = 1.0
    cap_seconds: Annotated[float, Field(ge=0, le=YEAR)] = 60.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait before `attempt` (2 is the first retry)."""
        return float(min(self.base_seconds * 2.0 ** max(0, attempt - 2), self.cap_seconds))


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
        if made := sorted(a for a in self.artifacts if a.endswith(SIGNATURE)):
            raise ValueError(f"signatures are made by `sign`, not by the phase: {', '.join(made)}")
        return self


class PipelineDefinition(Value):
    """The phases a kind of ticket goes through, in order."""

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

    def phase(self, name: str) -> PhaseDefinition:
        """The phase called `name`. Raises KeyError with the known names."""
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise KeyError(f"pipeline {self.name!r} has no phase {name!r}; it has {', '.join(p.name for p in self.phases)}")

    def following(self, name: str) -> PhaseDefinition | None:
        """The phase after `name`, or None after the last."""
        names = [p.name for p in self.phases]
        at = names.index(self.phase(name).name) + 1
        return self.phases[at] if at < len(self.phases) else None
