"""Skill `evaluation.fairness`: the model's figures by the groups of people that the ticket names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note
from agents.skills.evaluation.text import number
from agents.skills.shapes import ScopeSpec
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.groups import Compared

PARITY, ODDS = "selection rate", ("true positive rate", "false positive rate")


class EvaluationFairness(Skill[Parameters, SkillOutput]):
    """Compare the model between groups of people (the ticket's `sensitive` columns), on the sealed hold-out rows."""

    name = "evaluation.fairness"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = ("predictions.parquet", "holdout-labels.parquet", "holdout-features.parquet", "scope.json")
    produces = ("fairness.json", "fairness.md")
    beside = True
    harness = True
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the comparison, or which columns a person should think about when the ticket names none.

        Raises InputError when a named column is not among the rows.
        """
        import pandas as pd

        from agents.skills.evaluation.outcomes import read_holdout

        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        if not context.ticket.sensitive:
            columns = pd.read_parquet(context.path("holdout-features.parquet"))
            return _nothing_named(context, columns)
        from agents.skills.evaluation.groups import compare

        holdout = read_holdout(
            context.path("predictions.parquet"),
            context.path("holdout-labels.parquet"),
            context.path("holdout-features.parquet"),
            scope,
            context.ticket.groups,
        )
        found = []
        for name in context.ticket.sensitive:
            if name not in holdout.features.columns:
                raise InputError(
                    f"the rows have no column {name!r}, which the ticket names as `sensitive`", "name another"
                )
            context.progress(f"groups of {name}")
            found.append(compare(name, holdout.features[name], holdout.model, context.seed, holdout.groups))
        context.write_json("fairness.json", _document(found, holdout.rows))
        context.write_text("fairness.md", _report(context, scope, found, holdout.rows))
        return _output(found)


def _nothing_named(context: SkillContext, columns: pd.DataFrame) -> SkillOutput:
    from agents.skills.data.personal import INDIRECT, SPECIAL, scan

    found = scan(columns)
    about = sorted(name for name, why in found.items() if {each.tag for each in why} & {INDIRECT, SPECIAL})
    hint = ", ".join(about) or "none by name or form"
    context.write_json("fairness.json", {"columns": [], "rows": len(columns), "may_tell_of_people": about})
    lines = [f"# Groups of people: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket)]
    lines += [
        "The ticket names no `sensitive` column, so no groups of people were compared. Slices of every column are in "
        "`evaluation-report.md`.",
        "",
        f"Columns that may tell of people: {cell(hint, 500)}.",
        "",
        "**To be decided by a person:** whether rows are about people, and if so which columns (sex, age, "
        "origin …) the "
        "model must serve alike. Name them as `sensitive` in the ticket; they need not be inputs of the model.",
    ]
    context.write_text("fairness.md", "\n".join(lines))
    warning = (f"no `sensitive` column is named, and {hint} may tell of people",) if about else ()
    return SkillOutput(
        summary="no groups of people were named",
        ticked=(
            TickedItem(item="groups-compared", evidence=f"fairness.md: none named; may tell of people: {hint[:200]}"),
        ),
        measurements=_measurements([]),
        warnings=warning,
    )


def _document(found: list[Compared], rows: int) -> dict[str, Any]:
    return {
        "rows": rows,
        "columns": [
            {
                "column": each.column,
                "groups": [vars(group) for group in each.groups],
                "differences": {name: interval.as_dict() for name, interval in each.differences.items()},
                "lowest": each.lowest,
                "highest": each.highest,
                "clear": list(each.clear),
            }
            for each in found
        ],
    }


def _report(context: SkillContext, scope: ScopeSpec, found: list[Compared], rows: int) -> str:
    lines = [f"# Groups of people: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket)]
    clear = [f"{each.column} ({', '.join(each.clear)})" for each in found if each.clear]
    verdict = (
        f"Groups differ clearly by {cell('; '.join(clear), 300)}."
        if clear
        else "No difference is clearly more than chance."
    )
    lines += [f"On {rows:,} hold-out rows, measured with labels no agent could see. **{verdict}**", ""]
    for each in found:
        lines += _column(each, scope)
    lines += [
        "## What the words mean",
        "",
        "- *Selection rate*: share called positive. Its largest difference is the demographic parity difference.",
        "- *True positive rate*: share of the actual positives that are found; *false positive rate*: share of the "
        "actual negatives called positive. The larger of their differences is the equalised odds difference.",
        "- A difference is *clear* when groups drawn by chance seldom differ as much (5 % over all figures of "
        "a column, "
        "by permutation). Groups under 30 rows are shown and not judged. The largest of several differences is never "
        "below zero and lies above zero by chance alone: read its interval with that in mind.",
        "- No figure says which difference is fair: that depends on what a decision does to people, and "
        "figures exclude "
        "each other. **To be decided by a person:** which one matters here, and how much of it is acceptable.",
    ]
    return "\n".join(lines)


def _figure(name: str, value: float | None) -> str:
    """A rate with the two digits that a group of some dozens of rows bears out; an error in the target's unit."""
    if value is None:
        return "–"
    return f"{value:.2f}" if name in (PARITY, *ODDS, "accuracy") else number(value)


def _column(each: Compared, scope: ScopeSpec) -> list[str]:
    figures = list(each.groups[0].figures)
    lines = [
        f"## By {cell(each.column)}",
        "",
        f"| group | rows | {' | '.join(figures)} |",
        f"|---|---|{'---|' * len(figures)}",
    ]
    for group in each.groups:
        shown = " | ".join(_figure(name, value) for name, value in group.figures.items())
        few = "" if group.judged else " (too few to judge)"
        lines.append(f"| {cell(group.name)} | {group.rows}{few} | {shown} |")
    if not each.differences:
        return [*lines, "", "Fewer than two groups are large enough to compare.", ""]
    lines += ["", "| figure | largest difference [95 % interval] | lowest | highest | clear |", "|---|---|---|---|---|"]
    for name, interval in each.differences.items():
        lines.append(
            f"| {name} | {interval.text} | {cell(each.lowest[name])} | {cell(each.highest[name])} "
            f"| {'**yes**' if name in each.clear else 'no'} |"
        )
    return [*lines, ""]


def _measurements(found: list[Compared]) -> tuple[Measurement, ...]:
    """The largest differences of all columns; a figure that no column has is not measured."""

    def worst(*names: str) -> float:
        values = [each.differences[name].value for each in found for name in names if name in each.differences]
        return max(values, default=-1.0)

    clear = float(sum(len(each.clear) for each in found))
    measured = (
        Measurement(scope="fairness", name="columns", value=float(len(found))),
        Measurement(scope="fairness", name="clear_differences", value=clear),
        Measurement(scope="fairness", name="parity_difference", value=worst(PARITY)),
        Measurement(scope="fairness", name="odds_difference", value=worst(*ODDS)),
        Measurement(scope="fairness", name="accuracy_difference", value=worst("accuracy")),
        Measurement(scope="fairness", name="error_difference", value=worst("mean absolute error")),
    )
    return tuple(each for each in measured if each.value >= 0.0)


def _output(found: list[Compared]) -> SkillOutput:
    clear = [f"{each.column}: {', '.join(each.clear)}" for each in found if each.clear]
    return SkillOutput(
        summary=f"groups of {', '.join(each.column for each in found)} compared; "
        + (f"clear differences: {'; '.join(clear)}" if clear else "no clear difference"),
        ticked=(
            TickedItem(
                item="groups-compared",
                evidence=f"fairness.json: {sum(len(each.groups) for each in found)} groups of {len(found)} column(s)",
            ),
        ),
        measurements=_measurements(found),
        warnings=tuple(f"groups differ clearly by {each}" for each in clear),
    )
