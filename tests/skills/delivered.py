"""Delivered models of every kind on a table with every kind of column, without a search: made in milliseconds."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from agents.skills.feature.transform import build_transformer, prepare_frame
from agents.skills.shapes import FeatureColumn, FeatureMap
from agents.skills.training.candidates import BOOSTING, FOREST, LINEAR, Problem
from agents.skills.training.modelfile import dump_model
from agents.skills.training.voting import KINDS, VOTING, joined_settings
from schemas.values import Task
from tests.skills.ml_inputs import make_inputs, write_json

METRICS = {"two": "roc_auc", "three": "log_loss", "numbers": "rmse"}


def mixed_rows(rows: int = 240, seed: int = 5) -> pd.DataFrame:
    """Numbers with gaps, yes and no, levels with rare ones and gaps, dates; `noise` says nothing of any target."""
    draw = np.random.default_rng(seed)
    wards = ["north", "south", "west", "", "attic", None]
    frame = pd.DataFrame(
        {
            "weight": draw.normal(70, 12, rows),
            "dose": np.where(draw.random(rows) < 0.15, np.nan, draw.gamma(2.0, 3.0, rows)),
            "noise": draw.random(rows),
            "smokes": draw.choice(["yes", "no", None], rows, p=[0.4, 0.5, 0.1]),
            "ward": draw.choice(wards, rows, p=[0.35, 0.3, 0.2, 0.05, 0.01, 0.09]),
            "admitted": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 700, rows), unit="D"),
        }
    )
    frame.loc[draw.random(rows) < 0.05, "admitted"] = pd.NaT
    return frame


FEATURES = FeatureMap(
    columns=(
        FeatureColumn(name="weight", kind="numeric", impute="median", encode="scale"),
        FeatureColumn(name="dose", kind="numeric", impute="median", encode="scale"),
        FeatureColumn(name="noise", kind="numeric", impute="median", encode="scale"),
        FeatureColumn(name="smokes", kind="boolean", impute="most_frequent", encode="none"),
        FeatureColumn(name="ward", kind="categorical", impute="most_frequent", encode="one_hot"),
        FeatureColumn(name="admitted", kind="datetime", impute="median", encode="parts"),
    ),
    dropped={},
    signature="b" * 64,
)


def target_of(frame: pd.DataFrame, task: str, seed: int = 6) -> list[Any]:
    """What follows from weight, dose and ward, with some noise: two classes, three, or numbers."""
    draw = np.random.default_rng(seed)
    score = (frame["weight"] - 70) / 12 + frame["dose"].fillna(12.0) / 6 + (frame["ward"] == "north") * 1.5
    score = score.to_numpy(dtype=np.float64) + draw.normal(0, 0.4, len(frame))
    if task == "numbers":
        return [float(each) for each in score * 10]
    cuts = np.quantile(score, [0.5] if task == "two" else [0.33, 0.66])
    return [("low", "middle", "tall")[int(each)] for each in np.searchsorted(cuts, score)]


@dataclass(frozen=True)
class Delivered:
    """One fitted pipeline with the artifacts that the skills read, by name."""

    pipeline: Pipeline
    frame: pd.DataFrame
    files: dict[str, Path]


def deliver(folder: Path, kind: str, task: str, frame: pd.DataFrame | None = None) -> Delivered:
    """Fit `kind` with default settings on the training rows and write everything down."""
    rows = mixed_rows() if frame is None else frame
    features = FEATURES if frame is None else None
    files = make_inputs(folder, rows, target_of(mixed_rows(), task), metric=METRICS[task])
    if features is not None:
        files["feature-map.json"] = write_json(folder / "feature-map.json", features)
    known = FeatureMap.model_validate_json(files["feature-map.json"].read_text("utf-8"))
    train = pd.read_parquet(files["train.parquet"])
    prepared = prepare_frame(train, known)
    classes = json.loads(files["scope.json"].read_text("utf-8"))["classes"]
    problem = Problem(
        Task.CLASSIFICATION if classes else Task.REGRESSION, METRICS[task], len(classes), len(train), seed=3
    )
    members = (LINEAR, FOREST, BOOSTING)
    settings = (
        joined_settings({each: KINDS[each].defaults(problem) for each in members})
        if kind == VOTING
        else KINDS[kind].defaults(problem)
    )
    pipeline = Pipeline([("transform", build_transformer(known)), ("model", KINDS[kind].build(settings, problem))])
    few = {name: 8 for name in pipeline.get_params() if name.endswith(("n_estimators", "max_iter")) and kind != LINEAR}
    pipeline.set_params(**(few | ({"model__linear__max_iter": 2000} if "model__linear__max_iter" in few else {})))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.fit(prepared, train["__target__"].to_numpy())
    (folder / "model.skops").write_bytes(dump_model(pipeline))
    return Delivered(pipeline, prepared, files | {"model.skops": folder / "model.skops"})
