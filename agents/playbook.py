"""The playbook planner: the phase's skills in the order the pipeline names them. Deterministic, needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from agents.discovery import AnySkill, skill
from agents.port import Attempt, RunSkill, SkillRun


class Playbook:
    """The default planner."""

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        """Run each skill of the phase once, with its default parameters; at the same time those that allow it.

        The runs come in the pipeline's order. Raises what the first skill that failed, in that order, raised.
        """
        names = attempt.phase.skills
        runs: dict[int, SkillRun] = {}
        for stage in stages([_known(name) for name in names]):
            done = await _together([names[index] for index in stage], run_skill)
            runs |= dict(zip(stage, done, strict=True))
        return [runs[index] for index in range(len(names))]


def _known(name: str) -> AnySkill | None:
    """The skill's class; None for one that is not there, which whoever runs it will say."""
    try:
        return skill(name)
    except KeyError:
        return None


def stages(classes: Sequence[AnySkill | None]) -> list[list[int]]:
    """Which skills run at the same time: positions in `classes`, stage after stage.

    One that is not for running `beside` others has a stage of its own, behind all before it. The others begin with the
    first of them whose stage has come, unless a skill that stands before them has yet to make what they need.
    """
    left = list(range(len(classes)))
    found: list[list[int]] = []
    while left:
        stage = [left[0]]
        if _beside(classes[left[0]]):
            stage = [index for index in left if _beside(classes[index]) and not _waits(classes, index, left)]
        found.append(stage)
        left = [index for index in left if index not in stage]
    return found


def _beside(cls: AnySkill | None) -> bool:
    return cls is not None and cls.beside


def _waits(classes: Sequence[AnySkill | None], index: int, left: Sequence[int]) -> bool:
    cls = classes[index]
    wanted = set() if cls is None else {*cls.needs, *cls.optional}
    before = [classes[other] for other in left if other < index]
    return any(other is None or wanted & set(other.produces) for other in before)


async def _together(names: Sequence[str], run_skill: RunSkill) -> list[SkillRun]:
    """All of them at once. When one fails those behind it are stopped, and those before it may still fail first: which
    failure is told does not depend on who is faster."""
    runs: dict[int, SkillRun] = {}
    problems: dict[int, Exception] = {}
    scopes = [anyio.CancelScope() for _ in names]

    async def one(index: int) -> None:
        with scopes[index]:
            try:
                runs[index] = await run_skill(names[index], {})
            except Exception as problem:
                problems[index] = problem
                for later in scopes[index + 1 :]:
                    later.cancel()

    async with anyio.create_task_group() as tasks:
        for index in range(len(names)):
            tasks.start_soon(one, index)
    if problems:
        raise problems[min(problems)]
    return [runs[index] for index in range(len(names))]
