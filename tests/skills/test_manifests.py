"""Container and Kubernetes manifests: they name the package by digest, fit together, and their command serves it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.skill import SkillError
from agents.skills.devsecops.manifests import PLACE, DevsecopsManifests
from agents.skills.training.inuse import Package
from agents.skills.training.modelfile import zip_bytes
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import ROOT, ticket
from tests.skills.test_serving import package  # noqa: F401  # its fixture

LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def delivery(folder: Path, package: Package, version: str = "0.1.0+abc") -> dict[str, Path]:  # noqa: F811
    """A package and the deployment configuration that names it."""
    folder.mkdir(exist_ok=True)
    content = zip_bytes({**package.files, "package.json": json.dumps(dict(package.manifest)).encode()})
    digest = hashlib.sha256(content).hexdigest()
    config = {
        "name": "tell-cultivars-apart-by-what-is-in-the-bottle-and-more-of-it-12",
        "version": version,
        "package": {"file": "model-package.zip", "sha256": digest},
        "resources": {"cpu": 1, "memory_mb": 512},
    }
    (folder / "model-package.zip").write_bytes(content)
    (folder / "deployment-config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return {path.name: path for path in folder.iterdir()}


def written(folder: Path, files: dict[str, Path]) -> tuple[dict[str, dict[str, Any]], str]:
    """The manifests by kind, and the Dockerfile."""
    _, found = run_skill(DevsecopsManifests, ticket(), folder, files)
    parts = {each["kind"]: each for each in yaml.safe_load_all(found["kubernetes.yaml"].read_text("utf-8"))}
    return parts, found["serve.dockerfile"].read_text("utf-8")


def test_the_container_serves_what_the_manifests_say(package: Package, tmp_path: Path) -> None:  # noqa: F811
    files = delivery(tmp_path / "in", package)
    parts, dockerfile = written(tmp_path, files)
    digest = hashlib.sha256(files["model-package.zip"].read_bytes()).hexdigest()
    assert f'RUN echo "{digest}  {PLACE}" | sha256sum --check --status' in dockerfile
    [entry] = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    command = json.loads(entry)
    pod = parts["Deployment"]["spec"]["template"]
    [container] = pod["spec"]["containers"]
    assert command[command.index("--port") + 1] == str(container["ports"][0]["containerPort"])
    assert pod["metadata"]["annotations"]["value-train/package-sha256"] == digest
    # The same command here, on loopback, a free port and the package where it lies.
    local = [sys.executable, *command[1:], "--until-closed"]
    local[local.index(PLACE)] = str(files["model-package.zip"])
    local[local.index("0.0.0.0")] = "127.0.0.1"
    local[local.index("8080")] = "0"
    with subprocess.Popen(local, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = json.loads(server.stdout.readline())["port"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                path = container[probe]["httpGet"]["path"]
                assert urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30).status == 200
            marks = pod["metadata"]["annotations"]
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}{marks['prometheus.io/path']}", timeout=30)
            assert b"# TYPE" in metrics.read()
        finally:
            server.stdin.close()


def test_names_labels_and_selectors_fit_together(package: Package, tmp_path: Path) -> None:  # noqa: F811
    parts, _ = written(tmp_path, delivery(tmp_path / "in", package))
    labels = parts["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert parts["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert parts["Service"]["spec"]["selector"] == labels
    assert parts["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert parts["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    target = parts["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == parts["Deployment"]["metadata"]["name"]
    for part in parts.values():
        assert LABEL.fullmatch(part["metadata"]["name"])
    assert all(LABEL.fullmatch(value) for value in labels.values())


def test_another_server_starts_when_one_has_used_most_of_its_processor(package: Package, tmp_path: Path) -> None:  # noqa: F811
    parts, _ = written(tmp_path, delivery(tmp_path / "in", package))
    (metric,) = parts["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "700m"}}
    (container,) = parts["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == "1", "70 % of the limit, not of the quarter core requested"


def test_the_container_has_no_rights(package: Package, tmp_path: Path) -> None:  # noqa: F811
    parts, _ = written(tmp_path, delivery(tmp_path / "in", package))
    pod = parts["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    security = pod["containers"][0]["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert parts["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in parts["NetworkPolicy"]["spec"]


def test_two_versions_can_stand_beside_each_other(package: Package, tmp_path: Path) -> None:  # noqa: F811
    blue, _ = written(tmp_path, delivery(tmp_path / "a", package, "0.1.0+aaa"))
    files = delivery(tmp_path / "b", package, "0.1.0+bbb")
    config = yaml.safe_load(files["deployment-config.yaml"].read_text("utf-8"))
    content = zip_bytes({**dict(sorted(package.files.items())), "z": b"another model"})
    config["package"]["sha256"] = hashlib.sha256(content).hexdigest()
    files["model-package.zip"].write_bytes(content)
    files["deployment-config.yaml"].write_text(yaml.safe_dump(config), "utf-8")
    green, _ = written(tmp_path, files)
    assert blue["Deployment"]["metadata"]["name"] != green["Deployment"]["metadata"]["name"]
    assert blue["Service"]["metadata"]["name"] == green["Service"]["metadata"]["name"]
    chosen = green["Service"]["spec"]["selector"]
    assert not chosen.items() <= blue["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert chosen.items() <= green["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def test_another_package_than_the_configured_one_is_refused(package: Package, tmp_path: Path) -> None:  # noqa: F811
    files = delivery(tmp_path / "in", package)
    files["model-package.zip"].write_bytes(b"another")
    with pytest.raises(SkillError, match=r"deployment-config\.yaml names"):
        written(tmp_path, files)
