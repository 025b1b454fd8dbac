"""Killed between a call of the registry and its receipt, the effect is carried out again: one version, one alias."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autopilot.registry.mlflow_registry import MlflowRegistry
from autopilot.registry.port import CANDIDATE
from conductor.pipelines import load
from tests.registry.test_registry import MODEL, add

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import os, signal, sys
from mlflow import MlflowClient
from autopilot.registry.mlflow_registry import MlflowRegistry
from tests.registry.test_registry import add

uri, call = sys.argv[1:]
real = getattr(MlflowClient, call)

def killed(*args, **kwargs):
    real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(MlflowClient, call, killed)
add(MlflowRegistry(uri), 1)
"""


@pytest.mark.slow
def test_a_kill_after_each_call_leaves_one_version_and_one_alias(tmp_path: Path, uri: str) -> None:
    for call in ("create_model_version", "set_registered_model_alias"):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, uri, call],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
    done = add(MlflowRegistry(uri), 1)
    assert (done.version, done.before, done.current) == ("1", "", "1")
    (version,) = MlflowRegistry(uri).versions(MODEL)
    assert version.aliases == (CANDIDATE,)


def test_without_mlflow_a_pipeline_that_registers_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli import selecting

    monkeypatch.setattr(selecting, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'ml-delivery' registers a model: .*extra `tracking`"):
        selecting.place_of(None, None, None, load("ml-delivery"))  # type: ignore[arg-type]
