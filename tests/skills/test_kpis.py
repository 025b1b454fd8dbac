"""The tree of KPIs: connected, owned, measured where it says, and with the limits that the pipeline really has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.skills.lead.kpis import LeadKpis
from agents.skills.lead.opportunity import LeadOpportunity
from agents.skills.lead.scope import LeadScope
from conductor.pipelines import load
from schemas.figures import ALWAYS, MEASURED
from schemas.values import Role
from tests.skills.conftest import DATA, WINE
from tests.skills.engagement import VOTE
from tests.skills.harness import run_chain, run_skill

LIMITS = {"rows": "data.rows >= 30.0", "copies": "data.twin_fraction_after <= 0.01", "leaks": "leakage.suspects == 0.0"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Path]]:
    ticket = VOTE.model_copy(update={"sensitive": ("age",)})
    outputs, files = run_chain((LeadOpportunity, LeadScope, LeadKpis), ticket, tmp_path_factory.mktemp("k"), (DATA,))
    return outputs[LeadKpis.name], files


def nodes(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in json.loads(files["kpi-tree.json"].read_text("utf-8"))["kpis"]}


def test_it_is_one_tree_and_every_kpi_has_an_owner(drawn: Any) -> None:
    output, files = drawn
    found = nodes(files)
    assert [each["id"] for each in found.values() if not each["parent"]] == ["goal"]
    seen: set[str] = set()
    for each in found.values():
        assert not each["parent"] or each["parent"] in seen, "parents come first, so there is no circle"
        seen.add(each["id"])
        assert each["owner"] in {*(role.value for role in Role), "Frida Berg, head of outreach"}
    assert found["goal"]["wanted"] == "fewer than 12 wrong letters in 100"
    assert "USD a year" in found["value"]["wanted"]
    assert output.ticked[0].item == "kpis-named"
    assert "groups" in found


def test_what_it_says_is_measured_is_measured_there(drawn: Any) -> None:
    phases = {phase.name: phase for phase in load("ml-engagement").phases}
    for each in nodes(drawn[1]).values():
        if each["phase"]:
            measured = {name for skill in phases[each["phase"]].skills for name in MEASURED.get(skill, ())}
            assert each["figure"] in measured, each
        elif each["figure"]:
            assert each["figure"] in ALWAYS


def test_its_limits_are_the_pipelines(drawn: Any) -> None:
    phases = {phase.name: phase for phase in load("ml-engagement").phases}
    for id, criterion in LIMITS.items():
        assert criterion in phases[nodes(drawn[1])[id]["phase"]].criteria


def test_what_the_ticket_does_not_say_is_left_to_a_person(tmp_path: Path) -> None:
    _, files = run_chain((LeadScope,), WINE, tmp_path, (DATA,))
    output, made = run_skill(LeadKpis, WINE, tmp_path / "k", files, measured={"data": {"rows": 178.0}})
    found = nodes(made)
    assert found["goal"]["wanted"] == ""
    assert found["rows"]["measured"] == 178.0
    assert "left to a person" in made["kpi-tree.md"].read_text("utf-8")
    assert any("What good looks like" in text for text in output.warnings)
