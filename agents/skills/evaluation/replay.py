"""Replays hold-out rows as requests through the package that was delivered, not through the model as it was trained.

A request is a row as JSON text, which is how a caller would send it: what a column loses on that way, and a package
that holds another model, show as a difference from the predictions that were evaluated.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from agents.skill import SkillError
from agents.skills.evaluation.scores import ClassOutcome, Outcome, ValueOutcome
from agents.skills.shapes import ROW_COLUMN
from agents.skills.training.inuse import Package, read_package

if TYPE_CHECKING:
    import pandas as pd

_TIMED = 25
"""Requests sent one by one to time them; the rest goes in one batch."""


@dataclass(frozen=True)
class Replayed:
    """What the package answered.

    `skew` is the largest difference from the evaluated predictions of any row: a probability, or a number in standard
    deviations of the evaluated predictions. `one_ms` is the median time of one request, in milliseconds. `inputs` has
    for each input that the package did not prepare as the rows themselves are prepared the share of such rows, in
    [0, 1].
    """

    outcome: Outcome
    skew: float
    one_ms: float
    bytes_per_request: float
    inputs: Mapping[str, float] = field(default_factory=dict)


def delivered(path: Path, sha256: str) -> Package:
    """The package at `path`, whose digest must be `sha256`.

    Raises SkillError when the bytes are others, or anything in it does not fit its own manifest.
    """
    package = read_package(path.name, path.read_bytes())
    if package.sha256 != sha256:
        raise SkillError(
            f"{path.name} is {package.sha256[:12]}, but deployment-config.yaml names {sha256[:12]}",
            "package the evaluated model again",
        )
    return package


def replay(package: Package, features: pd.DataFrame, evaluated: Outcome) -> Replayed:
    """Send every row of `features` (in the order of `evaluated`) through the package and compare."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from agents.skills.training.modelfile import loads_model

    model = loads_model("model.skops", package.files["model.skops"])
    requests = [_request(row) for row in features.drop(columns=ROW_COLUMN, errors="ignore").to_dict("records")]
    with threadpool_limits(limits=1):
        answered = _answer(model, package, requests)
        durations = []
        for request in requests[:_TIMED]:
            started = time.perf_counter()
            _answer(model, package, [request])
            durations.append(time.perf_counter() - started)
    outcome: Outcome
    if isinstance(evaluated, ClassOutcome):
        outcome = ClassOutcome(evaluated.truth, answered)
        skew = float(np.abs(answered - evaluated.probabilities).max())
    else:
        outcome = ValueOutcome(evaluated.truth, answered)
        spread = float(evaluated.predicted.std()) or 1.0
        skew = float(np.abs(answered - evaluated.predicted).max()) / spread
    size = sum(map(len, requests)) / len(requests)
    return Replayed(outcome, skew, median(durations) * 1000, size, _skewed_inputs(package, features, requests))


def _skewed_inputs(package: Package, features: pd.DataFrame, requests: list[str]) -> dict[str, float]:
    import pandas as pd

    from agents.skills.feature.transform import DATETIME_PARTS, part_name, prepare_frame

    own = prepare_frame(features.reset_index(drop=True), package.features)
    asked = prepare_frame(pd.DataFrame([json.loads(each) for each in requests]), package.features)
    found: dict[str, float] = {}
    for column in package.features.columns:
        parts = [column.name]
        if column.kind == "datetime":
            parts = [part_name(column.name, part) for part in DATETIME_PARTS]
        differ = (~((own[parts] == asked[parts]) | (own[parts].isna() & asked[parts].isna()))).any(axis=1)
        if differ.any():
            found[column.name] = float(differ.mean())
    return found


def _request(row: dict[Any, Any]) -> str:
    """One row as JSON text: missing values as null, dates in ISO 8601."""
    return json.dumps({str(name): _plain(value) for name, value in row.items()}, allow_nan=False)


def _plain(value: Any) -> Any:
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _answer(model: Any, package: Package, requests: list[str]) -> Any:
    """Probabilities (rows, classes) in the order of the scope's classes, or numbers (rows,)."""
    import numpy as np
    import pandas as pd

    from agents.skills.feature.transform import prepare_frame
    from agents.skills.training.search import class_probabilities

    frame = prepare_frame(pd.DataFrame([json.loads(each) for each in requests]), package.features)
    if package.scope.classes:
        return class_probabilities(model, frame, package.scope.classes)
    return np.asarray(model.predict(frame), dtype=np.float64)
