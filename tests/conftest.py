"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.outside import blocked

# As skills run in their processes: two test workers with a thread for each core would wait for each other. Read when
# the libraries are loaded, so it stands before any test imports them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COUNTS = "counts"
"""The property under which a test says what it counted; a list of lines, shown at the end of the run."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests counted, also when they ran in other processes."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [line for report in reports for name, said in report.user_properties if name == COUNTS for line in said]
    if lines:
        terminalreporter.section("counts")
        for line in lines:
            terminalreporter.write_line(line)


# Before any test imports them.
pytest.register_assert_rewrite("tests.conformance.store", "tests.conformance.store_machine")


@pytest.fixture(autouse=True, scope="session")
def nothing_outside_is_asked() -> Iterator[None]:
    """Model requests, and all others by the same HTTP clients, stay on this machine."""
    with blocked():
        yield
