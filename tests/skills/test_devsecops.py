"""The packaging skill: deterministic package, valid SBOM, provenance by digest, documents, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from agents.skill import SkillContext, SkillError
from agents.skills.devsecops import sbom
from agents.skills.devsecops.distributions import ROOTS, needed_distributions
from agents.skills.devsecops.onnx import DevsecopsOnnx
from agents.skills.devsecops.package import DevsecopsPackage
from agents.skills.evaluation.measure import EvaluationMeasure
from agents.skills.evaluation.predict import EvaluationPredict
from agents.skills.risk.profile import RiskProfile
from agents.skills.training.inuse import read_package
from agents.skills.training.modelfile import load_model
from agents.skills.training.train import TrainingTrain
from tests.skills.harness import NOW, run_skill
from tests.skills.ml_inputs import binary_wine, checklist, diabetes, make_inputs, quick_plan, ticket, write_json

ACCEPTANCE = ("metrics.roc_auc_lower >= 0.5", "metrics.rows > 10.0")
Delivered = tuple[Any, dict[str, Path]]


def evaluated(folder: Path, *data: Any, metric: str) -> dict[str, Path]:
    """Every artifact up to the risk review."""
    artifacts = make_inputs(folder / "in", *data, metric=metric)
    artifacts["experiment-plan.json"] = quick_plan(folder, metric)
    for skill in (TrainingTrain, EvaluationPredict, EvaluationMeasure, RiskProfile):
        _, files = run_skill(skill, ticket(), folder, artifacts, acceptance=ACCEPTANCE)
        artifacts |= files
    return artifacts


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return evaluated(tmp_path_factory.mktemp("wine"), *binary_wine(), metric="roc_auc")


def package(tmp_path: Path, artifacts: dict[str, Path], **more: Any) -> Delivered:
    more = {"acceptance": ACCEPTANCE} | more
    return run_skill(DevsecopsPackage, more.pop("ticket", ticket()), tmp_path, artifacts, **more)


@pytest.fixture(scope="module")
def delivered(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    facts = {"artifacts": {"dataset.parquet": "d" * 64}, "approvals": ["risk-review:1: human, approved by bob (uid 7)"]}
    return package(tmp_path_factory.mktemp("package"), artifacts, facts=facts)


def read(files: dict[str, Path], name: str) -> str:
    return files[name].read_text("utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# The package


def test_packaging_ticks_its_checklist_and_measures_the_package(delivered: Delivered) -> None:
    output, files = delivered
    assert {item.item for item in output.ticked} == checklist("deployment")
    (size,) = [each.value for each in output.measurements if (each.scope, each.name) == ("package", "bytes")]
    assert size == files["model-package.zip"].stat().st_size
    assert any(sha256(files["model-package.zip"]) in item.evidence for item in output.ticked)


def test_a_proved_onnx_file_is_in_the_package_and_an_old_one_is_not(
    artifacts: dict[str, Path], tmp_path: Path, delivered: Delivered
) -> None:
    _, made = run_skill(DevsecopsOnnx, ticket(), tmp_path, artifacts)
    _, files = package(tmp_path, artifacts | made)
    data = files["model-package.zip"].read_bytes()
    known = read_package("package", data)
    assert known.files["model.onnx"] == made["model.onnx"].read_bytes()
    assert known.manifest["files"]["model.onnx"]["sha256"] == sha256(made["model.onnx"])
    assert known.manifest["onnx"]["largest_difference"] <= known.manifest["onnx"]["tolerance"] == 1e-9
    materials = json.loads(read(files, "provenance.json"))["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {each["name"]: each["digest"]["sha256"] for each in materials}["model.onnx"] == sha256(made["model.onnx"])
    report = json.loads(read(made, "onnx-report.json"))
    for change in ({"model_sha256": "0" * 64}, {"sha256": "0" * 64}, {"written": False}):
        made["onnx-report.json"] = write_json(tmp_path / "report.json", report | change)
        _, files = package(tmp_path, artifacts | made)
        assert files["model-package.zip"].read_bytes() == delivered[1]["model-package.zip"].read_bytes()


def test_the_same_inputs_give_the_same_bytes(delivered: Delivered, artifacts: dict[str, Path], tmp_path: Path) -> None:
    facts = {"artifacts": {"dataset.parquet": "d" * 64}, "approvals": ["risk-review:1: human, approved by bob (uid 7)"]}
    _, again = package(tmp_path, artifacts, facts=facts)
    assert {name: sha256(path) for name, path in again.items()} == {
        name: sha256(path) for name, path in delivered[1].items()
    }


def test_the_package_does_not_depend_on_when_it_was_made(
    delivered: Delivered, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    context = SkillContext(
        ticket=ticket(), acceptance=ACCEPTANCE, inputs=artifacts, out=tmp_path, roots=(), measured={}, seed=7,
        now="2031-01-01T00:00:00Z",
    )  # fmt: skip
    DevsecopsPackage().run(DevsecopsPackage.parameters(), context)
    assert sha256(tmp_path / "model-package.zip") == sha256(delivered[1]["model-package.zip"])
    assert sha256(tmp_path / "provenance.json") != sha256(delivered[1]["provenance.json"])


def test_the_package_holds_a_model_that_runs_and_says_how(
    delivered: Delivered, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    from agents.skills.feature.transform import prepare_frame
    from agents.skills.shapes import FeatureMap

    with zipfile.ZipFile(delivered[1]["model-package.zip"]) as packed:
        assert packed.namelist() == sorted(packed.namelist())
        assert {info.date_time for info in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        members = {name: packed.read(name) for name in packed.namelist()}
    manifest = json.loads(members["package.json"])
    assert set(manifest["files"]) | {"package.json"} == set(members)
    for name, stated in manifest["files"].items():
        assert stated == {"sha256": hashlib.sha256(members[name]).hexdigest(), "bytes": len(members[name])}
    assert manifest["outputs"]["classes"] == ["first", "other"]
    assert manifest["environment"]["packages"]["scikit-learn"] == version("scikit-learn")
    (tmp_path / "model.skops").write_bytes(members["model.skops"])
    model = load_model(tmp_path / "model.skops")
    inputs = pd.read_parquet(artifacts["holdout-features.parquet"])
    mapped = FeatureMap.model_validate_json(members["feature-map.json"])
    table = pd.read_parquet(artifacts["predictions.parquet"])
    assert np.allclose(model.predict_proba(prepare_frame(inputs, mapped))[:, 1], table["p_1"])


def test_another_model_than_the_logged_one_is_refused(artifacts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SkillError, match="the experiment log names"):
        package(tmp_path, artifacts | {"model.skops": artifacts["baseline.skops"]})


def test_artifacts_other_than_the_recorded_ones_are_refused(artifacts: dict[str, Path], tmp_path: Path) -> None:
    recorded = {"metrics.json": "e" * 64, "model.skops": sha256(artifacts["model.skops"])}
    with pytest.raises(SkillError, match=r"not the bytes the event log recorded: metrics\.json"):
        package(tmp_path, artifacts, facts={"artifacts": recorded})


# The bill of materials


def test_the_sbom_validates_and_lists_what_is_installed(delivered: Delivered) -> None:
    text = read(delivered[1], "sbom.cdx.json")
    sbom.validate_sbom(text)
    document = json.loads(text)
    components = {each["name"]: each for each in document["components"]}
    for name in (*ROOTS, "joblib", "threadpoolctl"):
        assert components[name]["version"] == version(name)
        assert components[name]["purl"] == f"pkg:pypi/{name}@{version(name)}"
    assert components["scikit-learn"]["licenses"]
    references = {each["bom-ref"] for each in (*document["components"], document["metadata"]["component"])}
    for each in document["dependencies"]:
        assert {each["ref"], *each.get("dependsOn", [])} <= references
    assert uuid.UUID(document["serialNumber"].removeprefix("urn:uuid:")).version == 5
    assert document["metadata"]["timestamp"].startswith(NOW.removesuffix("Z"))
    assert document["metadata"]["component"]["hashes"][0]["content"] == sha256(delivered[1]["model-package.zip"])


def test_the_sbom_has_the_model_with_its_card(delivered: Delivered, artifacts: dict[str, Path]) -> None:
    document = json.loads(read(delivered[1], "sbom.cdx.json"))
    (model,) = [each for each in document["components"] if each["type"] == "machine-learning-model"]
    measured = json.loads(read(artifacts, "metrics.json"))["metrics"]
    shown = {each["type"]: each for each in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert set(shown) == set(measured)
    assert float(shown["roc_auc"]["confidenceInterval"]["lowerBound"]) == measured["roc_auc"]["lower"]
    assert len(model["modelCard"]["modelParameters"]["inputs"]) == 3


def test_requirements_are_followed_without_extras() -> None:
    names = [each.name for each in needed_distributions()]
    assert names == sorted(names)
    assert {"numpy", "narwhals", "packaging", "pydantic-core"} <= set(names)
    assert not {"pytest", "matplotlib", "optuna", "mlflow-skinny"} & set(names)


@pytest.mark.parametrize(
    "break_it",
    [lambda bom: bom.update(invented=1), lambda bom: bom["components"][0].pop("name"),
     lambda bom: bom.update(specVersion="1.5"), lambda bom: bom.update(serialNumber="urn:uuid:nope")],
)  # fmt: skip
def test_an_invalid_sbom_is_refused(delivered: Delivered, break_it: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(read(delivered[1], "sbom.cdx.json"))
    break_it(document)
    with pytest.raises(SkillError, match=r"not valid CycloneDX 1\.6"):
        sbom.validate_sbom(json.dumps(document))


def test_without_a_validator_nothing_counts_as_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.validation.json import JsonStrictValidator

    def missing(*_: object) -> None:
        raise MissingOptionalDependencyException("jsonschema")

    monkeypatch.setattr(JsonStrictValidator, "validate_str", missing)
    with pytest.raises(SkillError, match="cannot be validated"):
        sbom.validate_sbom("{}")


# Provenance


def test_provenance_names_the_package_and_everything_it_came_from(
    delivered: Delivered, artifacts: dict[str, Path]
) -> None:
    files = delivered[1]
    statement = json.loads(read(files, "provenance.json"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    (subject,) = statement["subject"]
    assert subject == {"name": "model-package.zip", "digest": {"sha256": sha256(files["model-package.zip"])}}
    build = statement["predicate"]["buildDefinition"]
    materials = {each["name"]: each["digest"]["sha256"] for each in build["resolvedDependencies"]}
    assert materials["source"] == "a" * 64
    assert materials["dataset.parquet"] == "d" * 64, "from the event log, though never staged"
    for name in DevsecopsPackage.needs:
        assert materials[name] == sha256(artifacts[name])
    assert build["internalParameters"]["feature_signature"]
    byproducts = {each["name"]: each["digest"]["sha256"] for each in statement["predicate"]["runDetails"]["byproducts"]}
    for name in ("sbom.cdx.json", "model-card.md", "deployment-config.yaml"):
        assert byproducts[name] == sha256(files[name])
    assert "signatures" not in statement, "the key never reaches a skill"


# Documents


def test_the_model_card_has_nine_sections_and_leaves_to_people_what_only_they_know(delivered: Delivered) -> None:
    text = read(delivered[1], "model-card.md")
    titles = (
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    )  # fmt: skip
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        "In short",
        "To be filled in by a person",
        *(f"{number}. {title}" for number, title in enumerate(titles, 1)),
    ], "the answer first, and what only people know in one place"
    assert [line.split(" | ")[0] for line in text.splitlines() if " | section " in line] == [
        f"| {number}" for number in range(1, 7)
    ]
    assert all(f"- To be filled in by a person: no. {number} above." in text for number in range(1, 7))
    assert NOW[:10] not in text, "a date would change the package"


def test_the_pull_request_shows_what_a_reviewer_needs(delivered: Delivered) -> None:
    text = read(delivered[1], "pull-request.md")
    for heading in ("## What", "## Why", "## How good it is", "## Acceptance", "## Risks", "## How to take it back"):
        assert heading in text
    assert sha256(delivered[1]["model-package.zip"]) in text
    assert "metrics.rows = 44" in text or "metrics.roc_auc_lower = " in text
    assert "approved by bob" in text
    for name in ("sbom.cdx.json", "model-card.md", "provenance.json"):
        assert f"| [{name}]({name}) | `{sha256(delivered[1][name])[:16]}` |" in text
    assert "| evaluation-report.md | `" in text, (
        "of another phase's folder, which a skill does not know: no broken link"
    )
    assert "names the package before it" not in text, "no configuration of another ticket lies there"


def test_the_deployment_configuration_says_when_to_take_it_back(delivered: Delivered) -> None:
    config = yaml.safe_load(read(delivered[1], "deployment-config.yaml"))
    assert config["package"]["sha256"] == sha256(delivered[1]["model-package.zip"])
    health = config["health"]
    assert health["roll_back_below"] == 0.5 <= health["warn_below"] <= health["expected"]


def test_for_errors_the_limits_lie_above(tmp_path: Path) -> None:
    frame, target = diabetes()
    _, files = package(tmp_path, evaluated(tmp_path / "work", frame, target, metric="mae"))
    health = yaml.safe_load(read(files, "deployment-config.yaml"))["health"]
    assert health["expected"] <= health["warn_above"] <= health["roll_back_above"]
    with zipfile.ZipFile(io.BytesIO(files["model-package.zip"].read_bytes())) as packed:
        assert json.loads(packed.read("package.json"))["outputs"]["kind"] == "number"


def test_every_document_about_synthetic_data_says_so(artifacts: dict[str, Path], tmp_path: Path) -> None:
    source = json.loads(read(artifacts, "data-source.json")) | {"synthetic": True, "kind": "synthetic"}
    planted = write_json(tmp_path / "data-source.json", source)
    output, files = package(tmp_path, artifacts | {"data-source.json": planted})
    for name, path in files.items():
        if name != "model-package.zip":
            assert "synthetic" in path.read_text("utf-8").lower(), name
    with zipfile.ZipFile(files["model-package.zip"]) as packed:
        assert json.loads(packed.read("package.json"))["synthetic"] is True
    assert any("Synthetic" in warning for warning in output.warnings)


def test_a_hostile_title_stays_text(artifacts: dict[str, Path], tmp_path: Path) -> None:
    hostile = ticket(title="Closes #1 @everyone <script>alert(1)</script>\n# Approved | [x](y)")
    _, files = package(tmp_path, artifacts, ticket=hostile)
    for name in ("pull-request.md", "model-card.md"):
        text = read(files, name)
        assert "<script>" not in text
        assert "@everyone" not in text
        assert "\n# Approved" not in text
    sbom.validate_sbom(read(files, "sbom.cdx.json"))
