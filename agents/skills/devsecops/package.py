"""Skill `devsecops.package`: one package with a digest, and every document that goes with it."""

from __future__ import annotations

import json

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.devsecops.bundle import build_package
from agents.skills.devsecops.delivery import SYNTHETIC, read_delivery
from agents.skills.devsecops.distributions import needed_distributions
from agents.skills.devsecops.documents import deployment_config, pull_request
from agents.skills.devsecops.modelcard import PERSON, model_card
from agents.skills.devsecops.provenance import build_provenance
from agents.skills.devsecops.sbom import build_sbom
from agents.skills.training.modelfile import digest
from schemas.values import Measurement, Mode, Role, TickedItem


class DevsecopsPackage(Skill[Parameters, SkillOutput]):
    """Package the model with card, bill of materials, provenance, deployment configuration, pull request text."""

    name = "devsecops.package"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    needs = (
        "model.skops", "scope.json", "data-source.json", "split.json", "feature-map.json", "metrics.json",
        "risk-profile.json", "experiment-log.json", "data-contract.yaml", "evaluation-report.md",
    )  # fmt: skip
    optional = (
        "data-profile.json", "robustness.json", "fairness.json", "claims-audit.json", "onnx-report.json", "model.onnx",
    )  # fmt: skip
    produces = (
        "model-package.zip", "sbom.cdx.json", "model-card.md", "provenance.json", "deployment-config.yaml",
        "pull-request.md",
    )  # fmt: skip
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the package and its documents. The same model gives the same package, whenever it is packaged.

        Raises SkillError when the model is not the one that was trained and evaluated, or the SBOM does not validate.
        """
        delivery = read_delivery(context)
        needed = needed_distributions()
        card = model_card(delivery)
        package = build_package(delivery, needed, card)
        sha256 = digest(package)
        context.progress(f"package {sha256[:12]}, {len(package):,} bytes; listing {len(needed)} distributions")
        written = {
            "model-card.md": card,
            "sbom.cdx.json": build_sbom(delivery, needed, sha256),
            "deployment-config.yaml": deployment_config(delivery, sha256, len(package)),
        }
        documents = {name: digest(text.encode()) for name, text in written.items()}
        documents["evaluation-report.md"] = delivery.digests["evaluation-report.md"]
        environment = {each.name: each.version for each in needed}
        statement = build_provenance(delivery, sha256, documents, environment)
        written["provenance.json"] = json.dumps(statement, indent=2, sort_keys=True, allow_nan=False) + "\n"
        documents["provenance.json"] = digest(written["provenance.json"].encode())
        written["pull-request.md"] = pull_request(delivery, sha256, documents, frozenset(written))
        (context.out / "model-package.zip").write_bytes(package)
        for name, text in written.items():
            context.write_text(name, text)
        components = len(json.loads(written["sbom.cdx.json"])["components"])
        materials = len(statement["predicate"]["buildDefinition"]["resolvedDependencies"])
        return SkillOutput(
            summary=f"{delivery.name} {delivery.version}: {len(package):,} bytes, SHA-256 {sha256[:12]}",
            ticked=(
                TickedItem(item="packaged", evidence=f"model-package.zip {sha256}"),
                TickedItem(
                    item="model-card-written",
                    evidence=f"model-card.md: nine sections, {card.count(PERSON)} points left to a person",
                ),
                TickedItem(item="sbom-valid", evidence=f"sbom.cdx.json: CycloneDX 1.6 strict, {components} components"),
                TickedItem(item="provenance-stated", evidence=f"provenance.json: {materials} materials by digest"),
                TickedItem(item="pull-request-ready", evidence="pull-request.md"),
            ),
            measurements=(Measurement(scope="package", name="bytes", value=float(len(package))),),
            warnings=(SYNTHETIC,) if delivery.source.synthetic else (),
        )
