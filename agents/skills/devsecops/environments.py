"""What the environments of a release share: the record of it, the verified package, requests, and manifests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agents.skill import InputError, SkillContext, SkillError
from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.devsecops.trust import PACKAGE, verified
from agents.skills.shapes import ROW_COLUMN, SourceSpec
from agents.skills.training.inuse import ModelInUse, Package, open_in_use, read_package
from schemas.values import Value

if TYPE_CHECKING:
    import pandas as pd

Environment = Literal["dev", "staging", "production"]
REPLICAS: dict[Environment, tuple[int, int]] = {"dev": (1, 1), "staging": (1, 2), "production": (2, 6)}
"""Servers at rest and under load."""
NEEDS = ("release.json", PACKAGE, "provenance-envelope.json", "deployment-config.yaml")


class Release(Value):
    """`release.json`: which verified package is released, in place of what, tried with which rows."""

    package: str
    version: str
    sha256: str
    signed_by: str
    """The SHA-256 of the public key that verified the signature."""
    in_use: str | None
    """The SHA-256 of the package in use; None for a first release."""
    requests: SourceSpec


@dataclass(frozen=True)
class Check:
    """One thing that must hold in an environment."""

    name: str
    held: bool
    found: str


@dataclass(frozen=True)
class Ready:
    """A release whose signature held once more just now, and the rows to send."""

    release: Release
    package: Package
    in_use: Package | None
    frame: pd.DataFrame

    @property
    def before(self) -> bytes | None:
        """The package in use, to go back to."""
        return self.in_use.data if self.in_use else None

    @property
    def way(self) -> str:
        """Where the way back leads."""
        if self.in_use is None:
            return "nothing: the service is withdrawn (503)"
        return f"{self.in_use.manifest['name']} {self.in_use.manifest['version']}"


def ready(context: SkillContext) -> Ready:
    """Verify again, immediately before a deployment: time passed, and a key may no longer be trusted.

    Raises InputError when the signature does not hold (any more), or package, model in use or rows changed since.
    """
    import numpy as np

    from agents.skills.data.loading import load_rows

    release = Release.model_validate(context.read_json("release.json"))
    package = read_package(PACKAGE, context.path(PACKAGE).read_bytes())
    signed = verified(package.data, context.path("provenance-envelope.json").read_bytes(), context.facts)
    config = hashlib.sha256(context.path("deployment-config.yaml").read_bytes()).hexdigest()
    if (package.sha256, signed.documents.get("deployment-config.yaml")) != (release.sha256, config):
        raise SkillError("what is staged is not what was verified", "start the release again")
    in_use = open_in_use(context, _recorded(release)) if release.in_use else None
    loaded = load_rows(context.ticket, context.roots, context.max_data_bytes)
    if loaded.source.sha256 != release.requests.sha256:
        raise InputError(f"{loaded.source.uri} changed since the release began", "start the release again")
    frame = loaded.frame.copy()
    frame[ROW_COLUMN] = np.arange(len(frame), dtype=np.int64)
    return Ready(release, package, in_use, frame)


def _recorded(release: Release) -> ModelInUse:
    return ModelInUse(
        uri="", sha256=release.in_use or "", name="", version="", kind="", parameters={}, signature=""
    )  # fmt: skip


def check_rows(package: Package, columns: Sequence[str], shown: str) -> None:
    """Raises InputError when rows with these `columns` lack something the package's model reads."""
    if lacking := [each.name for each in package.features.columns if each.name not in columns]:
        raise InputError(
            f"{shown} lacks {', '.join(lacking[:10])}, which {package.manifest['name']} reads",
            "name rows like those that will be asked about, as `data`",
        )


def namespace_of(name: str, environment: Environment) -> str:
    """The namespace of the model called `name` in an environment."""
    from agents.skills.devsecops.manifests import label

    return f"{label(name)[:50].rstrip('-')}-{environment}"


def environment_manifests(config: dict[str, Any], environment: Environment) -> str:
    """`kubernetes-ENVIRONMENT.yaml`: the package's manifests in a namespace of that environment, with its size."""
    import yaml

    from agents.skills.devsecops.manifests import manifests

    rest, most = REPLICAS[environment]
    namespace = namespace_of(config["name"], environment)
    marks = {"value-train/environment": environment, "pod-security.kubernetes.io/enforce": "restricted"}
    documents = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": marks}}]
    for document in manifests(config):
        if document["kind"] == "PodDisruptionBudget" and rest < 2:
            continue  # with one server it would forbid ever to move it
        document["metadata"]["namespace"] = namespace
        if document["kind"] == "HorizontalPodAutoscaler":
            document["spec"] |= {"minReplicas": rest, "maxReplicas": most}
        documents.append(document)
    head = f"# {config['name']} {config['version']} in {environment}, package SHA-256 {config['package']['sha256']}\n"
    return head + yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)


def write_environment(
    context: SkillContext, environment: Environment, found: Ready, checks: Sequence[Check], figures: dict[str, Any],
    text: Sequence[str],
) -> None:  # fmt: skip
    """Write report (JSON and Markdown) and manifests of one environment."""
    import yaml

    release = found.release
    config = yaml.safe_load(context.path("deployment-config.yaml").read_text("utf-8"))
    context.write_text(f"kubernetes-{environment}.yaml", environment_manifests(config, environment))
    report = {
        "environment": environment, "package": release.package, "version": release.version, "sha256": release.sha256,
        "signed_by": release.signed_by, "in_use": release.in_use, "way_back": found.way,
        "checks": [{"name": each.name, "held": each.held, "found": each.found} for each in checks],
        "figures": figures, "state": "released" if all(each.held for each in checks) else "refused",
    }  # fmt: skip
    context.write_json(f"release-{environment}.json", report)
    lines = [
        f"# {environment.capitalize()}: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket),
        f"**{'Fit for' if report['state'] == 'released' else 'Refused in'} {environment}.** "
        f"{cell(release.package)} {cell(release.version)} (`{release.sha256[:16]}`), signature of key "
        f"`{release.signed_by[:16]}` verified again before it was started. Way back: {cell(found.way, 200)}.", "",
        *table(("check", "holds", "found"), [(c.name, "yes" if c.held else "NO", c.found) for c in checks], 200),
        "", *text,
    ]  # fmt: skip
    context.write_text(f"release-{environment}.md", "\n".join(lines))
