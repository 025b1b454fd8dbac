"""Skill `lead.scope`: what is predicted, how success is measured, what it may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data import target as targets
from agents.skills.data.loading import Loaded, load
from agents.skills.data.markdown import cell, origin_note, quoted, table
from agents.skills.lead import criteria
from agents.skills.shapes import ScopeSpec
from schemas.ticket import LOWER_IS_BETTER, Ticket
from schemas.values import Mode, Role, Task, TickedItem

if TYPE_CHECKING:
    from typing import Any

    import pandas as pd


class LeadScope(Skill[Parameters, SkillOutput]):
    """Fix target, task, metric, acceptance criteria and budget of a ticket, after a look at its data."""

    name = "lead.scope"
    role = Role.LEAD
    modes = frozenset({Mode.SCOPE})
    reads_source = True
    produces = ("scope.json", "scope.md")
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the scope. Raises InputError for data, target, metric or criterion that cannot be used."""
        ticket = context.ticket
        loaded = load(ticket, context.roots, context.max_data_bytes)
        scope, labels = agree(ticket, loaded, context.acceptance)
        warnings = (*loaded.warnings, *_doubts(scope, labels))
        context.write_json("scope.json", scope.model_dump(mode="json"))
        context.write_text("scope.md", _document(ticket, scope, loaded, labels, warnings))
        accepted = "; ".join(scope.acceptance)
        return SkillOutput(
            summary=f"{scope.task.value} of {scope.target} by {scope.metric}, accepted if {accepted}",
            ticked=(
                TickedItem(item="target-named", evidence=f"scope.json: {scope.target}, {_kind(scope)}"),
                TickedItem(item="metric-chosen", evidence=f"scope.json: {scope.metric}, {_direction(scope)}"),
                TickedItem(item="acceptance-agreed", evidence=f"scope.json ({scope.acceptance_from}): {accepted}"),
                TickedItem(
                    item="budget-set",
                    evidence=f"scope.json: {scope.budget_usd:g} USD and {scope.budget_minutes:g} minutes",
                ),
            ),
            acceptance=scope.acceptance if scope.acceptance_from == "proposed" else (),
            warnings=warnings,
        )


def agree(ticket: Ticket, loaded: Loaded, acceptance: tuple[str, ...]) -> tuple[ScopeSpec, pd.Series[Any]]:
    """The scope, and the target's values as later skills see them (rows,).

    `acceptance` are the session's criteria (the ticket's); without any, one is proposed. Raises InputError when metric
    or criteria do not fit the task.
    """
    column = loaded.frame[loaded.target]
    task = ticket.task or targets.infer_task(column)
    values = targets.as_target(column, task)
    classes = targets.classes_of(values) if task is Task.CLASSIFICATION else ()
    known = criteria.metrics_for(task, len(classes))
    metric = ticket.metric or criteria.default_metric(task, len(classes))
    if metric not in known:
        what = f"{task.value} with {len(classes)} classes" if classes else task.value
        raise InputError(f"metric {metric!r} is not measured for {what}", f"write `metric:` with {', '.join(known)}")
    wanted = acceptance or ticket.acceptance
    for criterion in wanted:
        criteria.check(criterion, criteria.measurable(task, len(classes)))
    scope = ScopeSpec(
        task=task,
        target=loaded.target,
        metric=metric,
        higher_is_better=metric not in LOWER_IS_BETTER,
        classes=classes,
        acceptance=wanted or (criteria.propose(metric),),
        acceptance_from="ticket" if wanted else "proposed",
        budget_minutes=ticket.budget.minutes,
        budget_usd=ticket.budget.usd,
    )
    return scope, values


def _doubts(scope: ScopeSpec, values: pd.Series[Any]) -> list[str]:
    """What a reviewer should know about this scope before work begins."""
    doubts = []
    if len(values) < 200:
        doubts.append(f"only {len(values)} rows: intervals on the hold-out will be wide")
    if scope.classes:
        shares = values.value_counts(normalize=True)
        if shares.iloc[-1] < 0.05:
            doubts.append(f"class {shares.index[-1]!r} is rare ({shares.iloc[-1]:.1%}): accuracy says little")
        if len(scope.classes) == 2 and scope.metric == "accuracy" and shares.iloc[0] > 0.7:
            doubts.append(f"always saying {shares.index[0]!r} already gives accuracy {shares.iloc[0]:.2f}")
    elif values.nunique() <= 10:
        doubts.append(f"target {scope.target!r} has only {values.nunique()} distinct numbers: are they classes?")
    if scope.acceptance_from == "proposed":
        doubts.append("the ticket names no acceptance criterion: being better than the baseline was proposed")
    return doubts


def _kind(scope: ScopeSpec) -> str:
    return f"{scope.task.value} with {len(scope.classes)} classes" if scope.classes else scope.task.value


def _direction(scope: ScopeSpec) -> str:
    return "higher is better" if scope.higher_is_better else "lower is better"


def _document(
    ticket: Ticket, scope: ScopeSpec, loaded: Loaded, values: pd.Series[Any], warnings: tuple[str, ...]
) -> str:
    source = loaded.source
    lines = [f"# Scope of ticket {ticket.id}: {cell(ticket.title, 300)}", ""]
    lines += [
        *origin_note(ticket),
        *table(
            ("what", "agreed"),
            [
                ("data", f"{source.uri}: {source.rows:,} rows, {len(source.columns)} columns"),
                ("target", scope.target),
                ("task", _kind(scope)),
                ("metric", f"{scope.metric} ({_direction(scope)})"),
                ("acceptance", f"{len(scope.acceptance)} criteria, from the {_origin(scope)}"),
                ("budget", f"{scope.budget_usd:g} USD, {scope.budget_minutes:g} minutes"),
                ("risk, as the ticket sees it", ticket.risk.value),
            ],
        ),
        "", "## Target", "", *_target_lines(scope, values), "",
        "## Accepted if all of these hold on the hold-out rows", "",
        *(f"- `{criterion}`" for criterion in scope.acceptance), "",
        "## Why (the ticket's text, quoted as data)", "", *quoted(ticket.body), "",
        "## Plan", "",
        "Read the data and its contract, put a fifth of the rows away as a sealed hold-out, profile the rest, map the",
        "features and test them for leakage, train a baseline and candidates within the budget, measure on the",
        "hold-out rows, review the risks, package what is approved.", "",
        "## Known before work begins", "",
        *([f"- {cell(warning, 300)}" for warning in warnings] or ["Nothing unusual."]),
    ]  # fmt: skip
    return "\n".join(lines)


def _origin(scope: ScopeSpec) -> str:
    return "ticket" if scope.acceptance_from == "ticket" else "Lead (proposed)"


def _target_lines(scope: ScopeSpec, values: pd.Series[Any]) -> list[str]:
    if scope.classes:
        counts = values.value_counts()
        positive = scope.classes[1] if len(scope.classes) == 2 else None
        rows = [
            (label + (" (the positive class)" if label == positive else ""), int(counts[label]),
             f"{counts[label] / len(values):.1%}") for label in scope.classes
        ]  # fmt: skip
        return table(("class", "rows", "share"), rows)
    return [
        f"{len(values):,} numbers from {values.min():.4g} to {values.max():.4g}; mean {values.mean():.4g}, "
        f"median {values.median():.4g}, standard deviation {values.std():.4g}."
    ]
