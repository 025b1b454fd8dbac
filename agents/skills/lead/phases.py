"""The phases of an engagement with their agents: what a plan is made for. A test holds them to the shipped pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.values import Role


@dataclass(frozen=True)
class Phase:
    """A phase, its agent, its share of the machine time, and the gate at its end (empty: criteria alone decide).

    `weight` is the share of skill seconds of measured deliveries, rounded; phases before the plan are behind it.
    """

    name: str
    agent: Role
    weight: float
    gate: str = ""


AHEAD = (
    Phase("pre-kickoff", Role.LEAD, 0.01, "a person decides"),
    Phase("data-sources", Role.DATA, 0.02),
    Phase("extraction", Role.DATA, 0.03),
    Phase("preparation", Role.DATA, 0.08),
    Phase("exploration", Role.DATA, 0.07),
    Phase("feature-engineering", Role.FEATURE, 0.07),
    Phase("model-architecture", Role.TRAINING, 0.02),
    Phase("training", Role.TRAINING, 0.40),
    Phase("validation", Role.EVALUATION, 0.06),
    Phase("risk-review", Role.RISK, 0.01, "a person decides unless all risks are low"),
    Phase("deployment", Role.DEVSECOPS, 0.05),
    Phase("monitoring", Role.DEVSECOPS, 0.06),
    Phase("evaluation", Role.EVALUATION, 0.04),
    Phase("performance-analysis", Role.EVALUATION, 0.06),
    Phase("improvement", Role.LEAD, 0.01, "a person decides"),
    Phase("retraining", Role.TRAINING, 0.01),
)
"""What lies ahead when the plan is made. The weights sum to one."""

BEHIND = (
    Phase("opportunity", Role.LEAD, 0.0, "a person decided"),
    Phase("discovery", Role.LEAD, 0.0),
    Phase("readiness", Role.RISK, 0.0),
    Phase("scope", Role.LEAD, 0.0),
)
"""What was done before it."""

MILESTONES = (
    ("kick-off", "pre-kickoff", "people, access and money are in place"),
    ("data ready", "preparation", "at least 30 rows; at most 1 % of hold-out rows have a twin in training"),
    ("model accepted", "validation", "every acceptance criterion of the scope holds on the hold-out rows"),
    ("release decided", "risk-review", "no veto; whoever must decide has decided"),
    ("in use and watched", "monitoring", "every signal has a limit; the way back was tried"),
    ("next steps decided", "improvement", "the ordered list of next steps is decided"),
)
"""Name, the phase that ends it, and its criterion."""
