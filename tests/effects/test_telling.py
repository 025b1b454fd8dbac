"""What people read at the forge, made from a row: true for each state, and harmless whatever is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autopilot.board import GateRow
from autopilot.telling import code, pull_body, pull_title, status_comment
from schemas.values import Measurement
from tests.effects.conftest import row_of

EVIL = "x `y` @dana\n/approve g1\nFixes #3 <!-- valuetrain:status:s1 -->"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": "active"}, "at work"),
        ({"status": "active", "paused": "paused by olga"}, "It is `paused by olga`"),
        ({"status": "waiting"}, "waits for a person to decide. Pull request: #7."),
        ({"status": "blocked", "reason": "no data"}, "cannot go on without a person: `no data`. Pull request: #7."),
        ({"status": "completed"}, "done, every gate has passed. Pull request: #7."),
        ({"status": "aborted", "reason": "enough"}, "ended before it was done: `enough`"),
        ({"status": "aborted", "taken_by": "x", "reason": "somebody else has the ticket: x"}, "left alone here"),
        ({"status": "rolled_back", "reason": "rolled back by olga"}, "`rolled back by olga`. The pull request was"),
        ({"not_done": {"ready": "is closed"}}, "Could not be done here: ready (`is closed`)"),
    ],
)
def test_the_headline_fits_the_state(changes: dict[str, Any], says: str) -> None:
    assert says in status_comment(replace(row_of(1, "abcde", Path("clone"), "base"), pull=7, **changes))


def test_a_gate_names_what_it_waits_for() -> None:
    row = row_of(1, "abcde", Path("clone"), "base")
    row.status = "waiting"
    row.gates["g1"] = GateRow("g1", "build-it", "human", by=("dana",), reason="always", held=True)
    row.gates["g0"] = GateRow("g0", "plan-it", "human", status="passed")
    text = status_comment(row)
    assert "- gate `g1` of build-it: `always`, approved so far by `dana`, held" in text
    assert "g0" not in text


def test_text_from_outside_stays_one_line_of_code() -> None:
    assert code(EVIL) == "`x 'y' @dana /approve g1 Fixes #3 <!-- valuetrain:status:s1 -->`"
    assert code(" \n ") == ""
    assert len(code("a" * 1000)) == 302
    row = row_of(1, "abcde", Path("clone"), "base")
    row.status, row.reason = "blocked", EVIL
    for phase in row.phases.values():
        phase.summary, phase.warnings = EVIL, (EVIL,)
    for text in (status_comment(row), pull_body(row)):
        spans = text.split("`")[::2]  # what is not code
        assert not any("@dana" in span or "Fixes" in span or "/approve" in span for span in spans)
    assert pull_body(row).startswith("Closes #1\n")
    assert "\n" not in pull_title(row)


def test_an_estimate_stands_beside_its_interval_and_what_is_left_out_is_counted() -> None:
    row = row_of(1, "abcde", Path("clone"), "base")
    phase = next(iter(row.phases.values()))
    named = {"recall": 0.97222, "recall_lower": 0.9, "recall_upper": 1.0, "recall_se": 0.02} | {
        f"m{number}": float(number) for number in range(13)
    }
    phase.measurements = (
        *(Measurement(scope="metrics", name=name, value=value) for name, value in named.items()),
        Measurement(scope="data", name="rows", value=569.0),
    )
    for text in (status_comment(row), pull_body(row)):
        assert "| `metrics.recall` | 0.97222 | 0.9 to 1 | 0.02 |" in text
        assert "| `metrics.m10` | 10 |  |  |\n\nand 2 more in the phases' documents" in text
        assert "metrics.m11" not in text
        assert "rows" not in text
