"""Cross-validation folds that never split a group and never look into the future."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agents.skill import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Fold:
    """Row positions to fit on and to score on."""

    train: Indices
    test: Indices


@dataclass(frozen=True)
class FoldPlan:
    """How the training rows are folded.

    `kind` says what is respected. `note` says why there are fewer folds than planned, or is empty.
    """

    kind: Literal["stratified", "plain", "stratified-grouped", "grouped", "time"]
    count: int
    note: str = ""


def plan_folds(target: NDArray[Any], groups: NDArray[Any], *, wanted: int, classes: bool, time: bool) -> FoldPlan:
    """Choose the kind of folds and how many the rows allow.

    `target` (rows,) holds class labels or numbers, `groups` (rows,) group ids. Raises InputError when not even two
    folds can be made: fewer than four rows, one class, one group, or a lone row of one of two classes.
    """
    import numpy as np

    rows = len(target)
    if rows < 4:
        raise InputError(f"{rows} training rows cannot be cross-validated", "provide more rows")
    counts = Counter(target.tolist()) if classes else Counter()
    if classes:
        _need_classes(counts)
    limits = {"rows": rows // 2}
    grouped = len(np.unique(groups)) < rows
    if classes and not time:
        limits["rows of the rarest class"] = max(min(counts.values()), 2)
    if grouped and not time:
        limits["groups"] = len(np.unique(groups))
        if limits["groups"] < 2:
            raise InputError("all training rows belong to one group", "name another `groups` column or none")
    reason, most = min(limits.items(), key=lambda item: item[1])
    count = min(wanted, most)
    note = f"{count} folds instead of {wanted}: only {most} {reason}" if count < wanted else ""
    if time:
        return FoldPlan("time", count, note)
    if classes:
        return FoldPlan("stratified-grouped" if grouped else "stratified", count, note)
    return FoldPlan("grouped" if grouped else "plain", count, note)


def _need_classes(counts: Counter[Any]) -> None:
    if len(counts) < 2:
        raise InputError(f"every training row has the class {next(iter(counts))!r}", "provide rows of other classes")
    label, fewest = min(counts.items(), key=lambda item: item[1])
    if len(counts) == 2 and fewest < 2:
        raise InputError(f"class {label!r} has one training row", "provide more rows of it")


def make_folds(plan: FoldPlan, target: NDArray[Any], groups: NDArray[Any], seed: int) -> list[Fold]:
    """The folds of one repeat; another seed gives another partition (time folds are always the same).

    Folds whose fitting rows hold a single class are left out; raises InputError when fewer than two remain.
    """
    import numpy as np

    classes = plan.kind.startswith("stratified")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = [Fold(train, test) for train, test in _splits(plan, target, groups, seed)]
    if plan.kind == "time":  # earlier rows of a group that is scored later would give it away
        folds = [Fold(fold.train[~np.isin(groups[fold.train], groups[fold.test])], fold.test) for fold in folds]
    if classes or (plan.kind == "time" and target.dtype.kind not in "fiu"):
        folds = [fold for fold in folds if len(np.unique(target[fold.train])) > 1]
    folds = [fold for fold in folds if len(fold.test) and len(fold.train)]
    if len(folds) < 2:
        raise InputError(
            f"of {plan.count} {plan.kind} folds fewer than two leave both classes to fit on",
            "provide more rows, or more groups with both classes",
        )
    return folds


def _splits(plan: FoldPlan, target: NDArray[Any], groups: NDArray[Any], seed: int) -> Iterator[tuple[Indices, Indices]]:
    import numpy as np
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit

    rows = np.zeros((len(target), 1))
    splitters = {
        "stratified": lambda: StratifiedKFold(plan.count, shuffle=True, random_state=seed),
        "plain": lambda: KFold(plan.count, shuffle=True, random_state=seed),
        "stratified-grouped": lambda: StratifiedGroupKFold(plan.count, shuffle=True, random_state=seed),
        "grouped": lambda: GroupKFold(plan.count, shuffle=True, random_state=seed),
        "time": lambda: TimeSeriesSplit(plan.count),
    }
    splits: Iterator[tuple[Indices, Indices]] = splitters[plan.kind]().split(
        rows, target, groups if plan.kind.endswith("grouped") else None
    )
    return splits
