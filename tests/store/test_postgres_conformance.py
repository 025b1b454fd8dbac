"""The PostgreSQL record keeps the port's promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from store.postgres import PostgresStore
from store.tables import Table
from tests.conformance.store import StoreConformance
from tests.conformance.store_machine import machine
from tests.store.postgres_server import PostgresServer


@pytest.fixture
def reopen(open_postgres: Callable[[], PostgresStore]) -> Callable[[], PostgresStore]:
    """Opens the record, having closed it before if it was open."""
    opened: list[PostgresStore] = []

    def open_again() -> PostgresStore:
        while opened:
            opened.pop().close()
        opened.append(open_postgres())
        return opened[0]

    return open_again


class TestPostgresStore(StoreConformance):
    """See `tests/conformance/store.py`."""


def test_postgres_agrees_with_the_model(postgres: PostgresServer, database: str, url: str) -> None:
    def open_store(fresh: bool) -> PostgresStore:
        if fresh:
            postgres.empty(database, Table.metadata.tables)
        return PostgresStore.open(url)

    checks = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        database=None,
    )
    run_state_machine_as_test(machine(open_store), settings=checks)
