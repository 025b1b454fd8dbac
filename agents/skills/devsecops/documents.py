"""The deployment configuration and the text of the pull request."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from agents.skills.data.markdown import cell
from agents.skills.devsecops.delivery import SYNTHETIC, Delivery
from agents.skills.devsecops.modelcard import PERSON, in_short, metrics_table, open_questions
from agents.skills.evaluation.text import code, number
from agents.skills.words import counted, metric_name, model_name, why_this_model


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


FOLDER = "../../ACTIVE_SESSION.md"
"""The ticket folder's overview, which links every document, as seen from a phase's folder."""


def pull_request(
    delivery: Delivery, package_sha256: str, documents: Mapping[str, str], beside: AbstractSet[str]
) -> str:
    """`pull-request.md`: what a reviewer needs to say yes or no.

    `documents` maps each to its SHA-256; those in `beside` lie in the same folder and are linked, the others in folders
    of phases that a skill does not know, which the session's overview links.
    """
    lines = [f"# Model for ticket {delivery.ticket.id}: {cell(delivery.ticket.title, 300)}", ""]
    if delivery.source.synthetic:
        lines += [f"> **{SYNTHETIC}**", ""]
    lines += ["## In short", "", *in_short(delivery), *_open(delivery)]
    lines += [*_what(delivery, package_sha256), *_why(delivery), "## How good it is", ""]
    lines += [f"On {counted(delivery.metrics['rows'], 'hold-out row')} nobody trained on, with 95 % intervals:", ""]
    lines += [*metrics_table(delivery.metrics), "", *_acceptance(delivery), *_gates(delivery), *_risks(delivery)]
    lines += [
        "## How to take it back",
        "",
        "Before the merge: close the pull request, or `valuetrain session rollback` with the session and a phase, "
        "which keeps the record.",
        "After it: revert the merge; the package and its configuration then leave the branch. Whatever serves the "
        "package goes back to the one it served before, by digest.",
        f"Do so at once when the {metric_name(delivery.scope.metric)} passes the limit under `health` in "
        "`deployment-config.yaml`.",
        "",
        "## Documents",
        "",
        "| document | SHA-256 begins |",
        "|---|---|",
        *(
            f"| {f'[{name}]({name})' if name in beside else name} | `{digest[:16]}` |"
            for name, digest in sorted(documents.items())
        ),
        "",
        f"All documents of the session, phase by phase: [overview]({FOLDER}).",
        "",
    ]
    return "\n".join(lines)


def _open(delivery: Delivery) -> list[str]:
    asked = open_questions(delivery)
    listed = "; ".join(text for _, text in asked)
    return [f"- **{PERSON}:** {counted(len(asked), 'question')} in [model-card.md](model-card.md): {listed}.", ""]


def _what(delivery: Delivery, package_sha256: str) -> list[str]:
    model = model_name(delivery.log.chosen.model, bool(delivery.scope.classes))
    return [
        "## What",
        "",
        f"A {delivery.scope.task.value} model, {model}, that predicts {code(delivery.scope.target)} from "
        f"{counted(len(delivery.features.columns), 'column')} of {code(delivery.source.uri)}.",
        f"Package `{delivery.name}` {delivery.version}, SHA-256 `{package_sha256}`.",
        "",
    ]


def _why(delivery: Delivery) -> list[str]:
    asked = f", asked for by {cell(delivery.ticket.requester)}" if delivery.ticket.requester else ""
    reason = why_this_model(delivery.log.chosen.model, delivery.log.reason, bool(delivery.scope.classes))
    return [
        "## Why",
        "",
        f"Ticket {delivery.ticket.id}{asked}. This kind of model: {cell(reason, 800)}.",
        "",
    ]


def _acceptance(delivery: Delivery) -> list[str]:
    lines = ["## Acceptance", ""]
    if not delivery.acceptance:
        return [*lines, "No criteria were agreed.", ""]
    lines += ["The gate of the evaluation held the model against these:", "", "| criterion | measured |", "|---|---|"]
    lines += [f"| {code(each, 300)} | {delivery.figures(each)} |" for each in delivery.acceptance]
    return [*lines, ""]


def _gates(delivery: Delivery) -> list[str]:
    """Who decided: people by name, the rest counted; an automatic gate with a reason of its own with that."""
    if not delivery.approvals:
        return []
    plain = [line for line in delivery.approvals if line.endswith(": automatic, criteria hold")]
    rest = [line for line in delivery.approvals if line not in plain]
    lines = ["## Who decided", ""]
    if plain:
        lines.append(f"- {counted(len(plain), 'gate')} passed by rule: every required item done, every criterion held.")
    for line in rest:
        gate, _, how = line.partition(": ")
        phase = gate.split(".")[1] if gate.count(".") > 1 else gate
        if how.startswith("automatic, "):
            condition, _, found = how.removeprefix("automatic, ").partition(" (measured ")
            why = f" (measured {cell(found.removesuffix(')'), 200)})" if found else ""
            asked = code(condition, 200).replace("\\|", "|")  # no table here that a bar could end
            lines.append(f"- {cell(phase)}: passed by rule; a person is asked where {asked}, which did not hold{why}")
        else:
            said = how.removeprefix("human, ")
            lines.append(f"- {cell(phase)}: decided by a person, {cell(said, 200)} (gate {code(gate)})")
    return [*lines, ""]


def _risks(delivery: Delivery) -> list[str]:
    if not delivery.risk:
        own = f"No risk review in this pipeline; the ticket's own level is {delivery.ticket.risk.value}."
        return ["## Risks", "", own, ""]
    raised = [risk for risk in delivery.risk.get("risks", []) if risk["tier"] != "low"]
    lines = [
        "## Risks",
        "",
        f"Tier {delivery.risk.get('tier_name')}, score {number(float(delivery.risk.get('score', 0)))} of 25; the Risk "
        f"agent's advice: **{delivery.risk.get('advice')}**.",
        "",
    ]
    if not raised:
        reasons = delivery.risk.get("reasons") or ["no risk is above tier low"]
        return [*lines, *(f"- {cell(reason, 300)}" for reason in reasons), ""]
    lines += [f"- **{risk['title']}** ({risk['tier']}): {cell(risk['evidence'], 200)}." for risk in raised]
    return [*lines, ""]
