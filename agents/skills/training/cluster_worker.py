"""What a worker of a Ray cluster does: one configuration, one fold. Imported on the nodes, which have this package."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from agents.skills.feature.transform import build_transformer
from agents.skills.shapes import FeatureMap
from agents.skills.training.candidates import Params, Problem
from agents.skills.training.checkpoint import Checkpoint, identity
from agents.skills.training.folds import Fold
from agents.skills.training.search import CrossValidator
from agents.skills.training.voting import KINDS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.evaluation.scores import Floats


@dataclass(frozen=True)
class Work:
    """What every prediction of one training needs. `identity` is that of the code that asks."""

    frame: pd.DataFrame
    target: NDArray[Any]
    classes: tuple[str, ...]
    problem: Problem
    features: str
    identity: str


@cache
def _own_identity() -> str:
    return identity()


def predict(
    work: Work, kind: str, params: Params, train: NDArray[Any], test: NDArray[Any]
) -> tuple[Floats, float, float] | str:
    """The predictions for the rows `test`, with the seconds of CPU and of wall clock; or this node's identity where it
    is another than that of who asks: its predictions could differ."""
    from threadpoolctl import threadpool_limits

    if _own_identity() != work.identity:
        return _own_identity()
    features = FeatureMap.model_validate_json(work.features)
    validator = CrossValidator(
        work.frame, work.target, work.classes, work.problem, lambda: build_transformer(features), Checkpoint(None, "")
    )
    cpu, wall = time.process_time(), time.monotonic()
    with threadpool_limits(limits=1):
        predicted = validator.predicted(KINDS[kind], params, Fold(train, test))
    return predicted, time.process_time() - cpu, time.monotonic() - wall
