"""The training rows as arrays, checked against the scope."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skill import InputError
from agents.skills.feature.transform import prepare_frame
from agents.skills.shapes import GROUP_COLUMN, TARGET_COLUMN, FeatureMap, ScopeSpec

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingRows:
    """What to learn from: prepared input columns, the target (labels as text, or numbers) and group ids, by row."""

    frame: pd.DataFrame
    target: NDArray[Any]
    groups: NDArray[Any]


def read_rows(path: Path, features: FeatureMap, scope: ScopeSpec) -> TrainingRows:
    """The rows of `train.parquet`, in the order of the file (that of time, for a split by time).

    Raises InputError when no column is left to learn from or the target does not fit the scope.
    """
    import pandas as pd

    if not features.columns:
        raise InputError("feature-map.json names no columns", "provide columns that say something of the target")
    frame = pd.read_parquet(path)
    return TrainingRows(prepare_frame(frame, features), _target(frame, scope), frame[GROUP_COLUMN].to_numpy())


def _target(frame: pd.DataFrame, scope: ScopeSpec) -> NDArray[Any]:
    import numpy as np

    column = frame[TARGET_COLUMN]
    if column.isna().any():
        raise InputError(f"the target is missing in {int(column.isna().sum())} training rows", "drop those rows")
    if not scope.classes:
        numbers = column.to_numpy(dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise InputError("the target holds infinite values", "clean the target column")
        return numbers
    labels: NDArray[Any] = np.array(column.astype(str).tolist(), dtype=np.str_)
    unknown = sorted(set(labels.tolist()) - set(scope.classes))
    if unknown:
        raise InputError(f"training rows have classes scope.json does not name: {unknown[:5]}", "fix the target")
    return labels
