"""Training anew: from a model in use and newer rows to a challenger that serves, on real rows with real servers."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from agents.discovery import skill
from agents.skill import InputError, SkillContext
from agents.skills.data.refresh import DataRefresh
from agents.skills.devsecops.canary import DevsecopsCanary, wrong_by
from agents.skills.devsecops.monitor import DevsecopsMonitor
from agents.skills.devsecops.replay import Asked
from agents.skills.evaluation.compare import EvaluationCompare
from agents.skills.training.inuse import ModelInUse, open_in_use, read_package
from agents.skills.training.modelfile import zip_bytes
from agents.skills.training.retrain import TrainingRetrain, settings
from conductor.pipelines import load
from schemas.ticket import Ticket
from tests.skills.conftest import DATA
from tests.skills.harness import NOW, run_skill
from tests.skills.retraining import deliver, newer_votes

CHAIN = (DataRefresh, TrainingRetrain, EvaluationCompare, DevsecopsCanary, DevsecopsMonitor)


@pytest.fixture(scope="module")
def delivered(delivered_voters: dict[str, Path]) -> dict[str, Path]:
    """The artifacts of a delivery on the survey of voters."""
    return delivered_voters


@pytest.fixture(scope="module")
def root(delivered: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backlog with the package of the model in use, the rows it knows, and newer ones."""
    root = tmp_path_factory.mktemp("backlog")
    shutil.copy(delivered["model-package.zip"], root / "model-package.zip")
    shutil.copy(DATA / "votes.csv", root / "votes.csv")
    newer_votes(root / "newer.csv")
    return root


def ticket(**changes: Any) -> Ticket:
    fields = {"id": 7, "title": "Retrain", "pipeline": "retrain", "data": "newer.csv", "model": "model-package.zip"}
    return Ticket(**{**fields, "requester": "alice", **changes})


def chain(root: Path, folder: Path, skills: Any = CHAIN, **changes: Any) -> tuple[dict[str, Any], dict[str, Path]]:
    """Run the skills with what they measure handed on, as the workbench does."""
    outputs: dict[str, Any] = {}
    files: dict[str, Path] = {}
    measured: dict[str, dict[str, float]] = {}
    for cls in skills:
        outputs[cls.name], produced = run_skill(cls, ticket(**changes), folder, files, roots=(root,), measured=measured)
        for each in outputs[cls.name].measurements:
            measured.setdefault(each.scope, {})[each.name] = each.value
        files |= produced
    return outputs, files


@pytest.fixture(scope="module")
def retrained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Path]]:
    """Outputs and files of the whole pipeline's skills on newer rows."""
    return chain(root, tmp_path_factory.mktemp("retrained"))


@pytest.fixture(scope="module")
def unturned(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Path]]:
    """Up to the comparison, on the rows the model in use was trained on."""
    return chain(root, tmp_path_factory.mktemp("unturned"), CHAIN[:3], data="votes.csv")


def figures(output: Any) -> dict[str, float]:
    return {f"{each.scope}.{each.name}": each.value for each in output.measurements}


def test_the_skills_tick_every_required_item_and_leave_every_artifact(retrained: Any) -> None:
    outputs, files = retrained
    for phase in load("retrain").phases:
        ticked = {item.item for name in phase.skills for item in outputs[name].ticked}
        assert {item.id for item in phase.checklist if item.required} <= ticked
        assert set(phase.artifacts) <= set(files)


def test_drift_is_measured_and_the_contract_renewed(retrained: Any) -> None:
    outputs, files = retrained
    drift = json.loads(files["data-drift.json"].read_text("utf-8"))
    moved = {column["name"] for column in drift["columns"] if column["moved"]}
    assert "ClinLR" in moved
    assert not moved & {"age", "educ", "income", "TVnews", "popul"}, "those columns are what they were"
    assert not drift["target"]["moved"]
    assert figures(outputs["data.refresh"])["drift.score"] == drift["score"] > 0
    assert not drift["same_source"]


def test_the_challenger_wins_where_the_world_turned(retrained: Any) -> None:
    outputs, files = retrained
    found = figures(outputs["evaluation.compare"])
    assert found["champion.gain_lower"] > 0.5
    assert found["champion.roc_auc"] < 0.3 < 0.9 < found["metrics.roc_auc"]
    metrics = json.loads(files["metrics.json"].read_text("utf-8"))
    assert metrics["champion"]["winner"] == "challenger"
    assert "The challenger takes its place" in files["evaluation-report.md"].read_text("utf-8")


def test_the_canary_serves_both_and_stops_what_it_started(retrained: Any) -> None:
    outputs, files = retrained
    report = json.loads(files["canary-report.json"].read_text("utf-8"))
    assert figures(outputs["devsecops.canary"])["canary.breach"] == 0.0
    assert [stage["share"] for stage in report["stages"]] == [0.1, 0.5, 1.0]
    assert report["stages"][2]["challenger"] == report["stages"][2]["requests"]
    assert 0 < report["stages"][0]["challenger"] < report["stages"][0]["requests"]
    assert all(arm["failed"] == 0 for arm in report["arms"].values())
    for server in report["servers"]:
        assert server["exit"] == 0
        with pytest.raises(ProcessLookupError):
            os.kill(server["pid"], 0)
    config = yaml.safe_load(files["deployment-config.yaml"].read_text("utf-8"))
    assert config["canary"]["state"] == "passed"
    assert config["way_back"]["package_sha256"] == report["champion"] != config["package"]["sha256"]
    materials = json.loads(files["provenance.json"].read_text())["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"sha256": report["champion"]} in [each["digest"] for each in materials]


def test_the_new_package_can_be_retrained_again(retrained: Any) -> None:
    _, files = retrained
    package = read_package("new", files["model-package.zip"].read_bytes(), ("training-profile.json",))
    assert package.profile["rows"] > 100


def test_monitoring_measures_and_tries_the_way_back(retrained: Any) -> None:
    _, files = retrained
    report = json.loads(files["monitoring-report.json"].read_text("utf-8"))
    config = yaml.safe_load(files["monitoring-config.yaml"].read_text("utf-8"))
    assert report["failed"] == 0
    assert report["counted_by_the_server"] == {"200": report["requests"] + 1}, "and one to warm up"
    assert 0 < report["way_back_seconds"] < 60
    assert report["way_back"].startswith("expect-a-vote-2 ")
    signals = {signal["name"]: signal for signal in config["signals"]}
    assert set(signals) == {"errors", "latency_p95", "latency_p99", "cost", "input_drift", "prediction_drift"}
    assert all(signal["limit"] > 0 and signal["tell"] == "alice" for signal in signals.values())
    assert config["quality"]["metric"] == "roc_auc"
    assert all(server["exit"] == 0 for server in report["servers"])


def test_a_harmful_challenger_is_taken_back(root: Path, retrained: Any, unturned: Any, tmp_path: Path) -> None:
    """The model in use is good on old rows; a challenger of the turned codebook is wrong there."""
    (_, turned), (_, old) = retrained, unturned
    harmful = old | {name: turned[name] for name in ("model.skops", "experiment-log.json")}
    output, compared = run_skill(EvaluationCompare, ticket(data="votes.csv"), tmp_path, harmful, roots=(root,))
    assert figures(output)["champion.gain_upper"] < 0
    assert "The model in use stays" in compared["evaluation-report.md"].read_text("utf-8")
    output, files = run_skill(DevsecopsCanary, ticket(data="votes.csv"), tmp_path, harmful | compared, roots=(root,))
    report = json.loads(files["canary-report.json"].read_text("utf-8"))
    assert figures(output)["canary.breach"] == 1.0
    assert report["breach"].startswith("wrong:")
    assert 0 < report["rollback_seconds"] < 60
    asked = sum(arm["requests"] for arm in report["arms"].values())
    assert report["answered_after_rollback"] == asked - report["breach_after_requests"] > 10, "all by the model in use"
    assert yaml.safe_load(files["deployment-config.yaml"].read_text("utf-8"))["canary"]["state"] == "taken back"


def test_on_the_rows_it_knows_the_model_in_use_stays(unturned: Any) -> None:
    outputs, files = unturned
    assert json.loads(files["data-drift.json"].read_text("utf-8"))["score"] == 0.0
    contract = yaml.safe_load(files["data-contract.yaml"].read_text("utf-8"))
    assert contract["version"] == "1.0.0", "nothing changed, nothing is renewed"
    assert figures(outputs["evaluation.compare"])["champion.gain_lower"] <= 0
    assert any("very rows" in text for text in outputs["data.refresh"].warnings)
    assert any("favours it" in text for text in outputs["evaluation.compare"].warnings)


def test_training_anew_keeps_kind_settings_and_inputs_and_is_reproducible(
    root: Path, retrained: Any, tmp_path: Path
) -> None:
    (_, first), (_, second) = retrained, chain(root, tmp_path, CHAIN[:2])
    assert first["model.skops"].read_bytes() == second["model.skops"].read_bytes()
    in_use = json.loads(first["model-in-use.json"].read_text("utf-8"))
    chosen = json.loads(first["experiment-log.json"].read_text("utf-8"))["chosen"]
    assert (chosen["model"], chosen["parameters"]) == (in_use["kind"], in_use["parameters"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": None}, "names no model in use"),
        ({"model": "gone.zip"}, "model package 'gone.zip' does not exist"),
        ({"model": "../model-package.zip"}, "outside the allowed roots"),
        ({"model": "votes.csv"}, "no kind of file we read"),
        ({"target": "party"}, "the model in use has 'vote'"),
        ({"metric": "accuracy"}, "the model in use has"),
        ({"data": None}, "names no data"),
    ],
)
def test_bad_tickets_are_refused_by_name(root: Path, tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        run_skill(DataRefresh, ticket(**fields), tmp_path, {}, roots=(root,))


def repack(change: Callable[[dict[str, bytes]], None], honest: bool = False) -> Callable[[bytes], bytes]:
    """A forger of packages; an honest one lists what it changed."""

    def forge(data: bytes) -> bytes:
        import hashlib
        import io

        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            files = {name: packed.read(name) for name in packed.namelist()}
        change(files)
        if honest:
            manifest = json.loads(files["package.json"])
            manifest["files"] = {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                for name, content in files.items()
                if name != "package.json"
            }
            files["package.json"] = json.dumps(manifest).encode()
        return zip_bytes(files)

    return forge


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (lambda data: data[:-200], "no model package"),
        (lambda data: b"\x80\x04cos\nsystem\n", "no model package"),
        (repack(lambda files: files.update({"../evil": b"x"})), "leads out of it"),
        (repack(lambda files: files.update({"extra.py": b"x"})), "extra.py not both listed and there"),
        (repack(lambda files: files.update({"model.skops": b"x"})), "model.skops is not what the manifest says"),
        (repack(lambda files: files.pop("package.json") and None), "has no package.json"),
        (repack(lambda files: files.update({"package.json": b"[]"})), "its format is 'list'"),
        (repack(lambda files: files.pop("training-profile.json") and None, honest=True), "lacks training-profile.json"),
        (repack(lambda files: files.update({"scope.json": b"{}"}), honest=True), "scope or feature map cannot be read"),
    ],
)
def test_forged_packages_are_refused(root: Path, tmp_path: Path, forge: Callable[[bytes], bytes], says: str) -> None:
    (tmp_path / "forged.zip").write_bytes(forge((root / "model-package.zip").read_bytes()))
    context = SkillContext(
        ticket=ticket(model="forged.zip"), acceptance=(), inputs={}, out=tmp_path, roots=(tmp_path,), measured={},
        seed=1, now=NOW,
    )  # fmt: skip
    with pytest.raises(InputError, match=says):
        open_in_use(context)


def test_a_pickle_as_the_packages_model_is_never_loaded(root: Path, tmp_path: Path) -> None:
    forge = repack(
        lambda files: files.update({"model.skops": b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR."}), honest=True
    )
    (tmp_path / "forged.zip").write_bytes(forge((root / "model-package.zip").read_bytes()))
    shutil.copy(root / "newer.csv", tmp_path / "newer.csv")
    with pytest.raises(Exception, match="is not a model this train produced"):
        chain(tmp_path, tmp_path / "run", CHAIN[:3], model="forged.zip")


def test_settings_no_search_gives_reach_no_model(root: Path) -> None:
    from agents.skills.training.candidates import Problem
    from schemas.values import Task

    problem = Problem(Task.CLASSIFICATION, "roc_auc", 2, 100, 1)
    good = ModelInUse(
        uri="p.zip",
        sha256="0" * 64,
        name="n",
        version="1",
        kind="linear (default)",
        parameters={"C": 1.0},
        signature="s",
    )
    assert settings(good, problem) == {"C": 1.0}
    with pytest.raises(InputError, match="n_jobs"):
        settings(good.model_copy(update={"parameters": {"C": 1.0, "n_jobs": 64}}), problem)
    with pytest.raises(InputError, match="kind 'shell'"):
        settings(good.model_copy(update={"kind": "shell (default)"}), problem)


def test_changed_columns_are_named(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "model-package.zip", tmp_path / "model-package.zip")
    rows = pd.read_csv(root / "newer.csv")
    rows.assign(region="north").to_csv(tmp_path / "more.csv", index=False)
    rows.drop(columns="party").to_csv(tmp_path / "less.csv", index=False)
    rows.assign(age=[f"about {age}" for age in rows["age"]]).to_csv(tmp_path / "text.csv", index=False)
    rows.assign(vote=["Perot" if n < 50 else v for n, v in enumerate(rows["vote"])]).to_csv(
        tmp_path / "class.csv", index=False
    )
    _, files = run_skill(DataRefresh, ticket(data="more.csv"), tmp_path / "run", {}, roots=(tmp_path,))
    assert json.loads(files["data-drift.json"].read_text("utf-8"))["new_columns"] == ["region"]
    assert yaml.safe_load(files["data-contract.yaml"].read_text("utf-8"))["version"] == "1.1.0"
    for name, says in (("less", "party is missing"), ("text", r"age \(int64, now str"), ("class", "new: Perot")):
        with pytest.raises(InputError, match=says):
            run_skill(DataRefresh, ticket(data=f"{name}.csv"), tmp_path / "run", {}, roots=(tmp_path,))


def test_a_package_that_changed_meanwhile_is_refused(root: Path, retrained: Any, tmp_path: Path) -> None:
    for name in ("newer.csv", "votes.csv"):
        shutil.copy(root / name, tmp_path / name)
    _, files = retrained
    shutil.copy(files["model-package.zip"], tmp_path / "model-package.zip")
    with pytest.raises(InputError, match="changed since it was recorded"):
        run_skill(EvaluationCompare, ticket(), tmp_path / "run", files, roots=(tmp_path,))


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A delivered regression: a wine's colour."""
    return deliver(tmp_path_factory.mktemp("wine"), "wine.csv", "color_intensity", task="regression")


def test_a_regression_is_retrained_too(coloured: dict[str, Path], tmp_path: Path) -> None:
    """The newer rows measure the colour in tenths."""
    shutil.copy(coloured["model-package.zip"], tmp_path / "model-package.zip")
    rows = pd.read_csv(DATA / "wine.csv")
    rows.assign(color_intensity=rows["color_intensity"] * 10).to_csv(tmp_path / "newer.csv", index=False)
    outputs, files = chain(tmp_path, tmp_path / "run", CHAIN[:3])
    assert json.loads(files["data-drift.json"].read_text("utf-8"))["target"]["moved"]
    assert figures(outputs["evaluation.compare"])["champion.gain_lower"] > 0
    above = json.loads(files["metrics.json"].read_text("utf-8"))["champion"]["wrong_above"]
    wrong = wrong_by(above)
    assert wrong(Asked(1, {}, 50.0), 50.0 + 1.1 * above)
    assert not wrong(Asked(1, {}, 50.0), 50.0 - 0.9 * above)


def test_monitoring_without_a_model_before_goes_back_to_the_baseline(coloured: dict[str, Path], tmp_path: Path) -> None:
    """As in a first engagement."""
    first = Ticket(id=2, title="A colour", data="wine.csv", target="color_intensity", pipeline="ml-engagement")
    output, files = run_skill(DevsecopsMonitor, first, tmp_path, coloured)
    report = json.loads(files["monitoring-report.json"].read_text("utf-8"))
    assert "baseline" in report["way_back"]
    assert not report["drift"][0]["moved"] or report["drift"][0]["name"] != "prediction"
    wanted = {item.id for item in load("ml-engagement").phase("monitoring").checklist if item.required}
    assert wanted <= {item.item for item in output.ticked}


def test_every_skill_of_the_pipeline_is_there() -> None:
    assert [skill(name) for phase in load("retrain").phases for name in phase.skills] == list(CHAIN)


def test_rows_that_break_their_contract_block_at_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows break it again: an item left open would only cost a second attempt."""
    monkeypatch.setattr("agents.skills.data.odcs.violations", lambda *_: [f"c{n}: is missing" for n in range(7)])
    with pytest.raises(InputError, match=r"break their contract: c0: is missing; .* and 2 more; put these columns"):
        chain(root, tmp_path, (DataRefresh,))
