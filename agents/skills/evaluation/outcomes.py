"""Reads predictions and sealed labels together, and refuses what does not match exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skill import SkillError
from agents.skills.data import twins
from agents.skills.evaluation.scores import ClassOutcome, Outcome, ValueOutcome
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, ScopeSpec

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.scores import Floats, Integers

_REMEDY = "run evaluation.predict again on the hold-out features as they are"


@dataclass(frozen=True)
class HoldOut:
    """Hold-out rows in ascending row number: what happened, beside what model and baseline predicted, and features.

    `groups` (rows,) numbers what rows belong to: those of one group say the same thing again (`twins.independent`).
    """

    model: Outcome
    baseline: Outcome
    features: pd.DataFrame
    groups: Integers

    @property
    def rows(self) -> int:
        """How many hold-out rows there are."""
        return len(self.model.truth)

    @property
    def independent(self) -> int:
        """How many groups they form."""
        return len(set(self.groups.tolist()))


def read_holdout(predictions: Path, labels: Path, features: Path, scope: ScopeSpec, groups: str | None) -> HoldOut:
    """Join the three files by row number; `groups` is the ticket's column of what rows belong to.

    Raises SkillError when rows do not match one to one, a prediction is not a valid probability or number, or the
    baseline is not one constant answer (a floor that reads the columns is no floor).
    """
    import numpy as np
    import pandas as pd

    predicted = _by_row(pd.read_parquet(predictions), "predictions.parquet")
    truth = _by_row(pd.read_parquet(labels), "holdout-labels.parquet")
    columns = _by_row(pd.read_parquet(features), "holdout-features.parquet")
    if truth.empty:
        raise SkillError("there are no hold-out rows", "split the data again")
    for name, frame in (("predictions.parquet", predicted), ("holdout-features.parquet", columns)):
        if not frame.index.equals(truth.index):
            strange = len(frame.index.symmetric_difference(truth.index))
            raise SkillError(f"{name} and the sealed labels differ in {strange} rows", _REMEDY)
    target = truth[TARGET_COLUMN]
    alike = twins.independent(columns, groups)
    if scope.classes:
        known = class_indices(target, scope)
        model, floor = (ClassOutcome(known, _probabilities(predicted, prefix, scope)) for prefix in ("p_", "b_"))
        constant = bool(np.ptp(floor.probabilities, axis=0).max() < 1e-9)
        return HoldOut(model, _constant(floor, constant), columns, alike)
    numbers = target.to_numpy(dtype=np.float64)
    answers = [ValueOutcome(numbers, _values(predicted, name)) for name in ("prediction", "b_prediction")]
    spread = float(np.ptp(answers[1].predicted))
    constant = spread <= 1e-9 * max(1.0, float(np.abs(answers[1].predicted).max()))
    return HoldOut(answers[0], _constant(answers[1], constant), columns, alike)


def _by_row(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The frame indexed by row number, ascending. Raises SkillError for a missing column or a repeated row."""
    if ROW_COLUMN not in frame.columns:
        raise SkillError(f"{name} has no column {ROW_COLUMN}", _REMEDY)
    indexed = frame.set_index(ROW_COLUMN).sort_index()
    if not indexed.index.is_unique:
        raise SkillError(f"{name} holds some rows more than once", _REMEDY)
    return indexed


def class_indices(target: pd.Series[Any], scope: ScopeSpec) -> Integers:
    """The labels as places in `scope.classes`. Raises SkillError for a class the scope does not name."""
    import numpy as np

    lookup = {label: index for index, label in enumerate(scope.classes)}
    labels = target.astype(str).tolist()
    unknown = sorted(set(labels) - set(lookup))
    if unknown:
        raise SkillError(f"hold-out rows have classes scope.json does not name: {unknown[:5]}", "fix the scope")
    return np.array([lookup[label] for label in labels], dtype=np.intp)


def _probabilities(predicted: pd.DataFrame, prefix: str, scope: ScopeSpec) -> Floats:
    import numpy as np

    names = [f"{prefix}{index}" for index in range(len(scope.classes))]
    _need(predicted, names)
    values = predicted[names].to_numpy(dtype=np.float64)
    inside = np.isfinite(values).all() and (values >= 0).all() and (values <= 1 + 1e-9).all()
    if not inside or np.abs(values.sum(axis=1) - 1).max() > 1e-6:
        raise SkillError(f"the columns {prefix}* of predictions.parquet are not probabilities that sum to 1", _REMEDY)
    return values


def _values(predicted: pd.DataFrame, name: str) -> Floats:
    import numpy as np

    _need(predicted, [name])
    values = predicted[name].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise SkillError(f"the column {name} of predictions.parquet holds values that are not finite", _REMEDY)
    return values


def _need(predicted: pd.DataFrame, names: list[str]) -> None:
    missing = [name for name in names if name not in predicted.columns]
    if missing:
        raise SkillError(f"predictions.parquet has no column {', '.join(missing[:5])}", _REMEDY)


def _constant(floor: Outcome, constant: bool) -> Outcome:
    if not constant:
        raise SkillError("the baseline's predictions differ between rows: it is no floor", "train the baseline again")
    return floor
