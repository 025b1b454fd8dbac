"""Fixtures of the golden tests."""

from tests.conductor.conftest import blank, store

__all__ = ["blank", "store"]
