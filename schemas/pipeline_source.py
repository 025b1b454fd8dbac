"""What people write: checklists, modes and pipelines as YAML files, with more in them than a session has to record.

A session carries the plain `PipelineDefinition` (its form is part of recorded events). What is needed only to check a
file before anything starts — evidence, needs, figures, a mode's limits — stays in the forms here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.pipeline import YEAR, ChecklistItem, PhaseDefinition, PipelineDefinition
from schemas.values import ArtifactName, Mode, Role, Value

ChecklistName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
SkillPattern = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.(\*|[a-z][a-z0-9_]*)$")]
"""A skill's name, or all skills of an area: `data.extract`, `data.*`."""
FigurePattern = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}\.([a-z][a-z0-9_]{0,63}\*?|\*)$")]
"""A figure's name, or all that begin alike: `drift.score`, `training.cv_*`, `drift.*`."""

Kind = Literal["pipeline", "checklist", "mode"]


class EvidencedItem(ChecklistItem):
    """A checklist item with the artifact in which its evidence lies, if it lies in one."""

    evidence: ArtifactName | None = None


class Checklist(Value):
    """The items of a phase, under a name that pipelines refer to. Without `owner` any agent may work it off."""

    name: ChecklistName
    title: str
    owner: Role | None = None
    items: Annotated[tuple[EvidencedItem, ...], Field(min_length=1)]


class ModeLimits(Value):
    """The most a phase in a mode may ask for: seconds for one attempt, and attempts."""

    timeout_seconds: Annotated[float, Field(gt=0, le=YEAR)]
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 10


class ModeDefinition(Value):
    """What a mode is for, who may be in it with which skills (they are an agent's tools), and where it leads.

    `checklist` names a general checklist for phases that have none of their own. `leads_to` are the modes the next
    phase may have, besides this one.
    """

    name: Mode
    purpose: str
    agents: Annotated[tuple[Role, ...], Field(min_length=1)]
    skills: Annotated[tuple[SkillPattern, ...], Field(min_length=1)]
    checklist: ChecklistName
    leads_to: tuple[Mode, ...] = ()
    limits: ModeLimits

    def allows(self, skill: str) -> bool:
        """Whether `skill` may be used in this mode."""
        return skill in self.skills or f"{skill.partition('.')[0]}.*" in self.skills


class PhaseSource(PhaseDefinition):
    """A phase as written, its checklist looked up.

    `needs` are artifacts an earlier phase must produce. `measures` are figures the phase's own skills measure, for
    skills that the train does not ship.
    """

    checklist: tuple[EvidencedItem, ...] = ()
    needs: tuple[ArtifactName, ...] = ()
    measures: tuple[FigurePattern, ...] = ()

    def definition(self) -> PhaseDefinition:
        """The form that is recorded."""
        fields = {name: getattr(self, name) for name in PhaseDefinition.model_fields if name != "checklist"}
        items = tuple(ChecklistItem(id=item.id, text=item.text, required=item.required) for item in self.checklist)
        return PhaseDefinition(**fields, checklist=items)


class PipelineSource(PipelineDefinition):
    """A pipeline as written, its checklists looked up."""

    phases: Annotated[tuple[PhaseSource, ...], Field(min_length=1)]

    def definition(self) -> PipelineDefinition:
        """The form that is recorded."""
        plain = tuple(phase.definition() for phase in self.phases)
        return PipelineDefinition(name=self.name, version=self.version, description=self.description, phases=plain)
