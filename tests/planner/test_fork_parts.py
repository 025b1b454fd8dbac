"""What a person may tell a fork, which planner an attempt gets, and what the model hears of it."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.choosing import Choosing
from agents.planning.prompts import BUILD, system
from agents.port import Attempt, RunSkill, SkillRun
from cli.errors import CliError
from cli.forks import instructions_in
from schemas.forking import LONGEST_INSTRUCTIONS, Guidance


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b" \n", "is empty"),
        (b"\xff\xfe", "cannot be read"),
        (b"x" * (LONGEST_INSTRUCTIONS + 1), "8,001 characters"),
        (b"the key is AKIA" + b"ABCDEFGHIJKLMNOP", "looks like a credential"),
    ],
)
def test_a_prompt_that_cannot_go_on_record_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    file = tmp_path / "hints.md"
    file.write_bytes(content)
    with pytest.raises(CliError, match=word):
        instructions_in(file)


def test_a_prompt_comes_from_a_file_or_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hints.md").write_text("\nsplit by lines\n")
    assert instructions_in(tmp_path / "hints.md") == "split by lines"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"split by lines\n")))
    assert instructions_in(Path("-")) == "split by lines"
    assert instructions_in(None) == ""
    with pytest.raises(CliError, match="cannot be read"):
        instructions_in(tmp_path / "no.md")


def test_instructions_stand_after_the_rules_and_hide_nothing() -> None:
    told = system(BUILD, "split\u200b by lines")
    assert told.startswith(system(BUILD))
    assert told.endswith("the rules hold:\n\nsplit by lines")


class Marks:
    """A planner that is known by its mark."""

    async def work(self, attempt: Attempt, run_skill: RunSkill) -> list[SkillRun]:
        return []


@pytest.mark.parametrize(
    ("usual", "guidance", "asks"),
    [
        ("playbook", None, False),
        ("llm", None, True),
        ("playbook", Guidance(planner="llm"), True),
        ("llm", Guidance(planner="playbook"), False),
        ("llm", Guidance(), True),
    ],
)
async def test_who_forked_the_session_chooses_the_planner(usual: Any, guidance: Guidance | None, asks: bool) -> None:
    attempt: Any = SimpleNamespace(phase=SimpleNamespace(guidance=guidance, skills=("devsecops.change",)))
    made: list[Marks] = []
    ran: list[str] = []

    async def run(name: str, parameters: dict[str, Any]) -> SkillRun:
        ran.append(name)
        return None  # type: ignore[return-value]

    def llm() -> Marks:
        made.append(Marks())
        return made[-1]

    both = Choosing(usual, llm)
    for _ in range(2):
        await both.work(attempt, run)
    assert len(made) == asks, "made once, and only when it is wanted"
    assert ran == ([] if asks else ["devsecops.change"] * 2)
