"""docs/coverage.md names skills and tests that exist, and every skill stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agents.discovery import shipped

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "coverage.md").read_text("utf-8")
AREAS = {name.partition(".")[0] for name in shipped()}
SKILLS = {name for name in re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE) if name.partition(".")[0] in AREAS}
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE)))
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]


def test_it_names_no_skill_that_is_not_there() -> None:
    assert SKILLS - set(shipped()) == set()


def test_every_skill_has_a_line() -> None:
    assert set(shipped()) - SKILLS == set()


@pytest.mark.parametrize("named", TESTS)
def test_every_test_is_there(named: str) -> None:
    file, _, name = named.partition("::")
    text = (ROOT / file).read_text("utf-8")
    assert re.search(rf"^(async )?def {name}\(" if name else r"^(async )?def test_", text, re.MULTILINE), named


def test_a_capability_that_is_served_has_a_test() -> None:
    untested = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and "---" not in line and "served by" not in line and line.rstrip().endswith("| |")
        if "not there" not in line
    ]
    assert untested == []
    assert len(ROWS) > 60


def test_the_page_on_skills_names_every_field_of_its_input() -> None:
    from cli.skills import SkillInput

    page = (ROOT / "docs" / "skills.md").read_text("utf-8")
    assert [name for name in SkillInput.model_fields if f"| `{name}` |" not in page] == []
