"""What a leakage test says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "suspect"]


@dataclass(frozen=True)
class Finding:
    """One test's outcome. `subject` is a column, or `rows` for tests of the split."""

    test: str
    subject: str
    value: float
    threshold: float
    verdict: Verdict
    meaning: str
