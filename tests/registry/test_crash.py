"""Killed between a call of the registry and its receipt, the effect is carried out again: one version, one alias."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autopilot.registry.port import CANDIDATE
from conductor.pipelines import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_killed_after_every_write(uri: str) -> None:
    """A registration was carried out, nobody heard of it, the registry was away. Each process that goes on is killed
    after its first write. Versions: number, whether the session knows it, whether it was rolled back, aliases."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.registry.killed", uri.removeprefix("sqlite:///")],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["same file"]["versions"] == [
        [["1", True, False, [CANDIDATE]]],
        [["1", False, True, []]],
    ]
    assert told["other file"]["versions"] == [[["1", False, True, []], ["2", True, False, [CANDIDATE]]]]
    assert told["rolled back"]["versions"] == [[["1", False, True, []]]]
    # Taken over: commit, who made it first, effect, alias. Superseded: why, alias, mark; made: version, alias. Taken
    # back: alias, mark, by which effect.
    assert [each["kills"] for each in told.values()] == [[4, 3], [5], [3]]


def test_without_mlflow_a_pipeline_that_registers_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli import selecting

    monkeypatch.setattr(selecting, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'ml-delivery' registers a model: .*extra `tracking`"):
        selecting.place_of(None, None, None, load("ml-delivery"))  # type: ignore[arg-type]
