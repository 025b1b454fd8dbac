"""The choice rule: the simpler model stays unless a more complex one is clearly better on the same folds.

The interval of the paired difference uses the corrected variance of Nadeau and Bengio (2003, Machine
Learning 52:239-281): fitting sets overlap between folds, so the plain standard error is too small.
Variance of the mean over J folds = (1/J + test/train) * s².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.skills.evaluation.scores import Floats
    from agents.skills.training.candidates import Params


@dataclass(frozen=True)
class Finalist:
    """A configuration with its score on every comparison fold (NaN where the metric is undefined).

    `simplicity` is the order of its kind; a tuned configuration counts as less simple than the same kind untuned.
    """

    kind: str
    name: str
    params: Params
    simplicity: tuple[int, int]
    scores: Floats
    seconds: float = 0.0


@dataclass(frozen=True)
class Duel:
    """One comparison of a challenger with the model chosen so far; gains are positive when the challenger is better."""

    challenger: str
    holder: str
    gain: float
    lower: float
    upper: float
    won: bool


def corrected_se(values: Floats, test_share: float) -> float:
    """Standard error of a cross-validated mean; `test_share` is test rows over fitting rows of a fold."""
    import numpy as np

    if len(values) < 2:
        return float("nan")
    return float(np.sqrt((1 / len(values) + test_share) * values.var(ddof=1)))


def duel(challenger: Finalist, holder: Finalist, test_share: float, higher_is_better: bool) -> Duel:
    """Compare two finalists fold by fold; the challenger wins when the 95 % lower bound of its gain is above zero."""
    import numpy as np
    from scipy.stats import t

    gains = (challenger.scores - holder.scores) * (1.0 if higher_is_better else -1.0)
    gains = gains[~np.isnan(gains)]
    mean = float(gains.mean()) if len(gains) else 0.0
    se = corrected_se(gains, test_share)
    if not np.isfinite(se):
        return Duel(challenger.name, holder.name, mean, mean, mean, won=False)
    half = float(t.ppf(0.975, len(gains) - 1)) * se
    return Duel(challenger.name, holder.name, mean, mean - half, mean + half, won=mean - half > 0)


def choose(finalists: Sequence[Finalist], test_share: float, higher_is_better: bool) -> tuple[Finalist, list[Duel]]:
    """The finalist that stays after each has challenged, simplest first, and the comparisons made."""
    ordered = sorted(finalists, key=lambda finalist: finalist.simplicity)
    chosen, duels = ordered[0], []
    for challenger in ordered[1:]:
        result = duel(challenger, chosen, test_share, higher_is_better)
        duels.append(result)
        if result.won:
            chosen = challenger
    return chosen, duels


def explain(chosen: Finalist, duels: Sequence[Duel]) -> str:
    """The reason for the choice, in one sentence for each comparison."""
    if not duels:
        return f"{chosen.name} was the only candidate"
    parts = []
    for result in duels:
        gain = f"{result.gain:+.4f} [{result.lower:+.4f}, {result.upper:+.4f}]"
        verdict = "is clearly better than" if result.won else "is not clearly better than"
        parts.append(f"{result.challenger} {verdict} {result.holder} (paired gain {gain})")
    return f"{chosen.name} chosen: " + "; ".join(parts)
