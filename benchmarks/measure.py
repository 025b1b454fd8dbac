"""A measured figure: its runs, the median to quote, the aim it is held against."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """`runs` are the single values in `unit`; `aim` says in words what we want."""

    what: str
    unit: str
    runs: tuple[float, ...]
    aim: str = ""

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.runs)

    def line(self) -> str:
        """One row of the table."""
        spread = f"{min(self.runs):,.4g} … {max(self.runs):,.4g} ({len(self.runs)})"
        return f"{self.what:<66} {self.median:>9,.4g} {self.unit:<4} {spread:<24} {self.aim}"

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return {"what": self.what, "unit": self.unit, "median": self.median, "runs": list(self.runs), "aim": self.aim}
