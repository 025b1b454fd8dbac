"""Model packages without a whole delivery: real feature maps, and a real small model where one is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from agents.skills.data.columns import kind_of
from agents.skills.feature.pipeline import map_features
from agents.skills.feature.transform import build_transformer, prepare_frame
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, FeatureMap, ScopeSpec
from agents.skills.training.modelfile import dump_model, zip_bytes


def scope_of(target: str, classes: tuple[str, ...] = (), metric: str = "mae", **more: Any) -> ScopeSpec:
    fields = {
        "task": "classification" if classes else "regression", "target": target, "metric": metric,
        "higher_is_better": metric not in ("mae", "rmse"), "classes": classes, "acceptance": (),
        "acceptance_from": "ticket", "budget_minutes": 1.0, "budget_usd": 1.0,
    }  # fmt: skip
    return ScopeSpec.model_validate(fields | more)


def package(
    path: Path,
    train: pd.DataFrame,
    target: pd.Series[Any],
    scope: ScopeSpec,
    *,
    leave_out: tuple[str, ...] = (),
    estimator: Any = None,
    promised: dict[str, Any] | None = None,
) -> FeatureMap:
    """Write `path`, a package for `train` (features) whose model is `estimator`, fitted, or no model at all."""
    from sklearn.pipeline import Pipeline

    from agents.skills.data.descriptions import describe_rows
    from agents.skills.devsecops.bundle import training_profile

    features = map_features(train.drop(columns=list(leave_out)), None, None)
    model = b"none"
    if estimator is not None:
        answers = target.astype(str) if scope.classes else target.astype("float64")
        steps = Pipeline([("prepare", build_transformer(features)), ("model", estimator)])
        model = dump_model(steps.fit(prepare_frame(train, features), answers))
    rows = train.assign(**{TARGET_COLUMN: target.astype(str) if scope.classes else target})
    rows = rows.assign(**{ROW_COLUMN: range(len(rows)), GROUP_COLUMN: range(len(rows))})
    time = next((name for name in leave_out if kind_of(train[name]) == "datetime"), None)
    profile = training_profile(describe_rows(rows, scope, time), features) | (
        {"promised": promised} if promised else {}
    )
    files = {
        "feature-map.json": features.model_dump_json().encode(), "scope.json": scope.model_dump_json().encode(),
        "model.skops": model, "training-profile.json": json.dumps(profile).encode(), "data-contract.yaml": b"{}\n",
    }  # fmt: skip
    manifest = {
        "format": "value-train-model/1", "name": "a-model", "version": "1.0.0", "target": scope.target,
        "model": {"kind": "linear (tuned)", "parameters": {}}, "inputs": {"signature": features.signature},
        "files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()},
    }  # fmt: skip
    path.write_bytes(zip_bytes(files | {"package.json": json.dumps(manifest).encode()}))
    return features
