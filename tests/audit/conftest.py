from __future__ import annotations

from pathlib import Path

import pytest

from store.sqlite import SqliteStore
from tests.audit.homes import Place, completed


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty record to copy: cheaper than migrating a new one for every test."""
    path = tmp_path_factory.mktemp("blank") / "record.db"
    SqliteStore.open(path).close()
    return path


@pytest.fixture
def place(tmp_path: Path, blank: Path) -> Place:
    """A home of the test's own, with a session that is done and signed."""
    return completed(tmp_path / "home", blank)
