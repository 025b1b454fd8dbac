"""Dividing rows into train and hold-out so that the hold-out tells the truth.

Four ways: `stratified` (classes in proportion) and `random` (regression) when rows are independent; `grouped` when
rows of a group, or twins, must stay together; `time` when the future is predicted from the past.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agents.skill import InputError
from agents.skills.data import twins
from schemas.values import Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

HOLDOUT = 0.2
SHARES = (0.1, 0.35)
"""Shares of rows a hold-out of whole groups may have; the nearest to HOLDOUT that the groups allow is taken."""

MANY_GROUPS = 20_000
"""Above this, the stratified group search (about 1 ms a group) gives way to the best of ten random group draws."""


Strategy = Literal["random", "stratified", "grouped", "time"]


@dataclass(frozen=True)
class Division:
    """Which rows go where. All arrays are (rows,) and follow the frame's order.

    `holdout` and `dropped` are disjoint masks; the rest is train. `groups` are group numbers (each row its own when
    rows are independent). `twin_fraction` is that of the random split, `twin_fraction_after` that of this one.
    """

    strategy: Strategy
    reason: str
    holdout: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    dropped_reason: str
    groups: NDArray[np.int64]
    group_by: str | None
    twin_fraction: float
    twin_fraction_after: float


@dataclass(frozen=True)
class Rows:
    """What is divided: features (rows, columns), target (rows,; text labels or float64), grouping and time columns."""

    features: pd.DataFrame
    target: pd.Series[Any]
    task: Task
    groups: str | None = None
    time: str | None = None


def divide(rows: Rows, seed: int) -> Division:
    """Divide the rows, the same way for the same rows and seed.

    First the plain random split is made and its twins are counted. If more than 1 % of its hold-out rows have a twin
    in train, or of the hold-out's that is then made, twins stay together; rows of a group always do. Raises InputError
    when no fair division exists: a class too rare to be on both sides, groups too few or too uneven, no usable time.
    """
    others = [str(name) for name in rows.features.columns if name != rows.groups]
    classes = twins.twin_classes(rows.features, twins.key_columns(rows.features, others))
    _check_rarest(rows)
    plain = _plain(rows, seed)
    before = twins.twin_fraction(classes, plain)
    division = _division(rows, classes, plain, together=before > twins.MAX_TWINS, seed=seed)
    if division.twin_fraction_after > twins.MAX_TWINS and before <= twins.MAX_TWINS:
        return _division(rows, classes, plain, together=True, seed=seed)
    return division


def _division(
    rows: Rows, classes: NDArray[np.int64], plain: NDArray[np.bool_], *, together: bool, seed: int
) -> Division:
    """The division by time, by groups or at random (`plain`), with twins kept `together` or not."""
    import numpy as np

    before = twins.twin_fraction(classes, plain)
    groups, group_by = _groups(rows, classes, together=together)
    holdout, dropped, why = plain, np.zeros(len(plain), dtype=np.bool_), ""
    strategy: Strategy
    if rows.time is not None:
        strategy = "time"
        holdout, dropped, why = _by_time(rows, groups)
        reason = f"ordered by {rows.time!r}: the hold-out is the latest {holdout.mean():.0%} of the rows"
        if group_by:
            reason += f"; earlier rows of its groups ({group_by}) are left out"
    elif group_by is not None:
        strategy = "grouped"
        holdout = _by_group(rows, groups, group_by, seed)
        reason = f"rows are grouped by {group_by}: {before:.1%} of a random hold-out's rows have a twin in train"
    else:
        strategy = "stratified" if rows.task is Task.CLASSIFICATION else "random"
        reason = f"rows are independent: {before:.1%} of the hold-out rows have a twin in train"
    _check_sides(rows, strategy, holdout, dropped)
    after = twins.twin_fraction(classes[~dropped], holdout[~dropped])
    return Division(strategy, reason, holdout, dropped, why, groups, group_by, before, after)


def _check_sides(rows: Rows, strategy: str, holdout: NDArray[np.bool_], dropped: NDArray[np.bool_]) -> None:
    """Raises InputError unless every class is on both sides."""
    if rows.task is not Task.CLASSIFICATION:
        return
    for side, mask in (("hold-out", holdout), ("train", ~holdout & ~dropped)):
        absent = sorted(set(rows.target) - set(rows.target[mask]))
        if absent:
            raise InputError(
                f"no row of class {absent[0]!r} is in the {side} part of a {strategy} split",
                f"give more rows of it (there are {int((rows.target == absent[0]).sum())}), or merge rare classes",
            )


def _check_rarest(rows: Rows) -> None:
    if rows.task is Task.CLASSIFICATION:
        counts = rows.target.value_counts()
        label, fewest = str(counts.index[-1]), int(counts.iloc[-1])
        if fewest < 5:
            raise InputError(
                f"class {label!r} has only {fewest} row(s): it cannot be trained on and tested too",
                "give at least 5 rows of it, or merge or leave out rare classes",
            )


def _plain(rows: Rows, seed: int) -> NDArray[np.bool_]:
    """The seeded random hold-out, classes in proportion."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    count = len(rows.target)
    stratify = rows.target if rows.task is Task.CLASSIFICATION else None
    size = max(round(HOLDOUT * count), rows.target.nunique() if stratify is not None else 1)
    _, chosen = train_test_split(np.arange(count), test_size=size, random_state=_state(seed), stratify=stratify)
    holdout = np.zeros(count, dtype=np.bool_)
    holdout[chosen] = True
    return holdout


def _groups(rows: Rows, classes: NDArray[np.int64], *, together: bool) -> tuple[NDArray[np.int64], str | None]:
    """Group numbers and what they are formed by: the groups column, twins, both, or nothing."""
    import numpy as np

    if rows.groups is not None:
        own = twins.column_groups(rows.features[rows.groups])
        if together:
            return twins.merged(own, classes), f"{rows.groups} and covariate twins"
        return own, rows.groups
    if together:
        return classes, "covariate twins"
    return np.arange(len(classes), dtype=np.int64), None


def _by_group(rows: Rows, groups: NDArray[np.int64], group_by: str, seed: int) -> NDArray[np.bool_]:
    """A hold-out of whole groups, of several the one nearest to HOLDOUT in rows and to the whole in classes."""
    import numpy as np

    sizes = np.bincount(groups)
    what = f"rows grouped by {group_by} form {len(sizes)} group(s), the largest with {sizes.max() / len(groups):.0%}"
    remedy = "name another `groups` column or none, or add columns that tell rows apart"
    if len(sizes) < 5:
        raise InputError(f"{what} of the rows: too few to hold some out", remedy)
    shares = rows.target.value_counts(normalize=True) if rows.task is Task.CLASSIFICATION else None
    best: tuple[float, NDArray[np.bool_]] | None = None
    for chosen in _candidates(rows, groups, len(sizes), seed):
        holdout = np.zeros(len(groups), dtype=np.bool_)
        holdout[chosen] = True
        distance = abs(float(holdout.mean()) - HOLDOUT)
        if shares is not None:
            own = rows.target[holdout].value_counts(normalize=True).reindex(shares.index, fill_value=0.0)
            other = rows.target[~holdout].value_counts(normalize=True).reindex(shares.index, fill_value=0.0)
            distance += float((own - shares).abs().sum()) + float((own == 0).sum() + (other == 0).sum())
        if SHARES[0] <= holdout.mean() <= SHARES[1] and (best is None or distance < best[0]):
            best = distance, holdout
    if best is None:
        raise InputError(f"{what} of the rows: no fair hold-out of whole groups exists", remedy)
    return best[1]


def _candidates(rows: Rows, groups: NDArray[np.int64], count: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Row positions of possible hold-outs made of whole groups."""
    import warnings

    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    if rows.task is Task.CLASSIFICATION and count <= MANY_GROUPS:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            folds = StratifiedGroupKFold(round(1 / HOLDOUT), shuffle=True, random_state=_state(seed))
            yield from (chosen for _, chosen in folds.split(groups, rows.target, groups))
    draws = GroupShuffleSplit(10, test_size=HOLDOUT, random_state=_state(seed))
    yield from (chosen for _, chosen in draws.split(groups, groups=groups))


def _by_time(rows: Rows, groups: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], str]:
    """The latest rows as hold-out, the rows left out, and why they are.

    Rows of the same moment stay together. Left out: rows without a time, and earlier rows of a hold-out row's group.
    """
    import numpy as np

    when = _times(rows)
    unknown = when.isna().to_numpy(dtype=np.bool_)
    moments = np.sort(when[~unknown].to_numpy())
    cut = moments[int(np.floor((1 - HOLDOUT) * len(moments)))]
    holdout = (when >= cut).to_numpy(dtype=np.bool_) & ~unknown
    if holdout.sum() > 0.5 * len(holdout) or holdout.all():
        raise InputError(
            f"the time column {rows.time!r} has too few distinct values: {int(holdout.sum())} of {len(holdout)} rows "
            "are the latest",
            "name a finer time column, or none",
        )
    straddling = np.isin(groups, groups[holdout]) & ~holdout & ~unknown
    if straddling.sum() > 0.5 * (~holdout).sum():
        raise InputError(
            f"{int(straddling.sum())} of {int((~holdout).sum())} earlier rows belong to groups of the latest rows",
            "drop `time` (then whole groups are held out) or `groups` (then only later rows are)",
        )
    reasons = [f"{int(unknown.sum())} without {rows.time!r}"] if unknown.any() else []
    if straddling.any():
        reasons.append(f"{int(straddling.sum())} earlier rows of groups in the hold-out")
    return holdout, unknown | straddling, ", ".join(reasons)


def _times(rows: Rows) -> pd.Series[Any]:
    """The time column as numbers or datetimes that can be ordered."""
    from agents.skills.data.columns import kind_of

    when = rows.features[str(rows.time)]
    if kind_of(when) not in ("datetime", "numeric"):
        sample = str(when.dropna().iloc[0])[:40] if when.notna().any() else "nothing"
        raise InputError(
            f"the time column {rows.time!r} holds {sample!r}, which cannot be put in order",
            "write times as ISO 8601, for example 2026-11-01 or 2026-11-01T09:00:00Z",
        )
    if (share := float(when.isna().mean())) > HOLDOUT:
        raise InputError(f"the time column {rows.time!r} is missing in {share:.0%} of the rows", "fill it")
    return when


def _state(seed: int) -> int:
    """The seed in the range scikit-learn takes."""
    return seed % 2**32
