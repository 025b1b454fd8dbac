"""Explanations with SHAP: exact where they say so, in input columns, honest where they are not, and the same twice."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from agents.skill import InputError
from agents.skills import extras
from agents.skills.evaluation import attribution
from agents.skills.evaluation.attribution import attribute, encoded_inputs
from agents.skills.evaluation.explain import EvaluationExplain
from agents.skills.training.candidates import BOOSTING, FOREST, LINEAR
from agents.skills.training.voting import VOTING
from tests.skills.delivered import FEATURES, deliver, mixed_rows
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import ticket, write_json

INTEL_MAC = sys.platform == "darwin" and platform.machine() == "x86_64"
pytestmark = pytest.mark.skipif(INTEL_MAC, reason="the extra `explain` has no wheels for Macs with an Intel processor")
CASES = [(kind, task) for kind in (LINEAR, FOREST, BOOSTING) for task in ("two", "three", "numbers")]


@pytest.mark.parametrize(("kind", "task"), [*CASES, (VOTING, "two")])
def test_values_of_input_columns_add_up_to_what_the_model_says(
    tmp_path: Path, kind: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "MOST_PREDICTIONS", 1)
    monkeypatch.setattr(attribution, "LEAST_ROWS", 4 if kind == VOTING else 20)
    made = deliver(tmp_path, kind, task)
    found = attribute(made.pipeline, made.frame, FEATURES, "y", seed=1)
    assert found.inputs == tuple(column.name for column in FEATURES.columns)
    assert found.labels == {"two": ("middle",), "three": ("low", "middle", "tall")}.get(task, ("y",))
    assert found.values.shape == (len(found.at), len(FEATURES.columns), len(found.labels))
    rows = made.frame.iloc[found.at]
    if task == "numbers":
        said = made.pipeline.predict(rows)[:, None]
    elif found.unit == "log-odds":
        said = made.pipeline.decision_function(rows).reshape(len(rows), -1)
    else:
        said = made.pipeline.predict_proba(rows)[:, -len(found.labels) :]
    assert np.allclose(found.base + found.values.sum(axis=1), said, atol=1e-6 * np.ptp(said))
    assert found.adds_up
    strength = dict(zip(found.inputs, found.strength, strict=True))
    assert min(strength[name] for name in ("weight", "dose", "ward")) > strength["noise"]


def test_every_encoded_column_has_the_input_it_came_from(tmp_path: Path) -> None:
    made = deliver(tmp_path, LINEAR, "two")
    transformer = made.pipeline[0]
    names = encoded_inputs(transformer, FEATURES)
    assert len(names) == transformer.transform(made.frame).shape[1]
    before = transformer.transform(made.frame.iloc[:1])
    for column, other in (("dose", np.nan), ("ward", "south"), ("smokes", 1.0 - made.frame["smokes"].iloc[0])):
        row = made.frame.iloc[:1].copy()
        row[column] = other
        moved = np.flatnonzero(transformer.transform(row) != before)
        assert {names[place] for place in np.unique(moved % len(names))} <= {column}


def test_the_report_tells_what_was_measured_and_is_the_same_twice(tmp_path: Path) -> None:
    made = deliver(tmp_path / "in", FOREST, "two")
    importance = [{"column": name, "loss": loss} for name, loss in (("weight", 0.2), ("ward", 0.1), ("noise", -0.01))]
    made.files["performance-analysis.json"] = write_json(tmp_path / "analysis.json", {"importance": importance})
    output, files = run_skill(EvaluationExplain, ticket(), tmp_path, made.files)
    _, again = run_skill(EvaluationExplain, ticket(), tmp_path, made.files)
    for name, path in files.items():
        assert path.read_bytes() == again[name].read_bytes(), name
    told = json.loads(files["explanation.json"].read_text("utf-8"))
    assert told["additivity"]["adds_up"] is True
    assert len(told["agreement"]) == 2
    assert told["agreement"]["output moved by shuffling the column"] > 0.7
    for row in told["single_rows"]:
        whole = row["base"] + sum(part["adds"] for part in row["parts"]) + row["others"]
        assert whole == pytest.approx(row["output"], abs=1e-6)
    assert output.warnings == ()
    ElementTree.fromstring(files["explanation.svg"].read_text("utf-8"))
    text = files["explanation.md"].read_text("utf-8")
    assert "weight" in text
    assert "Base and values add up" in text


def test_values_that_tell_of_people_are_not_told(tmp_path: Path) -> None:
    frame = mixed_rows().rename(columns={"weight": "age"})[["age", "dose", "noise"]]
    made = deliver(tmp_path / "in", LINEAR, "numbers", frame)
    _, files = run_skill(EvaluationExplain, ticket(), tmp_path, made.files)
    told = json.loads(files["explanation.json"].read_text("utf-8"))
    assert told["left_out_values"] == ["age"]
    ages = [part["value"] for row in told["single_rows"] for part in row["parts"] if part["column"] == "age"]
    assert ages
    assert set(ages) == {None}


def test_an_explanation_that_does_not_add_up_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As shap 0.51 explains trees against background rows."""
    import shap

    class Off(shap.TreeExplainer):  # type: ignore[misc]
        def shap_values(self, *rest: Any, **more: Any) -> Any:
            return super().shap_values(*rest, **more) * 1.1

    monkeypatch.setattr(shap, "TreeExplainer", Off)
    made = deliver(tmp_path / "in", FOREST, "two")
    output, files = run_skill(EvaluationExplain, ticket(), tmp_path, made.files)
    assert any("does not add up" in warning for warning in output.warnings)
    assert "do not add up" in files["explanation.md"].read_text("utf-8")
    assert json.loads(files["explanation.json"].read_text("utf-8"))["additivity"]["adds_up"] is False


@pytest.mark.parametrize(("module", "extra"), [("shap", "explain"), ("onnxruntime", "onnx"), ("ray", "ray")])
def test_without_the_extra_the_error_names_it(module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"{module}, which is not installed; .*agenticops-value-train\[{extra}\]"):
        extras.needed(module, extra, "this")


def test_finding_the_skills_imports_no_extra() -> None:
    code = "import sys; from agents.discovery import skills; skills(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"shap", "numba", "onnx", "onnxruntime", "ray"} & {name.partition(".")[0] for name in loaded}
