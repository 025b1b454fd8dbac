"""Whether the skills a pipeline names can do what its phases ask of them. Skills that do not exist are not judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conductor.pipeline_graph import Order
from conductor.yamlfile import Document
from schemas.values import Mode, Role


@dataclass(frozen=True, slots=True)
class SkillFacts:
    """What a skill says of itself: who has it, the modes it is for, the artifacts it needs and always writes."""

    role: Role
    modes: frozenset[Mode]
    needs: tuple[str, ...]
    produces: tuple[str, ...]


Skills = Mapping[str, SkillFacts]


def check(document: Document, skills: Skills, order: Order) -> None:
    """Add to `document` where a phase asks a skill for what it cannot do."""
    left: dict[int, set[str]] = {}
    for at, phase in document.items("phases"):
        if not isinstance(phase, dict):
            continue
        named = [(n, name) for n, name in document.items("phases", at, "skills") if isinstance(name, str)]
        there = {artifact for n in order.before[at] for artifact in left.get(n, ())}
        made: set[str] = set()
        for number, name in named:
            if name in skills:
                made |= _one(document, ("phases", at), number, name, skills[name], there | made)
        wanted = [(n, a) for n, a in document.items("phases", at, "artifacts") if isinstance(a, str)]
        if all(name in skills for _, name in named):
            for number, artifact in wanted:
                if artifact not in made:
                    reason = f"no skill of the phase produces {artifact!r}; they produce {', '.join(sorted(made))}"
                    document.add(("phases", at, "artifacts", number), reason)
        left[at] = made | {artifact for _, artifact in wanted}


def _one(
    document: Document, path: tuple[str | int, ...], number: int, name: str, skill: SkillFacts, there: set[str]
) -> set[str]:
    """Hold one skill against its phase; what it produces."""
    place: tuple[Any, ...] = (*path, "skills", number)
    agent, mode = document.at(*path, "agent"), document.at(*path, "mode")
    if agent in list(Role) and agent != skill.role.value:
        document.add(place, f"{name} belongs to agent {skill.role.value}, not to {agent}; give the phase that agent")
    if mode in list(Mode) and Mode(mode) not in skill.modes:
        modes = ", ".join(sorted(m.value for m in skill.modes))
        document.add(place, f"{name} is for mode {modes}, not {mode}; give the phase that mode")
    if lacking := [need for need in skill.needs if need not in there]:
        reason = f"{name} needs {', '.join(lacking)}, which nothing before it produces; put a phase that does before it"
        document.add(place, reason)
    return set(skill.produces)
