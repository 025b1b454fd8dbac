"""A release: a signed package verified, then taken through dev, staging and production on real servers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from agents.discovery import skill
from agents.skill import InputError
from agents.skills.devsecops.duel import Duel
from agents.skills.training.inuse import read_package
from agents.skills.training.modelfile import dump_model, zip_bytes
from autopilot.signing import load_or_create_key, public_pem, sign
from conductor.pipelines import load
from schemas.ticket import Ticket
from tests.skills.conftest import DATA
from tests.skills.harness import NOW, run_skill
from tests.skills.retraining import newer_votes

PHASES = load("release").phases
CHAIN = [skill(name) for phase in PHASES for name in phase.skills]


@pytest.fixture(scope="module")
def root(delivered_voters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backlog with `good/` (a signed delivery), `turned/` (one of a model that reads the codebook backwards), rows
    and the public key."""
    root = tmp_path_factory.mktemp("backlog")
    key = load_or_create_key(root / "keys" / "signing.pem")
    made = delivered_voters
    shutil.copy(DATA / "votes.csv", root / "votes.csv")
    (root / "osv.json").write_text(json.dumps([{"id": "X-1", "modified": NOW, "affected": []}]), "utf-8")
    pd.read_csv(DATA / "votes.csv").drop(columns="vote").to_csv(root / "unlabelled.csv", index=False)
    for folder in ("good", "turned"):
        (root / folder).mkdir()
        for name in ("model-package.zip", "deployment-config.yaml", "provenance.json", "sbom.cdx.json"):
            shutil.copy(made[name], root / folder / name)
    turn(root / "turned", root)
    for folder in ("good", "turned"):
        statement = (root / folder / "provenance.json").read_bytes()
        (root / folder / "provenance.json.dsse.json").write_bytes(sign(statement, key))
    return root


def turn(folder: Path, root: Path) -> None:
    """Another model into the package: fitted to rows whose scales run the other way round."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    from agents.skills.feature.transform import build_transformer, prepare_frame

    old = (folder / "model-package.zip").read_bytes()
    package = read_package("old", old)
    newer_votes(root / "newer.csv")
    rows = pd.read_csv(root / "newer.csv")
    model = Pipeline([("transform", build_transformer(package.features)), ("model", LogisticRegression(max_iter=500))])
    model.fit(prepare_frame(rows, package.features), rows["vote"])
    with zipfile.ZipFile(folder / "model-package.zip") as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    files["model.skops"] = dump_model(model)
    manifest = json.loads(files.pop("package.json"))
    manifest["files"] = {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in files.items()}
    new = zip_bytes({**files, "package.json": json.dumps(manifest).encode()})
    (folder / "model-package.zip").write_bytes(new)
    for name in ("deployment-config.yaml", "provenance.json"):
        text = (folder / name).read_text("utf-8")
        text = text.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
        if name == "provenance.json":
            config = hashlib.sha256((folder / "deployment-config.yaml").read_bytes()).hexdigest()
            statement = json.loads(text)
            for each in statement["predicate"]["runDetails"]["byproducts"]:
                if each["name"] == "deployment-config.yaml":
                    each["digest"]["sha256"] = config
            text = json.dumps(statement)
        (folder / name).write_text(text, "utf-8")


def ticket(**changes: Any) -> Ticket:
    fields = {"id": 9, "title": "Release it", "pipeline": "release", "data": "votes.csv"}
    return Ticket(**{**fields, "package": "good/model-package.zip", **changes})


def facts(root: Path) -> dict[str, Any]:
    return {"release_keys": str(root / "keys"), "advisories": str(root / "osv.json")}


def released(root: Path, folder: Path, skills: Any = CHAIN, **changes: Any) -> tuple[dict[str, Any], dict[str, Path]]:
    outputs: dict[str, Any] = {}
    files: dict[str, Path] = {}
    for cls in skills:
        outputs[cls.name], made = run_skill(cls, ticket(**changes), folder, files, roots=(root,), facts=facts(root))
        files |= made
    return outputs, files


def figures(outputs: dict[str, Any]) -> dict[str, float]:
    return {f"{m.scope}.{m.name}": m.value for output in outputs.values() for m in output.measurements}


@pytest.fixture(scope="module")
def replaced(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Path]]:
    """The good package in place of the one that reads the codebook backwards."""
    return released(root, tmp_path_factory.mktemp("replaced"), model="turned/model-package.zip")


def test_a_signed_package_goes_through_dev_and_staging_to_production(replaced: Any) -> None:
    outputs, files = replaced
    found = figures(outputs)
    assert found["release.verified"] == 1.0
    assert found["release.dev_failed"] == found["release.staging_failed"] == found["release.production_failed"] == 0.0
    for phase in PHASES:
        ticked = {item.item for name in phase.skills for item in outputs[name].ticked}
        assert {item.id for item in phase.checklist if item.required} <= ticked
        assert set(phase.artifacts) <= set(files)
    report = json.loads(files["release-production.json"].read_text("utf-8"))
    assert report["state"] == "released"
    assert [stage["share"] for stage in report["figures"]["stages"]] == [0.1, 0.5, 1.0]
    for server in [
        *report["figures"]["servers"],
        *json.loads(files["release-staging.json"].read_text())["figures"]["servers"],
    ]:
        assert server["exit"] == 0
        with pytest.raises(ProcessLookupError):
            os.kill(server["pid"], 0)


def test_the_better_one_of_two_is_named_by_itself(replaced: Any) -> None:
    outputs, files = replaced
    compared = json.loads(files["release-production.json"].read_text("utf-8"))["figures"]["comparison"]
    assert compared["winner"] == "challenger"
    assert "challenger is surely better" in outputs["devsecops.deploy_production"].summary
    assert min(compared["asked"].values()) > 20


def test_blue_and_green_are_switched_and_the_drill_is_timed(replaced: Any) -> None:
    outputs, files = replaced
    report = json.loads(files["release-staging.json"].read_text("utf-8"))
    assert 0 < report["figures"]["way_back_seconds"] < 60
    assert figures(outputs)["release.way_back_seconds"] == pytest.approx(
        report["figures"]["way_back_seconds"], abs=1e-5
    )
    assert report["way_back"].startswith("expect-a-vote-2 ")
    assert {server["arm"] for server in report["figures"]["servers"]} == {"before", "now"}


def test_a_harmful_version_is_taken_back_within_a_minute(root: Path, tmp_path: Path) -> None:
    turned = {"package": "turned/model-package.zip", "model": "good/model-package.zip"}
    outputs, files = released(root, tmp_path, [CHAIN[0], CHAIN[4]], **turned)
    found = figures(outputs)
    report = json.loads(files["release-production.json"].read_text("utf-8"))
    assert found["release.production_breach"] == 1.0
    assert found["release.production_failed"] > 0
    assert report["state"] == "refused"
    assert 0 < report["figures"]["rollback_seconds"] < 60
    assert report["figures"]["answered_after_rollback"] > 10
    assert "Taken back by itself" in files["release-production.md"].read_text("utf-8")


def test_a_first_release_is_withdrawn_where_others_go_back(root: Path, tmp_path: Path) -> None:
    outputs, files = released(root, tmp_path, [CHAIN[0], CHAIN[3], CHAIN[4]], data="unlabelled.csv")
    assert any("withdraw" in text for text in outputs["devsecops.verify"].warnings)
    staging = json.loads(files["release-staging.json"].read_text("utf-8"))
    assert staging["state"] == "released"
    assert [server["arm"] for server in staging["figures"]["servers"]] == ["now"]
    assert staging["way_back"].startswith("nothing")
    production = json.loads(files["release-production.json"].read_text("utf-8"))
    assert [stage["share"] for stage in production["figures"]["stages"]] == [1.0]
    assert "comparison" not in production["figures"]
    assert {watch["signal"] for watch in production["figures"]["signals"]} == {"failed", "slow"}


def test_manifests_are_of_their_environment(replaced: Any) -> None:
    _, files = replaced
    package = hashlib.sha256(files["model-package.zip"].read_bytes()).hexdigest()
    for environment, replicas in (("dev", (1, 1)), ("staging", (1, 2)), ("production", (2, 6))):
        parts = list(yaml.safe_load_all(files[f"kubernetes-{environment}.yaml"].read_text("utf-8")))
        namespace = parts[0]["metadata"]["name"]
        assert namespace.endswith(f"-{environment}")
        assert parts[0]["kind"] == "Namespace"
        assert {part["metadata"]["namespace"] for part in parts[1:]} == {namespace}
        by_kind = {part["kind"]: part for part in parts}
        scale = by_kind["HorizontalPodAutoscaler"]["spec"]
        assert (scale["minReplicas"], scale["maxReplicas"]) == replicas
        marks = by_kind["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        assert marks["value-train/package-sha256"] == package
        assert ("PodDisruptionBudget" in by_kind) == (environment == "production")


def copied(root: Path, folder: Path) -> Path:
    for name in ("good", "keys"):
        shutil.copytree(root / name, folder / name)
    shutil.copy(root / "votes.csv", folder / "votes.csv")
    return folder


def other_key(folder: Path) -> None:
    key = load_or_create_key(folder / "other" / "signing.pem")
    body = (folder / "good" / "provenance.json").read_bytes()
    (folder / "good" / "provenance.json.dsse.json").write_bytes(sign(body, key))


def other_package(folder: Path) -> None:
    with zipfile.ZipFile(folder / "good" / "model-package.zip") as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    manifest = json.loads(files["package.json"]) | {"version": "9.9.9"}
    files["package.json"] = json.dumps(manifest).encode()
    (folder / "good" / "model-package.zip").write_bytes(zip_bytes(files))


def other_statement(folder: Path) -> None:
    """Something else that the same key once signed."""
    key = load_or_create_key(folder / "keys" / "signing.pem")
    body = json.dumps({"_type": "catalogue", "subject": []}).encode()
    (folder / "good" / "provenance.json.dsse.json").write_bytes(sign(body, key))


def other_body(folder: Path) -> None:
    import base64

    path = folder / "good" / "provenance.json.dsse.json"
    envelope = json.loads(path.read_text("utf-8"))
    body = base64.b64decode(envelope["payload"]).replace(b'"ticket": 2', b'"ticket": 3')
    path.write_text(json.dumps(envelope | {"payload": base64.b64encode(body).decode()}), "utf-8")


def other_config(folder: Path) -> None:
    with (folder / "good" / "deployment-config.yaml").open("a", encoding="utf-8") as file:
        file.write("privileged: true\n")


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (other_key, "not signed by a trusted key"),
        (other_package, "but what was signed is"),
        (other_statement, "what is signed is no provenance"),
        (other_body, "not signed by a trusted key"),
        (other_config, "not the one that was signed"),
        (
            lambda folder: (folder / "good" / "sbom.cdx.json").write_text("{}"),
            "sbom.cdx.json beside the package is not",
        ),
        (lambda folder: (folder / "good" / "provenance.json.dsse.json").unlink(), "does not exist"),
        (lambda folder: (folder / "keys" / "signing.pem.pub").unlink(), "no public key is trusted"),
        (lambda folder: (folder / "keys" / "signing.pem.pub").write_text("x"), "is not a PEM public key"),
    ],
)
def test_what_was_not_signed_is_not_released(root: Path, tmp_path: Path, forge: Any, says: str) -> None:
    folder = copied(root, tmp_path)
    forge(folder)
    with pytest.raises(InputError, match=says):
        released(folder, tmp_path / "run", CHAIN[:1])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"package": None}, "names no package to release"),
        ({"package": "../model-package.zip"}, "outside the allowed roots"),
        ({"data": None}, "names no data"),
    ],
)
def test_bad_tickets_are_refused_by_name(root: Path, tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        released(root, tmp_path, CHAIN[:1], **fields)


def test_rows_without_what_the_model_reads_are_refused(root: Path, tmp_path: Path) -> None:
    folder = copied(root, tmp_path)
    pd.read_csv(DATA / "votes.csv").drop(columns="party").to_csv(folder / "votes.csv", index=False)
    with pytest.raises(InputError, match="lacks party"):
        released(folder, tmp_path / "run", CHAIN[:1])


def test_a_key_that_is_trusted_no_more_stops_a_release_on_its_way(root: Path, tmp_path: Path) -> None:
    folder = copied(root, tmp_path)
    _, files = released(folder, tmp_path / "run", CHAIN[:1])
    other = load_or_create_key(tmp_path / "new" / "signing.pem")
    (folder / "keys" / "signing.pem.pub").write_bytes(public_pem(other.public_key()))
    with pytest.raises(InputError, match="not signed by a trusted key"):
        run_skill(CHAIN[2], ticket(), tmp_path / "later", files, roots=(folder,), facts=facts(folder))


def test_equal_models_rarely_have_a_winner_and_unequal_ones_do() -> None:
    """Looked at after every answer; the promise is at most alpha for each side."""

    def winner(champion: float, challenger: float, seed: int, most: int = 400) -> str:
        draw, duel = random.Random(seed), Duel(0.05)
        for _ in range(most):
            new = draw.random() < 0.5
            duel.see(new, draw.random() < (challenger if new else champion))
        return duel.winner

    alike = [winner(0.3, 0.3, seed) for seed in range(400)]
    assert alike.count("challenger") <= 400 * 0.05 * 1.5
    assert alike.count("champion") <= 400 * 0.05 * 1.5
    assert [winner(0.5, 0.1, seed) for seed in range(20)].count("challenger") >= 19
    assert [winner(0.1, 0.5, seed) for seed in range(20)].count("champion") >= 19
