"""Fixtures of the model registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autopilot.registry.mlflow_registry import MlflowRegistry


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose tables were made: MLflow takes seconds for that."""
    path = tmp_path_factory.mktemp("registry") / "registry.db"
    assert MlflowRegistry(f"sqlite:///{path}").models() == ()
    return path


@pytest.fixture
def uri(made: Path, tmp_path: Path) -> str:
    shutil.copy(made, tmp_path / "registry.db")
    return f"sqlite:///{tmp_path / 'registry.db'}"
