"""Skills that take milliseconds: each derives its artifacts from the ticket and from what the phases before made."""

from __future__ import annotations

import hashlib
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from schemas.values import Measurement, Mode, Role, TickedItem


def _figures(context: SkillContext) -> list[int]:
    """Ten numbers that only the ticket decides."""
    seed = f"{context.ticket.id} {context.ticket.title}"
    return [hashlib.sha256(f"{seed} {number}".encode()).digest()[0] for number in range(10)]


def _first_attempt(context: SkillContext) -> bool:
    """Whether this is the phase's first attempt; the workspace's directory `<phase>-<attempt>-<lease>` tells."""
    return context.out.parents[1].name.split("-")[-2] == "1"


class Plan(Skill[Parameters, SkillOutput]):
    """Write what the session is about."""

    name = "lead.plan"
    role = Role.LEAD
    modes = frozenset({Mode.SCOPE})
    produces = ("plan.json",)

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Plan."""
        context.write_json("plan.json", {"ticket": context.ticket.id, "figures": 10})
        return SkillOutput(summary="planned", ticked=(TickedItem(item="planned", evidence="plan.json"),))


class Compute(Skill[Parameters, SkillOutput]):
    """Compute the figures; for every fourth ticket the first attempt fails."""

    name = "data.compute"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("plan.json",)
    produces = ("figures.json", "figures.md")

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Compute. Raises RuntimeError where the workload wants an attempt that fails."""
        if context.ticket.id % 4 == 0 and _first_attempt(context):
            raise RuntimeError("the first attempt of this ticket always fails")
        figures = _figures(context)
        plan: dict[str, Any] = context.read_json("plan.json")
        context.write_json("figures.json", {"ticket": plan["ticket"], "figures": figures})
        context.write_text("figures.md", "\n".join(f"- {figure}" for figure in figures))
        return SkillOutput(
            summary=f"{len(figures)} figures",
            ticked=(TickedItem(item="computed", evidence="figures.json"),),
            measurements=(Measurement(scope="data", name="rows", value=float(len(figures))),),
        )


class Judge(Skill[Parameters, SkillOutput]):
    """Measure the figures."""

    name = "evaluation.judge"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = ("figures.json",)
    produces = ("metrics.json",)
    harness = True

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Measure."""
        total = sum(context.read_json("figures.json")["figures"])
        context.write_json("metrics.json", {"total": total})
        return SkillOutput(
            summary=f"the sum is {total}",
            ticked=(TickedItem(item="measured", evidence="metrics.json"),),
            measurements=(Measurement(scope="metrics", name="total", value=float(total)),),
        )


class Deliver(Skill[Parameters, SkillOutput]):
    """Write the package, which is signed."""

    name = "lead.deliver"
    role = Role.LEAD
    modes = frozenset({Mode.DELIVER})
    needs = ("metrics.json", "figures.json")
    produces = ("package.json",)

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Pack."""
        parts = {name: hashlib.sha256(context.path(name).read_bytes()).hexdigest() for name in sorted(context.inputs)}
        context.write_json("package.json", {"ticket": context.ticket.id, "parts": parts})
        return SkillOutput(summary="packed", ticked=(TickedItem(item="packed", evidence="package.json"),))
