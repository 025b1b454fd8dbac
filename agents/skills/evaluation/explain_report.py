"""The explanation for people: a document and a picture of all rows and of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.evaluation.figure import BLUE, GREY, STYLE
from agents.skills.evaluation.text import code, number
from agents.skills.shapes import ScopeSpec
from schemas.ticket import Ticket

if TYPE_CHECKING:
    from agents.skills.evaluation.explain import Explained

_DRAWN, _MARKS = 12, 150
"""Inputs and rows drawn: more cannot be told apart."""


def document(ticket: Ticket, scope: ScopeSpec, told: Explained) -> str:
    """`explanation.md`."""
    found = told.found
    strength = found.strength
    about = f"{found.unit} of {code(told.label)}" if scope.classes else found.unit
    sums = (
        f"Base and values add up to the model's output: the largest difference is {found.error:.1e} of a range of "
        f"{number(found.span)}."
        if found.adds_up
        else f"**Base and values do not add up to the model's output: they miss it by up to {number(found.error)} of a "
        f"range of {number(found.span)}. Do not rely on them.**"
    )
    lines = [
        f"# What the model goes by: {cell(ticket.title, 300)}",
        "",
        *origin_note(ticket),
        f"Shapley values of the delivered model on {len(found.at)} training rows, by {found.method}, in {found.unit}: "
        "how much each column moves an answer away from the base. What was encoded from one column is summed. "
        "The hold-out rows were not looked at.",
        "",
        sums,
        "",
        "![Which columns move the answers, and how](explanation.svg)",
        "",
        "## All rows",
        "",
        *table(
            ("column", "mean size of its value", "output moved by shuffling it"),
            [
                (found.inputs[place], number(float(strength[place])), number(told.shuffled[place]))
                for place in told.order[:30]
            ],
        ),
        "",
        *(f"- Ranked as by *{cell(name)}*: {_rho(value)}." for name, value in told.agrees.items()),
        "",
        "## Single rows",
        "",
        f"Base, and what is explained: {number(float(found.base[told.output]))} {about}. Row numbers are those of the "
        "data set as it was read." + _hidden(told),
        "",
    ]
    for row in told.rows:
        lines += [
            f"**Row {row['row']}, the {row['which']} answer: {number(row['output'])}**",
            "",
            *table(
                ("column", "value", "adds"),
                [
                    *((e["column"], e["value"] if e["value"] is not None else "–", _signed(e)) for e in row["parts"]),
                    ("all others", "", f"{row['others']:+.4g}"),
                ],
            ),
            "",
        ]
    return "\n".join(
        [
            *lines,
            "## What this does not say",
            "",
            "- It explains the model, not the world: a column the model goes by need not cause anything.",
            "- Columns that go together share what they say, in a way that is the method's choice.",
        ]
    )


def _rho(value: float | None) -> str:
    return "not defined for these columns" if value is None else f"Spearman {value:.2f}"


def _signed(part: dict[str, Any]) -> str:
    return f"{part['adds']:+.4g}"


def _hidden(told: Explained) -> str:
    if not told.personal:
        return ""
    return f" The values of columns that tell of people are not shown ({', '.join(map(cell, told.personal))})."


def draw(path: Path, told: Explained, ranks: dict[str, Any]) -> None:
    """Write the SVG: mean sizes as bars, and a mark for each of some rows; its bytes depend on the numbers only."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    found = told.found
    shown = told.order[:_DRAWN]
    names = [_short(found.inputs[place]) for place in shown]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.4 + 0.32 * len(shown)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        left.barh(range(len(shown)), [float(found.strength[place]) for place in shown], color=BLUE)
        left.set(title="Mean size", xlabel=found.unit)
        colours = mpl.colormaps["coolwarm"]
        for line, place in enumerate(shown):
            values = found.values[:_MARKS, place, told.output]
            rank = ranks.get(found.inputs[place])
            colour: Any = GREY
            if rank is not None:
                colour = [colours(each) if np.isfinite(each) else GREY for each in rank[:_MARKS]]
            right.scatter(values, line + _spread(values), s=7, c=colour, linewidths=0)
        right.axvline(0.0, color=GREY, linewidth=1)
        right.set(title=f"Each row: {_short(told.label)} (blue: low values, red: high)", xlabel=found.unit)
        for axes in (left, right):
            axes.set_yticks(range(len(shown)), names)
            axes.invert_yaxis()
        right.set_yticklabels([])
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _spread(values: Any) -> Any:
    """Offsets that keep marks of nearly the same value apart: a swarm without chance."""
    import numpy as np

    low, high = float(values.min()), float(values.max())
    bins = np.zeros(len(values), dtype=np.intp)
    if high > low:
        bins = ((values - low) / (high - low) * 59).astype(np.intp)
    offsets = np.zeros(len(values))
    most = max(int(np.bincount(bins).max()), 1)
    for each in np.unique(bins):
        inside = np.flatnonzero(bins == each)
        offsets[inside] = (np.arange(len(inside)) - (len(inside) - 1) / 2) * min(0.12, 0.7 / most)
    return offsets


def _short(text: str, longest: int = 28) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
