"""Columns that stand out: alone they tell the target far better than all other columns together.

A stand-in for the answer (a code set after the outcome, a score computed from it) need not be perfect: with one row in
a hundred wrong it passes any fixed bound that lets real measurements pass. What gives it away is its company. A real
measurement is one of several that say much the same; a proxy knows what the others together cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.skills.data import twins
from agents.skills.feature.finding import Finding, Verdict
from agents.skills.feature.transform import DATETIME_PARTS, build_transformer, part_name, prepare_frame
from agents.skills.forks import spread
from agents.skills.shapes import FeatureMap

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

STANDS_OUT = 0.5
"""Share of the other columns' joint loss that a column alone must save to be suspected."""

SURE = 1.5
"""Standard errors the saving must be above zero, over rows."""

STRONG = 0.25
"""Only a column that leaves at most this share of the loss of no column at all can be the answer in disguise."""

ASKED = 3
"""How many columns are tested: those that tell most by themselves."""

FOLDS = 5
TREES = 40
SAMPLE = 4_000
"""Most rows looked at."""


def stand_outs(
    frame: pd.DataFrame, target: pd.Series[Any], mapped: FeatureMap, classes: Sequence[str],
    strengths: dict[str, float], groups: NDArray[np.int64], seed: int,
) -> list[Finding]:  # fmt: skip
    """The test for the ASKED strongest columns; `strengths` is what each tells by itself (any measure that orders).

    The loss of a row is the squared error of the probabilities (or of the number), cross-validated on whole `groups`
    (rows,), rows of rare classes counting as much as others. The value is the share of the other columns' loss that the
    column alone saves; a column alone that is no better than the others together has a value below zero.
    """
    import numpy as np

    if len(mapped.columns) < 2:
        return []
    rows = np.arange(len(frame))
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
    truth, weights = _truth(target.iloc[rows], classes)
    folds = _folds(truth, groups[rows], bool(classes), seed)
    if not folds:
        return []
    prepared = prepare_frame(frame.iloc[rows], mapped)
    floor = _floor(truth, weights, folds)
    asked = sorted(strengths, key=lambda name: (-strengths[name], name))[:ASKED]
    only = [_with(mapped, {name}) for name in asked]
    alone = dict(zip(asked, _losses(prepared, truth, only, folds, seed, bool(classes)), strict=True))
    strong = [name for name in asked if (weights * alone[name]).sum() <= STRONG * floor]
    others = [_with(mapped, {column.name for column in mapped.columns} - {name}) for name in strong]
    joint = dict(zip(strong, _losses(prepared, truth, others, folds, seed, bool(classes)), strict=True))
    found = []
    for name in asked:
        saved = 0.0
        verdict: Verdict = "ok"
        if name in joint:
            saved = 1.0 - float((weights * alone[name]).sum() / max((weights * joint[name]).sum(), 1e-12))
            difference = weights * (joint[name] - alone[name]) * len(rows)
            error = twins.mean_error(difference, groups[rows])
            if saved > STANDS_OUT and float(difference.mean()) > SURE * error:
                verdict = "suspect"
        meaning = "share of all other columns' joint loss that this column alone saves"
        found.append(Finding("stands out", name, saved, STANDS_OUT, verdict, meaning))
    return found


def _with(mapped: FeatureMap, names: set[str]) -> FeatureMap:
    """The map with the columns of these names only."""
    return mapped.model_copy(update={"columns": tuple(each for each in mapped.columns if each.name in names)})


def _truth(target: pd.Series[Any], classes: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What happened as (rows, classes or 1), and row weights (rows,) that sum to one, the same for each class."""
    import numpy as np

    if not classes:
        values = target.to_numpy(dtype=np.float64)
        return values[:, None], np.full(len(values), 1.0 / len(values))
    truth = np.stack([np.asarray(target == label, dtype=np.float64) for label in classes], axis=1)
    share = truth.mean(axis=0)
    weights = (truth / np.where(share > 0, share, 1.0)).sum(axis=1)
    return truth, weights / weights.sum()


def _folds(
    truth: NDArray[np.float64], groups: NDArray[np.int64], classes: bool, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    import numpy as np
    from sklearn.model_selection import GroupKFold

    count = min(FOLDS, len(np.unique(groups)))
    if count < 2:
        return []
    folds = list(GroupKFold(count, shuffle=True, random_state=seed % 2**32).split(truth, groups=groups))
    if classes and any((truth[fit].sum(axis=0) == 0).any() for fit, _ in folds):
        return []
    return folds


def _floor(truth: NDArray[np.float64], weights: NDArray[np.float64], folds: Sequence[Any]) -> float:
    """The weighted loss of answering the fitting rows' (weighted) mean."""
    import numpy as np

    loss = np.zeros(len(truth))
    for fit, score in folds:
        mean = np.average(truth[fit], axis=0, weights=weights[fit])
        loss[score] = ((truth[score] - mean) ** 2).sum(axis=1)
    return float((weights * loss).sum())


def _losses(
    frame: pd.DataFrame,
    truth: NDArray[np.float64],
    maps: Sequence[FeatureMap],
    folds: Sequence[Any],
    seed: int,
    classes: bool,
) -> list[NDArray[np.float64]]:
    """For each map the cross-validated squared errors (rows,) of randomised trees on its columns; one thread each, so
    that they repeat exactly."""
    import warnings

    import numpy as np
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.pipeline import Pipeline
    from threadpoolctl import threadpool_limits

    def lost(job: tuple[FeatureMap, Any, Any]) -> NDArray[np.float64]:
        mapped, fit, score = job
        columns = _columns(mapped)
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # levels a fold has not seen are handled
            # Regressing the indicators of the classes gives probabilities, for any number of classes in one forest.
            model = ExtraTreesRegressor(TREES, min_samples_leaf=3, max_features=0.5, random_state=seed % 2**32)
            pipeline = Pipeline([("transform", build_transformer(mapped)), ("model", model)])
            pipeline.fit(frame.iloc[fit][columns], truth[fit] if classes else truth[fit, 0])
            answer = pipeline.predict(frame.iloc[score][columns])
        errors: NDArray[np.float64] = ((truth[score] - answer.reshape(len(score), -1)) ** 2).sum(axis=1)
        return errors

    parts = iter(spread(lost, [(mapped, *fold) for mapped in maps for fold in folds]))
    losses = [np.zeros(len(truth)) for _ in maps]
    for loss in losses:
        for _, score in folds:
            loss[score] = next(parts)
    return losses


def _columns(mapped: FeatureMap) -> list[str]:
    """The columns of a prepared frame that the map's inputs became."""
    return [
        name
        for column in mapped.columns
        for name in (
            [part_name(column.name, part) for part in DATETIME_PARTS] if column.kind == "datetime" else [column.name]
        )
    ]
