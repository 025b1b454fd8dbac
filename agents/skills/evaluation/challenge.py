"""Champion and challenger on the same hold-out rows: gains from the same bootstrap resamples, overall and by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import SkillContext
from agents.skills.data.markdown import cell
from agents.skills.evaluation.bootstrap import Interval, intervals, paired_gain, resample, resample_count
from agents.skills.evaluation.scores import ClassOutcome, Outcome, score, statistics
from agents.skills.evaluation.slices import Slice, SliceReport, measure_slices
from agents.skills.evaluation.text import number
from agents.skills.shapes import ScopeSpec
from schemas.ticket import LOWER_IS_BETTER

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.scores import Integers


@dataclass(frozen=True)
class Challenge:
    """Both models' metrics with intervals, and the challenger's paired gains (positive when it is better).

    `wrong_share` is how often the champion answers wrongly: classes called wrong, or absolute errors above
    `wrong_above`, the champion's own 90th percentile (None for classes). A canary holds the challenger to it.
    """

    metric: str
    rows: int
    champion: dict[str, Interval]
    challenger: dict[str, Interval]
    gains: dict[str, Interval]
    slices: SliceReport
    wrong_share: float
    wrong_above: float | None

    @property
    def gain(self) -> Interval:
        """The gain in the optimised metric."""
        return self.gains[self.metric]

    @property
    def won(self) -> bool:
        """The challenger is clearly better: the lower bound of its gain is above zero."""
        return self.gain.lower > 0

    @property
    def worse_slices(self) -> list[Slice]:
        """Slices in which the challenger is clearly worse than the champion."""
        return [part for part in self.slices.worst if part.gain.upper < 0]

    @property
    def reason(self) -> str:
        """The verdict in a sentence."""
        if self.won:
            return f"the challenger is clearly better: {self.metric} gain {self.gain.text}, above zero"
        if self.gain.upper < 0:
            return f"the champion is clearly better: {self.metric} gain {self.gain.text}, below zero"
        return (
            f"the challenger is not clearly better: {self.metric} gain {self.gain.text} holds zero; the champion stays"
        )

    def as_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return {
            "metrics": {name: each.as_dict() for name, each in self.champion.items()},
            "gain": {name: each.as_dict() for name, each in self.gains.items()},
            "winner": "challenger" if self.won else "champion",
            "reason": self.reason,
            "wrong_share": self.wrong_share,
            "wrong_above": self.wrong_above,
            "slices": {
                "judged": self.slices.judged,
                "clearly_worse": [part.as_dict() for part in self.worse_slices],
                "least_gain": [part.as_dict() for part in self.slices.worst],
            },
        }


def challenge(
    challenger: Outcome,
    champion: Outcome,
    features: pd.DataFrame,
    scope: ScopeSpec,
    context: SkillContext,
    groups: Integers,
) -> Challenge:
    """Compare two outcomes of the same rows, which belong to `groups` (rows,). Raises LimitError when resampling would
    take too long."""
    rows = len(challenger.truth)
    parts = {f"new.{name}": statistic for name, statistic in statistics(challenger).items()}
    parts |= {f"old.{name}": statistic for name, statistic in statistics(champion).items()}
    drawn = resample(parts, rows, resample_count(rows), context.seed, context.seconds * 0.3, groups)
    new_drawn = {name[4:]: values for name, values in drawn.items() if name.startswith("new.")}
    old_drawn = {name[4:]: values for name, values in drawn.items() if name.startswith("old.")}
    new, old = intervals(challenger, new_drawn, groups), intervals(champion, old_drawn, groups)
    gains = {
        name: paired_gain(new[name], old[name], new_drawn[name], old_drawn[name], name not in LOWER_IS_BETTER)
        for name in new
        if name in old
    }
    share, above = _wrong(champion)
    slices = measure_slices(challenger, champion, features, scope.metric, context.seed, by_gain=True, groups=groups)
    return Challenge(scope.metric, rows, old, new, gains, slices, share, above)


def _wrong(champion: Outcome) -> tuple[float, float | None]:
    import numpy as np

    if isinstance(champion, ClassOutcome):
        return 1.0 - score(champion, "accuracy"), None
    errors = np.abs(champion.truth - champion.predicted)
    above = float(np.quantile(errors, 0.9))
    return float((errors > above).mean()), above


def challenge_section(found: Challenge, name: str, version: str) -> list[str]:
    """The part of the report about champion and challenger."""
    winner = "**The challenger takes its place**" if found.won else "**The model in use stays**"
    lines = [
        "## The model in use and its challenger",
        "",
        f"{winner}: {found.reason}. In use is {cell(name)} {cell(version)}; both were asked about the same "
        f"{found.rows} sealed rows, and gains are paired: each resample counts for both.",
        "",
        "| metric | in use | challenger | gain, positive is better |",
        "|---|---|---|---|",
    ]
    for metric, gain in found.gains.items():
        shown = f"**{metric}**" if metric == found.metric else metric
        lines.append(f"| {shown} | {found.champion[metric].text} | {found.challenger[metric].text} | {gain.text} |")
    lines += ["", f"{found.slices.judged} slices have rows enough to be compared. "]
    if not found.worse_slices:
        return [*lines[:-1], lines[-1] + "In none is the challenger clearly worse.", ""]
    lines[-1] += "The challenger is clearly worse in:"
    lines += [
        "",
        f"| column | values | rows | {found.slices.metric} | in use there | gain |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cell(part.column)} | {cell(part.values)} | {part.rows} | {part.interval.text} | {number(part.baseline)} "
        f"| {part.gain.text} |"
        for part in found.worse_slices
    ]
    return [*lines, ""]
