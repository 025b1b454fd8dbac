"""The template of the cluster: network, machines, accounts, registry, keys and budget alarm of one environment.

JSON syntax of OpenTofu and Terraform, for Google Cloud. Figures come in as arguments; what only a person knows is a
variable without default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.skills.devsecops.manifests import PORT
from agents.skills.devsecops.template_rules import PERSON

GOOGLE, KUBERNETES = "6.50.0", "2.38.0"
"""Versions of the providers that the templates are written for."""
REQUIRED = ">= 1.5.0, < 2.0.0"
HEALTH_CHECKS = ("35.191.0.0/16", "130.211.0.0/22")
"""Where Google Cloud's load balancers check health from, as it publishes them."""
_SERVICES = (
    "artifactregistry", "billingbudgets", "cloudkms", "compute", "container", "iam", "logging", "monitoring",
)  # fmt: skip
_KEY = "${google_kms_crypto_key.this.id}"
_KEEPERS = {
    "registry": "gcp-sa-artifactregistry.iam", "cluster": "container-engine-robot.iam", "disks": "compute-system.iam",
}  # fmt: skip
_NODE_ROLES = ("roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/monitoring.viewer")
_LABELS = {"environment": "${var.environment}", "managed-by": "value-train-template"}


def variable(kind: str, what: str, condition: str = "", message: str = "") -> dict[str, Any]:
    """A variable that a person fills, checked before anything is planned."""
    declared: dict[str, Any] = {"type": kind, "description": PERSON + what}
    if condition:
        declared["validation"] = {"condition": f"${{{condition}}}", "error_message": message}
    return declared


def range_variable(what: str, name: str) -> dict[str, Any]:
    """A variable with an address range."""
    narrow = f'can(cidrhost(var.{name}, 0)) && !can(regex("/0$", var.{name}))'
    return variable("string", what, narrow, f"{name} must be a range such as 10.20.0.0/22, and not every address.")


def environment_variable(names: tuple[str, ...]) -> dict[str, Any]:
    """The variable that chooses the environment."""
    listed = ", ".join(f'"{name}"' for name in names)
    return variable(
        "string", f"which environment this is: {', '.join(names)}. Each has a state of its own.",
        f"contains([{listed}], var.environment)", f"environment must be one of {', '.join(names)}.",
    )  # fmt: skip


def cluster_template(
    name: str, machine_type: str, nodes: Mapping[str, tuple[int, int]], usd_per_month: float | None
) -> dict[str, Any]:
    """`cluster.tf.json`, parsed. `name` is the model's (a label), `nodes` the least and most of each environment."""
    variables = _variables(tuple(nodes), told=usd_per_month is not None)
    amount = "${var.usd_per_month}" if usd_per_month is None else str(round(usd_per_month))
    sizes = {
        environment: {"least_nodes": least, "most_nodes": most, "protected": environment == "production"}
        for environment, (least, most) in nodes.items()
    }
    return {
        "terraform": {
            "required_version": REQUIRED,
            "required_providers": {"google": {"source": "hashicorp/google", "version": GOOGLE}},
        },
        "provider": {"google": {"project": "${var.project_id}", "region": "${var.region}"}},
        "variable": variables,
        "locals": {
            "name": f"{name[:20].rstrip('-')}-${{var.environment}}",
            "sizes": sizes,
            "size": "${local.sizes[var.environment]}",
            "keepers": {
                use: f"serviceAccount:service-${{data.google_project.this.number}}@{host}.gserviceaccount.com"
                for use, host in _KEEPERS.items()
            },
        },
        "data": {"google_project": {"this": {"project_id": "${var.project_id}"}}},
        "resource": {
            "google_project_service": {
                "this": {
                    "for_each": f"${{toset({_list(f'{each}.googleapis.com' for each in _SERVICES)})}}",
                    "project": "${var.project_id}", "service": "${each.value}", "disable_on_destroy": False,
                }
            },
            **_network(), **_keys(), **_accounts(), **_cluster(machine_type), **_budget(amount),
        },
        "output": {
            "cluster": {"value": "${google_container_cluster.this.name}"},
            "registry": {
                "value": "${var.region}-docker.pkg.dev/${var.project_id}/"
                "${google_artifact_registry_repository.this.repository_id}"
            },
            "deployer": {"value": "${google_service_account.deployer.email}"},
            "publisher": {"value": "${google_service_account.publisher.email}"},
        },
    }  # fmt: skip


def _variables(environments: tuple[str, ...], *, told: bool) -> dict[str, Any]:
    ranges = {
        "nodes": "addresses of the nodes", "pods": "addresses of the pods", "services": "addresses of the services",
        "gateway": "addresses of the internal gateway's proxies, at least a /26",
        "control_plane": "addresses of the control plane, a /28",
        "operators": "private addresses that may speak to the control plane",
    }  # fmt: skip
    variables = {
        "environment": environment_variable(environments),
        "project_id": variable("string", "the cloud project (account) of this environment."),
        "region": variable("string", "the region, where the data may lie."),
        "billing_account": variable("string", "the billing account that the budget alarm watches."),
        "alarm_email": variable("string", "who is told when the budget runs out."),
        **{f"{use}_range": range_variable(f"{what}; free in your network.", f"{use}_range")
           for use, what in ranges.items()},
    }  # fmt: skip
    if not told:
        variables["usd_per_month"] = variable(
            "number", "whole US dollars that this environment may cost a month; the ticket does not say.",
            "var.usd_per_month > 0 && floor(var.usd_per_month) == var.usd_per_month",
            "usd_per_month must be a whole number above zero.",
        )  # fmt: skip
    return variables


def _network() -> dict[str, Any]:
    here = {"network": "${google_compute_network.this.id}", "region": "${var.region}"}
    return {
        "google_compute_network": {
            "this": {
                "name": "${local.name}", "auto_create_subnetworks": False,
                "depends_on": ["google_project_service.this"],
            }
        },
        "google_compute_subnetwork": {
            "nodes": {
                **here, "name": "${local.name}-nodes", "ip_cidr_range": "${var.nodes_range}",
                "private_ip_google_access": True,
                "secondary_ip_range": [
                    {"range_name": "pods", "ip_cidr_range": "${var.pods_range}"},
                    {"range_name": "services", "ip_cidr_range": "${var.services_range}"},
                ],
                "log_config": {"aggregation_interval": "INTERVAL_5_SEC", "flow_sampling": 0.5},
            },
            "gateway": {
                **here, "name": "${local.name}-gateway", "ip_cidr_range": "${var.gateway_range}",
                "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE",
            },
        },
        "google_compute_firewall": {
            "gateway": {
                "name": "${local.name}-gateway", "network": here["network"], "direction": "INGRESS",
                "description": "The only way in: the gateway's proxies and the load balancer's health checks.",
                "source_ranges": ["${var.gateway_range}", *HEALTH_CHECKS],
                "target_service_accounts": ["${google_service_account.nodes.email}"],
                "allow": [{"protocol": "tcp", "ports": [str(PORT)]}],
                "log_config": {"metadata": "INCLUDE_ALL_METADATA"},
            }
        },
    }  # fmt: skip


def _keys() -> dict[str, Any]:
    return {
        "google_kms_key_ring": {
            "this": {
                "name": "${local.name}", "location": "${var.region}", "depends_on": ["google_project_service.this"],
            }
        },
        "google_kms_crypto_key": {
            "this": {
                "name": "${local.name}", "key_ring": "${google_kms_key_ring.this.id}", "rotation_period": "7776000s",
                "lifecycle": {"prevent_destroy": True},
            }
        },
        "google_kms_crypto_key_iam_member": {
            "keepers": {
                "for_each": "${local.keepers}", "crypto_key_id": _KEY, "member": "${each.value}",
                "role": "roles/cloudkms.cryptoKeyEncrypterDecrypter",
                "depends_on": ["google_project_service.this"],
            }
        },
    }  # fmt: skip


def _accounts() -> dict[str, Any]:
    purposes = {
        "nodes": "Machines of the cluster: write logs and metrics, pull images.",
        "deployer": "Applies manifests: sees the cluster; what it may do inside is said in its namespace.",
        "publisher": "Pushes images to the registry, nothing else.",
    }
    repository = {
        "project": "${var.project_id}", "location": "${var.region}",
        "repository": "${google_artifact_registry_repository.this.repository_id}",
    }  # fmt: skip
    return {
        "google_service_account": {
            use: {"account_id": f"{use}-${{var.environment}}", "display_name": what}
            for use, what in purposes.items()
        },
        "google_project_iam_member": {
            "nodes": {
                "for_each": f"${{toset({_list(_NODE_ROLES)})}}", "project": "${var.project_id}",
                "role": "${each.value}", "member": "${google_service_account.nodes.member}",
            },
            "deployer": {
                "project": "${var.project_id}", "role": "roles/container.clusterViewer",
                "member": "${google_service_account.deployer.member}",
            },
        },
        "google_artifact_registry_repository": {
            "this": {
                "repository_id": "${local.name}", "location": "${var.region}", "format": "DOCKER",
                "kms_key_name": _KEY, "docker_config": {"immutable_tags": True}, "labels": _LABELS,
                "depends_on": ["google_kms_crypto_key_iam_member.keepers"],
            }
        },
        "google_artifact_registry_repository_iam_member": {
            "nodes": {
                **repository, "role": "roles/artifactregistry.reader",
                "member": "${google_service_account.nodes.member}",
            },
            "publisher": {
                **repository, "role": "roles/artifactregistry.writer",
                "member": "${google_service_account.publisher.member}",
            },
        },
    }  # fmt: skip


def _cluster(machine_type: str) -> dict[str, Any]:
    return {
        "google_container_cluster": {
            "this": {
                "name": "${local.name}", "location": "${var.region}",
                "network": "${google_compute_network.this.id}",
                "subnetwork": "${google_compute_subnetwork.nodes.id}",
                "networking_mode": "VPC_NATIVE", "datapath_provider": "ADVANCED_DATAPATH",
                "remove_default_node_pool": True, "initial_node_count": 1,
                "deletion_protection": "${local.size.protected}", "resource_labels": _LABELS,
                "node_config": {
                    "machine_type": machine_type, "boot_disk_kms_key": _KEY,
                    "service_account": "${google_service_account.nodes.email}",
                },
                "private_cluster_config": {
                    "enable_private_nodes": True, "enable_private_endpoint": True,
                    "master_ipv4_cidr_block": "${var.control_plane_range}",
                },
                "master_authorized_networks_config": {
                    "cidr_blocks": [{"cidr_block": "${var.operators_range}", "display_name": "operators"}]
                },
                "ip_allocation_policy": {
                    "cluster_secondary_range_name": "pods", "services_secondary_range_name": "services",
                },
                "database_encryption": {"state": "ENCRYPTED", "key_name": _KEY},
                "workload_identity_config": {"workload_pool": "${var.project_id}.svc.id.goog"},
                "gateway_api_config": {"channel": "CHANNEL_STANDARD"},
                "release_channel": {"channel": "REGULAR"},
                "master_auth": {"client_certificate_config": {"issue_client_certificate": False}},
                "logging_config": {"enable_components": ["SYSTEM_COMPONENTS", "WORKLOADS"]},
                "monitoring_config": {
                    "enable_components": ["SYSTEM_COMPONENTS"], "managed_prometheus": {"enabled": True},
                },
                "depends_on": ["google_kms_crypto_key_iam_member.keepers"],
            }
        },
        "google_container_node_pool": {
            "this": {
                "name": "models", "cluster": "${google_container_cluster.this.id}",
                "autoscaling": {
                    "total_min_node_count": "${local.size.least_nodes}",
                    "total_max_node_count": "${local.size.most_nodes}", "location_policy": "BALANCED",
                },
                "management": {"auto_repair": True, "auto_upgrade": True},
                "upgrade_settings": {"max_surge": 1, "max_unavailable": 0},
                "node_config": {
                    "machine_type": machine_type, "image_type": "COS_CONTAINERD", "boot_disk_kms_key": _KEY,
                    "service_account": "${google_service_account.nodes.email}",
                    "oauth_scopes": ["https://www.googleapis.com/auth/cloud-platform"],
                    "metadata": {"disable-legacy-endpoints": "true"}, "labels": _LABELS,
                    "shielded_instance_config": {"enable_secure_boot": True, "enable_integrity_monitoring": True},
                    "workload_metadata_config": {"mode": "GKE_METADATA"},
                },
            }
        },
    }  # fmt: skip


def _budget(amount: str) -> dict[str, Any]:
    return {
        "google_monitoring_notification_channel": {
            "budget": {
                "display_name": "${local.name} budget", "type": "email",
                "labels": {"email_address": "${var.alarm_email}"}, "depends_on": ["google_project_service.this"],
            }
        },
        "google_billing_budget": {
            "this": {
                "billing_account": "${var.billing_account}", "display_name": "${local.name}",
                "budget_filter": {"projects": ["projects/${data.google_project.this.number}"]},
                "amount": {"specified_amount": {"currency_code": "USD", "units": amount}},
                "threshold_rules": [
                    {"threshold_percent": 0.5}, {"threshold_percent": 0.9}, {"threshold_percent": 1.0},
                    {"threshold_percent": 1.0, "spend_basis": "FORECASTED_SPEND"},
                ],
                "all_updates_rule": {
                    "monitoring_notification_channels": ["${google_monitoring_notification_channel.budget.id}"],
                },
            }
        },
    }  # fmt: skip


def _list(items: Any) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"
