"""The performance analysis as a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.skills.data.markdown import cell, origin_note, quoted, table
from agents.skills.devsecops.modelcard import PERSON
from agents.skills.evaluation.errors import CONFIDENT
from agents.skills.evaluation.text import code, number
from agents.skills.lead.statement import FROM_TICKET
from schemas.ticket import Ticket

if TYPE_CHECKING:
    from agents.skills.evaluation.analyse import Analysis


def analysis_document(ticket: Ticket, found: Analysis, impact: Mapping[str, Any]) -> str:
    """`performance-analysis.md`: errors, causes, what the model reads, mistakes, more rows, drift, incidents."""
    delivered = next(each["delivered"] for each in impact["metrics"] if each["metric"] == impact["metric"])
    lines = [f"# Why the model does as it does: {cell(ticket.title, 300)}", "", *origin_note(ticket)]
    lines += [
        f"{found.scope.metric} {number(found.value)} on {found.rows} training rows, each predicted by a {found.model} "
        f"model that did not see it ({found.crossed.folds} folds); one constant answer reaches "
        f"{number(found.floor_value)}. Delivered on the hold-out rows: {number(delivered['value'])} "
        f"[{number(delivered['lower'])}, {number(delivered['upper'])}].",
        "",
        "The hold-out rows were not looked at for this: what is improved from here can still be measured on them.",
        "",
        "![What it reads, and where it errs](performance-analysis.svg)",
        "",
        *_groups(found),
        *_importance(found),
        *_mistakes(found),
        *_more_rows(found),
        *_drift(found),
        *_incidents(found),
    ]
    return "\n".join(lines)


def _groups(found: Analysis) -> list[str]:
    lines = ["## Errors by what they have in common", ""]
    if not found.groups:
        return [*lines, "Too few rows to find groups on one half and measure them on the other.", ""]
    return [
        *lines,
        f"Groups were found on one half of the rows and measured on the other ({found.unit}; all rows: "
        f"{number(found.loss)}). `Share` is what would go of all errors if the group did as well as the others.",
        "",
        *table(
            ("rows where", "rows", "errors", "elsewhere", "clearly more", "share", "likely cause", "evidence"),
            [
                (
                    each.condition, each.rows, number(each.loss), number(each.elsewhere), "yes" if each.clear else "no",
                    f"{each.weight / found.loss:.0%}" if found.loss else "0%", each.cause, each.evidence,
                )
                for each in found.groups
            ],
            160,
        ),
        "",
        *_slices(found),
    ]  # fmt: skip


def _slices(found: Analysis) -> list[str]:
    worse = [each for each in found.slices.worst if each.clearly_worse]
    if not worse:
        return [f"Of {found.slices.judged} slices by single columns none is clearly worse than all rows.", ""]
    listed = "; ".join(f"{cell(each.column)} {cell(each.values)} ({each.interval.text})" for each in worse)
    return [f"Of {found.slices.judged} slices by single columns these are clearly worse: {listed}.", ""]


def _importance(found: Analysis) -> list[str]:
    shown = found.crossed.importance
    idle = [each.column for each in shown if not each.clear]
    lines = [
        "## What it reads",
        "",
        f"Loss of {found.scope.metric} when a column's values are shuffled among rows the model did not see:",
        "",
        *table(
            ("column", "loss", "standard error"),
            [(each.column, f"{each.loss:.4f}", f"{each.se:.4f}") for each in shown[:15]],
        ),
        "",
    ]
    if idle:
        lines += [f"Without a clear part in the result: {', '.join(cell(name) for name in idle[:30])}.", ""]
    return lines


def _mistakes(found: Analysis) -> list[str]:
    made = found.mistakes
    lines = ["## Confident mistakes", "", f"{made['count']} rows ({made['share']:.1%}) are {made['what']}.", ""]
    if not made["examples"]:
        return lines
    if found.scope.classes:
        rows = [
            (e["row"], e["actual"], e["predicted"], f"{e['probability']:.3f}", _values(e)) for e in made["examples"]
        ]
        header: tuple[str, ...] = ("row", "actual", "predicted", "probability", "values")
    else:
        rows = [
            (e["row"], number(e["actual"]), number(e["predicted"]), number(e["error"]), _values(e))
            for e in made["examples"]
        ]
        header = ("row", "actual", "predicted", "error", "values")
    left = made["left_out_columns"]
    hidden = f" Columns that tell of people are not shown ({', '.join(cell(name) for name in left)})." if left else ""
    return [
        *lines,
        "Each is either a wrong label, a special case, or a lesson the model missed. Row numbers are those of the data "
        f"set as it was read.{hidden}",
        "",
        *table(header, rows, 120),
        "",
        f"- {PERSON} for each, which of the three it is.",
        "",
    ]


def _values(example: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in example["values"].items()) or "–"


def _more_rows(found: Analysis) -> list[str]:
    half = found.crossed.half
    verdict = "more rows would help" if half.won else "no clear sign that more rows would help"
    lines = [
        "## Would more rows help?",
        "",
        f"All fitting rows against half of them: {found.scope.metric} gain {half.gain:+.4f} [{half.lower:+.4f}, "
        f"{half.upper:+.4f}] (95 %): **{verdict}**.",
        "",
    ]
    if found.ece is not None:
        sure = "its probabilities can be taken at their word" if found.ece <= 0.05 else "its probabilities are off"
        lines += [f"Expected calibration error {found.ece:.3f}: {sure} (confident means {CONFIDENT:.0%}).", ""]
    return lines


def _drift(found: Analysis) -> list[str]:
    lines = ["## Drift", ""]
    if not found.moved:
        return [*lines, "The rows the model was asked about do not differ from its training rows in any column.", ""]
    return [
        *lines,
        f"The rows it was asked about (split: {found.split.strategy}) differ from the training rows:",
        "",
        *table(
            ("column", "distance", "limit", "PSI", "limit", "explanation"),
            [
                (
                    code(each.column).strip("`"),
                    f"{each.distance:.2f}",
                    f"{each.limit:.2f}",
                    f"{each.psi:.2f}",
                    f"{each.psi_limit:.2f}",
                    each.explanation or "unknown",
                )
                for each in found.moved
            ],
            160,
        ),
        "",
        *(f"- {PERSON} why {cell(each.column)} moved." for each in found.moved if not each.explanation),
        "",
    ]


def _incidents(found: Analysis) -> list[str]:
    if found.incidents:
        return [f"## Incidents ({FROM_TICKET})", "", *quoted(found.incidents)]
    return ["## Incidents", "", f"- {PERSON} what went wrong in use, if anything did (`Incidents:`)."]
