"""Every ticket of the evaluation is one: its hidden test fails before, and passes with the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents.skills.change.junit import read_junit
from benchmarks.tickets.loading import CodeTicket, tickets

TICKETS = tickets()


def outcomes(ticket: CodeTicket, folder: Path, *, done: bool) -> tuple[set[str], set[str]]:
    """The project's tests that fail, and the hidden ones that do."""
    ticket.write(folder, done=done)
    (folder / "hidden").mkdir()
    (folder / "hidden" / "test_hidden.py").write_text(ticket.hidden)
    report = folder.parent / f"{done}.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"],
        cwd=folder, capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    failed = {name for name, outcome in read_junit(report).items() if outcome == "failed"}
    hidden = {name for name in failed if "hidden.test_hidden" in name}
    return failed - hidden, hidden


def test_there_are_enough_of_them() -> None:
    assert len(TICKETS) >= 12
    assert len({ticket.title for ticket in TICKETS}) == len(TICKETS)


@pytest.mark.parametrize("ticket", TICKETS, ids=lambda ticket: ticket.name)
def test_the_hidden_test_tells_done_from_not_done(ticket: CodeTicket, tmp_path: Path) -> None:
    before = outcomes(ticket, tmp_path / "before", done=False)
    assert before[0] == set(), "the project's own tests pass"
    assert before[1] != set(), "the hidden test fails"
    assert outcomes(ticket, tmp_path / "after", done=True) == (set(), set())
    assert set(ticket.reference) <= set(ticket.files)
