"""Infrastructure templates: real parsers and the providers' published arguments read them, and the rules can fail."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agents.skill import InputError
from agents.skills.devsecops.cluster_template import GOOGLE, KUBERNETES
from agents.skills.devsecops.environments import environment_manifests
from agents.skills.devsecops.infrastructure import ENVIRONMENTS, DevsecopsInfrastructure
from agents.skills.devsecops.manifests import PORT
from agents.skills.devsecops.nodes import PER_NODE, SYSTEM_CPU, SYSTEM_MB, Node, Server, node_for, nodes_for, server_of
from agents.skills.devsecops.template_rules import PERSON, faults, references
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import ticket

SCHEMA = json.loads((Path(__file__).parents[1] / "fixtures" / "terraform-providers.json").read_text("utf-8"))
META = {"for_each", "depends_on", "lifecycle", "provider", "count"}
CONFIG = {
    "name": "tell-cultivars-apart-12", "version": "0.1.0+abc", "package": {"sha256": "a" * 64},
    "resources": {"cpu": 1, "memory_mb": 512},
}  # fmt: skip
CAPACITY: dict[str, Any] = {
    "package_sha256": "a" * 64, "measured": {"peak_bytes": 700_000_000}, "replicas": {"least": 2, "most": 5},
    "stated": {"usd_per_month": 300.4},
}  # fmt: skip


def made(folder: Path, capacity: Any = CAPACITY, config: Any = CONFIG) -> tuple[dict[str, Any], dict[str, Path], Any]:
    """The two templates, all files, and the output."""
    folder.mkdir(exist_ok=True)
    (folder / "deployment-config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    (folder / "capacity.json").write_text(json.dumps(capacity), "utf-8")
    files = {name: folder / name for name in ("deployment-config.yaml", "capacity.json")}
    output, found = run_skill(DevsecopsInfrastructure, ticket(), folder / "run", files)
    return (
        {name: json.loads(found[f"{name}.tf.json"].read_text("utf-8")) for name in ("cluster", "namespace")},
        found, output,
    )  # fmt: skip


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return made(tmp_path_factory.mktemp("made"))[0]


def unknown(block: Any, known: dict[str, Any], place: str) -> Iterator[str]:
    """What the provider's schema has against the arguments of a block, or of several of one kind."""
    if isinstance(block, list):
        for each in block:
            yield from unknown(each, known, place)
        return
    for name in block:
        if name not in known and not (place.count(".") == 1 and name in META):
            yield f"{place}: no argument {name}"
        elif "block" in known.get(name, {}):
            yield from unknown(block[name], known[name]["block"], f"{place}.{name}")
    for name, each in known.items():
        if each.get("required") and name not in block:
            yield f"{place}: lacks {name}"


def schema_faults(template: dict[str, Any]) -> list[str]:
    kinds = [(kind, kind, named) for kind, named in template["resource"].items()]
    kinds += [(kind, f"data.{kind}", named) for kind, named in template.get("data", {}).items()]
    return [
        fault for kind, key, named in kinds for name, each in named.items()
        for fault in unknown(each, SCHEMA["resources"][key], f"{kind}.{name}")
    ]  # fmt: skip


def test_every_argument_is_one_that_the_pinned_provider_has(templates: dict[str, Any]) -> None:
    assert (SCHEMA["google"], SCHEMA["kubernetes"]) == (GOOGLE, KUBERNETES)
    for template in templates.values():
        assert schema_faults(template) == []
    wrong = copy.deepcopy(templates["cluster"])
    wrong["resource"]["google_container_cluster"]["this"]["private_cluster_config"]["enable_privat_nodes"] = True
    del wrong["resource"]["google_billing_budget"]["this"]["amount"]
    assert schema_faults(wrong) == [
        "google_container_cluster.this.private_cluster_config: no argument enable_privat_nodes",
        "google_billing_budget.this: lacks amount",
    ]


def _plain(template: dict[str, Any]) -> dict[str, Any]:
    """The template with the one resource that needs no provider in place of all others, references and all."""
    kinds = "|".join(sorted(template["resource"]))
    data = "|".join(sorted(template.get("data", {}))) or "none"

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(each) for key, each in value.items()}
        if isinstance(value, list):
            return [turned(each) for each in value]
        if isinstance(value, str):
            value = re.sub(rf"\bdata\.({data})\.(\w+)", r"terraform_data.data_\1_\2.output", value)
            return re.sub(rf"\b({kinds})\.(\w+)(?=\.|\[)", r"terraform_data.\1_\2.output", value)
        return value

    blocks: dict[str, Any] = {}
    for prefix, group in (("", template["resource"]), ("data_", template.get("data", {}))):
        for kind, named in group.items():
            for name, body in named.items():
                rest = {key: turned(each) for key, each in body.items() if key not in META}
                block = {"input": rest} | {key: body[key] for key in ("for_each", "lifecycle") if key in body}
                if "depends_on" in body:
                    block["depends_on"] = [f"terraform_data.{each.replace('.', '_')}" for each in body["depends_on"]]
                blocks[f"{prefix}{kind}_{name}"] = block
    kept = {key: template[key] for key in ("variable", "locals", "output") if key in template}
    return {
        "terraform": {"required_version": template["terraform"]["required_version"]},
        **turned(kept), "resource": {"terraform_data": blocks},
    }  # fmt: skip


def _validated(program: str, folder: Path, template: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir()
    (folder / "main.tf.json").write_text(json.dumps(template), "utf-8")
    empty = folder / "cli.tfrc"
    empty.write_text("", "utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TF_CLI_CONFIG_FILE": str(empty),
                   "CHECKPOINT_DISABLE": "1"}  # fmt: skip
    for command in (["init", "-backend=false", "-input=false", "-no-color"], ["validate", "-json"]):
        done = subprocess.run([program, *command], cwd=folder, env=environment, capture_output=True, text=True)
        if command[0] == "init" and done.returncode:
            return {"valid": False, "diagnostics": [{"summary": done.stderr + done.stdout}]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_real_program_reads_them(templates: dict[str, Any], tmp_path: Path) -> None:
    """Syntax, variables with their conditions, locals, functions and references, by `validate`. Only the arguments of
    resources are not seen by it, since providers are not at hand: those are held against the published ones above."""
    program = shutil.which("tofu") or shutil.which("terraform")
    if program is None:
        pytest.skip("neither tofu nor terraform is on PATH: `validate` did not run, every other test of this file does")
    for name, template in templates.items():
        found = _validated(program, tmp_path / name, _plain(template))
        assert found["valid"], found["diagnostics"]
    wrong = json.loads(json.dumps(_plain(templates["cluster"])).replace("${var.region}", "${var.regoin}"))
    found = _validated(program, tmp_path / "wrong", wrong)
    assert not found["valid"]
    assert "undeclared input variable" in str(found["diagnostics"])


def test_both_keep_the_rules(templates: dict[str, Any]) -> None:
    for template in templates.values():
        assert faults(template) == []


def _set(*way: Any) -> Callable[[dict[str, Any]], None]:
    """A change that writes the last of `way` under the keys before it."""
    *keys, last, value = way

    def change(template: dict[str, Any]) -> None:
        for key in keys:
            template = template[key]
        template[last] = value

    return change


_R = "resource"
CLUSTER = (_R, "google_container_cluster", "this")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_set(_R, "google_compute_firewall", "gateway", "source_ranges", ["0.0.0.0/0"]), "lets the whole internet in"),
        (_set(*CLUSTER, "master_authorized_networks_config", "cidr_blocks", [{"cidr_block": "::/0"}]), "internet in"),
        (_set(*CLUSTER, "private_cluster_config", "enable_private_nodes", False), "its nodes have public addresses"),
        (_set(*CLUSTER, "private_cluster_config", "enable_private_endpoint", False), "must be true"),
        (_set(*CLUSTER, "database_encryption", {}), "this: has no `database_encryption.key_name`"),
        (_set(_R, "google_artifact_registry_repository", "this", "kms_key_name", ""), "has no `kms_key_name`"),
        (_set(_R, "google_compute_address", {"x": {"name": "x"}}), "gives an address on the internet"),
        (_set(_R, "google_project_iam_member", "deployer", "role", "roles/editor"), "roles/editor is more than"),
        (_set(_R, "google_project_iam_member", "deployer", "role", "roles/container.admin"), "is more than any"),
        (_set(_R, "google_project_iam_member", "deployer", "member", "allUsers"), "names everybody"),
        (_set("terraform", "required_providers", "google", "version", "~> 6.0"), "google has no exact version"),
        (_set("terraform", "required_version", ">= 1.5"), "no upper bound"),
        (_set("terraform", "required_providers", {}), "provider google is used and not listed"),
        (_set("variable", "spare", {"type": "string", "description": PERSON + "x"}), "var.spare: is declared and not"),
        (_set("variable", "region", "default", "europe-west1"), "variable.region: has a default"),
        (_set("variable", "region", {"type": "string", "description": "the region"}), "does not say that a person"),
        (_set("provider", "google", "region", "${var.regoin}"), "google.region: var.regoin is declared nowhere"),
        (_set(*CLUSTER, "network", "${google_compute_network.that.id}"), "google_compute_network.that is declared no"),
        (_set("locals", "token", "ghp_" + "a1B2" * 9), "looks like a GitHub token"),
        (_set(_R, "google_container_node_pool", "this", "node_config", "service_account", ""), "default account"),
    ],
)  # fmt: skip
def test_every_rule_can_fail(templates: dict[str, Any], change: Callable[[Any], None], fault: str) -> None:
    template = copy.deepcopy(templates["cluster"])
    change(template)
    assert any(fault in found for found in faults(template)), faults(template)


def test_wide_rights_inside_the_cluster_are_seen(templates: dict[str, Any]) -> None:
    for key, value in (("verbs", ["*"]), ("resources", ["secrets"])):
        template = copy.deepcopy(templates["namespace"])
        template["resource"]["kubernetes_role_v1"]["deployer"]["rule"][0][key] = value
        assert faults(template)


def test_references_are_found_in_expressions_and_not_in_texts() -> None:
    text = '${toset(["var.no"])} ${var.a}-${data.google_x.b.c} ${local.sizes[var.d]} plain var.no ${google_y.z[0].id}'
    assert set(references(text)) == {
        ("var", "a"), ("data.google_x", "b"), ("local", "sizes"), ("var", "d"), ("google_y", "z")
    }  # fmt: skip


def test_the_templates_fit_the_release(templates: dict[str, Any]) -> None:
    namespace = templates["namespace"]
    for environment in ENVIRONMENTS:
        parts = {each["kind"]: each for each in yaml.safe_load_all(environment_manifests(CONFIG, environment))}
        assert namespace["locals"]["namespaces"][environment] == parts["Namespace"]["metadata"]["name"]
        labels = parts["Deployment"]["spec"]["template"]["metadata"]["labels"]
        [policy] = [
            p["spec"] for n, p in namespace["resource"]["kubernetes_network_policy_v1"].items() if n != "closed"
        ]
        assert policy["pod_selector"]["match_labels"].items() <= labels.items()
        port = parts["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
        assert policy["ingress"][0]["ports"] == [{"port": str(port), "protocol": "TCP"}]
        kinds = {(part["apiVersion"].rpartition("/")[0], part["kind"].lower()) for part in parts.values()}
        allowed = {
            (group, each.removesuffix("s").replace("networkpolicie", "networkpolicy"))
            for rule in namespace["resource"]["kubernetes_role_v1"]["deployer"]["rule"]
            for group in rule["api_groups"] for each in rule["resources"] if "create" in rule["verbs"]
        }  # fmt: skip
        assert kinds - {("", "namespace")} <= allowed, "the deployer may apply all of a release but the namespace"
    [way_in] = templates["cluster"]["resource"]["google_compute_firewall"].values()
    assert way_in["allow"] == [{"protocol": "tcp", "ports": [str(PORT)]}]
    backend = namespace["resource"]["kubernetes_manifest"]["route"]["manifest"]["spec"]["rules"][0]["backendRefs"]
    assert backend == [
        {"name": parts["Service"]["metadata"]["name"], "port": parts["Service"]["spec"]["ports"][0]["port"]}
    ]


def test_figures_come_from_what_was_measured_and_said(tmp_path: Path) -> None:
    found, files, output = made(tmp_path / "a")
    report = json.loads(files["infrastructure.json"].read_text("utf-8"))
    assert report["server"] == {"cpu": 1.0, "memory_mb": 896}, "1.25 times 668 MiB, in steps of 64"
    assert report["environments"]["production"] == {
        "replicas": [2, 5], "nodes": [2, 4], "namespace": "tell-cultivars-apart-12-production"
    }  # fmt: skip
    cluster = found["cluster"]
    assert cluster["locals"]["sizes"]["production"] == {"least_nodes": 2, "most_nodes": 4, "protected": True}
    assert cluster["resource"]["google_billing_budget"]["this"]["amount"]["specified_amount"]["units"] == "300"
    assert all(each["from"] for each in report["figures"])
    text = files["infrastructure.md"].read_text("utf-8")
    assert "**Nothing was applied.**" in text
    assert all(name in text for names in report["left_to_people"].values() for name in names)
    assert "nothing applied" in output.summary
    other, files, _ = made(tmp_path / "b", CAPACITY | {"stated": {"usd_per_month": None}})
    assert "usd_per_month" in other["cluster"]["variable"], "nobody said it, so a person fills it"
    assert "budget alarm of each" not in files["infrastructure.md"].read_text("utf-8")
    assert faults(other["cluster"]) == []


@pytest.mark.parametrize(
    ("capacity", "problem"),
    [
        ({}, "lacks 'package_sha256'; let devsecops.autoscale write the plan"),
        ([], "lacks"),
        (CAPACITY | {"package_sha256": "b" * 64}, "capacity.json is of package bbbbbbbbbbbb"),
        (CAPACITY | {"measured": {"peak_bytes": 10**13}}, "no node of 32 cores holds"),
    ],
)
def test_another_or_broken_plan_is_refused(tmp_path: Path, capacity: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        made(tmp_path / "x", capacity)


@given(st.floats(0.1, 8), st.integers(64, 40_000))
@pytest.mark.untraced
def test_a_node_holds_its_servers_and_no_smaller_one_does(cpu: float, memory: int) -> None:
    server = Server(cpu, memory)
    node = node_for(server)
    free_cpu, free_memory = node.allocatable
    assert PER_NODE * cpu + SYSTEM_CPU <= free_cpu < node.cpu
    assert PER_NODE * memory + SYSTEM_MB <= free_memory < node.memory_mb
    assert node.memory_mb % 256 == 0
    assert 512 <= node.memory_mb / node.cpu <= 8192
    if node.memory_mb > node.cpu * 512:
        assert not Node(node.cpu, node.memory_mb - 256).holds(server)


@given(st.integers(1, 500), st.integers(1, 10**10))
@pytest.mark.untraced
def test_there_are_nodes_and_memory_for_all(replicas: int, peak: int) -> None:
    assert nodes_for(replicas) * PER_NODE >= replicas
    assert server_of(1, 512, peak).memory_mb * 2**20 >= max(peak, 512 * 2**20)


def test_what_a_node_keeps_for_itself_follows_the_published_formula() -> None:
    """Four cores: 6 % of the first, 1 % of the second, half a percent of two more. 16 GiB: a quarter of four, a fifth
    of four more, a tenth of eight more, and 100 MiB below which pods are evicted."""
    cpu, memory = Node(4, 16384).allocatable
    assert cpu == pytest.approx(4 - 0.06 - 0.01 - 0.01)
    assert memory == pytest.approx(16384 - 1024 - 819.2 - 819.2 - 100)
