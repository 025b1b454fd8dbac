"""The shape of a risk and how its score is read.

Score = likelihood x impact, each 1 to 5 (ISO 31000's matrix); up to 5 is low, up to 12 medium, above high.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.values import Value

TIERS = ("low", "medium", "high")
Level = Annotated[int, Field(ge=1, le=5)]


class Risk(Value):
    """One risk as the record shows it. `evidence` is what was read; `veto` is why it forbids delivery, if it does."""

    id: str
    title: str
    kind: Literal["system", "model", "data", "project"]
    cause: str
    effect: str
    signal: str
    """What would be seen first."""
    mitigation: str
    owner: str
    likelihood: Level
    impact: Level
    evidence: str
    veto: str = ""

    @property
    def score(self) -> int:
        """1 to 25."""
        return self.likelihood * self.impact

    @property
    def tier(self) -> int:
        """0 low, 1 medium, 2 high."""
        return 0 if self.score <= 5 else 1 if self.score <= 12 else 2

    @property
    def status(self) -> str:
        """`active` from tier medium; else `mitigated`: the mitigation is in force, nothing speaks against it."""
        return "active" if self.tier else "mitigated"

    def as_dict(self) -> dict[str, object]:
        """For JSON, with what follows from the levels."""
        return {**self.model_dump(mode="json"), "score": self.score, "tier": TIERS[self.tier], "status": self.status}
