"""Skill `training.schedule`: when and how the model is trained anew, as rules with figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillError, SkillOutput
from agents.skills.data.columns import kind_of
from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.evaluation.text import number
from agents.skills.shapes import ScopeSpec, SplitSpec
from agents.skills.training.triggers import Figures, data_window, days_of, limits, promotion, rules
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

_MOST_WATCHED = 12


class TrainingSchedule(Skill[Parameters, SkillOutput]):
    """Fix when the model is trained anew, on which rows, when the new one takes over, and what it may cost.

    Every figure is derived from what the session measured, and says from what.
    """

    name = "training.schedule"
    role = Role.TRAINING
    modes = frozenset({Mode.IMPROVE})
    needs = (
        "improvement-roadmap.json", "monitoring-config.yaml", "deployment-config.yaml", "metrics.json", "scope.json",
        "split.json", "cost-report.json", "performance-analysis.json",
    )  # fmt: skip
    optional = ("train.parquet", "holdout-features.parquet", "decay.json")
    produces = ("retraining-plan.yaml", "retraining-plan.md")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the plan."""
        import yaml

        figures = _figures(context)
        roadmap = context.read_json("improvement-roadmap.json")
        plan = _plan(
            figures, roadmap, _yaml(context, "deployment-config.yaml"), _yaml(context, "monitoring-config.yaml")
        )
        context.write_text("retraining-plan.yaml", yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=120))
        context.write_text("retraining-plan.md", _document(context.ticket, plan))
        return _output(plan)


def _figures(context: SkillContext) -> Figures:
    scope = ScopeSpec.model_validate(context.read_json("scope.json"))
    metrics = context.read_json("metrics.json")
    if scope.metric not in metrics.get("metrics", {}):
        raise SkillError(f"metrics.json does not hold {scope.metric}", "run evaluation.measure again")
    analysis, costs = context.read_json("performance-analysis.json"), context.read_json("cost-report.json")
    clear = [each["column"] for each in analysis["importance"] if each["clear"]]
    first, last = _ends(context)
    return Figures(
        ticket=context.ticket,
        scope=scope,
        split=SplitSpec.model_validate(context.read_json("split.json")),
        metrics=metrics,
        costs=costs,
        span_days=days_of(first, last),
        newest=last,
        watched=tuple((clear or [each["column"] for each in analysis["importance"]])[:_MOST_WATCHED]),
        seconds=float(costs["used"]["wall_seconds"]),
        usd=float(costs["used"]["usd"]),
        days_to_limit=_days_to_limit(context),
    )


def _days_to_limit(context: SkillContext) -> float | None:
    """Days from the newest measured row until the metric may reach its limit at the earliest, as `evaluation.decay`
    found; None where it found no decay or its time is not a date."""
    if "decay.json" not in context.inputs:
        return None
    found = context.read_json("decay.json")
    if not found["decays"] or found["time_unit"] != "days":
        return None
    left = found["limit"]["until"]["lower"]
    return None if left is None else max(0.0, float(left))


def _ends(context: SkillContext) -> tuple[str | None, str | None]:
    """The oldest and the newest row's day, by the ticket's time column if that holds dates."""
    name = context.ticket.time
    if name is None:
        return None, None
    import pandas as pd

    ends: list[str] = []
    for file in ("train.parquet", "holdout-features.parquet"):
        if file not in context.inputs:
            continue
        rows = pd.read_parquet(context.path(file))
        if name in rows.columns and kind_of(rows[name]) == "datetime":
            ends += [each.strftime("%Y-%m-%d") for each in (rows[name].min(), rows[name].max())]
    return (min(ends), max(ends)) if ends else (None, None)


def _yaml(context: SkillContext, name: str) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(context.path(name).read_text("utf-8"))
    except yaml.YAMLError as problem:
        raise SkillError(f"{name} is no YAML: {str(problem).splitlines()[0]}", "run the phase that wrote it") from None
    if not isinstance(found, dict):
        raise SkillError(f"{name} is not a mapping", "run the phase that wrote it")
    return found


def _plan(
    figures: Figures, roadmap: Mapping[str, Any], deployed: Mapping[str, Any], monitored: Mapping[str, Any]
) -> dict[str, Any]:
    package = deployed.get("package") or {}
    return {
        "apiVersion": "value-train/v1",
        "kind": "RetrainingPlan",
        "model": {"name": deployed.get("name"), "version": deployed.get("version"), "sha256": package.get("sha256")},
        "pipeline": "retrain",
        "in_force": roadmap["end"]["advice"] != "stop",
        "monitored_by": str(monitored.get("kind") or "monitoring-config.yaml"),
        "triggers": rules(figures),
        "data": data_window(figures),
        "promotion": promotion(figures.scope),
        "limits": limits(figures),
        "ticket": _ticket(figures),
    }


def _ticket(figures: Figures) -> dict[str, Any]:
    """The fields of the ticket that starts a retraining; what changes each time is left to whoever writes it."""
    ticket, scope = figures.ticket, figures.scope
    named = {
        "title": f"Train anew: {ticket.title}"[:200],
        "labels": ["Task"],
        "pipeline": "retrain",
        "target": scope.target,
        "metric": scope.metric,
        "groups": ticket.groups,
        "time": ticket.time,
        "acceptance": list(scope.acceptance),
        "risk": ticket.risk.value,
    }
    return {**{name: each for name, each in named.items() if each}, "left_open": ["id", "data", "model", "budget"]}


def _document(ticket: Ticket, plan: Mapping[str, Any]) -> str:
    lines = [f"# Retraining: {cell(ticket.title, 300)}", "", *origin_note(ticket)]
    if not plan["in_force"]:
        lines += ["**Not in force: the roadmap advises to stop using this model.**", ""]
    window, limit = plan["data"], plan["limits"]
    lines += [
        f"Model {cell(plan['model']['name'])} {cell(plan['model']['version'])}; a retraining is a ticket of the "
        f"pipeline `{plan['pipeline']}`. Nothing starts by itself: whoever keeps the backlog writes it "
        "when a rule holds.",
        "",
        "## What starts one (any of these)",
        "",
        *table(
            ("rule", "starts when", "figures", "derived from"),
            [(each["id"], each["when"], _numbers(each), each["from"]) for each in plan["triggers"]],
            300,
        ),
        "",
        "## On which rows",
        "",
        f"{str(window['rows']).capitalize()}"
        + (f", of {window['days']} days" if window["days"] else "")
        + f"; hold-out: {cell(window['holdout'], 200)}. Why: {cell(window['from'], 200)}.",
        *([f"Newest row so far: {window['newest_so_far']}."] if window["newest_so_far"] else []),
        "",
        "## When the new model takes over",
        "",
        *(f"- `{criterion}`" for criterion in plan["promotion"]["criteria"]),
        "",
        f"Otherwise {plan['promotion']['otherwise']}. Why: {cell(plan['promotion']['from'], 200)}.",
        "",
        "## How often and for how much",
        "",
        f"At most {limit['minutes_each']:g} minutes and {limit['usd_each']:g} USD each, {limit['per_30_days']} in 30 "
        f"days ({limit['usd_per_30_days']:g} USD), {limit['days_between_at_least']} days apart; after "
        f"{limit['failures_in_a_row']} failures in a row a person looks. Derived from {cell(limit['from'], 200)}.",
        "",
        "## Left to people",
        "",
        f"- {PERSON} who writes the ticket when a rule holds.",
        f"- {PERSON} how true outcomes of real use come back, and how late.",
    ]  # fmt: skip
    return "\n".join(lines)


def _numbers(rule: Mapping[str, Any]) -> str:
    shown = []
    for name, value in rule.items():
        if name in ("id", "when", "from"):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        shown.append(f"{name.replace('_', ' ')} {number(text) if isinstance(text, float) else text}")
    return "; ".join(shown)


def _output(plan: Mapping[str, Any]) -> SkillOutput:
    limit = plan["limits"]
    by_id = {each["id"]: each for each in plan["triggers"]}
    performance = by_id["performance"]
    return SkillOutput(
        summary=f"every {by_id['schedule']['days']} days, or when {performance['metric']} passes "
        f"{number(performance['limit'])}, a column drifts or {by_id['new-data']['rows']:,} new rows are there; "
        f"at most {limit['per_30_days']} in 30 days",
        ticked=(
            TickedItem(
                item="trigger-set", evidence=f"retraining-plan.yaml: {len(plan['triggers'])} rules with figures"
            ),
            TickedItem(item="data-window-set", evidence=f"retraining-plan.yaml: {cell(plan['data']['rows'])}"),
            TickedItem(
                item="promotion-set", evidence=f"retraining-plan.yaml: {len(plan['promotion']['criteria'])} criteria"
            ),
            TickedItem(
                item="limit-set",
                evidence=f"retraining-plan.yaml: {limit['per_30_days']} in 30 days, {limit['usd_per_30_days']:g} USD",
            ),
        ),
        warnings=() if plan["in_force"] else ("the roadmap advises to stop using the model: the plan is not in force",),
    )
