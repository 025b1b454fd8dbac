from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.train import Train, make


@pytest.fixture
def train(tmp_path: Path) -> Train:
    return make(tmp_path / "repository")
