"""What the record says of past sessions: costs, estimates, portfolio, models' lives, and the risk registry."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.skill import InputError
from agents.skills.lead.estimate import LeadEstimate
from agents.skills.lead.history import FEW, capacity, estimate, quantile
from agents.skills.risk.over_sessions import over_sessions, past_document
from agents.skills.risk.register import Risk
from cli.errors import CliError
from cli.history import HistoryFile, Past
from cli.past import past_session
from cli.reports import BY, costs, estimates, portfolio, scorecards
from cli.risks import Named, profiles, registry
from conductor.fold import fold
from conductor.state import Status, initial
from schemas.envelope import EventEnvelope, decode_event
from schemas.history import History, PastSession, Signal, Spent
from schemas.messages import Event
from schemas.session import WorkReported
from schemas.ticket import Budget, Ticket
from schemas.values import ArtifactRef
from store.sqlite import SqliteStore
from tests.audit.homes import STREAM, Place
from tests.conductor.rig import TENANT
from tests.skills.harness import NOW, run_skill

GOLDEN = sorted((Path(__file__).resolve().parents[1] / "golden").glob("*.history.jsonl"))
TODAY = datetime(2026, 11, 20, 9, tzinfo=UTC)


def recorded(path: Path) -> list[EventEnvelope[Event]]:
    lines = path.read_bytes().splitlines()
    return [decode_event(line) for line in lines if "sender" not in json.loads(line)]


def past(number: int = 1, **changes: Any) -> PastSession:
    """A completed session of one day, a dollar and a minute."""
    start = changes.pop("started", TODAY - timedelta(days=40 - number))
    usd = changes.pop("usd", 1.0)
    spent = Spent(
        time=start, phase="training", agent="training", wall_seconds=60.0, cpu_seconds=90.0, tokens=5, usd=usd
    )
    fields: dict[str, Any] = {
        "session": f"s{number}", "ticket": number, "title": f"Ticket {number}", "requester": "alice",
        "pipeline": "ml-delivery", "labels": (), "ending": "completed", "started": start,
        "updated": start + timedelta(days=1), "ended": start + timedelta(days=1), "attempts": 11, "failed": 0,
        "waited_seconds": 0.0, "decisions": 0, "spent": (spent,), "signals": (), "measured": {},
    }  # fmt: skip
    return PastSession(**{**fields, **changes})


@pytest.mark.parametrize("path", GOLDEN, ids=[path.name.split(".history")[0] for path in GOLDEN])
def test_recorded_sessions_cost_what_the_conductor_counted(path: Path) -> None:
    """Against the conductor's own sums, from other code."""
    events = recorded(path)
    told, state = past_session(events), fold(initial(events[0].stream.name), events)
    assert told is not None
    assert told.usd == pytest.approx(state.usage.usd)
    assert sum(each.wall_seconds for each in told.spent) == pytest.approx(state.usage.wall_seconds)
    assert sum(each.tokens for each in told.spent) == state.usage.tokens
    assert told.ending == state.status.value
    assert (told.ended is not None) == (state.status in (Status.COMPLETED, Status.ABORTED))
    assert all(each.agent for each in told.spent)


def test_every_division_of_the_costs_has_the_same_sum() -> None:
    sessions = [told for path in GOLDEN if (told := past_session(recorded(path)))]
    total = sum(each.usd for each in sessions)
    assert total > 0
    for by in BY:
        assert sum(row["usd"] for row in costs(sessions, by)) == pytest.approx(total, abs=1e-5)


def test_costs_of_a_month_are_those_reported_in_it() -> None:
    sessions = [
        past(1, started=datetime(2026, 10, 31, 23, tzinfo=UTC)),
        past(2, started=datetime(2026, 11, 1, tzinfo=UTC)),
    ]
    assert [row["usd"] for row in costs(sessions, "requester", "2026-11")] == [1.0]
    assert [row["month"] for row in costs(sessions, "month")] == ["2026-10", "2026-11"]
    with pytest.raises(CliError, match="cannot be divided by 'wish'"):
        costs(sessions, "wish")
    with pytest.raises(CliError, match="is no month"):
        costs(sessions, "ticket", "november")


def test_the_portfolio_sets_cost_beside_the_stated_value() -> None:
    sessions = [
        past(1, measured={"opportunity.usd_per_year": 100.0, "impact.kept": 1.0}),
        past(2, measured={"opportunity.usd_per_year": 50.0, "impact.kept": 0.0}),
        past(3), past(4, ticket=3, ending="blocked", ended=None),
    ]  # fmt: skip
    found = portfolio(sessions)
    assert [(row["ticket"], row["usd"], row["return"]) for row in found["tickets"]] == [
        (1, 1.0, 99.0), (2, 1.0, 49.0), (3, 2.0, None),
    ]  # fmt: skip
    assert (found["stated_usd_per_year"], found["delivered_usd_per_year"]) == (150.0, 100.0)
    assert found["without_a_value"] == 1


def test_an_estimate_is_what_happened_and_says_when_that_is_too_little() -> None:
    few = estimate([past(n, usd=float(n)) for n in range(1, FEW)], "ml-delivery")
    assert not few["enough"]
    sessions = [past(n, usd=float(n)) for n in range(1, 11)] + [
        past(20, ending="aborted"),
        past(21, pipeline="retrain"),
    ]
    found = estimate(sessions, "ml-delivery")
    assert found["enough"]
    assert (found["completed"], found["not_completed"]) == (10, 1)
    assert (found["figures"]["usd"]["half"], found["figures"]["usd"]["most"]) == (5.0, 8.0)
    assert found["figures"]["usd"]["held"] == 0.0, "they grew dearer: the mark of those before never kept"
    assert found["figures"]["days"] == {"half": 1.0, "most": 1.0, "least": 1.0, "largest": 1.0, "held": 1.0}


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
@pytest.mark.untraced
def test_a_quantile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    mark = quantile(values, share)
    assert sum(value <= mark for value in values) >= share * len(values) - 1e-9
    below = [value for value in values if value < mark]
    assert len(below) < share * len(values) + 1e-9


def test_a_forecast_follows_the_weeks_that_were() -> None:
    weekly = [past(n, started=TODAY - timedelta(days=7 * n + 1, hours=1)) for n in range(12)]
    steady = capacity(weekly, TODAY, 6)
    assert steady["a_week"] == pytest.approx(1.0, abs=0.1)
    assert 6 <= steady["half"] <= 8
    assert steady["most"] >= steady["half"]
    assert capacity(weekly, TODAY, 6) == steady, "the same history gives the same forecast"
    idle = capacity([past(1, ending="open", ended=None)], TODAY, 6)
    assert (idle["half"], idle["most"], idle["open"]) == (None, None, 1)


def test_reports_of_a_pipeline_nobody_used_are_refused() -> None:
    with pytest.raises(CliError, match="no session went through pipeline 'retrain'; there are ml-delivery"):
        estimates([past(1)], TODAY, 0, "retrain")


def test_a_models_life_says_how_it_moved_and_what_is_missing() -> None:
    sessions = [
        past(1, title="Votes", measured={"metrics.roc_auc": 0.9, "metrics.rows": 50.0, "metrics.roc_auc_se": 0.1}),
        past(2, title="Votes", pipeline="retrain", measured={"metrics.roc_auc": 0.8, "drift.score": 0.3}),
        past(3, title="No model", measured={"tests.passed": 3.0}),
    ]
    [card] = scorecards(sessions)
    assert card["model"] == "Votes"
    assert card["moved"] == {"metrics.roc_auc": pytest.approx(-0.1)}
    assert "drift against newer rows" not in card["missing"]
    assert "promise against outcome" in card["missing"]


def risk(score: tuple[int, int], id: str = "concept-drift") -> Named:
    told = Risk(
        id=id, title="Drift", kind="model", cause="c", effect="e", signal="s", mitigation="retrain", owner="training",
        likelihood=score[0], impact=score[1], evidence="x",
    )  # fmt: skip
    return Named.model_validate(told.as_dict())


def entry(found: dict[str, Any], id: str = "concept-drift") -> dict[str, Any]:
    return next(row for row in found["risks"] if row["risk"] == id)


def test_a_mitigated_risk_that_fires_again_is_active_again() -> None:
    days = [TODAY - timedelta(days=n) for n in (40, 30, 20)]
    sessions = [past(n, started=time) for n, time in enumerate(days, 1)]
    named = {"s1": [(days[0], [risk((4, 4))])], "s2": [(days[1], [risk((1, 3))])], "s3": [(days[2], [risk((3, 4))])]}
    first = entry(registry(sessions[:1], named, TODAY))
    assert (first["status"], first["score"], first["age_days"], first["again"]) == ("active", 16, 40.0, False)
    assert entry(registry(sessions[:2], named, TODAY))["status"] == "mitigated"
    last = entry(registry(sessions, named, TODAY))
    assert (last["status"], last["again"], last["age_days"], last["worst"]) == ("active", True, 20.0, 16)
    assert last["sessions"] == ["s1", "s3"]


def test_signs_in_the_events_make_the_trains_own_risks_active_and_work_closes_them() -> None:
    sign = Signal(risk="mode-misfire", time=TODAY - timedelta(days=35), what="build: outside of its mode")
    sessions = [past(1, started=TODAY - timedelta(days=36), signals=(sign,))]
    found = registry(sessions, {}, TODAY)
    row = entry(found, "mode-misfire")
    assert (row["status"], row["signals"], row["owner"]) == ("active", 1, "lead")
    assert found["coverage"]["old_without_work"] == ["mode-misfire"]
    assert found["coverage"]["active"] == 1
    assert len(found["risks"]) == 12, "the train's own are there from the start"
    begun = past(2, started=TODAY - timedelta(days=5), labels=("Task", "risk:mode-misfire"), ending="open", ended=None)
    worked = registry([*sessions, begun], {}, TODAY)
    assert entry(worked, "mode-misfire")["work"] == [2]
    assert worked["coverage"]["without_work"] == []
    done = past(2, started=TODAY - timedelta(days=5), labels=("risk:mode-misfire",))
    assert entry(registry([*sessions, done], {}, TODAY), "mode-misfire")["status"] == "mitigated"


def test_what_recorded_failures_are_signs_of() -> None:
    found = {each.risk for path in GOLDEN if (told := past_session(recorded(path))) for each in told.signals}
    assert {"orchestration-breakdown", "artifact-chaos", "stale-or-invalid-inputs"} <= found


def history_of(folder: Path, *sessions: PastSession) -> Path:
    path = folder / "history.json"
    path.write_text(History(made=TODAY, sessions=sessions).model_dump_json(), "utf-8")
    return path


def test_the_estimate_of_a_ticket_warns_of_a_budget_that_was_never_enough(tmp_path: Path) -> None:
    ticket = Ticket(id=9, title="Another", budget=Budget(usd=2.0, minutes=10))
    file = history_of(tmp_path, *(past(n, usd=3.0) for n in range(1, 8)))
    output, files = run_skill(LeadEstimate, ticket, tmp_path / "run", {}, facts={"history": str(file)})
    found = {m.name: m.value for m in output.measurements}
    assert found == {"sessions": 7.0, "usd": 3.0, "minutes": 1.0, "days": 1.0}
    report = json.loads(files["estimate.json"].read_text("utf-8"))
    assert report["budget_too_small_for"] == ["usd"]
    assert any("the budget of 2 USD" in warning for warning in output.warnings)
    assert report["history"]["sha256"]


def test_too_few_sessions_or_none_give_no_estimate(tmp_path: Path) -> None:
    ticket = Ticket(id=9, title="Another")
    file = history_of(tmp_path, past(1))
    output, _ = run_skill(LeadEstimate, ticket, tmp_path / "few", {}, facts={"history": str(file)})
    assert [m.name for m in output.measurements] == ["sessions"]
    output, _ = run_skill(LeadEstimate, ticket, tmp_path / "none", {}, facts={"history": str(tmp_path / "gone.json")})
    assert any("no history was at hand" in warning for warning in output.warnings)
    file.write_text("{}")
    with pytest.raises(InputError, match=r"history\.json cannot be read"):
        run_skill(LeadEstimate, ticket, tmp_path / "bad", {}, facts={"history": str(file)})


def test_the_risk_review_is_told_of_other_sessions() -> None:
    sign = Signal(risk="mode-misfire", time=TODAY - timedelta(days=3), what="build: <b>outside</b> of its mode")
    old = Signal(risk="scope-drift", time=TODAY - timedelta(days=300), what="long ago")
    told = over_sessions(History(made=TODAY, sessions=(past(38, signals=(old, sign)), past(39))), "s39", NOW)
    assert told["sessions"] == 1
    assert [(each["risk"], each["signs"]) for each in told["signs"]] == [("mode-misfire", 1)]
    assert "<b>" not in past_document(told)
    assert "Not known here" in past_document(over_sessions(None, "s1", NOW))


def test_the_file_of_the_past_is_made_from_the_record_and_read_again_only_where_it_grew(place: Place) -> None:
    with closing(SqliteStore.open(place.home.record)) as store:
        HistoryFile(store, TENANT, place.home.path / "history.json").write()
        history = History.model_validate_json((place.home.path / "history.json").read_bytes())
        [told] = history.sessions
        assert told == past_session(store.read(STREAM))
        reader = Past(store, TENANT)
        first = reader.sessions()
        assert reader.sessions()[0] is first[0]
    assert not list(place.home.path.glob("history.*.tmp"))


def test_the_commands_read_the_record_and_change_nothing(place: Place) -> None:
    before = place.home.record.read_bytes()
    code, rows = place.run("report", "costs", "--by", "agent")
    assert code == 0
    assert {row["agent"] for row in rows}
    assert place.run("report", "portfolio")[1]["without_a_value"] == 1
    assert place.run("report", "estimate", "--tickets", "3")[1]["pipelines"][0]["completed"] == 1
    assert place.run("report", "models")[0] == 0
    assert len(place.run("risk", "list", "--all")[1]["risks"]) >= 12
    assert "risks are active" in place.say("risk", "list")
    assert "completed a week" in place.say("report", "estimate")
    assert "USD in all" in place.say("report", "costs")
    assert place.run("report", "costs", "--by", "wish")[0] == 2
    assert place.home.record.read_bytes() == before


def test_the_risks_that_a_profile_in_the_record_names_are_listed(place: Place) -> None:
    """A damaged profile is left to `audit verify`."""
    content = json.dumps({"risks": [risk((4, 4)).model_dump()]}).encode()
    sha256, size = place.blobs.put(content)
    broken, _ = place.blobs.put(b"[]")
    with closing(SqliteStore.open(place.home.record)) as store:
        reported = next(e for e in store.read(STREAM) if isinstance(e.event, WorkReported))
    refs = tuple(
        ArtifactRef(name=name, sha256=digest, size=size)
        for name, digest in (("risk-profile.json", sha256), ("risk-register.json", broken))
    )
    event = replace(reported, event=reported.event.model_copy(update={"artifacts": refs}))
    [(time, found)] = list(profiles([event], place.blobs))
    assert (time, [each.id for each in found]) == (reported.time, ["concept-drift"])
