"""Fixtures for the skills' tests: the small real datasets of `tests/data`."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent / "data"


@pytest.fixture
def data_root() -> Path:
    """The folder of small real datasets, used as an allowed root."""
    return DATA
