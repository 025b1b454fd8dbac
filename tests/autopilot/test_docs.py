"""`docs/tickets.md` says what is so: every field, every default, every message, the rules' numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autopilot.frontmatter import TicketError, parse_ticket
from autopilot.plainyaml import MAX_BYTES
from autopilot.select import HOLD_LABEL, PRIORITIES, PROMOTION, REQUIRED_LABELS
from schemas.policy import Policy
from schemas.ticket import CLASSIFICATION_METRICS, REGRESSION_METRICS, Budget, Ticket

TEXT = (Path(__file__).parents[2] / "docs" / "tickets.md").read_text("utf-8")


def section(heading: str) -> str:
    return TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(heading: str) -> list[list[str]]:
    lines = [line for line in section(heading).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_example_is_a_ticket() -> None:
    example = TEXT.split("```markdown\n", 1)[1].split("```", 1)[0]
    assert parse_ticket(example, "docs").id == 12


def test_every_field_is_described_with_its_default() -> None:
    table = {row[0].strip("`"): row[-1] for row in rows("Fields")}
    assert set(table) == set(Ticket.model_fields)
    for name in ("pipeline", "risk", "state"):
        assert table[name] == f"`{getattr(Ticket(id=1, title='T'), name)}`"
    assert table["budget"] == f"`{{usd: {Budget().usd:g}, minutes: {Budget().minutes:g}}}`"
    assert table["locked"] == "`false`"
    assert f"above {MAX_BYTES // 1000} kB" in section("Fields")


def test_every_metric_is_named() -> None:
    named = set(re.findall(r"`([a-z0-9_]+)`", section("Acceptance criteria")))
    assert named >= {*CLASSIFICATION_METRICS, *REGRESSION_METRICS}


def test_the_rules_have_the_codes_labels_and_numbers() -> None:
    rules = section("Which tickets Auto-Pilot takes")
    for word in (*REQUIRED_LABELS, HOLD_LABEL, *PRIORITIES):
        assert f"`{word}`" in rules
    assert f"`max_failures` ({Policy().max_failures})" in rules
    assert f"each {PROMOTION.days} days" in rules


@pytest.mark.parametrize(("written", "told"), [(row[0].strip("`"), row[1]) for row in rows("Common mistakes")])
def test_every_mistake_gets_the_answer_shown(written: str, told: str) -> None:
    name = written.partition(":")[0]
    front = "".join(line for line in ("id: 1\n", "title: T\n") if not line.startswith(f"{name}:"))
    with pytest.raises(TicketError) as caught:
        parse_ticket(f"---\n{front}{written}\n---\n", "1.md")
    assert told in str(caught.value)


def test_there_are_mistakes_to_check() -> None:
    assert len(rows("Common mistakes")) >= 9
