"""Which planner an attempt gets: the one that whoever forked its session chose, else the one in the settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

from agents.playbook import Playbook
from agents.port import Attempt, Planner, RunSkill, SkillRun


class Choosing:
    """Implements `agents.port.Planner`. `llm` makes the planner that asks a model, when it is first wanted."""

    def __init__(self, usual: Literal["playbook", "llm"], llm: Callable[[], Planner]) -> None:
        self._usual = usual
        self._make = llm
        self._playbook = Playbook()

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        """See the port."""
        guidance = attempt.phase.guidance
        chosen = (guidance.planner if guidance else "") or self._usual
        planner: Planner = self._llm if chosen == "llm" else self._playbook
        return await planner.work(attempt, run_skill)

    @cached_property
    def _llm(self) -> Planner:
        return self._make()
