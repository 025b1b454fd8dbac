"""Fixtures of the conductor: a real record, copied from a blank one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.sqlite import SqliteStore


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty record to copy: cheaper than migrating a new one for every test."""
    path = tmp_path_factory.mktemp("blank") / "record.db"
    SqliteStore.open(path).close()
    return path


@pytest.fixture
def store(tmp_path: Path, blank: Path) -> Iterator[SqliteStore]:
    """An empty record of the test's own."""
    shutil.copy(blank, tmp_path / "record.db")
    opened = SqliteStore.open(tmp_path / "record.db")
    yield opened
    opened.close()
