"""What other sessions know of this session's inputs, by fixed rules: which to use again, and which to leave out.

Only the record speaks: the registry is made from artifacts whose digests it names. A leak and a missing worth are about
a target, so they count only for the same source and target; skew is about the way a value takes, so any target counts.
Of what was fitted there (medians, scales, levels) nothing is taken: a definition says how, training fits on its own
rows. docs/skills.md has the rules for people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from agents.skill import InputError, SkillContext
from agents.skills.feature.pipeline import signature
from agents.skills.shapes import FeatureColumn
from schemas.features import FeatureRegistry, FeatureUse

if TYPE_CHECKING:
    import pandas as pd

Standing = Literal["reused", "new", "left out"]

FEWEST_AGREEING = 2
"""Sessions that must have found an input without worth, and none with one, before it is left out."""
NO_WORTH = 0.01
"""An input has no worth where even the upper 95 % bound of its loss is below this share of the largest one's."""
ALIKE = 0.8
"""Shuffling one of two inputs that say the same loses little for either: of such a pair none is left out for that."""
_Z = 1.96
_MOST_ROWS = 5_000


@dataclass(frozen=True)
class Known:
    """What became of one input, and why, in words; `use` is the session whose definition is used again."""

    column: FeatureColumn
    standing: Standing
    why: str
    use: FeatureUse | None = None
    loss: float | None = None
    """Its newest measured loss as a share of that session's largest."""
    row_us: float | None = None


def read_registry(context: SkillContext) -> tuple[FeatureRegistry | None, str]:
    """The registry that the fact `features` points to, and its SHA-256; None where there is none, as on a machine apart
    from the record. Raises InputError when the file is no registry."""
    path = Path(str(context.facts.get("features") or ""))
    if not path.is_file():
        return None, ""
    try:
        content = path.read_bytes()
        return FeatureRegistry.model_validate_json(content), hashlib.sha256(content).hexdigest()
    except (OSError, ValidationError) as problem:
        reason = type(problem).__name__
        raise InputError(f"{path.name} cannot be read: {reason}", "delete it: it is made again") from problem


def judge(
    columns: Sequence[FeatureColumn], uses: Sequence[FeatureUse], target: str, train: pd.DataFrame
) -> list[Known]:
    """What becomes of each column. `uses` are those of other sessions on the same source, the oldest session first;
    `train` has the columns' training rows, which only say whether an input without worth has a twin."""
    found = [_judged(column, [use for use in uses if use.name == column.name], target) for column in columns]
    kept = [each.column for each in found if each.standing != "left out"]
    idle = [each.column for each in found if each.why.startswith(_WORTHLESS)]
    for place, each in enumerate(found):
        if each.column in idle and (twin := _twin(each.column, [*kept, *idle], train)):
            why = f"{each.why}; kept, since {twin} says nearly the same and shuffling shows the worth of neither"
            found[place] = _reused(each.column, [use for use in uses if use.name == each.column.name], why)
    return found


_WORTHLESS = "without worth"


def _judged(column: FeatureColumn, uses: Sequence[FeatureUse], target: str) -> Known:
    """By the rules in their order: a leak, a skew, no worth, a definition in good standing; else it is new."""
    same = [use for use in uses if use.target == target]
    tested = [use for use in same if use.tested]
    if tested and tested[-1].suspects and tested[-1].ending != "completed":
        return _left_out(column, same, f"suspected of a leak in {_where(tested[-1])}: {'; '.join(tested[-1].suspects)}")
    own = signature([column])
    served = [use for use in uses if use.definition == own and use.skewed is not None]
    if served and (served[-1].skewed or 0.0) > 0.0:
        share = served[-1].skewed
        return _left_out(
            column, same, f"served otherwise than trained in {_where(served[-1])}: {share:.1%} of the rows differ"
        )
    measured = [use for use in same if use.definition == own and use.loss is not None and use.most]
    if len({use.session for use in measured}) >= FEWEST_AGREEING and all(map(_worthless, measured)):
        last = measured[-1]
        return _left_out(
            column, same,
            f"{_WORTHLESS} in {len(measured)} sessions: at most {_upper(last):.2%} of the strongest input's loss of "
            f"{last.metric} in {_where(last)}",
        )  # fmt: skip
    return _reused(column, uses)


def _reused(column: FeatureColumn, uses: Sequence[FeatureUse], why: str = "") -> Known:
    own = signature([column])
    good = [use for use in uses if use.definition == own and use.ending == "completed"]
    loss, row_us = _figures(uses, own)
    if good:
        last = good[-1]
        text = why or f"the definition of {_where(last)}, fitted anew on this session's training rows"
        return Known(column, "reused", text, last, loss, row_us)
    other = [use for use in uses if use.definition != own]
    if why:
        text = why
    elif other:
        last = other[-1]
        text = f"another definition than in {_where(last)}: {last.kind}, {last.impute}, {last.encode} there"
    elif uses:
        text = f"used before, in no session that was completed (the newest: {_where(uses[-1])})"
    else:
        text = "no session used it before"
    return Known(column, "new", text, None, loss, row_us)


def _left_out(column: FeatureColumn, uses: Sequence[FeatureUse], why: str) -> Known:
    return Known(column, "left out", why, None, *_figures(uses, signature([column])))


def _figures(uses: Sequence[FeatureUse], definition: str) -> tuple[float | None, float | None]:
    own = [use for use in uses if use.definition == definition]
    losses = [use.loss / use.most for use in own if use.loss is not None and use.most]
    costs = [use.row_us for use in own if use.row_us is not None]
    return (losses[-1] if losses else None), (costs[-1] if costs else None)


def _upper(use: FeatureUse) -> float:
    return max(0.0, (use.loss or 0.0) + _Z * (use.se or 0.0)) / (use.most or 1.0)


def _worthless(use: FeatureUse) -> bool:
    return (use.most or 0.0) > 0.0 and use.se is not None and _upper(use) <= NO_WORTH


def _where(use: FeatureUse) -> str:
    return f"ticket {use.ticket} (session {use.session})"


def _twin(column: FeatureColumn, others: Sequence[FeatureColumn], train: pd.DataFrame) -> str:
    """Another input of the same kind that says nearly the same on the training rows, or an empty string."""
    from agents.skills.data.association import cramers_v, spearman

    rows = train.iloc[:_MOST_ROWS]
    for other in others:
        if other.name == column.name or other.kind != column.kind:
            continue
        numeric = column.kind == "numeric"
        alike = spearman if numeric else cramers_v
        if alike(rows[column.name], rows[other.name]) >= ALIKE:
            return other.name
    return ""
