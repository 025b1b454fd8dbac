"""The model card: the nine sections of Mitchell et al. (2019, https://arxiv.org/abs/1810.03993), from the record.

What no record can tell is left to people, visibly. The card holds no date, so that the package's bytes do not depend
on when it was made; `provenance.json` has the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.skills.data.markdown import cell
from agents.skills.devsecops.delivery import SYNTHETIC, Delivery
from agents.skills.evaluation.text import code, number

PERSON = "**To be filled in by a person:**"


def model_card(delivery: Delivery) -> str:
    """`model-card.md`."""
    lines = [f"# Model card: {cell(delivery.ticket.title, 300)}", ""]
    if delivery.source.synthetic:
        lines += [f"> **{SYNTHETIC}**", ""]
    sections = (
        ("Model details", _details), ("Intended use", _use), ("Factors", _factors), ("Metrics", _metrics),
        ("Evaluation data", _evaluation_data), ("Training data", _training_data),
        ("Quantitative analyses", _analyses), ("Ethical considerations", _ethics),
        ("Caveats and recommendations", _caveats),
    )  # fmt: skip
    for number_, (title, section) in enumerate(sections, 1):
        lines += [f"## {number_}. {title}", "", *section(delivery), ""]
    return "\n".join(lines).rstrip() + "\n"


def _details(delivery: Delivery) -> list[str]:
    chosen = delivery.log.chosen
    settings = ", ".join(f"{name} = {value}" for name, value in sorted(chosen.parameters.items())) or "defaults"
    return [
        f"- Name and version: {delivery.name} {delivery.version}",
        f"- Kind: {chosen.model}; settings: {settings}",
        f"- Why this kind: {cell(delivery.log.reason, 600)}",
        f"- Inputs: {len(delivery.features.columns)} columns, signature `{delivery.features.signature[:16]}`",
        f"- Output: {_output(delivery)}",
        f"- Model file: `model.skops`, SHA-256 `{delivery.digests['model.skops']}`",
        f"- Made by pipeline {code(delivery.pipeline)}; session, time and environment: `provenance.json`.",
        f"- {PERSON} licence of the model, and whom to ask.",
    ]


def _output(delivery: Delivery) -> str:
    if not delivery.scope.classes:
        return f"a number, {code(delivery.scope.target)}"
    labels = ", ".join(code(label, 40) for label in delivery.scope.classes[:20])
    return f"a probability for each class of {code(delivery.scope.target)}: {labels}"


def _use(delivery: Delivery) -> list[str]:
    asked = f" for {cell(delivery.ticket.requester)}" if delivery.ticket.requester else ""
    return [
        f"- Made{asked} under ticket {delivery.ticket.id}: {cell(delivery.ticket.title, 300)}.",
        f"- {PERSON} who uses the predictions, for which decision, and what it must not be used for.",
    ]


def _factors(delivery: Delivery) -> list[str]:
    slices = delivery.metrics["slices"]
    lines = [
        f"- {slices['formed']} slices were formed from the values of the columns; {slices['judged']} are large enough"
        f" to judge by {slices['metric']}."
    ]
    if delivery.source.group_column:
        lines.append(f"- Rows belong to groups by {code(delivery.source.group_column)}.")
    lines += [_groups(each) for each in delivery.fairness.get("columns", [])]
    if delivery.fairness and not delivery.fairness["columns"]:
        lines.append("- No column was named that makes groups of people, so none were compared.")
    return [*lines, f"- {PERSON} groups of people or circumstances that are not columns of the data."]


def _groups(compared: Mapping[str, Any]) -> str:
    """One column's comparison in a line: its largest difference, and whether any is more than chance."""
    judged = sum(group["judged"] for group in compared["groups"])
    head = f"- Groups of {code(compared['column'])}: {judged} large enough to compare"
    if not compared["differences"]:
        return f"{head}."
    name, worst = max(compared["differences"].items(), key=lambda item: item[1]["value"])
    interval = f"{number(worst['value'])} [{number(worst['lower'])}, {number(worst['upper'])}]"
    clear = f"clearly more than chance in {', '.join(compared['clear'])}" if compared["clear"] else "none clear"
    return f"{head}; largest difference in {name}: {interval}; {clear} (`fairness.md`)."


def _drawn(delivery: Delivery) -> str:
    rows, groups = delivery.metrics["rows"], delivery.metrics.get("independent")
    return "hold-out rows" if groups in (None, rows) else f"the {groups} groups that the hold-out rows form"


def _metrics(delivery: Delivery) -> list[str]:
    called = "Classes are called at the most probable one (0.5 of two); no threshold was tuned on hold-out rows."
    better = "higher" if delivery.scope.higher_is_better else "lower"
    return [
        f"- Optimised: **{delivery.scope.metric}**, {better} is better.",
        f"- Intervals: 95 %, bootstrap over {_drawn(delivery)}, {delivery.metrics['resamples']} resamples.",
        *([f"- {called}"] if delivery.scope.classes else []),
        f"- {PERSON} what a false alarm and a miss cost.",
    ]


def _evaluation_data(delivery: Delivery) -> list[str]:
    split = delivery.split
    return [
        f"- {delivery.metrics['rows']} rows of the same source, put away before anybody looked; labels were sealed.",
        f"- Split: {split.strategy}; {cell(split.reason, 300)}.",
        f"- Rows whose feature values also occur in train: {split.twin_fraction_after:.2%}.",
    ]


def _training_data(delivery: Delivery) -> list[str]:
    source = delivery.source
    lines = [
        f"- Source: {code(source.uri)} ({source.kind}), {source.rows} rows; SHA-256 `{source.sha256}`.",
        *([f"- Read at {source.snapshot.taken:%Y-%m-%d %H:%M:%S} UTC."] if source.snapshot else []),
        f"- {cell(source.description, 500)}",
        f"- Trained on {delivery.split.train_rows} rows; {delivery.split.dropped_rows} rows left out "
        f"{cell(delivery.split.dropped_reason, 300)}".rstrip()
        + ".",
        f"- Columns not used: {len(delivery.features.dropped)} (reasons in `feature-map.json`).",
        "- Types and ranges the data must keep: `data-contract.yaml`.",
    ]
    if source.synthetic:
        lines.insert(0, f"- **{SYNTHETIC}**")
    return [*lines, f"- {PERSON} by whom and how the data was collected, and the right to use it."]


def _analyses(delivery: Delivery) -> list[str]:
    lines = [*metrics_table(delivery.metrics), ""]
    worst: Sequence[Mapping[str, Any]] = delivery.metrics["slices"]["worst"]
    if not worst:
        return [*lines, "No slice is large enough to judge."]
    metric = delivery.metrics["slices"]["metric"]
    lines += [f"| worst slices | rows | {metric} | baseline there |", "|---|---|---|---|"]
    for part in worst[:3]:
        shown = f"{number(part['value'])} [{number(part['lower'])}, {number(part['upper'])}]"
        where = cell(f"{part['column']} {part['values']}")
        lines.append(f"| {where} | {part['rows']} | {shown} | {number(part['baseline'])} |")
    return lines


def metrics_table(metrics: Mapping[str, Any]) -> list[str]:
    """Every metric with its interval beside the baseline's, the optimised one first, as a Markdown table."""
    lines = ["| metric | model | baseline |", "|---|---|---|"]
    for name, each in sorted(metrics["metrics"].items(), key=lambda item: item[0] != metrics["metric"]):
        shown = f"**{name}**" if name == metrics["metric"] else name
        floor = number(metrics["baseline"][name]["value"]) if name in metrics["baseline"] else ""
        interval = f"{number(each['value'])} [{number(each['lower'])}, {number(each['upper'])}]"
        lines.append(f"| {shown} | {interval} | {floor} |")
    return lines


def _ethics(delivery: Delivery) -> list[str]:
    risks = {risk["id"]: risk for risk in delivery.risk.get("risks", [])}
    lines = [
        f"- {risks[name]['title']}: {cell(risks[name]['evidence'], 200)}."
        for name in ("security-breach", "weak-slice")
        if name in risks
    ]
    return [*lines, f"- {PERSON} who may be harmed by a wrong prediction, and what they can do about it."]


def _caveats(delivery: Delivery) -> list[str]:
    raised = [risk for risk in delivery.risk.get("risks", []) if risk["tier"] != "low"]
    lines = [
        f"- Risk tier {delivery.risk['tier_name']}; advice to the gate: {delivery.risk['advice']}."
        if delivery.risk
        else f"- No risk review in this pipeline; the ticket's own level is {delivery.ticket.risk.value}."
    ]
    lines += [f"- {risk['title']}: {cell(risk['evidence'], 200)}. {risk['mitigation']}." for risk in raised]
    if damages := delivery.robustness.get("damages"):
        lines.append(
            f"- Spoilt inputs: worst where {damages[0]['what']}; there {delivery.scope.metric} is "
            f"{number(damages[0]['metric']['value'])}, and {damages[0]['changed']:.1%} of the answers change "
            "(`robustness.md`)."
        )
    return [
        *lines,
        "- The figures hold for rows like the hold-out rows; measure again where and when it is used.",
        "- A prediction is an association: acting on it may change what it was learned from.",
        "- Take it back when the metric falls below the limits in `deployment-config.yaml`.",
    ]
