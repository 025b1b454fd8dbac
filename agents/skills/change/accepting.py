"""Which acceptance criteria a ticket for a code change may have: conditions over what the review measures."""

from __future__ import annotations

from agents.skills.lead.criteria import check
from schemas.figures import MEASURED

FIGURES = MEASURED["evaluation.review"]


def check_acceptance(criterion: str) -> None:
    """Raises InputError for what is no condition over figures of the review. Figures of whoever built do not count."""
    check(criterion, FIGURES, f"a code change is accepted by conditions over {', '.join(FIGURES)}")
