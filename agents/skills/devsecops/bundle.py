"""The model package: one zip whose bytes depend on nothing but the model, its description and the library versions."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from math import hypot
from typing import Any

from agents.skills.devsecops.delivery import SYNTHETIC, Delivery
from agents.skills.devsecops.distributions import Distribution
from agents.skills.shapes import FeatureMap
from agents.skills.training.inuse import Package
from agents.skills.training.modelfile import EXTRA_TYPES, zip_bytes


def manifest(delivery: Delivery, needed: list[Distribution], files: dict[str, bytes]) -> dict[str, Any]:
    """`package.json`: what the package holds, what goes in and comes out, and what it must run on."""
    classes = delivery.scope.classes
    return {
        "format": "value-train-model/1",
        "name": delivery.name,
        "version": delivery.version,
        "synthetic": delivery.source.synthetic,
        "notice": SYNTHETIC if delivery.source.synthetic else "",
        "task": delivery.scope.task.value,
        "target": delivery.scope.target,
        "model": {
            "file": "model.skops",
            "kind": delivery.log.chosen.model,
            "parameters": delivery.log.chosen.parameters,
            "trusted_types": list(EXTRA_TYPES),
        },
        "inputs": {
            "signature": delivery.features.signature,
            "columns": [{"name": column.name, "kind": column.kind} for column in delivery.features.columns],
        },
        "outputs": (
            {"kind": "probabilities", "classes": list(classes), "called_at": "the most probable class"}
            if classes
            else {"kind": "number", "unit": f"that of {delivery.scope.target}"}
        ),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        },
        **({"onnx": onnx} if (onnx := proved_onnx(delivery)) else {}),
        "environment": {
            "python": platform.python_version(),
            "packages": {each.name: each.version for each in needed},
        },
    }


def proved_onnx(delivery: Delivery) -> dict[str, Any]:
    """What the manifest says of `model.onnx`: inputs, output, and how it was proved equal. Empty without such a file,
    and where its report is of another file or another model (an earlier attempt's)."""
    if "model.onnx" not in delivery.files or "onnx-report.json" not in delivery.files:
        return {}
    report = json.loads(delivery.files["onnx-report.json"].read_text("utf-8"))
    named = (report.get("sha256"), report["model_sha256"])
    if not report["written"] or named != (delivery.digests["model.onnx"], delivery.digests["model.skops"]):
        return {}
    kept = ("inputs", "missing_text", "opset", "output", "runtime", "tolerance", "largest_difference")
    rows = sum(each["rows"] for each in report["compared"])
    return {"file": "model.onnx", **{name: report[name] for name in kept}, "rows_compared": rows}


def training_profile(profile: dict[str, Any], features: FeatureMap) -> dict[str, Any]:
    """What `data-profile.json` says of the target and of the columns the model reads."""
    read = {column.name for column in features.columns}
    columns = [column for column in profile["columns"] if column["name"] in read]
    kept: dict[str, Any] = {
        name: profile[name] for name in ("independent_rows", "repeated_rows", "newest") if name in profile
    }
    if cases := profile.get("cases"):
        kept["cases"] = {**cases, "columns": [column for column in cases["columns"] if column["name"] in read]}
    return {"rows": profile["rows"], "target": profile["target"], "columns": columns, **kept}


def promised(delivery: Delivery) -> dict[str, Any]:
    """What the model is expected to reach on rows like these, in the ticket's metric; for numbers `explained` (r2) too,
    where labels that follow from nothing show before they show in the size of an error."""
    scope, chosen = delivery.scope, delivery.log.chosen
    known = (chosen.mean, chosen.standard_error) if delivery.log.metric == scope.metric else None
    told: dict[str, Any] = {"metric": scope.metric, "higher_is_better": scope.higher_is_better}
    told |= _expected(delivery.value, known)
    if not scope.classes and scope.metric != "r2" and (crossed := delivery.crossed.get("r2")):
        told["explained"] = _expected(delivery.metrics["metrics"]["r2"], (crossed["value"], crossed["se"]))
    return told


def _expected(held: Mapping[str, float], crossed: tuple[float, float] | None) -> dict[str, float]:
    """The hold-out's figure and the cross-validated one (value, standard error), weighted by their variances, or the
    hold-out's alone where the two do not agree (2.5 standard errors)."""
    parts = [(float(held["value"]), max(float(held["se"]), 1e-6))]
    if crossed is not None:
        value, error = crossed[0], max(crossed[1], 1e-6)
        if abs(value - parts[0][0]) <= 2.5 * hypot(error, parts[0][1]):
            parts.append((value, error))
    weights = [1 / error**2 for _, error in parts]
    mean = sum(weight * each for weight, (each, _) in zip(weights, parts, strict=True)) / sum(weights)
    return {"value": mean, "se": (1 / sum(weights)) ** 0.5}


def baseline_package(package: Package, baseline: bytes) -> bytes:
    """A package with the same inputs and outputs whose model is the baseline: what there was before any model."""
    files = {"feature-map.json": package.files["feature-map.json"], "model.skops": baseline}
    files["scope.json"] = package.files["scope.json"]
    told = dict(package.manifest) | {
        "name": f"{package.manifest['name']}-baseline",
        "version": f"0.0.0+{hashlib.sha256(baseline).hexdigest()[:12]}",
        "files": {n: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for n, data in files.items()},
    }
    files["package.json"] = (json.dumps(told, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    return zip_bytes(dict(sorted(files.items())))


def build_package(delivery: Delivery, needed: list[Distribution], model_card: str) -> bytes:
    """The zip: model (as ONNX too, if it was proved equal), feature map, scope, contract, training profile, model card
    and manifest, without dates.

    Contract and profile are what a retraining holds newer rows against.
    """
    files = {name: delivery.files[name].read_bytes() for name in ("feature-map.json", "model.skops", "scope.json")}
    if proved_onnx(delivery):
        files["model.onnx"] = delivery.files["model.onnx"].read_bytes()
    files["data-contract.yaml"] = delivery.files["data-contract.yaml"].read_bytes()
    if "data-profile.json" in delivery.files:
        found = json.loads(delivery.files["data-profile.json"].read_text("utf-8"))
        kept = training_profile(found, delivery.features) | {"promised": promised(delivery)}
        text = json.dumps(kept, indent=2, sort_keys=True, allow_nan=False)
        files["training-profile.json"] = text.encode()
    files["model-card.md"] = model_card.encode()
    files["package.json"] = (
        json.dumps(manifest(delivery, needed, files), indent=2, sort_keys=True, allow_nan=False) + "\n"
    ).encode()
    return zip_bytes(dict(sorted(files.items())))
