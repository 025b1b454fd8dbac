"""The picture of a table that is for no model in particular: one small drawing for each column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 24
LEVELS = 8
_BLUE, _RED = "#4477AA", "#EE6677"


def draw_overview(table: pd.DataFrame, columns: list[dict[str, Any]], path: Path) -> None:
    """Write the SVG to `path`: the first SHOWN columns, those with personal data in red; hidden ones without values."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = [item for item in columns if item["distinct"]][:SHOWN]
    height = max(1, -(-len(shown) // 4))
    with mpl.rc_context(
        {"svg.hashsalt": "value-train", "svg.fonttype": "none", "font.size": 8, "text.parse_math": False}
    ):
        figure = Figure(figsize=(12, 2.4 * height))
        FigureCanvasSVG(figure)
        axes = figure.subplots(height, 4, squeeze=False).ravel()
        for axis, item in zip(axes, shown, strict=False):
            _draw(axis, table[item["name"]], item)
        for axis in axes[len(shown) :]:
            axis.axis("off")
        figure.subplots_adjust(0.06, 0.25 / height, 0.99, 1 - 0.15 / height, wspace=0.45, hspace=0.5)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw(axis: Any, series: pd.Series[Any], item: dict[str, Any]) -> None:
    import numpy as np

    colour = _RED if item["tags"] else _BLUE
    axis.set_title(f"{_short(item['name'])}: {item['missing']:.0%} missing", loc="left")
    if item["hidden"]:
        axis.text(0.5, 0.5, "values not shown", ha="center", va="center", transform=axis.transAxes)
        axis.set_xticks([])
        axis.set_yticks([])
        return
    present = series.dropna()
    if item["kind"] == "numeric":
        axis.hist(present.to_numpy(dtype=np.float64), bins=24, color=colour)
        return
    if item["kind"] == "datetime":
        days = (present - present.min()).dt.total_seconds().to_numpy(dtype=np.float64) / 86_400
        axis.hist(days, bins=24, color=colour)
        axis.set_xlabel(f"days since {present.min():%Y-%m-%d}")
        return
    counts = present.astype("str").value_counts()
    levels = sorted(counts.index, key=lambda level: (-int(counts[level]), level))[:LEVELS][::-1]
    axis.barh(range(len(levels)), [int(counts[level]) for level in levels], color=colour)
    axis.set_yticks(range(len(levels)), [_short(level, 13) for level in levels])


def _short(text: object, longest: int = 26) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
