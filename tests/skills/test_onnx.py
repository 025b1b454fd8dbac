"""ONNX files: equal to the model on every kind of row, or not there; what a package holds of them."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.skills.devsecops import onnx_graph, onnx_proof
from agents.skills.devsecops.onnx import DevsecopsOnnx
from agents.skills.training.candidates import BOOSTING, FOREST, LINEAR
from agents.skills.training.modelfile import digest
from agents.skills.training.voting import VOTING
from tests.skills.delivered import deliver, mixed_rows
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import ticket

INTEL_MAC = sys.platform == "darwin" and platform.machine() == "x86_64"
pytestmark = pytest.mark.skipif(INTEL_MAC, reason="the extra `onnx` has no wheels for Macs with an Intel processor")
CASES = [(kind, task) for kind in (LINEAR, FOREST, BOOSTING) for task in ("two", "three", "numbers")]


@pytest.mark.parametrize(("kind", "task"), [*CASES, (VOTING, "three"), (VOTING, "numbers")])
def test_every_kind_of_model_is_written_and_answers_the_same(tmp_path: Path, kind: str, task: str) -> None:
    made = deliver(tmp_path / "in", kind, task)
    output, files = run_skill(DevsecopsOnnx, ticket(), tmp_path, made.files)
    report = json.loads(files["onnx-report.json"].read_text("utf-8"))
    assert report["written"], report
    assert report["sha256"] == digest(files["model.onnx"].read_bytes())
    assert report["largest_difference"] < 1e-9
    assert [each["off"] for each in report["compared"]] == [0] * len(report["compared"])
    assert {each["name"].split(" with ")[-1] for each in report["compared"]} >= {"unseen", "missing", "extremes"}
    columns = onnx_proof.text_columns(made.frame)
    session = onnx_proof.runtime(files["model.onnx"].read_bytes())
    told = session.run(None, onnx_proof.feed(made.frame, columns))[0]
    if task == "numbers":
        assert np.allclose(told[:, 0], made.pipeline.predict(made.frame), rtol=1e-9, atol=1e-9)
    else:
        assert np.allclose(told, made.pipeline.predict_proba(made.frame), rtol=0, atol=1e-9)
    assert output.warnings == ()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    made = deliver(tmp_path / "in", BOOSTING, "two")
    first, again = (run_skill(DevsecopsOnnx, ticket(), tmp_path, made.files)[1] for _ in range(2))
    for name in ("model.onnx", "onnx-report.json", "onnx-report.md"):
        assert first[name].read_bytes() == again[name].read_bytes(), name


def test_a_model_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a forest in single precision does for the rows near a split."""
    grow = onnx_graph._Trees.grow

    def single(self: Any, left: Any, right: Any, feature: Any, threshold: Any, *rest: Any) -> None:
        grow(self, left, right, feature, np.asarray(threshold) * (1 + 1e-2), *rest)

    monkeypatch.setattr(onnx_graph._Trees, "grow", single)
    made = deliver(tmp_path / "in", FOREST, "two")
    output, files = run_skill(DevsecopsOnnx, ticket(), tmp_path, made.files)
    assert "model.onnx" not in files
    report = json.loads(files["onnx-report.json"].read_text("utf-8"))
    assert (report["written"], report["step"]) == (False, "proof")
    assert "get another answer" in report["why"]
    assert output.warnings == (output.summary,)
    assert "There is no ONNX file" in files["onnx-report.md"].read_text("utf-8")


def test_a_step_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    frame = mixed_rows()
    frame["ward"] = frame["ward"].replace("", onnx_graph.MISSING)
    made = deliver(tmp_path / "in", LINEAR, "two", frame[["weight", "dose", "ward"]])
    output, files = run_skill(DevsecopsOnnx, ticket(), tmp_path, made.files)
    assert set(files) == {"onnx-report.json", "onnx-report.md"}
    assert "transform/one_hot: column 'ward'" in output.summary


def test_a_file_the_runtime_refuses_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "ML_OPSET", 999)
    made = deliver(tmp_path / "in", FOREST, "numbers")
    output, files = run_skill(DevsecopsOnnx, ticket(), tmp_path, made.files)
    assert "model.onnx" not in files
    assert "the runtime does not run it" in output.summary
