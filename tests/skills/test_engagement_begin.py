"""The phases before delivery: what the ticket says is marked so, what the data says is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.skill import InputError
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.lead.kickoff import LeadKickoff
from agents.skills.lead.opportunity import LeadOpportunity
from agents.skills.lead.phases import AHEAD, BEHIND, MILESTONES
from agents.skills.lead.statement import LABELS, NEEDED, need_statement, read_statement
from agents.skills.risk.readiness import RiskReadiness
from conductor.pipelines import load
from schemas.ticket import Budget, Ticket
from tests.skills.conftest import DATA, TRAVEL
from tests.skills.engagement import BEGINNING, BODY, CULTIVAR, UNEMPLOYMENT, VOTE, asked
from tests.skills.harness import run_chain, run_skill

PIPELINE = load("ml-engagement")


def begin(ticket: Ticket, folder: Path, root: Path = DATA, **more: Any) -> tuple[dict[str, Any], dict[str, Path]]:
    return run_chain(BEGINNING, ticket, folder, roots=(root,), **more)


def content(files: dict[str, Path], name: str) -> Any:
    return json.loads(files[name].read_text("utf-8"))


def text(files: dict[str, Path], name: str) -> str:
    return files[name].read_text("utf-8")


@pytest.mark.parametrize("ticket", [VOTE, CULTIVAR, UNEMPLOYMENT, asked(TRAVEL)], ids=lambda t: t.data)
def test_every_required_item_is_ticked_on_real_data(ticket: Ticket, tmp_path: Path) -> None:
    outputs, files = begin(ticket, tmp_path)
    for phase in PIPELINE.phases[:5]:
        ticked = {item.item for skill in phase.skills for item in outputs[skill].ticked}
        assert {item.id for item in phase.checklist if item.required} <= ticked
        assert set(phase.artifacts) <= set(files)
    measured = {f"{m.scope}.{m.name}": m.value for m in outputs["risk.readiness"].measurements}
    assert 0.5 <= measured["readiness.score"] <= 1.0
    assert {each["name"] for each in content(files, "discovery-report.json")["sample"]["columns"]} >= set(
        _columns(ticket) - {ticket.target}
    )


def _columns(ticket: Ticket) -> set[str]:
    return set((DATA / str(ticket.data)).read_text("utf-8").splitlines()[0].split(","))


def test_the_same_ticket_gives_the_same_bytes(tmp_path: Path) -> None:
    _, first = begin(CULTIVAR, tmp_path / "a")
    _, second = begin(CULTIVAR, tmp_path / "b")
    assert {n: p.read_bytes() for n, p in first.items()} == {n: p.read_bytes() for n, p in second.items()}


def test_what_is_missing_is_asked_for_by_name_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        begin(asked(VOTE, "Somebody should look into this.", requester=None), tmp_path)
    for label in ("users", "decision", "today", "rules", "sponsor"):
        assert label in caught.value.problem
        assert f"`{label.capitalize()}: …`" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("Errors today: a lot", "no number"),
        ("Cases per year: 5 million", "no number"),
        ("Cases per year: 5k", "no number"),
        ("Errors today: 140 %", "more than all"),
        ("Team: Bob", "agents among"),
        ("Users: somebody else", "twice, differently"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(change: str, says: str, tmp_path: Path) -> None:
    label = change.partition(":")[0] + ":"
    kept = BODY if label == "Users:" else "\n".join(each for each in BODY.splitlines() if not each.startswith(label))
    with pytest.raises(InputError) as caught:
        begin(asked(VOTE, f"{kept}\n{change}"), tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("12 %", 0.12),
        ("0.12", 0.12),
        ("50,000", 50000.0),
        ("50_000 cases a year", 50000.0),
        ("USD 1.50", 1.5),
        ("$3", 3.0),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(written: str, number: float) -> None:
    assert read_statement(asked(VOTE, f"Money: {written}")).number("money") == pytest.approx(number)


def test_a_statement_may_stand_under_headings() -> None:
    body = "# Problem\nToo many\nwrong letters.\n\n# Users\n\nwriters\n\n# Decision\nx\n# Today\n?\n# Rules\nnone"
    statement = read_statement(asked(VOTE, body))
    assert (statement.problem, statement.text("users")) == ("Too many\nwrong letters.", "writers")
    with pytest.raises(InputError, match="today"):
        need_statement(asked(VOTE, body))


def test_the_simple_rule_is_measured_on_rows_it_was_not_made_from(tmp_path: Path) -> None:
    _, files = run_skill(LeadOpportunity, CULTIVAR, tmp_path, {}, roots=(DATA,))
    brief = content(files, "opportunity-brief.json")
    simple = brief["simple_way"]
    assert 0.6 < simple["rule_figures"]["balanced_accuracy"]["value"] < 0.95
    assert simple["constant"]["balanced_accuracy"]["value"] == pytest.approx(1 / 3)
    assert simple["gain"]["balanced_accuracy"]["lower"] > 0
    assert brief["value"]["errors_today"] == 0.2
    assert brief["value"]["usd_high"] == pytest.approx(50_000 * 0.2 * 1.5)
    assert "from the ticket, not verified" in text(files, "opportunity-brief.md")


def test_no_go_when_the_simple_rule_already_does(tmp_path: Path) -> None:
    ticket = asked(CULTIVAR, acceptance=("metrics.balanced_accuracy_lower >= 0.5",))
    output, files = run_skill(LeadOpportunity, ticket, tmp_path, {}, roots=(DATA,))
    assert content(files, "opportunity-brief.json")["go"] is False
    assert "use the rule" in " ".join(output.warnings)
    assert "**Advice: no-go.**" in text(files, "opportunity-brief.md")


def test_no_go_when_it_cannot_be_worth_what_it_costs(tmp_path: Path) -> None:
    body = BODY.replace("Cases per year: 50,000", "Cases per year: 10") + "Money: 20,000 USD\n"
    output, _ = run_skill(LeadOpportunity, asked(VOTE, body), tmp_path, {}, roots=(DATA,))
    assert {m.name: m.value for m in output.measurements}["go"] == 0.0


def test_without_data_there_is_a_brief_and_a_no_go(tmp_path: Path) -> None:
    output, files = run_skill(LeadOpportunity, asked(VOTE, data=None), tmp_path, {})
    assert {m.name: m.value for m in output.measurements} == {"go": 0.0, "usd_per_year": pytest.approx(15_000)}
    assert "There is no data yet" in text(files, "opportunity-brief.md")


def test_the_ticket_is_quoted_and_never_taken_for_markup(tmp_path: Path) -> None:
    _, files = begin(asked(VOTE, BODY.replace("the two people", "@all <script>|*two* people")), tmp_path)
    for name in ("opportunity-brief.md", "discovery-report.md"):
        assert "<script>" not in text(files, name).replace("    Users: @all <script>", "")
        assert "\\|\\*two\\*" in text(files, name)


def test_personal_data_without_a_ground_blocks(tmp_path: Path) -> None:
    ground = "Personal data: yes, under the survey's consent"
    for said in ("", "Personal data: no"):
        output, files = begin(asked(VOTE, BODY.replace(ground, said)), tmp_path / (said or "nothing"))
        readiness = output["risk.readiness"]
        assert {m.name: m.value for m in readiness.measurements}["score"] == 0.0
        assert "personal-data-known" not in {item.item for item in readiness.ticked}
        assert content(files, "readiness-score.json")["blocking"] == ["personal-data-without-ground"]
        assert "party" in " ".join(readiness.warnings)


def test_readiness_is_its_weakest_area_and_opens_risks_with_owners(tmp_path: Path) -> None:
    poor = "\n".join(line for line in BODY.splitlines() if not line.startswith(("Data owner", "Team", "Approvers")))
    ticket = asked(UNEMPLOYMENT, poor, budget=Budget(minutes=0.1))
    output, files = begin(ticket, tmp_path)
    score = content(files, "readiness-score.json")
    assert score["score"] == min(score["areas"].values()) == score["areas"]["people"] < 0.5
    risks = {risk["id"]: risk for risk in content(files, "risk-register.json")["risks"]}
    assert len(risks) == len(score["items"])
    assert all(risk["owner"] and risk["mitigation"] for risk in risks.values())
    assert risks["no-data-owner"]["likelihood"] == 5
    assert risks["data-out-of-reach"]["likelihood"] == 1
    assert "2009-07-01" in risks["stale-data"]["evidence"]
    assert PERSON in text(files, "discovery-report.md")
    assert any("of skill time" in each for each in output["lead.kickoff"].warnings)


def test_a_person_can_be_named_who_may_not_decide(tmp_path: Path) -> None:
    _, files = begin(asked(VOTE, BODY.replace("Approvers: dana", "Approvers: Alice")), tmp_path)
    items = {each["id"]: each["score"] for each in content(files, "readiness-score.json")["items"]}
    assert items["own-approval"] == 0.0


def test_the_plan_names_every_phase_of_the_pipeline() -> None:
    planned = {phase.name: phase for phase in (*BEHIND, *AHEAD)}
    assert {p.name: p.agent for p in PIPELINE.phases} == {name: phase.agent for name, phase in planned.items()}
    assert sum(phase.weight for phase in AHEAD) == pytest.approx(1.0)
    assert {phase for _, phase, _ in MILESTONES} <= set(planned)
    gates = {phase.name for phase in PIPELINE.phases if phase.gate and phase.gate.human != "never"}
    assert gates == {name for name, phase in planned.items() if phase.gate}


def test_dates_wait_for_people_and_costs_add_up(tmp_path: Path) -> None:
    body = BODY + "Money: 20,000 USD\nStage: repeatable\nDeadline: 2026-11-25\n"
    output, files = begin(asked(VOTE, body), tmp_path)
    plan, costs = content(files, "kickoff-plan.json"), content(files, "cost-plan.json")
    assert [each["date"] for each in plan["milestones"]][:2] == ["2026-11-24", "2026-11-24"]  # a Friday and two days
    assert plan["ends"] == "2026-11-30"
    assert any("after the deadline" in each for each in output["lead.kickoff"].warnings)
    assert costs["usd_by_kind"] == {"labour": 13_000, "cloud": 5_000, "tooling": 2_000}
    assert sum(each["planned_usd"] for each in costs["phases"]) == pytest.approx(20_000)
    people = {each["phase"]: each["person"] for each in plan["people"]}
    assert (people["training"], people["deployment"]) == ("ben", "Frida Berg, head of outreach")


@pytest.mark.parametrize(("line", "says"), [("Deadline: soon", "no date"), ("Stage: huge", "one of pilot")])
def test_a_plan_from_unreadable_words_is_refused(line: str, says: str, tmp_path: Path) -> None:
    _, files = run_chain(BEGINNING[:4], VOTE, tmp_path, roots=(DATA,))
    with pytest.raises(InputError, match=says):
        run_skill(LeadKickoff, asked(VOTE, f"{BODY}{line}\n"), tmp_path, files)


def test_synthetic_rows_are_called_so(tmp_path: Path) -> None:
    ticket = Ticket(id=1, title="Late refills", data="synthetic:refills", target="late_by_more_than_7_days")
    _, files = begin(asked(ticket), tmp_path)
    for name, path in files.items():
        if name.endswith(".md"):
            assert "ynthetic data" in path.read_text("utf-8"), name


def test_personal_columns_are_found_by_their_values(write_csv: Callable[..., Ticket], tmp_path: Path) -> None:
    rows = "\n".join(f"{i % 9},p{i}@example.org,{i % 2}" for i in range(120))
    ticket = asked(write_csv(f"a,b,y\n{rows}\n"), BODY.replace("Personal data: yes, under the survey's consent", ""))
    _, files = run_chain(BEGINNING[:3], ticket, tmp_path, roots=(tmp_path,))
    report = content(files, "discovery-report.json")
    assert report["direct_columns"] == ["b"]
    assert "@example.org" not in "".join(path.read_text("utf-8") for path in files.values())
    assert content(files, "readiness-score.json")["score"] == 0.0


def test_every_readiness_answer_has_its_rule_in_the_report(tmp_path: Path) -> None:
    _, files = run_chain(BEGINNING[:3], VOTE, tmp_path, roots=(DATA,))
    for item in content(files, "readiness-score.json")["items"]:
        assert item["score"] in (0.0, 0.5, 1.0)
        assert item["evidence"]
        assert item["question"] in text(files, "readiness-report.md")
    assert RiskReadiness.__doc__ is not None
    assert "weakest area" in RiskReadiness.__doc__


def test_written_documents_are_no_yaml_accident(tmp_path: Path) -> None:
    """Bodies with colons and hashes come back as they were written."""
    _, files = run_skill(LeadOpportunity, asked(VOTE, BODY + "Alternatives: a: b # c\n"), tmp_path, {}, roots=(DATA,))
    assert yaml.safe_load(files["opportunity-brief.json"].read_text("utf-8"))["users"].startswith("the two people")


def test_every_label_is_documented_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tickets.md").read_text("utf-8")
    for label, meaning in LABELS.items():
        needed = "yes" if label in (*NEEDED, "sponsor", "problem") else ""
        assert f"| `{label.capitalize()}` | {meaning} | {needed} |" in page
