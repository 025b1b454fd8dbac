"""From a source to its entry in the catalogue, on real rows, without a target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from agents.skill import InputError, Skill
from agents.skills.data import odcs
from agents.skills.data.catalogue import DataCatalogue
from agents.skills.data.describe import DataDescribe
from agents.skills.data.ingest import DataIngest
from agents.skills.data.personal import DIRECT, INDIRECT, SPECIAL, scan
from agents.skills.data.promise import DataPromise
from agents.skills.data.source import DataSource
from agents.skills.risk.data import RiskData
from conductor.pipelines import load
from schemas.ticket import Ticket
from schemas.values import RiskLevel
from tests.skills.conftest import DATA
from tests.skills.harness import run_chain, run_skill

SKILLS: tuple[type[Skill[Any, Any]], ...] = (
    DataSource, DataIngest, DataPromise, DataDescribe, RiskData, DataCatalogue,
)  # fmt: skip
TICKETS = {
    "economy": Ticket(id=1, title="US economy", data="economy.csv", time="quarter_start", requester="alice"),
    "votes": Ticket(id=2, title="A survey", data="votes.csv"),
    "iris": Ticket(id=3, title="Flowers", data="sklearn:iris", requester="alice"),
    "refills": Ticket(id=4, title="Refills", data="synthetic:refills", requester="alice"),
}
PEOPLE = pd.DataFrame(
    {
        "patientName": [f"Person {n}" for n in range(40)],
        "mail": [f"person{n}@example.org" for n in range(40)],
        "card": [4111111111111111] * 20 + [5500000000000004] * 20,
        "age": list(range(20, 60)),
        "diagnosis": ["flu", "cold"] * 20,
        "weight": [50.5 + n for n in range(40)],
        "comment": ["nothing"] * 39 + ["write to x@example.org"],
    }
)


@pytest.fixture(scope="module", params=TICKETS)
def onboarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(ticket, outputs, files) of the whole pipeline's skills."""
    ticket = TICKETS[request.param]
    return ticket, *run_chain(SKILLS, ticket, tmp_path_factory.mktemp(request.param), roots=(DATA,))


def test_the_skills_tick_every_required_item_and_leave_every_artifact(onboarded: Any) -> None:
    _, outputs, files = onboarded
    for phase in load("data-onboarding").phases:
        ticked = {item.item for name in phase.skills for item in outputs[name].ticked}
        assert {item.id for item in phase.checklist if item.required} <= ticked
        assert set(phase.artifacts) <= set(files)
    assert [skill for phase in load("data-onboarding").phases for skill in phase.skills] == list(outputs)


def test_every_row_is_kept_and_the_contract_holds(onboarded: Any) -> None:
    _, outputs, files = onboarded
    rows = pd.read_parquet(files["dataset.parquet"])
    source = json.loads(files["data-source.json"].read_text("utf-8"))
    assert len(rows) == source["rows"]
    assert set(rows.columns) == {*source["columns"], "__row__"}
    contract = yaml.safe_load(files["data-contract.yaml"].read_text("utf-8"))
    assert odcs.violations(contract, rows) == []
    broken = rows.drop(columns=source["columns"][0])
    assert odcs.violations(contract, broken) == [f"{source['columns'][0]}: is missing"]
    assert outputs["data.promise"].measurements[0].value == json.loads(files["data-quality.json"].read_text())["score"]


def test_the_entry_names_version_owner_contract_and_lineage(onboarded: Any) -> None:
    ticket, _, files = onboarded
    entry = json.loads(files["catalogue-entry.json"].read_text("utf-8"))
    levels = yaml.safe_load(files["data-slo.yaml"].read_text("utf-8"))
    assert entry["version"].startswith("sha256:")
    assert entry["version"] == levels["version"]
    assert entry["owner"] == (ticket.requester or "nobody yet: the ticket names no requester")
    assert entry["contract"]["sha256"] == entry["lineage"]["to"]["data-contract.yaml"]
    assert entry["synthetic"] == (ticket.data_scheme == "synthetic")
    assert {o["name"] for o in levels["objectives"]} == {"freshness", "quality", "missing", "rows", "contract"}


def test_freshness_comes_from_the_time_column(tmp_path: Path) -> None:
    ticket = TICKETS["economy"]
    outputs, files = run_chain(SKILLS, ticket, tmp_path, roots=(DATA,))
    freshness = yaml.safe_load(files["data-slo.yaml"].read_text("utf-8"))["objectives"][0]
    assert freshness["time_column"] == "quarter_start"
    assert freshness["max_days"] == pytest.approx(3 * 92, abs=3), "the rows come by quarter"
    assert freshness["measured_days"] > 5000
    assert any("days old" in text for text in outputs["data.catalogue"].warnings)
    risks = {r["id"]: r for r in json.loads(files["risk-profile.json"].read_text())["risks"]}
    assert risks["stale-rows"]["likelihood"] == 3


def test_the_same_rows_are_the_same_version(tmp_path: Path) -> None:
    ticket = TICKETS["iris"]
    first, second = (run_chain(SKILLS, ticket, tmp_path / part, roots=(DATA,))[1] for part in "ab")
    assert first["catalogue-entry.json"].read_bytes() == second["catalogue-entry.json"].read_bytes()
    assert first["data-profile.svg"].read_bytes() == second["data-profile.svg"].read_bytes()


def test_personal_data_is_found_tagged_and_not_shown(tmp_path: Path) -> None:
    PEOPLE.to_csv(tmp_path / "people.csv", index=False)
    ticket = Ticket(id=5, title="People", data="people.csv")
    outputs, files = run_chain(SKILLS, ticket, tmp_path / "run", roots=(tmp_path,))
    entry = json.loads(files["catalogue-entry.json"].read_text("utf-8"))
    tags = {column["name"]: column["tags"] for column in entry["columns"]}
    assert DIRECT in tags["patientName"]
    assert DIRECT in tags["card"]
    assert DIRECT in tags["mail"]
    assert tags["age"] == [INDIRECT]
    assert tags["diagnosis"] == [SPECIAL]
    assert tags["weight"] == []
    for name, path in files.items():
        if name != "dataset.parquet":
            text = path.read_text("utf-8")
            assert not any(value in text for value in ("person7@", "Person 7", "4111111111111111")), name
    risk = json.loads(files["risk-profile.json"].read_text("utf-8"))
    assert risk["veto"], "card numbers in the clear"
    assert entry["access"] == "a person decides"
    assert {m.name: m.value for m in outputs["risk.data"].measurements}["tier"] == 2.0


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"], "value:iban"),
        (["4111 1111 1111 1111"], "value:card"),
        (["123-45-6789"], "value:ssn"),
        (["+49 30 901820"], "value:phone"),
        (["192.168.0.1", "10.0.0.7"], "value:ipv4"),
    ],
)
def test_values_are_recognised_by_form_and_checksum(values: list[str], rule: str) -> None:
    found = scan(pd.DataFrame({"x": values * 10}))
    assert rule in {finding.rule for finding in found["x"]}


@pytest.mark.parametrize("value", ["DE89370400440532013001", "4111 1111 1111 1112", "999.1.1.1", "weak democrat", "7"])
def test_what_fails_the_checksum_is_no_personal_data(value: str) -> None:
    rules = {finding.rule for finding in scan(pd.DataFrame({"x": [value] * 10})).get("x", [])}
    assert not rules & {"value:iban", "value:card", "value:ipv4"}


def test_measured_numbers_are_no_card_numbers() -> None:
    assert scan(pd.DataFrame({"reading": [1e13 + 7 * n for n in range(200)]})) == {}


def test_the_tickets_risk_raises_the_tier(tmp_path: Path) -> None:
    ticket = TICKETS["iris"].model_copy(update={"risk": RiskLevel.HIGH})
    outputs, _ = run_chain(SKILLS[:5], ticket, tmp_path, roots=(DATA,))
    assert {m.name: m.value for m in outputs["risk.data"].measurements}["tier"] == 2.0


def test_a_source_that_changed_is_refused(tmp_path: Path, write_csv: Callable[..., Ticket]) -> None:
    ticket = write_csv("a,b\n1,2\n3,4\n").model_copy(update={"target": None})
    _, files = run_skill(DataSource, ticket, tmp_path / "run", {}, roots=(tmp_path,))
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,5\n")
    with pytest.raises(InputError, match="changed since it was recorded"):
        run_skill(DataIngest, ticket, tmp_path / "run", files, roots=(tmp_path,))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"data": None}, "names no data"),
        ({"data": "../outside.csv"}, "outside the allowed roots"),
        ({"data": "economy.csv", "time": "quarter"}, "has no column 'quarter'"),
        ({"data": "sql:warehouse"}, "names no table"),
        ({"data": "queue:visits"}, "no data source"),
        ({"data": "wine.csv", "model": "in-use.zip"}, "write `pipeline: retrain`, or leave `model` out"),
    ],
)
def test_bad_sources_are_refused_by_name(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    ticket = Ticket(id=6, title="Bad", **fields)
    with pytest.raises(InputError, match=says):
        run_skill(DataSource, ticket, tmp_path, {}, roots=(DATA,))
