"""The artifacts the data and feature skills hand on, made straight from a frame: where the ML skills' tests start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.skills.shapes import (
    GROUP_COLUMN,
    ROW_COLUMN,
    TARGET_COLUMN,
    ExperimentPlan,
    FeatureColumn,
    FeatureMap,
    ScopeSpec,
    SourceSpec,
    SplitSpec,
)
from conductor.pipelines import load
from schemas.ticket import LOWER_IS_BETTER, Ticket
from schemas.values import Task

ROOT = Path(__file__).resolve().parents[2]


def ticket(**changes: Any) -> Ticket:
    """A low-risk ticket."""
    return Ticket(**{"id": 12, "title": "Tell cultivars apart", "requester": "alice", "data": "sklearn:wine"} | changes)


def checklist(phase: str) -> set[str]:
    """The checklist item ids of a phase of the shipped pipeline."""
    return {item.id for item in load("ml-delivery").phase(phase).checklist}


def write_json(path: Path, value: Any) -> Path:
    """Any shape or plain value as JSON."""
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    path.write_text(json.dumps(plain), "utf-8")
    return path


def make_inputs(
    folder: Path,
    frame: pd.DataFrame,
    target: Sequence[Any],
    *,
    metric: str,
    groups: Sequence[int] | None = None,
    strategy: str | None = None,
    synthetic: bool = False,
    holdout: float = 0.25,
    seed: int = 0,
) -> dict[str, Path]:
    """Split `frame` (whole groups together) and write every artifact the ML skills need; returns name to path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = len(frame)
    ids = np.arange(rows) if groups is None else np.asarray(groups)
    classes = tuple(sorted({str(label) for label in target})) if metric not in ("mae", "rmse", "r2") else ()
    table = frame.reset_index(drop=True).copy()
    table[TARGET_COLUMN] = [str(value) for value in target] if classes else np.asarray(target, dtype=np.float64)
    table[ROW_COLUMN], table[GROUP_COLUMN] = np.arange(rows), ids
    drawn = np.random.default_rng(seed).permutation(np.unique(ids))
    held = np.isin(ids, drawn[: max(1, int(len(drawn) * holdout))])
    if strategy == "time":
        held = np.arange(rows) >= rows * (1 - holdout)
    table[~held].to_parquet(folder / "train.parquet", index=False)
    table[held][[*frame.columns, ROW_COLUMN]].to_parquet(folder / "holdout-features.parquet", index=False)
    table[held][[ROW_COLUMN, TARGET_COLUMN]].to_parquet(folder / "holdout-labels.parquet", index=False)
    specs: Mapping[str, Any] = {
        "scope.json": _scope(classes, metric),
        "split.json": SplitSpec(
            strategy=strategy or ("grouped" if groups is not None else "stratified" if classes else "random"),
            reason="rows of a test", seed=seed, train_rows=int((~held).sum()), holdout_rows=int(held.sum()),
            twin_fraction=0.0, twin_fraction_after=0.0, group_by=None, dropped_rows=0,
        ),
        "feature-map.json": feature_map(frame),
        "data-source.json": SourceSpec(
            uri="synthetic:test" if synthetic else "sklearn:wine", kind="synthetic" if synthetic else "sklearn",
            rows=rows, columns=(*map(str, frame.columns), "y"), sha256="a" * 64, bytes=1, synthetic=synthetic,
            description="Rows of a test.",
        ),
        "leakage.json": {"suspects": 0, "tests": [], "rows": rows},
    }  # fmt: skip
    for name, spec in specs.items():
        write_json(folder / name, spec)
    (folder / "data-contract.yaml").write_text("kind: DataContract\n", "utf-8")
    return {path.name: path for path in sorted(folder.iterdir())}


def _scope(classes: tuple[str, ...], metric: str) -> ScopeSpec:
    lower = metric in LOWER_IS_BETTER
    return ScopeSpec(
        task=Task.CLASSIFICATION if classes else Task.REGRESSION,
        target="y",
        metric=metric,
        higher_is_better=not lower,
        classes=classes,
        acceptance=(f"metrics.{metric}_upper < baseline.{metric}" if lower else f"metrics.{metric}_lower > 0.1",),
        acceptance_from="proposed",
        budget_minutes=10.0,
        budget_usd=5.0,
    )


def feature_map(frame: pd.DataFrame) -> FeatureMap:
    """Every column, numbers scaled, text as one-hot."""
    columns = tuple(
        FeatureColumn(name=str(name), kind="numeric", impute="median", encode="scale")
        if pd.api.types.is_numeric_dtype(frame[name])
        else FeatureColumn(name=str(name), kind="categorical", impute="most_frequent", encode="one_hot")
        for name in frame.columns
    )
    signature = hashlib.sha256(json.dumps([str(name) for name in frame.columns]).encode()).hexdigest()
    return FeatureMap(columns=columns, dropped={}, signature=signature)


def quick_plan(folder: Path, metric: str, candidates: tuple[str, ...] = ("linear",), trials: int = 2) -> Path:
    """A plan with few trials, written as `experiment-plan.json`."""
    plan = ExperimentPlan(
        metric=metric, folds=3, grouped=False, seed=7, baseline="dummy", candidates=candidates, trials=trials,
        search_seconds=20.0,
    )  # fmt: skip
    return write_json(folder / "experiment-plan.json", plan)


def wine() -> tuple[pd.DataFrame, list[str]]:
    """178 wines, 13 columns, three cultivars."""
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    return data.data, [f"cultivar_{label}" for label in data.target]


def binary_wine() -> tuple[pd.DataFrame, list[str]]:
    """Three blunt columns, two classes: learnable, not perfectly."""
    frame, labels = wine()
    return frame[["ash", "magnesium", "malic_acid"]], ["first" if each == "cultivar_1" else "other" for each in labels]


def diabetes() -> tuple[pd.DataFrame, list[float]]:
    """442 patients, 10 columns, disease progression."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True)
    return data.data, [float(value) for value in data.target]
