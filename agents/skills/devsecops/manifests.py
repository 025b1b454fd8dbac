"""Skill `devsecops.manifests`: how to run the packaged model in a container, and in Kubernetes."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillError, SkillOutput
from schemas.values import Mode, Role

PORT = 8080
PLACE = "/model/model-package.zip"
REPLICAS, MOST = 2, 6
"""Servers at rest and under load. Two, so that one can be replaced while the other answers."""
BUSY = 0.7
"""Share of the CPU a server may use at which another one is started. Of its limit: a share of what it requests, a
quarter of a core, would be passed by a server that is nearly idle."""


class DevsecopsManifests(Skill[Parameters, SkillOutput]):
    """Write a Dockerfile and Kubernetes manifests that serve the package under its digest, without rights."""

    name = "devsecops.manifests"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    needs = ("model-package.zip", "deployment-config.yaml")
    produces = ("serve.dockerfile", "kubernetes.yaml")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write both. Raises SkillError when the package is not the one the deployment configuration names."""
        import yaml

        config = checked_config(context)
        digest = config["package"]["sha256"]
        documents = manifests(config)
        head = f"# {config['name']} {config['version']}, package SHA-256 {digest}\n" + _HEAD
        text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
        context.write_text("kubernetes.yaml", head + text)
        context.write_text("serve.dockerfile", dockerfile(config))
        kinds = ", ".join(document["kind"] for document in documents)
        return SkillOutput(summary=f"container and Kubernetes manifests ({kinds}) for package {digest[:12]}")


_HEAD = """\
# Build the image with serve.dockerfile and put its digest where it says IMAGE. The server has no authentication and no
# encryption: NetworkPolicy lets only pods labelled `access: MODEL` in; put what authenticates people before them.
# Blue/green: apply the new version's Deployment beside the old one, then change `version` in the Service's selector;
# the way back is to change it again.
"""


def dockerfile(config: dict[str, Any]) -> str:
    """An image that holds the package and refuses to be built with another one."""
    digest = config["package"]["sha256"]
    return f"""\
# {config["name"]} {config["version"]}. VALUETRAIN is the image that the train's own Dockerfile makes.
#   docker build --build-arg VALUETRAIN=… -f serve.dockerfile -t MODEL .
ARG VALUETRAIN
FROM ${{VALUETRAIN}}
COPY model-package.zip {PLACE}
RUN echo "{digest}  {PLACE}" | sha256sum --check --status
ENV OMP_NUM_THREADS=1
EXPOSE {PORT}
ENTRYPOINT ["python", "-m", "agents.skills.devsecops.serving", "{PLACE}", "--host", "0.0.0.0", "--port", "{PORT}"]
CMD []
"""


def manifests(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Deployment, Service, autoscaler, disruption budget and network policy."""
    name = label(config["name"])
    version = label(config["version"])
    pods = {"app": name, "version": version}
    memory = f"{config['resources']['memory_mb']}Mi"
    limits = {"cpu": str(config["resources"]["cpu"]), "memory": memory}
    path = {"httpGet": {"path": "/health", "port": "http"}}
    container = {
        "name": "model",
        "image": "IMAGE",
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"requests": {"cpu": "250m", "memory": memory}, "limits": limits},
        "startupProbe": {**path, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**path, "periodSeconds": 5},
        "livenessProbe": {**path, "periodSeconds": 15, "timeoutSeconds": 5},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108  # the container's own
    }
    marks = {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": str(PORT),
        "value-train/package-sha256": config["package"]["sha256"],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}}],
    }
    deployment = deployment_name(config)
    busy = f"{round(1000 * BUSY * config['resources']['cpu'])}m"
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": busy}},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": deployment, "labels": pods},
            "spec": {
                "selector": {"matchLabels": pods},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": pods, "annotations": marks}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": pods, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": deployment},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
                "minReplicas": REPLICAS,
                "maxReplicas": MOST,
                "metrics": [metric],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": deployment},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": pods}},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": {
                "podSelector": {"matchLabels": {"app": name}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from": [{"podSelector": {"matchLabels": {"access": name}}}],
                        "ports": [{"protocol": "TCP", "port": PORT}],
                    }
                ],
            },
        },
    ]


def deployment_name(config: dict[str, Any]) -> str:
    """What the Deployment, its autoscaler and its disruption budget are called: one for each package."""
    return f"{label(config['name'])[:40].rstrip('-')}-{config['package']['sha256'][:8]}"


def checked_config(context: SkillContext) -> dict[str, Any]:
    """`deployment-config.yaml`. Raises SkillError when `model-package.zip` is not the package it names."""
    import yaml

    config: dict[str, Any] = yaml.safe_load(context.path("deployment-config.yaml").read_text("utf-8"))
    digest = hashlib.sha256(context.path("model-package.zip").read_bytes()).hexdigest()
    if digest != config["package"]["sha256"]:
        raise SkillError(
            f"model-package.zip is {digest[:12]} but deployment-config.yaml names {config['package']['sha256'][:12]}",
            "package again",
        )
    return config


def label(text: str) -> str:
    """As Kubernetes takes it for names and labels: at most 63 letters, digits and hyphens, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:58].strip("-")
    return plain if plain[:1].isalpha() else f"v{plain}"
