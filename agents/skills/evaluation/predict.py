"""Skill `evaluation.predict`: the model's and the baseline's predictions for hold-out rows, without their labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillError, SkillOutput
from agents.skills.shapes import ROW_COLUMN, FeatureMap, ScopeSpec
from schemas.values import Measurement, Mode, Role

if TYPE_CHECKING:
    import pandas as pd


class EvaluationPredict(Skill[Parameters, SkillOutput]):
    """Predict the hold-out rows with the model and the baseline, and time it."""

    name = "evaluation.predict"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = ("model.skops", "baseline.skops", "holdout-features.parquet", "feature-map.json", "scope.json")
    produces = ("predictions.parquet",)
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `predictions.parquet`: `__row__` and, for classes, `p_<i>` and `b_<i>` in the order of
        `scope.json`'s classes; for numbers `prediction` and `b_prediction`. `b_` is the baseline.

        Raises SkillError when a model file holds anything but what training writes; it is not loaded then.
        """
        import numpy as np
        import pandas as pd
        from threadpoolctl import threadpool_limits

        from agents.skills.feature.transform import prepare_frame
        from agents.skills.training.modelfile import load_model

        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        features = FeatureMap.model_validate(context.read_json("feature-map.json"))
        raw = pd.read_parquet(context.path("holdout-features.parquet"))
        if raw.empty:
            raise SkillError("there are no hold-out rows", "split the data again")
        model, floor = (load_model(context.path(name)) for name in ("model.skops", "baseline.skops"))
        context.progress(f"predicting {len(raw)} hold-out rows")
        with threadpool_limits(limits=1):
            frame = prepare_frame(raw, features)
            table = {ROW_COLUMN: raw[ROW_COLUMN].to_numpy(dtype=np.int64)}
            table |= prediction_columns(model, frame, scope, "p_", "prediction")
            table |= prediction_columns(floor, frame, scope, "b_", "b_prediction")
            batch = milliseconds(lambda: model.predict(prepare_frame(raw, features)), 3) / len(raw)
            single = milliseconds(lambda: model.predict(prepare_frame(raw.iloc[:1], features)), 15)
        pd.DataFrame(table).to_parquet(context.out / "predictions.parquet", index=False)
        return SkillOutput(
            summary=f"{len(raw)} hold-out rows predicted; {single:.1f} ms for one row, {batch:.4f} ms each in a batch",
            measurements=(
                Measurement(scope="serving", name="batch_ms_per_row", value=batch),
                Measurement(scope="serving", name="single_row_ms", value=single),
            ),
        )


def prediction_columns(model: Any, frame: pd.DataFrame, scope: ScopeSpec, prefix: str, single: str) -> dict[str, Any]:
    """The prediction columns of one model. Raises SkillError for a model of other classes."""
    from agents.skills.training.search import class_probabilities

    if not scope.classes:
        return {single: model.predict(frame).astype("float64")}
    try:
        values = class_probabilities(model, frame, scope.classes)
    except (AttributeError, KeyError) as error:
        raise SkillError(f"the model does not predict the classes of scope.json: {error}", "train again") from error
    return {f"{prefix}{index}": values[:, index] for index in range(len(scope.classes))}


def milliseconds(call: Callable[[], Any], times: int) -> float:
    """The median duration of up to `times` calls, in milliseconds; no further call after two seconds."""
    durations: list[float] = []
    while len(durations) < times and sum(durations) < 2.0:
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    return median(durations) * 1000
