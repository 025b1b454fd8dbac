"""The agents' ports: what a planner is given and what it gives back. Small, so that new planners stay easy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from schemas.session import PhaseStarted
from schemas.values import ArtifactRef, FailureClass, Measurement, TickedItem, Usage


class AttemptError(Exception):
    """An attempt that ends without a result, with its failure class."""

    def __init__(self, failure: FailureClass, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
        self.detail = detail
        self.usage = Usage()


@dataclass(frozen=True, slots=True)
class SkillRun:
    """What one skill gave."""

    skill: str
    summary: str
    artifacts: tuple[ArtifactRef, ...]
    ticked: tuple[TickedItem, ...]
    measurements: tuple[Measurement, ...]
    acceptance: tuple[str, ...]
    warnings: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Attempt:
    """One fenced execution of a phase: its session, the event that started it, its lease and its own directory."""

    session: str
    phase: PhaseStarted
    lease: int
    directory: Path
    used: Callable[[Usage], None] = lambda usage: None
    """Counts what a planner uses besides its skills (commands; calls of a model are counted where they are recorded),
    as it happens: it is reported however the attempt ends."""
    tell: Callable[[str, str], None] = lambda what, line: None
    """Tells observers a line of progress: of which skill or planner, and what."""


RunSkill = Callable[[str, dict[str, Any]], Awaitable[SkillRun]]
"""Runs a skill by name with parameters; artifacts of earlier runs of the attempt are staged for later ones."""


class Planner(Protocol):
    """Decides which skills an attempt runs, in what order."""

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        """Run skills until the phase's work is done. Raises AttemptError when it cannot be."""
