"""The phases after delivery: what the package does against its promise, why it errs, what is next, when to retrain."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from agents.skill import SkillError
from agents.skills.evaluation.analyse import EvaluationAnalyse
from agents.skills.evaluation.crossed import cross
from agents.skills.evaluation.errors import group_errors, mistakes
from agents.skills.evaluation.impact import EvaluationImpact
from agents.skills.evaluation.moved import moved_columns
from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome, score
from agents.skills.lead.improve import LeadImprove
from agents.skills.lead.options import end_verdict, options
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, ExperimentLog, ScopeSpec
from agents.skills.training.modelfile import zip_bytes
from agents.skills.training.rows import TrainingRows
from agents.skills.training.schedule import TrainingSchedule
from conductor.criteria import check_syntax
from conductor.pipelines import load
from schemas.ticket import Ticket
from tests.skills.conftest import DATA
from tests.skills.engagement import BODY, UNEMPLOYMENT, USAGE, VOTE, asked, deliver, watched
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import feature_map

ENDING = (EvaluationImpact, EvaluationAnalyse, LeadImprove, TrainingSchedule)
PIPELINE = load("ml-engagement")
Done = tuple[Ticket, dict[str, Any], dict[str, Path]]


@pytest.fixture(scope="module", params=[VOTE, UNEMPLOYMENT], ids=["votes", "economy"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """(ticket, outputs by skill, files by name) of a whole engagement, on classes and on numbers over time."""
    folder = tmp_path_factory.mktemp("ended")
    _, files = deliver(request.param, folder, DATA)
    files["monitoring-config.yaml"] = watched(files, folder)
    outputs = {}
    for skill in ENDING:
        outputs[skill.name], produced = run_skill(skill, request.param, folder, files, facts={"usage": USAGE})
        files |= produced
    return request.param, outputs, files


def content(files: dict[str, Path], name: str) -> Any:
    return json.loads(files[name].read_text("utf-8"))


def again(skill: Any, ended: Done, folder: Path, **changed: Path) -> tuple[Any, dict[str, Path]]:
    """Run one of them again; `changed` files have their dots and hyphens as underscores."""
    ticket, _, files = ended
    swapped = {n: changed.get(re.sub(r"\W", "_", n), p) for n, p in files.items()}
    output, produced = run_skill(skill, ticket, folder, swapped, facts={"usage": USAGE})
    return output, produced


def test_every_required_item_is_ticked(ended: Done) -> None:
    _, outputs, files = ended
    for phase in PIPELINE.phases[-4:]:
        (skill,) = phase.skills
        ticked = {item.item for item in outputs[skill].ticked}
        assert {item.id for item in phase.checklist if item.required} <= ticked
        assert set(phase.artifacts) <= set(files)


def test_the_delivered_package_answers_like_the_evaluated_model(ended: Done) -> None:
    ticket, outputs, files = ended
    impact, metrics = content(files, "impact-report.json"), content(files, "metrics.json")
    assert impact["kept"] is True
    assert impact["skew"] < 1e-9
    for each in impact["metrics"]:
        assert each["delivered"]["value"] == pytest.approx(metrics["metrics"][each["metric"]]["value"])
    people = ["age", "educ", "income", "party"] if ticket.data == "votes.csv" else []
    assert impact["groups"]["columns"] == people
    measured = {m.name: m.value for m in outputs["evaluation.impact"].measurements}
    assert measured["kept"] == 1.0
    assert measured["usd_per_1000"] == pytest.approx(impact["latency_ms"] / 3_600 * 0.100_08, rel=1e-3)


def test_a_package_with_another_model_breaks_the_promise(ended: Done, tmp_path: Path) -> None:
    """The baseline, packaged with right digests: every check of digests passes, the answers do not."""
    import hashlib
    import zipfile

    _, _, files = ended
    with zipfile.ZipFile(files["model-package.zip"]) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    members["model.skops"] = files["baseline.skops"].read_bytes()
    manifest = json.loads(members["package.json"])
    manifest["files"]["model.skops"] = {
        "sha256": hashlib.sha256(members["model.skops"]).hexdigest(), "bytes": len(members["model.skops"]),
    }  # fmt: skip
    members["package.json"] = json.dumps(manifest).encode()
    package = tmp_path / "model-package.zip"
    package.write_bytes(zip_bytes(members))
    config = yaml.safe_load(files["deployment-config.yaml"].read_text("utf-8"))
    config["package"]["sha256"] = hashlib.sha256(package.read_bytes()).hexdigest()
    changed = tmp_path / "deployment-config.yaml"
    changed.write_text(yaml.safe_dump(config), "utf-8")

    output, produced = again(
        EvaluationImpact, ended, tmp_path, model_package_zip=package, deployment_config_yaml=changed
    )
    impact = content(produced, "impact-report.json")
    assert impact["kept"] is False
    kept = {each["metric"]: each["kept"] for each in impact["metrics"]}
    # a constant answer is worse on the votes, and better on the economy, which the model extrapolates
    assert kept[impact["metric"]] is (ended[0].data == "economy.csv")
    assert any("answers differently" in each for each in output.warnings)
    assert "**The promise is NOT kept**" in produced["impact-report.md"].read_text("utf-8")


def test_a_package_nobody_deployed_is_not_measured(ended: Done, tmp_path: Path) -> None:
    other = tmp_path / "model-package.zip"
    other.write_bytes(ended[2]["model-package.zip"].read_bytes() + b"x")
    with pytest.raises(SkillError, match="yaml names"):
        again(EvaluationImpact, ended, tmp_path, model_package_zip=other)


def test_no_document_tells_the_label_of_a_sealed_row(ended: Done) -> None:
    """Examples and groups are of training rows; of the hold-out only aggregates leave the harness."""
    _, _, files = ended
    sealed = set(pd.read_parquet(files["holdout-labels.parquet"])[ROW_COLUMN])
    analysis = content(files, "performance-analysis.json")
    assert analysis["mistakes"]["examples"]
    assert not {each["row"] for each in analysis["mistakes"]["examples"]} & sealed
    labels = pd.read_parquet(files["train.parquet"]).set_index(ROW_COLUMN)[TARGET_COLUMN]
    for each in analysis["mistakes"]["examples"]:
        assert str(labels[each["row"]]) == str(each["actual"]) or float(labels[each["row"]]) == each["actual"]
    assert "holdout-labels.parquet" not in (*EvaluationAnalyse.needs, *EvaluationAnalyse.optional)
    assert not EvaluationAnalyse.harness


def test_analysis_is_the_same_every_time(ended: Done, tmp_path: Path) -> None:
    _, produced = again(EvaluationAnalyse, ended, tmp_path)
    for name, path in produced.items():
        assert path.read_bytes() == ended[2][name].read_bytes(), name


def test_people_stay_out_of_the_examples(ended: Done) -> None:
    analysis = content(ended[2], "performance-analysis.json")
    shown = {name for each in analysis["mistakes"]["examples"] for name in each["values"]}
    assert not shown & {"age", "educ", "income", "party"}
    assert shown


def test_the_verdict_follows_the_figures(ended: Done) -> None:
    ticket, outputs, files = ended
    roadmap = content(files, "improvement-roadmap.json")
    plan = yaml.safe_load(files["retraining-plan.yaml"].read_text("utf-8"))
    good = ticket.data == "votes.csv"
    assert roadmap["end"]["advice"] == ("go on" if good else "stop")
    assert plan["in_force"] is good
    assert bool(outputs["lead.improve"].warnings) is not good
    gains = [each["gain"] for each in roadmap["options"] if each["gain"] is not None and not each["certain"]]
    assert gains == sorted(gains, reverse=True)
    for each in roadmap["options"]:
        assert all(each[name] for name in ("rule", "evidence", "risk"))
        assert each["cost"]["people_days"] > 0
        if each["gain"] is not None:
            assert each["usd_per_year"] == pytest.approx(each["gain"] * 75_000)
    for written in roadmap["tickets"]:
        Ticket(id=1, body=written["body"], **written["head"])


def test_the_rules_of_retraining_have_figures_from_what_was_measured(ended: Done) -> None:
    ticket, _, files = ended
    plan = yaml.safe_load(files["retraining-plan.yaml"].read_text("utf-8"))
    metrics = content(files, "metrics.json")
    rules = {each["id"]: each for each in plan["triggers"]}
    assert list(rules) == ["schedule", "performance", "drift", "new-data", "cost"]
    end = "upper" if ticket.data == "economy.csv" else "lower"
    assert rules["performance"]["limit"] == pytest.approx(metrics["metrics"][metrics["metric"]][end], abs=1e-5)
    assert rules["schedule"]["days"] == (365 if ticket.time else 90)
    assert all(each["from"] and each["when"] for each in rules.values())
    assert plan["data"]["rows"] == ("the newest" if ticket.time else "all, old and new")
    assert plan["limits"]["usd_each"] <= ticket.budget.usd
    assert plan["limits"]["minutes_each"] <= ticket.budget.minutes
    for criterion in plan["promotion"]["criteria"]:
        check_syntax(criterion)
    head = {name: value for name, value in plan["ticket"].items() if name != "left_open"}
    assert Ticket(id=1, **head).pipeline == "retrain"


def test_a_configuration_that_is_no_mapping_is_named(ended: Done, tmp_path: Path) -> None:
    for text in ("- a list\n", "{\n"):
        broken = tmp_path / "monitoring-config.yaml"
        broken.write_text(text, "utf-8")
        for skill in (EvaluationImpact, TrainingSchedule):
            with pytest.raises(SkillError, match=r"monitoring-config\.yaml is"):
                again(skill, ended, tmp_path / "run", monitoring_config_yaml=broken)
        shutil.rmtree(tmp_path / "run")


def test_without_numbers_in_the_ticket_no_money_is_invented(ended: Done, tmp_path: Path) -> None:
    ticket, _, files = ended
    brief = content(files, "opportunity-brief.json")
    brief["value"] |= {"cases_per_year": None, "cost_of_an_error": None, "errors_today_stated": False}
    changed = tmp_path / "opportunity-brief.json"
    changed.write_text(json.dumps(brief), "utf-8")
    _, produced = again(EvaluationImpact, ended, tmp_path, opportunity_brief_json=changed)
    impact = content(produced, "impact-report.json")
    assert impact["kpi"]["usd_per_year"] is None
    assert "one constant answer" in impact["kpi"]["before_from"]
    assert "no money follows" in produced["impact-report.md"].read_text("utf-8")
    _, roadmap = again(LeadImprove, (ticket, {}, files | produced), tmp_path)
    assert {each["usd_per_year"] for each in content(roadmap, "improvement-roadmap.json")["options"]} == {None}


def test_a_group_that_errs_is_found_on_one_half_and_measured_on_the_other() -> None:
    generator = np.random.default_rng(3)
    frame = pd.DataFrame({"x": generator.normal(size=600), "noise": generator.normal(size=600)})
    wrong = (frame["x"] > 1.0).to_numpy() & (generator.random(600) < 0.7)
    truth = np.zeros(600, dtype=np.intp)
    called = np.where(wrong, 0.8, 0.2)
    outcome = ClassOutcome(truth, np.column_stack([1 - called, called]))
    found = group_errors(outcome, frame, np.arange(600), 1)
    assert found[0].clear
    assert "x above" in found[0].condition
    assert found[0].loss > 0.5 > found[0].elsewhere
    chance = ClassOutcome(truth, outcome.probabilities[generator.permutation(600)])
    assert not any(each.clear for each in group_errors(chance, frame, np.arange(600), 1))
    assert group_errors(outcome.take(np.arange(30)), frame[:30], np.arange(30), 1) == ()


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_causes_have_figures(bias: float) -> None:
    generator = np.random.default_rng(5)
    frame = pd.DataFrame({"x": generator.normal(size=800)})
    truth = generator.normal(size=800)
    predicted = truth + generator.normal(size=800) * 0.3 + np.where(frame["x"] > 0.8, bias, 0.0)
    found = group_errors(ValueOutcome(truth, predicted), frame, np.arange(800), 2)
    assert (found[0].cause == "predictions lie to one side") is (bias > 0)
    if bias:
        assert found[0].evidence.startswith("too high by 2.9") or found[0].evidence.startswith("too high by 3")


def test_confident_mistakes_of_a_right_model_are_none() -> None:
    frame = pd.DataFrame({"x": range(50)})
    sure = np.tile([0.99, 0.01], (50, 1))
    found = mistakes(ClassOutcome(np.zeros(50, dtype=np.intp), sure), frame, ["x"], np.arange(50), ("a", "b"))
    assert (found["count"], found["examples"]) == (0, [])


def test_drift_is_found_and_only_time_or_groups_explain_it() -> None:
    generator = np.random.default_rng(1)
    train = pd.DataFrame({"trend": np.arange(400.0), "still": generator.normal(size=400), "kind": ["a", "b"] * 200})
    later = pd.DataFrame({"trend": np.arange(400.0, 500), "still": generator.normal(size=100), "kind": ["b"] * 100})
    found = {each.column: each for each in moved_columns(train, later, "time")}
    assert set(found) == {"trend", "kind"}
    assert "changes with time" in found["trend"].explanation
    assert found["kind"].explanation == ""
    assert moved_columns(train, train.sample(100, random_state=1), "random") == ()


def test_the_simple_rule_and_a_broken_promise_end_a_model() -> None:
    impact = {"kpi": {"unit": "share of wrong answers", "now": 0.1, "before": 0.3, "before_from": "x",
                      "usd_per_year": None}, "kept": True}  # fmt: skip
    brief = {"simple_way": {"rule_loss": 0.1, "rule": ["always: a"]}}
    assert end_verdict(impact, None)[0] is False
    assert end_verdict(impact, brief)[0] is True
    assert end_verdict(impact | {"kept": False}, None)[0] is True
    analysis = {
        "error_groups": [], "more_rows": {"loss_gain": -0.1, "loss_gain_lower": -0.2}, "rows": 100, "ece": 0.2,
        "mistakes": {"count": 0, "share": 0.0, "what": ""}, "unit": "share of wrong answers", "slices": [],
        "importance": [], "drift": [], "metric": "accuracy",
    }  # fmt: skip
    costs = {"prediction": {"usd_per_year": None}}
    assert [each.id for each in options(analysis, costs, impact, brief)] == ["simple-rule", "calibration"]


def test_a_ticket_may_tell_of_incidents(ended: Done, tmp_path: Path) -> None:
    ticket, _, files = ended
    told = asked(ticket, BODY + "Incidents: on 3 May the list was empty\n")
    output, produced = again(EvaluationAnalyse, (told, {}, files), tmp_path)
    assert "incidents-reviewed" in {item.item for item in output.ticked}
    assert "    on 3 May the list was empty" in produced["performance-analysis.md"].read_text("utf-8")


def test_rows_are_predicted_by_models_that_did_not_see_them() -> None:
    """A forest that saw these rows would know all of their labels, which are chance."""
    generator = np.random.default_rng(8)
    frame = pd.DataFrame(generator.normal(size=(240, 4)), columns=list("abcd"))
    labels = np.array(["no", "yes"])[generator.integers(0, 2, 240)]
    params = {"max_depth": None, "min_samples_leaf": 1, "max_features": "sqrt"}
    trial = {"model": "random_forest (tuned)", "parameters": params, "mean": 0, "standard_error": 0, "seconds": 0}
    log = ExperimentLog.model_validate({
        "metric": "roc_auc", "higher_is_better": True, "baseline": trial, "trials": [], "chosen": trial, "reason": "",
        "model_sha256": "a" * 64, "seed": 1, "tracking": "",
    })  # fmt: skip
    scope = ScopeSpec.model_validate({
        "task": "classification", "target": "y", "metric": "roc_auc", "higher_is_better": True,
        "classes": ["no", "yes"], "acceptance": [], "acceptance_from": "ticket", "budget_minutes": 1, "budget_usd": 1,
    })  # fmt: skip
    rows = TrainingRows(frame, labels, np.arange(240))
    found = cross(rows, feature_map(frame), scope, log, 3, time_ordered=False, progress=lambda line: None)
    assert 0.35 < score(found.model, "roc_auc") < 0.65
    assert sorted(found.order) == list(range(240))
    assert not any(each.loss > 0.15 for each in found.importance)
    unknown = log.model_copy(update={"chosen": log.chosen.model_copy(update={"model": "oracle"})})
    with pytest.raises(SkillError, match="not known"):
        cross(rows, feature_map(frame), scope, unknown, 3, time_ordered=False, progress=lambda line: None)
