"""The model card: the nine sections of Mitchell et al. (2019, https://arxiv.org/abs/1810.03993), from the record.

Before them the answer in short, and in one place what no record can tell and a person has to fill in. The card holds no
date, so that the package's bytes do not depend on when it was made; `provenance.json` has the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.skills.data.markdown import cell, quoted, table
from agents.skills.devsecops.delivery import SYNTHETIC, Delivery
from agents.skills.evaluation.text import code, like, measured, number
from agents.skills.words import METRICS, called, counted, metric_meaning, metric_name, model_name, why_this_model

PERSON = "To be filled in by a person"
_QUOTED = 1500
"""Characters of the ticket's text that the card quotes."""


def model_card(delivery: Delivery) -> str:
    """`model-card.md`."""
    lines = [f"# Model card: {cell(delivery.ticket.title, 300)}", ""]
    if delivery.source.synthetic:
        lines += [f"> **{SYNTHETIC}**", ""]
    lines += ["## In short", "", *in_short(delivery), "", f"## {PERSON}", "", *_left(delivery), ""]
    sections = (
        ("Model details", _details), ("Intended use", _use), ("Factors", _factors), ("Metrics", _metrics),
        ("Evaluation data", _evaluation_data), ("Training data", _training_data),
        ("Quantitative analyses", _analyses), ("Ethical considerations", _ethics),
        ("Caveats and recommendations", _caveats),
    )  # fmt: skip
    for number_, (title, section) in enumerate(sections, 1):
        lines += [f"## {number_}. {title}", "", *section(delivery), ""]
    return "\n".join(lines).rstrip() + "\n"


def in_short(delivery: Delivery) -> list[str]:
    """What it is for, how good, how sure, for whom worse, and how it was judged, one line each."""
    scope, found = delivery.scope, delivery.metrics
    asked = f", asked for by {cell(delivery.ticket.requester)}" if delivery.ticket.requester else ""
    value, gain = delivery.value, found["gain"][scope.metric]
    better = "clearly better than" if gain["lower"] > 0 else "**not clearly better than**"
    lines = [
        f"- **For what:** {cell(delivery.ticket.title, 300)} (ticket {delivery.ticket.id}{asked}). It answers with "
        f"{_output(delivery)}.",
        f"- **How good:** {metric_name(scope.metric)} **{measured(value)}** on {counted(found['rows'], 'row')} that "
        f"nobody trained on; the baseline reaches {like(delivery.floor['value'], value)}.",
    ]
    if len(scope.classes) == 2 and found.get("confusion"):
        lines.append(f"- **In rows:** {called(found['confusion'], scope.classes)}.")
    lines += [
        f"- **How sure:** the brackets are a 95 % interval; the model is {better} the baseline on the same rows "
        f"(gain {measured(gain)}).",
        f"- **For whom worse:** {_weak(delivery)}",
    ]
    if delivery.risk:
        lines.append(f"- **Risk:** tier {delivery.risk['tier_name']}; advice to the gate: {delivery.risk['advice']}.")
    return lines


def _weak(delivery: Delivery) -> str:
    slices = delivery.metrics["slices"]
    worse = [part for part in slices["worst"] if part["clearly_worse"]]
    listed = "; ".join(f"{cell(part['column'])} {cell(part['values'])} ({measured(part)})" for part in worse)
    if worse:
        said = f"**{listed}**: clearly worse than all rows, of {counted(slices['judged'], 'slice')} judged"
    elif slices["judged"]:
        said = f"none of {counted(slices['judged'], 'slice')} judged is clearly worse than all rows"
    else:
        said = "not known, no slice of the rows is large enough to judge"
    columns = delivery.fairness.get("columns", [])
    clear = [f"{each['column']} ({', '.join(each['clear'])})" for each in columns if each["clear"]]
    if clear:
        return f"{said}. Groups of people differ clearly by **{cell('; '.join(clear), 300)}**."
    groups = f"compared by {cell(', '.join(each['column'] for each in columns), 200)}, none differs clearly"
    return f"{said}. Groups of people: {groups if columns else _unnamed(delivery)}."


def _unnamed(delivery: Delivery) -> str:
    may = delivery.fairness.get("may_tell_of_people", [])
    told = f", though {cell(', '.join(may), 200)} may tell of people" if may else ""
    return f"none were named, so none were compared{told}"


def open_questions(delivery: Delivery) -> list[tuple[int, str]]:
    """What no record can tell: the section of the card it belongs to, and what is asked for."""
    errors = (
        "a false alarm and a miss cost, and so from which probability on to act"
        if delivery.scope.classes
        else "an error costs, and which size matters"
    )
    return [
        (1, "licence of the model, its owner, and whom to ask"),
        (2, "who uses the predictions, for which decision, and what it must not be used for"),
        (3, "groups of people or circumstances that are not columns of the data"),
        (4, f"what {errors}"),
        (6, "by whom and how the data was collected, and the right to use it"),
        (8, "who may be harmed by a wrong prediction, and what they can do about it"),
    ]


def _left(delivery: Delivery) -> list[str]:
    asked = open_questions(delivery)
    rows = [(index, f"section {section}", text, "") for index, (section, text) in enumerate(asked, 1)]
    return [
        f"No record can tell these {len(asked)}; the card is complete once they are answered.",
        "",
        *table(("no.", "belongs to", "what is asked for", "answer"), rows, 200),
    ]


def _open(delivery: Delivery, section: int) -> list[str]:
    numbers = [index for index, (where, _) in enumerate(open_questions(delivery), 1) if where == section]
    return [f"- {PERSON}: no. {', '.join(str(index) for index in numbers)} above."]


def _details(delivery: Delivery) -> list[str]:
    chosen, classification = delivery.log.chosen, bool(delivery.scope.classes)
    settings = ", ".join(f"{name} = {_setting(value)}" for name, value in sorted(chosen.parameters.items()))
    return [
        f"- Name and version: {delivery.name} {delivery.version}",
        f"- Kind: {model_name(chosen.model, classification)}; settings: {settings or 'defaults'}",
        f"- Why this kind: {cell(why_this_model(chosen.model, delivery.log.reason, classification), 800)}.",
        f"- Inputs: {counted(len(delivery.features.columns), 'column')}, signature "
        f"`{delivery.features.signature[:16]}`",
        f"- Output: {_output(delivery)}",
        f"- Model file: `model.skops`, SHA-256 `{delivery.digests['model.skops']}`",
        f"- Made by pipeline {code(delivery.pipeline)}; session, time and environment: `provenance.json`.",
        *_open(delivery, 1),
    ]


def _setting(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _output(delivery: Delivery) -> str:
    if not delivery.scope.classes:
        return f"a number, {code(delivery.scope.target)}"
    labels = ", ".join(code(label, 40) for label in delivery.scope.classes[:20])
    return f"a probability for each class of {code(delivery.scope.target)}: {labels}"


def _use(delivery: Delivery) -> list[str]:
    lines = [*_open(delivery, 2)]
    if text := delivery.ticket.body.strip():
        shortened = " (shortened)" if len(text) > _QUOTED else ""
        # A paragraph before the block: below a list item it would be no code block, and what it quotes would be markup.
        lines += ["", f"What the ticket says, in its author's words and not verified{shortened}:", ""]
        lines += quoted(text, _QUOTED)
    return lines


def _factors(delivery: Delivery) -> list[str]:
    slices = delivery.metrics["slices"]
    lines = [
        f"- {counted(slices['formed'], 'slice')} formed from the values of the columns; {slices['judged']:,} large "
        f"enough to judge by {metric_name(slices['metric'])}."
    ]
    if delivery.source.group_column:
        lines.append(f"- Rows belong to groups by {code(delivery.source.group_column)}.")
    lines += [_groups(each) for each in delivery.fairness.get("columns", [])]
    if delivery.fairness and not delivery.fairness["columns"]:
        lines.append(f"- Groups of people: {_unnamed(delivery)}.")
    return [*lines, *_open(delivery, 3)]


def _groups(compared: Mapping[str, Any]) -> str:
    """One column's comparison in a line: its largest difference, and whether any is more than chance."""
    judged = sum(group["judged"] for group in compared["groups"])
    head = f"- Groups of {code(compared['column'])}: {judged} large enough to compare"
    if not compared["differences"]:
        return f"{head}."
    name, worst = max(compared["differences"].items(), key=lambda item: item[1]["value"])
    interval = measured(worst)
    clear = f"clearly more than chance in {', '.join(compared['clear'])}" if compared["clear"] else "none clear"
    return f"{head}; largest difference in {name}: {interval}; {clear} (`fairness.md`)."


def _drawn(delivery: Delivery) -> str:
    rows, groups = delivery.metrics["rows"], delivery.metrics.get("independent")
    return "hold-out rows" if groups in (None, rows) else f"the {groups} groups that the hold-out rows form"


def _metrics(delivery: Delivery) -> list[str]:
    called_at = (
        "Classes are called at the most probable one (one half of two); no threshold was tuned on hold-out rows."
    )
    better = "higher" if delivery.scope.higher_is_better else "lower"
    name = metric_name(delivery.scope.metric)
    return [
        f"- Optimised: **{name}** (`{delivery.scope.metric}`): {metric_meaning(delivery.scope.metric)}; {better} is "
        "better.",
        f"- Intervals: 95 %, bootstrap over {_drawn(delivery)}, {delivery.metrics['resamples']:,} resamples.",
        *([f"- {called_at}"] if delivery.scope.classes else []),
        *_open(delivery, 4),
    ]


def _evaluation_data(delivery: Delivery) -> list[str]:
    split = delivery.split
    return [
        f"- {counted(delivery.metrics['rows'], 'row')} of the same source, put away before anybody looked; "
        "labels were sealed.",
        f"- Split: {split.strategy}, since {cell(split.reason, 300)}.",
        f"- Rows whose feature values also occur in train: {split.twin_fraction_after:.2%}.",
    ]


def _training_data(delivery: Delivery) -> list[str]:
    source, split = delivery.source, delivery.split
    left = f"; {counted(split.dropped_rows, 'row')} left out: {cell(split.dropped_reason, 300)}"
    unused = len(delivery.features.dropped)
    lines = [
        f"- Source: {code(source.uri)}, {counted(source.rows, 'row')}; SHA-256 `{source.sha256}`.",
        *([f"- Read at {source.snapshot.taken:%Y-%m-%d %H:%M:%S} UTC."] if source.snapshot else []),
        f"- {cell(source.description, 500)}",
        f"- Trained on {counted(split.train_rows, 'row')}{left if split.dropped_rows else '; none left out'}.",
        f"- {counted(unused, 'column')} not used (reasons in `feature-map.json`)."
        if unused
        else "- Every column is used.",
        "- Types and ranges the data must keep: `data-contract.yaml`.",
    ]
    if source.synthetic:
        lines.insert(0, f"- **{SYNTHETIC}**")
    return [*lines, *_open(delivery, 6)]


def _analyses(delivery: Delivery) -> list[str]:
    lines = [*metrics_table(delivery.metrics), ""]
    worst: Sequence[Mapping[str, Any]] = delivery.metrics["slices"]["worst"]
    if not worst:
        return [*lines, "No slice is large enough to judge."]
    whole = delivery.metrics["metrics"].get(delivery.metrics["slices"]["metric"])
    if whole and worst[0]["value"] == whole["value"]:
        return [
            *lines,
            f"The worst of {counted(delivery.metrics['slices']['judged'], 'slice')} does as well as all rows.",
        ]
    metric = metric_name(delivery.metrics["slices"]["metric"])
    lines += [f"| worst slices | rows | {metric} | baseline there | clearly worse |", "|---|---|---|---|---|"]
    for part in worst[:3]:
        where = cell(f"{part['column']} {part['values']}")
        clear = "**yes**" if part["clearly_worse"] else "no"
        lines.append(f"| {where} | {part['rows']:,} | {measured(part)} | {like(part['baseline'], part)} | {clear} |")
    return lines


def metrics_table(metrics: Mapping[str, Any]) -> list[str]:
    """Every metric with its interval beside the baseline's, the optimised one first, as a Markdown table."""
    lines = ["| metric | model | baseline | what it is |", "|---|---|---|---|"]
    for name, each in sorted(
        metrics["metrics"].items(), key=lambda item: (item[0] != metrics["metric"], _order(item[0]))
    ):
        shown = f"**{metric_name(name)}**" if name == metrics["metric"] else metric_name(name)
        floor = like(metrics["baseline"][name]["value"], each) if name in metrics["baseline"] else "–"
        lines.append(f"| {shown} | {measured(each)} | {floor} | {metric_meaning(name)} |")
    return lines


def _order(metric: str) -> int:
    return list(METRICS).index(metric) if metric in METRICS else len(METRICS)


def _ethics(delivery: Delivery) -> list[str]:
    risks = {risk["id"]: risk for risk in delivery.risk.get("risks", [])}
    lines = [
        f"- {words}: {cell(risks[name]['evidence'], 200)}."
        for name, words in (("security-breach", "Personal data"), ("weak-slice", "Parts of the rows it serves worse"))
        if name in risks
    ]
    return [*lines, *_open(delivery, 8)]


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
            f"- Spoilt inputs: worst where {damages[0]['what']}; there {metric_name(delivery.scope.metric)} is "
            f"{measured(damages[0]['metric'])}, and {damages[0]['changed']:.1%} of the answers change "
            "(`robustness.md`)."
        )
    return [
        *lines,
        "- The figures hold for rows like the hold-out rows; measure again where and when it is used.",
        "- A prediction is an association: acting on it may change what it was learned from.",
        f"- Take it back when the {metric_name(delivery.scope.metric)} passes the limits in `deployment-config.yaml`.",
    ]
