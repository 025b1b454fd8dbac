"""Real tickets on real data, driven by the command line as a user would. None of the data is the demo's."""

from __future__ import annotations

import hashlib

import pytest

from autopilot.registry.mlflow_registry import MlflowRegistry
from autopilot.registry.port import CANDIDATE, Package, Version
from schemas.values import ArtifactRef
from tests.integration.links import broken
from tests.integration.train import Train


def _sessions(train: Train) -> dict[int, dict[str, object]]:
    return {row["ticket"]: row for row in train.run("session", "list", "--json").json}


def test_three_kinds_of_model_and_gates(train: Train) -> None:
    """Binary without a person; multi-class and regression with few rows ask for one; a useless model is vetoed."""
    train.ticket(11, "Tell the cultivar of a wine", data=train.data("wine.csv"), target="cultivar",
                 metric="balanced_accuracy", acceptance=["metrics.balanced_accuracy_lower >= 0.7"])  # fmt: skip
    train.ticket(12, "Estimate unemployment", data=train.data("economy.csv"), target="unemp", time="quarter_start",
                 acceptance=["metrics.rows >= 30.0"])  # fmt: skip
    train.ticket(14, "Estimate a wine's colour", data="data/wine.csv", target="color_intensity", task="regression",
                 acceptance=["metrics.mae < baseline.mae"])  # fmt: skip
    train.ticket(13, "Predict a vote", data=train.data("votes.csv"), target="vote", metric="roc_auc")

    ran = train.run("drive", "--no-wait", "--json")

    summary = ran.json
    assert ran.code == 3, ran.out + ran.err
    assert set(summary) == {
        "drive", "completed", "waiting", "blocked", "skipped", "automation_rate", "stopped", "seconds", "cost_usd",
    }  # fmt: skip
    assert (summary["automation_rate"], summary["stopped"]) == (1.0, None)
    assert [row["ticket"] for row in summary["completed"]] == [13]
    assert sorted(row["ticket"] for row in summary["waiting"]) == [11, 14]
    assert [row["ticket"] for row in summary["blocked"]] == [12]
    assert "risk.veto" in summary["blocked"][0]["reason"], "extrapolating unemployment is worse than a constant guess"
    gates = [row["gate"] for row in sorted(summary["waiting"], key=lambda row: row["ticket"])]
    assert sorted(row["gate"] for row in train.run("gate", "list", "--json").json) == sorted(gates)

    assert train.run("gate", "approve", gates[0], "--as", "alice").code == 5, "the requester may not approve"
    assert train.run("gate", "approve", gates[0], "--as", "mallory", "--json").json["error"]["exit"] == 5
    assert train.run("gate", "reject", gates[1], "--as", "dana").code == 1, "a rejection needs a reason"
    assert train.run("gate", "reject", gates[1], "--as", "dana", "--reason", "too few bottles").code == 0
    assert train.run("gate", "approve", gates[0], "--as", "dana").code == 0
    assert train.run("gate", "approve", gates[0], "--as", "dana").code == 1, "a gate is decided once"
    again = train.run("drive", "--json")
    assert again.code == 4, again.out
    assert [row["ticket"] for row in again.json["completed"]] == [11]
    assert any("too few bottles" in row["reason"] for row in again.json["blocked"])
    explained = train.run("ticket", "explain", "14", "--json").json
    assert "already serves it" in explained["verdict"]
    assert explained["sessions"][0]["status"] == "blocked"
    assert train.run("session", "retry", str(_sessions(train)[14]["session"]), "--as", "dana").code == 0
    waits = train.run("drive", "--json")
    assert waits.code == 3
    assert train.run("gate", "approve", waits.json["waiting"][0]["gate"], "--as", "dana").code == 0
    last = train.run("drive", "--json")
    assert last.code == 4
    assert [row["ticket"] for row in last.json["completed"]] == [14]

    for row in (r for r in _sessions(train).values() if r["status"] == "completed"):
        branch = str(row["branch"])
        files = train.git("ls-tree", "-r", "--name-only", branch).split()
        folder = f"tickets/delivery_{row['ticket']}"
        wanted = ["ACTIVE_SESSION.md", "checklist.md", "ticket.yml", "artifacts/manifest.json"]
        wanted += [f"artifacts/deployment/{name}" for name in ("model-card.md", "model-package.zip", "pull-request.md")]
        wanted += ["artifacts/deployment/provenance.json.dsse.json", "artifacts/validation/evaluation-report.md"]
        assert {f"{folder}/{name}" for name in wanted} <= set(files)
        assert not any("holdout-labels" in name or name.endswith(".parquet") for name in files)
        assert broken(train.folder(branch, row["ticket"])) == [], "every link of every document leads somewhere"
        assert "- [ ]" not in train.git("show", f"{branch}:{folder}/checklist.md")
        replayed = train.run("session", "replay", str(row["session"]), "--verify", "--json").json
        assert replayed["difference"] is None
        assert replayed["commands"] > 30
    assert train.run("audit", "verify", "--json").json["findings"] == []
    assert len(train.git("worktree", "list").splitlines()) == 2, "only the blocked session keeps its checkout"


def _versions(train: Train) -> tuple[Version, ...]:
    return MlflowRegistry(f"sqlite:///{train.home / 'registry.db'}").versions("predict-a-vote")


def _registered_unheard(train: Train) -> None:
    """What an executor leaves that dies before it says so, when the next one finds the registry away and gives up."""
    (failed,) = train.run("tail", "--type", "effect_failed", "--json").json
    assert "the model registry" in failed["data"]["reason"]
    row = _sessions(train)[1]
    branch, name = str(row["branch"]), "model-package.zip"
    content = train.bytes_of(branch, f"tickets/delivery_1/artifacts/deployment/{name}")
    artifact = ArtifactRef(name=name, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    package = Package(artifact, str(row["session"]), 1, branch, train.git("rev-parse", branch).strip())
    registry = MlflowRegistry(f"sqlite:///{train.home / 'registry.db'}")
    registry.register(failed["data"]["effect"], "predict-a-vote", CANDIDATE, package)


def test_rollback_and_retry(train: Train) -> None:
    train.settings["VALUETRAIN_REGISTRY_URI"] = "http://127.0.0.1:9"
    train.ticket(1, "Predict a vote", data=train.data("votes.csv"), target="vote")
    assert train.run("drive", "--json").code == 4
    _registered_unheard(train)
    train.settings["VALUETRAIN_REGISTRY_URI"] = "home"
    assert train.run("session", "retry", str(_sessions(train)[1]["session"]), "--as", "dana").code == 0
    assert train.run("drive", "--json").code == 0
    (listed,) = train.run("model", "list", "--json").json
    assert listed == {"model": "predict-a-vote", "versions": 1, "newest": "1", "aliases": {"candidate": "1"}}
    assert "predict-a-vote 1 (candidate)" in train.run("model", "show", "predict-a-vote").out
    unknown = train.run("model", "show", "nobody")
    assert (unknown.code, "model list" in unknown.err) == (1, True)
    session = str(_sessions(train)[1]["session"])
    branch = str(_sessions(train)[1]["branch"])
    before = train.git("rev-parse", branch).strip()
    version_end = _sessions(train)[1]["version"]
    (version,) = _versions(train)
    assert (version.model, version.session, version.aliases) == ("predict-a-vote", session, ("candidate",))
    package = train.bytes_of(version.branch, "tickets/delivery_1/artifacts/deployment/model-package.zip")
    assert hashlib.sha256(package).hexdigest() == version.sha256

    assert train.run("session", "rollback", session, "--to", "training", "--as", "mallory").code == 5
    foreseen = train.run("session", "rollback", session, "--to", "training", "--as", "dana", "--dry-run", "--json")
    (said,) = foreseen.json["registry"]
    assert "version 1 of model predict-a-vote" in said
    assert _versions(train) == (version,)
    unknown = train.run("session", "rollback", session, "--to", "nowhere", "--as", "dana")
    assert unknown.code == 1
    assert "nowhere" in unknown.err
    done = train.run("session", "rollback", session, "--to", "training", "--as", "dana", "--json")
    assert done.code == 0, done.out
    assert done.json["status"] == "rolled_back"
    after = train.git("rev-parse", branch).strip()
    assert after == done.json["commit"] != before
    assert train.git("merge-base", "--is-ancestor", before, after) == "", "history is kept"
    assert "model.skops" not in train.git("ls-tree", "-r", "--name-only", branch)

    (taken_back,) = _versions(train)
    assert (taken_back.rolled_back, taken_back.aliases) == (True, ())

    blocked = train.run("drive", "--json")
    assert blocked.code == 4
    assert "rolled back" in blocked.json["blocked"][0]["reason"]
    assert train.run("session", "retry", session, "--as", "dana").code == 0
    assert train.run("drive", "--json").json["completed"][0]["session"] == session
    assert [(v.version, v.aliases) for v in _versions(train)] == [("2", ("candidate",)), ("1", ())]
    again = train.run("session", "rollback", session, "--to", str(version_end), "--as", "dana", "--json")
    assert again.code == 0, again.out
    assert [(v.version, v.aliases, v.rolled_back) for v in _versions(train)] == [
        ("2", (), True),
        ("1", ("candidate",), False),
    ]
    assert train.run("session", "replay", session, "--verify", "--json").json["difference"] is None
    early = train.run("session", "replay", session, "--to", "2", "--json").json
    assert early["phase"] == "scope"
    assert early["version"] == 2

    bundle = train.repo / "evidence.zip"
    assert train.run("audit", "export", session, "-o", str(bundle)).code == 0
    assert bundle.stat().st_size > 10_000


def test_the_event_stream_validates_against_the_exported_schemas(train: Train) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the SBOM validator")
    train.ticket(1, "Too little to ask", data=train.data("wine.csv"), target="nothing")
    assert train.run("drive", "--json").code == 4
    schemas = train.run("schema", "export", "--json").json
    events = train.run("tail", "--json").json
    assert {"session_started", "attempt_failed", "session_blocked", "drive_ended"} <= {e["type"] for e in events}
    for event in events:
        jsonschema.validate(event, schemas[f"events/{event['type']}.json"])
    assert "command_decide_gate" in schemas["asyncapi.json"]["components"]["messages"]
