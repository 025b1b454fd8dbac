"""A data set taken into the catalogue, and a model trained anew, each driven to its end by the command line."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime

from tests.integration.train import Train
from tests.skills.retraining import newer_votes


def test_a_data_set_is_onboarded_to_its_end(train: Train) -> None:
    """Without a person for harmless rows; rows about people wait for one."""
    train.ticket(21, "Wines of three cultivars", pipeline="data-onboarding", data=train.data("wine.csv"))
    train.ticket(22, "A survey of voters", pipeline="data-onboarding", data=train.data("votes.csv"))

    ran = train.run("drive", "--no-wait", "--json")

    assert ran.code == 3, ran.out + ran.err
    assert [row["ticket"] for row in ran.json["completed"]] == [21]
    (waiting,) = ran.json["waiting"]
    assert waiting["ticket"] == 22
    assert train.run("gate", "approve", waiting["gate"], "--as", "dana").code == 0
    again = train.run("drive", "--json")
    assert [row["ticket"] for row in again.json["completed"]] == [22]

    for row in train.run("session", "list", "--json").json:
        assert row["status"] == "completed"
        branch = str(row["branch"])
        files = train.git("ls-tree", "-r", "--name-only", branch).split()
        entry = next(name for name in files if name.endswith("onboarding/catalogue-entry.json"))
        assert f"{entry}.dsse.json" in files
        assert not any(name.endswith(".parquet") for name in files)
        assert json.loads(train.git("show", f"{branch}:{entry}"))["owner"] == "alice"
        assert train.run("session", "replay", str(row["session"]), "--verify", "--json").json["difference"] is None
    assert train.run("audit", "verify", "--json").json["findings"] == []


def test_a_model_in_use_is_trained_anew_to_its_end(train: Train) -> None:
    """Delivered first; then the world turns, and the package of the first delivery is retrained on newer rows."""
    train.ticket(31, "Expect a vote", data=train.data("votes.csv"), target="vote", metric="roc_auc")
    train.ticket(32, "Expect a vote again", pipeline="retrain", data=train.data("votes.csv"))
    ran = train.run("drive", "--no-wait", "--json")
    assert [row["ticket"] for row in ran.json["completed"]] == [31], ran.out
    (refused,) = ran.json["blocked"]
    assert "names no model in use" in refused["reason"]

    branch = next(str(row["branch"]) for row in train.run("session", "list", "--json").json if row["ticket"] == 31)
    package = f"{branch}:tickets/delivery_31/artifacts/deployment/model-package.zip"
    found = subprocess.run(["git", "show", package], cwd=train.repo, check=True, capture_output=True)
    (train.repo / "backlog" / "data" / "in-use.zip").write_bytes(found.stdout)
    for name in ("model-package.zip", "provenance.json.dsse.json", "deployment-config.yaml", "sbom.cdx.json"):
        delivered = subprocess.run(
            ["git", "show", f"{package.rpartition('/')[0]}/{name}"], cwd=train.repo, check=True, capture_output=True
        )
        (train.repo / "backlog" / "data" / name).write_bytes(delivered.stdout)
    advisory = {"id": "X-1", "modified": f"{datetime.now(UTC):%Y-%m-%dT00:00:00Z}", "affected": []}
    (train.repo / "osv.json").write_text(json.dumps([advisory]), "utf-8")
    train.settings["VALUETRAIN_ADVISORIES"] = str(train.repo / "osv.json")
    newer_votes(train.repo / "backlog" / "data" / "newer.csv")
    train.ticket(33, "Expect a vote after the new wave", pipeline="retrain", data="data/newer.csv",
                 model="data/in-use.zip", acceptance=["metrics.roc_auc_lower >= 0.9"])  # fmt: skip

    train.ticket(34, "Release the first one", pipeline="release", data=train.data("votes.csv"),
                 package="data/model-package.zip")  # fmt: skip

    asked = train.run("drive", "--no-wait", "--json")
    waiting = asked.json["waiting"]
    assert sorted(row["ticket"] for row in waiting) == [33, 34], asked.out + asked.err
    assert "drift.surprises" in train.run("gate", "list", "--json").out
    for each in waiting:
        assert train.run("gate", "approve", each["gate"], "--as", "dana").code == 0
    again = train.run("drive", "--json")

    assert sorted(row["ticket"] for row in again.json["completed"]) == [33, 34], again.out + again.err
    release = next(row for row in train.run("session", "list", "--json").json if row["ticket"] == 34)
    kept = train.git("ls-tree", "-r", "--name-only", str(release["branch"])).split()
    assert any(name.endswith("/release-production.json.dsse.json") for name in kept)
    past = json.loads((train.home / "history.json").read_text("utf-8"))["sessions"]
    assert [(each["ticket"], each["ending"]) for each in past if each["ending"] == "completed"] == [
        (31, "completed"), (33, "completed"), (34, "completed")
    ]  # fmt: skip
    spent = train.run("report", "costs", "--by", "ticket", "--json").json
    assert {row["ticket"].split()[0] for row in spent} >= {"31", "33", "34"}
    assert train.run("risk", "list", "--all", "--json").json["coverage"]["risks"] > 12
    row = next(row for row in train.run("session", "list", "--json").json if row["ticket"] == 33)
    branch = str(row["branch"])
    files = train.git("ls-tree", "-r", "--name-only", branch).split()
    for name in ("model-package.zip", "provenance.json.dsse.json", "canary-report.md", "monitoring-config.yaml"):
        assert any(file.endswith(f"/{name}") for file in files), name
    assert not any(file.endswith(".parquet") and "labels" in file for file in files)
    report = next(file for file in files if file.endswith("canary-report.json"))
    for server in json.loads(train.git("show", f"{branch}:{report}"))["servers"]:
        assert server["exit"] == 0
    assert train.run("session", "replay", str(row["session"]), "--verify", "--json").json["difference"] is None
    assert train.run("audit", "verify", "--json").json["findings"] == []
