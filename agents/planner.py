"""The planner that asks a model, for phases the pipeline leaves to one (`planned: true`). All others it does as the
playbook does, and what a gate reads is measured by skills of the harness in either case: never the model's word.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from agents.planning import tasks
from agents.planning.session import Means, Session
from agents.playbook import Playbook
from agents.port import Attempt, AttemptError, RunSkill, SkillRun
from schemas.values import FailureClass


@dataclass(frozen=True, slots=True)
class LlmPlanner:
    """Implements `agents.port.Planner`."""

    means: Means
    _playbook: Playbook = field(default_factory=Playbook)

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        """The phase's work. Raises AttemptError: a conversation that ends without a submission is one, named so."""
        session = Session(self.means, attempt, run_skill)
        try:
            return await self._work(session, attempt, run_skill)
        except AttemptError as problem:
            if problem.failure is not FailureClass.TRANSIENT:  # the next attempt starts anew
                session.workplace.close()
            raise

    async def _work(self, session: Session, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        phase = attempt.phase
        by_rule = not phase.planned or phase.ticket.change is not None  # a ticket that brings its change leaves no plan
        if phase.skills == ("lead.change_scope",) and phase.ticket.change is None:
            return [await run_skill("lead.change_scope", {"planned": True})]
        if phase.skills == ("evaluation.review",):
            runs = await self._playbook.work(attempt, run_skill)
            return [*runs, *await tasks.review(session)]
        if by_rule:
            return await self._playbook.work(attempt, run_skill)
        with anyio.move_on_after(session.left()):
            if phase.skills == ("lead.change_design",):
                return await tasks.design(session)
            if phase.skills == ("devsecops.change",):
                return await tasks.build(session)
            return await tasks.skills(session)
        raise session.out_of_time()
