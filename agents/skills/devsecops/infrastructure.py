"""Skill `devsecops.infrastructure`: templates of cluster and namespace for dev, staging and production."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillError, SkillOutput
from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.devsecops.cluster_template import GOOGLE, KUBERNETES, cluster_template
from agents.skills.devsecops.environments import REPLICAS, Environment, namespace_of
from agents.skills.devsecops.manifests import PORT, label
from agents.skills.devsecops.namespace_template import namespace_template
from agents.skills.devsecops.nodes import PER_NODE, ROOM, Node, Server, node_for, nodes_for, server_of
from agents.skills.devsecops.template_rules import PERSON, faults
from agents.skills.lead.statement import FROM_TICKET
from schemas.values import Measurement, Mode, Role

ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)


@dataclass(frozen=True)
class Layout:
    """What the templates are made for: one model server, the node that holds PER_NODE of them, and for each
    environment servers at rest and at most, those there may be at once while they are replaced, and nodes."""

    server: Server
    node: Node
    replicas: Mapping[Environment, tuple[int, int]]
    usd_per_month: float | None

    def at_once(self, environment: Environment) -> int:
        """Servers while a new version is put beside the old one: the most, and as many as are at rest."""
        least, most = self.replicas[environment]
        return most + least

    def nodes(self, environment: Environment) -> tuple[int, int]:
        """Nodes at least and at most; two at least where two servers rest, so that one node may fail."""
        least, most = self.replicas[environment][0], nodes_for(self.at_once(environment))
        spread = max(nodes_for(least), min(least, 2))
        return spread, max(most, spread)


class DevsecopsInfrastructure(Skill[Parameters, SkillOutput]):
    """Write OpenTofu/Terraform templates of cluster and namespace, sized from the capacity plan; apply nothing."""

    name = "devsecops.infrastructure"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER, Mode.OPERATE})
    needs = ("deployment-config.yaml", "capacity.json")
    produces = ("cluster.tf.json", "namespace.tf.json", "infrastructure.json", "infrastructure.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write both templates and what their figures come from.

        Raises InputError when the capacity plan is none, is of another package, or its servers fit on no node, and
        SkillError when a template breaks one of the rules.
        """
        import yaml

        config = yaml.safe_load(context.path("deployment-config.yaml").read_text("utf-8"))
        layout, measured = read_layout(config, context.read_json("capacity.json"))
        app = label(config["name"])
        templates = {
            "cluster.tf.json": cluster_template(
                app, layout.node.machine_type, {e: layout.nodes(e) for e in ENVIRONMENTS}, layout.usd_per_month
            ),
            "namespace.tf.json": namespace_template(
                app, {e: namespace_of(config["name"], e) for e in ENVIRONMENTS},
                {e: layout.at_once(e) for e in ENVIRONMENTS}, layout.server,
            ),
        }  # fmt: skip
        for name, template in templates.items():
            if wrong := faults(template):
                raise SkillError(f"{name} breaks its rules: {'; '.join(wrong[:5])}", "")
            context.write_text(name, json.dumps(template, indent=2, ensure_ascii=False))
        left = {name: _left(template) for name, template in templates.items()}
        figures = _figures(config, layout, measured)
        context.write_json("infrastructure.json", _report(config, layout, figures, left))
        context.write_text("infrastructure.md", _document(context, layout, figures, left))
        count = len({each for names in left.values() for each in names})
        least, most = layout.nodes("production")
        return SkillOutput(
            summary=f"templates of cluster and namespace: {least} to {most} nodes {layout.node.machine_type} in "
            f"production; {count} values left to people, nothing applied",
            measurements=(
                Measurement(scope="infrastructure", name="nodes", value=float(most)),
                Measurement(scope="infrastructure", name="left_to_people", value=float(count)),
            ),
            warnings=("the templates were applied to nothing and held against no cloud account",),
        )


def read_layout(config: Mapping[str, Any], capacity: Any) -> tuple[Layout, Mapping[str, Any]]:
    """The layout, and the measured figures of the capacity plan it rests on. Raises InputError."""
    try:
        digest, peak = str(capacity["package_sha256"]), int(capacity["measured"]["peak_bytes"])
        least, most = int(capacity["replicas"]["least"]), int(capacity["replicas"]["most"])
        budget = capacity["stated"]["usd_per_month"]
        server = server_of(float(config["resources"]["cpu"]), int(config["resources"]["memory_mb"]), peak)
        wanted = str(config["package"]["sha256"])
    except (KeyError, TypeError, ValueError) as problem:
        raise InputError(
            f"capacity.json or deployment-config.yaml lacks {problem}", "let devsecops.autoscale write the plan"
        ) from problem
    if digest != wanted:
        raise InputError(
            f"capacity.json is of package {digest[:12]}, deployment-config.yaml names {wanted[:12]}", "plan again"
        )
    try:
        node = node_for(server)
    except ValueError as problem:
        raise InputError(str(problem), "serve a smaller model, or write a node pool by hand") from problem
    replicas = {**REPLICAS, "production": (least, most)}
    return Layout(server, node, replicas, None if budget is None else float(budget)), capacity["measured"]


def _left(template: Mapping[str, Any]) -> dict[str, str]:
    """The variables a person fills, with what they are."""
    return {
        name: each["description"].removeprefix(PERSON).split("; free in")[0]
        for name, each in template["variable"].items()
    }


def _figures(
    config: Mapping[str, Any], layout: Layout, measured: Mapping[str, Any]
) -> list[tuple[str, str, str]]:  # fmt: skip
    """Every figure in the templates: what, how much, and where it comes from."""
    resources, server, node = config["resources"], layout.server, layout.node
    cpu, memory = node.allocatable
    rows = [
        ("cores of a server", f"{server.cpu:g}", "deployment-config.yaml"),
        ("memory of a server", f"{server.memory_mb} MiB",
         f"the larger of {resources['memory_mb']} MiB (deployment-config.yaml) and {ROOM:g} times the "
         f"{measured['peak_bytes'] / 2**20:.0f} MiB measured under load"),
        ("node", node.machine_type,
         f"the smallest that holds {PER_NODE} servers beside the cluster's own pods: {cpu:.2f} cores and {memory:,.0f} "
         "MiB are left to pods"),
    ]  # fmt: skip
    for environment in ENVIRONMENTS:
        least, most = layout.replicas[environment]
        few, many = layout.nodes(environment)
        origin = "capacity.json" if environment == "production" else "the sizes of the pipeline release"
        rows.append((f"servers in {environment}", f"{least} to {most}", origin))
        rows.append(
            (f"nodes in {environment}", f"{few} to {many}",
             f"{PER_NODE} servers each, two nodes where two servers rest; the most while a new version stands beside "
             f"the old one ({layout.at_once(environment)} servers)")
        )  # fmt: skip
    if layout.usd_per_month is not None:
        rows.append(
            ("budget alarm of each environment", f"{layout.usd_per_month:,.0f} USD a month",
             f"Budget a month, {FROM_TICKET}; it tells people and stops nothing")
        )  # fmt: skip
    return rows


def _report(
    config: Mapping[str, Any], layout: Layout, figures: list[tuple[str, str, str]], left: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "package_sha256": config["package"]["sha256"],
        "applied": False,
        "providers": {"google": GOOGLE, "kubernetes": KUBERNETES},
        "machine_type": layout.node.machine_type,
        "server": {"cpu": layout.server.cpu, "memory_mb": layout.server.memory_mb},
        "environments": {
            environment: {
                "replicas": list(layout.replicas[environment]),
                "nodes": list(layout.nodes(environment)),
                "namespace": namespace_of(config["name"], environment),
            }
            for environment in ENVIRONMENTS
        },
        "figures": [{"what": what, "value": value, "from": origin} for what, value, origin in figures],
        "left_to_people": left,
    }


def _document(
    context: SkillContext, layout: Layout, figures: list[tuple[str, str, str]], left: Mapping[str, Mapping[str, str]]
) -> str:
    rows = [(name, template, what) for template, names in left.items() for name, what in names.items()]
    return "\n".join([
        f"# Infrastructure: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket),
        "**Nothing was applied.** Two templates in the JSON syntax that OpenTofu and Terraform read, for Google Cloud: "
        "`cluster.tf.json` for whoever owns the cluster, `namespace.tf.json` for a cluster that is there already.",
        "", "```mermaid", "graph LR",
        '  people["callers in your network"] -->|TLS, POST /predict| gateway["internal gateway"]',
        f'  gateway -->|port {PORT}, the only way in| model["model servers, no way out"]',
        f'  subgraph private["private subnet, no public address: {layout.node.machine_type}"]', "    model", "  end",
        '  registry["registry, encrypted"] -->|nodes only read| private',
        '  deployer["account deployer"] -->|manifests, in the namespace only| model',
        '  publisher["account publisher"] -->|images only| registry',
        '  budget["budget alarm"] -.->|tells people| private', "```", "",
        "## Where each figure comes from", "", *table(("what", "value", "from"), figures, 200), "",
        "## What only a person can fill", "",
        "Variables without default; `plan` asks for each and checks it.", "",
        *table(("variable", "in", "what"), rows, 160), "",
        "## How to use them", "",
        "1. Put each template into a folder of its own, with a state for each environment (a backend with a lock: "
        "encrypted, readable by few, since a state may hold what a template does not).",
        "2. Write the values above into `ENVIRONMENT.tfvars.json` there.",
        "3. `tofu init`, `tofu plan -var-file=ENVIRONMENT.tfvars.json -out=plan`; have somebody else read the plan; "
        "`tofu apply plan`. The same with `terraform`.",
        "4. Then the manifests of the release, with `autoscaling.yaml` in place of their autoscaler.", "",
        "Who may act as the accounts `deployer` and `publisher` is for you to grant, without keys in files.", "",
        "## Checked", "",
        "No address range of everybody, no public address, exact provider versions, every variable declared, described "
        "and used, every reference resolved, keys for disks, registry and the cluster's database, no broad role, no "
        "`*`, no secret. Not checked: what your organisation's policies forbid, quotas, prices, names that are taken.",
    ])  # fmt: skip
