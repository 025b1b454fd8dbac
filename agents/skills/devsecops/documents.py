"""The deployment configuration and the text of the pull request."""

from __future__ import annotations

from typing import Any

from agents.skills.data.markdown import cell
from agents.skills.devsecops.delivery import SYNTHETIC, Delivery
from agents.skills.devsecops.modelcard import metrics_table
from agents.skills.evaluation.text import code, number


def deployment_config(delivery: Delivery, package_sha256: str, package_bytes: int) -> str:
    """`deployment-config.yaml`: what to run, on what, and when to take it back.

    Thresholds come from the hold-out interval: warn outside its bad end, roll back at the baseline.
    """
    import yaml

    config: dict[str, Any] = {
        "apiVersion": "value-train/v1",
        "kind": "ModelDeployment",
        "name": delivery.name,
        "version": delivery.version,
        "synthetic": delivery.source.synthetic,
        "package": {"file": "model-package.zip", "sha256": package_sha256, "bytes": package_bytes},
        "model": {"sha256": delivery.digests["model.skops"], "feature_signature": delivery.features.signature},
        "resources": _resources(delivery),
        "health": _health(delivery),
    }
    head = f"# {SYNTHETIC}\n" if delivery.source.synthetic else ""
    return head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)


def _resources(delivery: Delivery) -> dict[str, Any]:
    """One core; memory for the libraries (about 300 MB) and the unpacked model, with room to spare."""
    model = delivery.files["model.skops"].stat().st_size
    return {"cpu": 1, "memory_mb": 512 + 64 * (10 * model // (64 * 1024 * 1024)), "threads": 1}


def _health(delivery: Delivery) -> dict[str, Any]:
    better = delivery.scope.higher_is_better
    warn = delivery.value["lower" if better else "upper"]
    back = delivery.floor["value"]
    side = "below" if better else "above"
    health: dict[str, Any] = {
        "metric": delivery.scope.metric,
        "expected": round(float(delivery.value["value"]), 6),
        f"warn_{side}": round(float(warn), 6),
        f"roll_back_{side}": round(float(min(warn, back) if better else max(warn, back)), 6),
    }
    single = delivery.measured.get("serving", {}).get("single_row_ms")
    if single is not None:
        health["latency_ms"] = {"measured": round(single, 1), "warn_above": round(10 * single)}
    return health


def pull_request(delivery: Delivery, package_sha256: str, documents: dict[str, str]) -> str:
    """`pull-request.md`: what a reviewer needs to say yes or no."""
    lines = [f"# Model for ticket {delivery.ticket.id}: {cell(delivery.ticket.title, 300)}", ""]
    if delivery.source.synthetic:
        lines += [f"> **{SYNTHETIC}**", ""]
    lines += [*_what(delivery, package_sha256), *_why(delivery), "## How good it is", ""]
    lines += [f"On {delivery.metrics['rows']} hold-out rows nobody trained on, with 95 % intervals:", ""]
    lines += [*metrics_table(delivery.metrics), "", *_acceptance(delivery), *_risks(delivery)]
    lines += [
        "## How to take it back",
        "",
        "Revert the merge: `deployment-config.yaml` then names the package before it, by digest.",
        f"Do so at once when {delivery.scope.metric} passes the limit in `health`; nothing else has to change.",
        "",
        "## Documents",
        "",
        *(f"- [{name}]({name}) `{digest[:16]}`" for name, digest in sorted(documents.items())),
        "",
    ]
    return "\n".join(lines)


def _what(delivery: Delivery, package_sha256: str) -> list[str]:
    return [
        "## What",
        "",
        f"A {delivery.log.chosen.model} model that predicts {code(delivery.scope.target)} "
        f"({delivery.scope.task.value}) from {len(delivery.features.columns)} columns of {code(delivery.source.uri)}.",
        f"Package `{delivery.name}` {delivery.version}, SHA-256 `{package_sha256}`.",
        "",
    ]


def _why(delivery: Delivery) -> list[str]:
    asked = f", asked for by {cell(delivery.ticket.requester)}" if delivery.ticket.requester else ""
    return [
        "## Why",
        "",
        f"Ticket {delivery.ticket.id}{asked}. This kind of model: {cell(delivery.log.reason, 600)}.",
        "",
    ]


def _acceptance(delivery: Delivery) -> list[str]:
    lines = ["## Acceptance", ""]
    if not delivery.acceptance:
        return [*lines, "No criteria were agreed.", ""]
    lines += ["| criterion | measured |", "|---|---|"]
    lines += [f"| {code(each, 300)} | {delivery.figures(each)} |" for each in delivery.acceptance]
    if delivery.approvals:
        lines += ["", *(f"- Gate {cell(line, 200)}" for line in delivery.approvals)]
    return [*lines, ""]


def _risks(delivery: Delivery) -> list[str]:
    raised = [risk for risk in delivery.risk.get("risks", []) if risk["tier"] != "low"]
    lines = [
        "## Risks",
        "",
        f"Tier {delivery.risk.get('tier_name')}, score {number(float(delivery.risk.get('score', 0)))} of 25; the Risk "
        f"agent's advice: **{delivery.risk.get('advice')}**.",
        "",
    ]
    if not raised:
        return [*lines, "No single risk is above tier low.", ""]
    lines += [f"- **{risk['title']}** ({risk['tier']}): {cell(risk['evidence'], 200)}." for risk in raised]
    return [*lines, ""]
