"""Provenance: an in-toto statement that links the package to the data, features, model and evaluation it came from.

Statement v1 (https://in-toto.io/Statement/v1) with a predicate in the shape of SLSA provenance v1
(https://slsa.dev/provenance/v1). It is not signed here: the signing key never reaches a skill.
"""

from __future__ import annotations

from typing import Any

from agents.skills.devsecops.delivery import SYNTHETIC, Delivery

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:value-train:ml-delivery:1"


def build_provenance(
    delivery: Delivery, package_sha256: str, documents: dict[str, str], environment: dict[str, str]
) -> dict[str, Any]:
    """`provenance.json`. `documents` maps what was written beside the package to its SHA-256, `environment`
    distributions to versions. Anything a reader may want to check has a digest.
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": "model-package.zip", "digest": {"sha256": package_sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "ticket": delivery.ticket.id,
                    "title": delivery.ticket.title,
                    "data": delivery.source.uri,
                    "target": delivery.scope.target,
                    "metric": delivery.scope.metric,
                    "acceptance": list(delivery.acceptance),
                },
                "internalParameters": {
                    "pipeline": delivery.pipeline,
                    "seed": delivery.log.seed,
                    "split": delivery.split.strategy,
                    "feature_signature": delivery.features.signature,
                    "environment": environment,
                    "synthetic": delivery.source.synthetic,
                    "notice": SYNTHETIC if delivery.source.synthetic else "",
                },
                "resolvedDependencies": _materials(delivery),
            },
            "runDetails": {
                "builder": {"id": "urn:value-train:skill:devsecops.package"},
                "metadata": {"invocationId": delivery.session, "startedOn": delivery.now},
                "byproducts": [_material(name, digest) for name, digest in sorted(documents.items())],
            },
        },
    }


def _materials(delivery: Delivery) -> list[dict[str, Any]]:
    """The source, then every artifact it led to: those of the event log, or else those staged here."""
    source = {"name": "source", "uri": delivery.source.uri, "digest": {"sha256": delivery.source.sha256}}
    artifacts = {**delivery.recorded, **delivery.digests}
    return [source, *(_material(name, digest) for name, digest in sorted(artifacts.items()))]


def _material(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}}
