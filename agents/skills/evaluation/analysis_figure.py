"""The picture of the performance analysis: what the model reads, where it errs, whether more rows would help."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.skills.evaluation.crossed import Crossed
from agents.skills.evaluation.errors import ErrorGroup
from agents.skills.evaluation.figure import BLUE, GREY, STYLE

_SHOWN = 10


def draw(path: Path, crossed: Crossed, groups: Sequence[ErrorGroup], loss: float, unit: str) -> None:
    """Write the SVG; its bytes depend on nothing but the numbers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        shown = crossed.importance[:_SHOWN]
        left.barh(
            [_short(each.column) for each in shown], [each.loss for each in shown], xerr=[each.se for each in shown],
            color=BLUE,
        )  # fmt: skip
        left.invert_yaxis()
        left.set(title="Loss of the metric when a column is shuffled")
        _groups(right, groups, loss, unit)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _groups(axes: Any, groups: Sequence[ErrorGroup], loss: float, unit: str) -> None:
    names = [_short(each.condition, 44) for each in groups]
    axes.barh(range(len(names)), [each.loss for each in groups], xerr=[each.se for each in groups], color=BLUE)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(loss, linestyle="--", color=GREY)
    axes.set(title="Errors by group (dashed: all rows)", xlabel=unit)


def _short(text: str, longest: int = 28) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
