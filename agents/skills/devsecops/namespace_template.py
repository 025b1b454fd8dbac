"""The template of the namespace: what the model may use in a cluster, who may change it, and the gateway before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.skills.devsecops.cluster_template import (
    HEALTH_CHECKS,
    KUBERNETES,
    REQUIRED,
    environment_variable,
    range_variable,
    variable,
)
from agents.skills.devsecops.manifests import PORT
from agents.skills.devsecops.nodes import Server

_HERE = "${kubernetes_namespace_v1.this.metadata[0].name}"
_VERBS = ["get", "list", "watch", "create", "update", "patch", "delete"]
_RULES = (
    ("", ["services"], _VERBS),
    ("", ["pods", "pods/log", "events"], ["get", "list", "watch"]),
    ("apps", ["deployments"], _VERBS),
    ("apps", ["replicasets"], ["get", "list", "watch"]),
    ("autoscaling", ["horizontalpodautoscalers"], _VERBS),
    ("policy", ["poddisruptionbudgets"], _VERBS),
    ("networking.k8s.io", ["networkpolicies"], _VERBS),
)
"""What the deployer may do: what a delivery's manifests hold, and look."""


def namespace_template(
    app: str, namespaces: Mapping[str, str], servers: Mapping[str, int], server: Server
) -> dict[str, Any]:
    """`namespace.tf.json`, parsed.

    `app` is the label of the model's pods and its service's name, `namespaces` the name in each environment, `servers`
    how many model servers there may be at once in it, with those that are about to replace others.
    """
    quotas = {
        environment: {"cpu": f"{count * server.cpu:g}", "memory": f"{count * server.memory_mb}Mi", "pods": str(count)}
        for environment, count in servers.items()
    }
    return {
        "terraform": {
            "required_version": REQUIRED,
            "required_providers": {"kubernetes": {"source": "hashicorp/kubernetes", "version": KUBERNETES}},
        },
        "variable": {
            "environment": environment_variable(tuple(namespaces)),
            "deployer": variable("string", "who applies the manifests: the cluster's output deployer."),
            "gateway_range": range_variable("addresses of the gateway's proxies, as for the cluster.", "gateway_range"),
            "hostname": variable("string", "the name under which the model is reached inside your network."),
            "certificate": variable("string", "the regional certificate for that name, as your cloud project has it."),
        },
        "locals": {
            "namespaces": dict(namespaces), "quotas": quotas, "quota": "${local.quotas[var.environment]}",
            "name": "${local.namespaces[var.environment]}",
        },
        "resource": {
            "kubernetes_namespace_v1": {
                "this": {
                    "metadata": {
                        "name": "${local.name}",
                        "labels": {
                            "value-train/environment": "${var.environment}",
                            "pod-security.kubernetes.io/enforce": "restricted",
                        },
                    }
                }
            },
            "kubernetes_service_account_v1": {
                "model": {
                    "metadata": {"name": "model", "namespace": _HERE}, "automount_service_account_token": False,
                }
            },
            **_limits(server), **_policies(app), **_deployer(), **_gateway(app),
        },
    }  # fmt: skip


def _limits(server: Server) -> dict[str, Any]:
    most = {"cpu": f"{server.cpu:g}", "memory": f"{server.memory_mb}Mi"}
    return {
        "kubernetes_resource_quota_v1": {
            "this": {
                "metadata": {"name": "most", "namespace": _HERE},
                "spec": {
                    "hard": {
                        "limits.cpu": "${local.quota.cpu}", "limits.memory": "${local.quota.memory}",
                        "pods": "${local.quota.pods}", "services.loadbalancers": "0", "services.nodeports": "0",
                    }
                },
            }
        },
        "kubernetes_limit_range_v1": {
            "this": {
                "metadata": {"name": "each", "namespace": _HERE},
                "spec": {"limit": [{"type": "Container", "default": most, "max": most}]},
            }
        },
    }  # fmt: skip


def _policies(app: str) -> dict[str, Any]:
    sources: list[dict[str, Any]] = [{"ip_block": {"cidr": each}} for each in ("${var.gateway_range}", *HEALTH_CHECKS)]
    metrics = {"namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": "gmp-system"}}}
    return {
        "kubernetes_network_policy_v1": {
            "closed": {
                "metadata": {"name": "closed", "namespace": _HERE},
                "spec": {"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            },
            "gateway": {
                "metadata": {"name": "gateway", "namespace": _HERE},
                "spec": {
                    "pod_selector": {"match_labels": {"app": app}}, "policy_types": ["Ingress"],
                    "ingress": [{"from": [*sources, metrics], "ports": [{"port": str(PORT), "protocol": "TCP"}]}],
                },
            },
        }
    }  # fmt: skip


def _deployer() -> dict[str, Any]:
    return {
        "kubernetes_role_v1": {
            "deployer": {
                "metadata": {"name": "deployer", "namespace": _HERE},
                "rule": [
                    {"api_groups": [group], "resources": resources, "verbs": verbs}
                    for group, resources, verbs in _RULES
                ],
            }
        },
        "kubernetes_role_binding_v1": {
            "deployer": {
                "metadata": {"name": "deployer", "namespace": _HERE},
                "role_ref": {
                    "api_group": "rbac.authorization.k8s.io", "kind": "Role",
                    "name": "${kubernetes_role_v1.deployer.metadata[0].name}",
                },
                "subject": [{"kind": "User", "name": "${var.deployer}", "api_group": "rbac.authorization.k8s.io"}],
            }
        },
    }  # fmt: skip


def _gateway(app: str) -> dict[str, Any]:
    """An internal gateway with TLS, its route to the model's service, and where it asks how the model is."""
    listener = {
        "name": "https", "protocol": "HTTPS", "port": 443, "hostname": "${var.hostname}",
        "tls": {"mode": "Terminate", "options": {"networking.gke.io/pre-shared-certs": "${var.certificate}"}},
    }  # fmt: skip
    check = {"type": "HTTP", "httpHealthCheck": {"port": PORT, "requestPath": "/health"}}
    return {
        "kubernetes_manifest": {
            "gateway": {
                "manifest": {
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                    "metadata": {"name": app, "namespace": _HERE},
                    "spec": {"gatewayClassName": "gke-l7-rilb", "listeners": [listener]},
                }
            },
            "route": {
                "manifest": {
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                    "metadata": {"name": app, "namespace": _HERE},
                    "spec": {
                        "parentRefs": [{"name": app}], "hostnames": ["${var.hostname}"],
                        "rules": [
                            {
                                "matches": [{"path": {"type": "Exact", "value": "/predict"}, "method": "POST"}],
                                "backendRefs": [{"name": app, "port": 80}],
                            }
                        ],
                    },
                }
            },
            "health": {
                "manifest": {
                    "apiVersion": "networking.gke.io/v1", "kind": "HealthCheckPolicy",
                    "metadata": {"name": app, "namespace": _HERE},
                    "spec": {
                        "default": {"config": check},
                        "targetRef": {"group": "", "kind": "Service", "name": app},
                    },
                }
            },
        }
    }  # fmt: skip
