"""The playbook planner: the phase's skills in the order the pipeline names them. Deterministic, needs no model."""

from __future__ import annotations

from agents.port import Attempt, RunSkill, SkillRun


class Playbook:
    """The default planner."""

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        """Run each skill of the phase once, with its default parameters."""
        return [await run_skill(name, {}) for name in attempt.phase.skills]
