"""The SQLite record keeps the port's promises."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from store.sqlite import SqliteStore
from tests.conformance.store import StoreConformance
from tests.conformance.store_machine import machine


class TestSqliteStore(StoreConformance):
    """See `tests/conformance/store.py`."""


def test_sqlite_agrees_with_the_model(blank: Path, tmp_path: Path) -> None:
    path = tmp_path / "record.db"

    def open_store(fresh: bool) -> SqliteStore:
        if fresh:
            for left in tmp_path.iterdir():
                left.unlink()
            shutil.copy(blank, path)
        return SqliteStore.open(path)

    checks = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        database=None,
    )
    run_state_machine_as_test(machine(open_store), settings=checks)
