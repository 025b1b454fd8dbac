"""One ticket through every phase of the train, from a first idea to the plan for retraining, as a user drives it."""

from __future__ import annotations

import json
import re
import subprocess

import yaml

from conductor.pipelines import load
from tests.integration.links import broken
from tests.integration.train import Train
from tests.skills.engagement import BODY

PIPELINE = load("ml-engagement")
ALWAYS = ["opportunity", "pre-kickoff", "improvement"]
"""The gates that wait for a person whatever was measured."""


def test_an_engagement_from_an_idea_to_the_retraining_plan(train: Train) -> None:
    train.ticket(21, "Tell the cultivar of a wine", BODY, data=train.data("wine.csv"), target="cultivar",
                 pipeline="ml-engagement", metric="balanced_accuracy", budget={"usd": 5, "minutes": 20},
                 acceptance=["metrics.balanced_accuracy >= 0.9"])  # fmt: skip
    drive = train.start("drive", "--wait", cold=False)
    try:
        decided = _decide(train, drive)
        out, err = drive.communicate(timeout=240)
    finally:
        drive.kill()
        drive.wait()
    assert drive.returncode == 0, out + err
    assert [phase for phase in decided if phase != "risk-review"] == ALWAYS
    assert "  completed  ticket 21" in out

    (row,) = train.run("session", "list", "--json").json
    session, branch, folder = str(row["session"]), str(row["branch"]), "tickets/delivery_21"
    files = set(train.git("ls-tree", "-r", "--name-only", branch).split())
    for phase in PIPELINE.phases:
        kept = [name for name in phase.artifacts if not name.endswith((".parquet", ".skops"))]
        assert {f"{folder}/artifacts/{phase.name}/{name}" for name in kept} <= files, phase.name
    assert not any("holdout-labels" in name for name in files)
    written = train.folder(branch, 21)
    assert sum(name.endswith(".md") for name in written) > 20
    assert broken(written) == [], "every link of every document leads somewhere"
    checklist = train.git("show", f"{branch}:{folder}/checklist.md")
    ticked = {item.id for phase in PIPELINE.phases for item in phase.checklist if item.required}
    assert sum(line.startswith("- [x]") for line in checklist.splitlines()) >= len(ticked)

    def shown(phase: str, name: str) -> str:
        return train.git("show", f"{branch}:{folder}/artifacts/{phase}/{name}")

    brief = json.loads(shown("opportunity", "opportunity-brief.json"))
    assert brief["go"] is all(check["answer"] != "no" for check in brief["checks"])
    plan = json.loads(shown("pre-kickoff", "kickoff-plan.json"))
    assert any("dana" in line for line in plan["approvers"]["passed"]), "the plan cites the gate passed before it"
    impact = json.loads(shown("evaluation", "impact-report.json"))
    assert (impact["kept"], impact["rows"]) == (True, 36)
    assert "latency_p95" in impact["watched"]
    costs = json.loads(shown("evaluation", "cost-report.json"))
    assert costs["used"]["usd"] > 0
    assert costs["price_from"] == "what this session was charged so far"
    assert costs["prediction"]["measured"] == "CPU time of the real server"
    retraining = yaml.safe_load(shown("retraining", "retraining-plan.yaml"))
    assert retraining["in_force"] is True
    assert retraining["monitored_by"] == "ModelMonitoring"

    replayed = train.run("session", "replay", session, "--verify", "--json").json
    assert replayed["difference"] is None
    assert train.run("audit", "verify", "--json").json["findings"] == []


def _decide(train: Train, drive: subprocess.Popen[str]) -> list[str]:
    """Approve every gate that waits for a person as the drive names it, up to the last: the phases they belong to."""
    decided: list[str] = []
    assert drive.stdout is not None
    for line in drive.stdout:
        named = re.search(r"waits for a person: gate (\S+\.([a-z-]+)\.\d+) ", line)
        if named is None:
            continue
        if not decided:
            assert train.run("gate", "approve", named[1], "--as", "alice").code == 5, "she asks; another decides"
        assert train.run("gate", "approve", named[1], "--as", "dana").code == 0
        decided.append(named[2])
        if named[2] == ALWAYS[-1]:
            break
    return decided


def test_an_idea_nobody_can_begin_with_says_what_is_missing(train: Train) -> None:
    train.ticket(22, "Something with wine", "Look into this.", data=train.data("wine.csv"), target="cultivar",
                 pipeline="ml-engagement")  # fmt: skip
    ran = train.run("drive", "--json")
    assert ran.code == 4
    (blocked,) = ran.json["blocked"]
    for label in ("users", "decision", "today", "rules"):
        assert label in blocked["reason"]
