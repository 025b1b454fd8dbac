"""Fixtures of the SQLite record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.conformance.store", "tests.conformance.store_machine")

from store.sqlite import SqliteStore  # noqa: E402


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty record to copy: cheaper than migrating a new one for every test."""
    path = tmp_path_factory.mktemp("blank") / "record.db"
    SqliteStore.open(path).close()
    return path


@pytest.fixture
def path(tmp_path: Path, blank: Path) -> Path:
    """The path of an empty record of the test's own."""
    target = tmp_path / "record.db"
    shutil.copy(blank, target)
    return target


@pytest.fixture
def reopen(path: Path) -> Iterator[Callable[[], SqliteStore]]:
    """Opens the record at `path`, having closed it before if it was open."""
    opened: list[SqliteStore] = []

    def open_again() -> SqliteStore:
        while opened:
            opened.pop().close()
        opened.append(SqliteStore.open(path))
        return opened[0]

    yield open_again
    while opened:
        opened.pop().close()


@pytest.fixture
def store(reopen: Callable[[], SqliteStore]) -> SqliteStore:
    """An empty record, open."""
    return reopen()
