"""The profile's picture: the target and the columns most associated with it.

Drawn without a display, with a fixed salt and no date, so that the same rows give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.skills.shapes import ScopeSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SHOWN = 11
LEVELS = 8
_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
"""Paul Tol's bright scheme: distinguishable with any colour vision."""


def draw(
    features: pd.DataFrame, target: pd.Series[Any], scope: ScopeSpec, columns: list[dict[str, Any]], path: Path
) -> None:
    """Write the SVG to `path`: the target, then at most SHOWN columns in the order of `columns`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = [item for item in columns if item["distinct"] and item["kind"] != "datetime"][:SHOWN]
    height = -(-(len(shown) + 1) // 4)
    with mpl.rc_context(
        {"svg.hashsalt": "value-train", "svg.fonttype": "none", "font.size": 8, "text.parse_math": False}
    ):
        figure = Figure(figsize=(12, 2.4 * height))
        FigureCanvasSVG(figure)
        axes = figure.subplots(height, 4, squeeze=False).ravel()
        _draw_target(axes[0], target, scope)
        for axis, item in zip(axes[1:], shown, strict=False):
            _draw_column(axis, features[item["name"]], target, scope, item)
        for axis in axes[len(shown) + 1 :]:
            axis.axis("off")
        figure.subplots_adjust(0.05, 0.25 / height, 0.99, 1 - 0.12 / height, wspace=0.28, hspace=0.45)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_target(axis: Axes, target: pd.Series[Any], scope: ScopeSpec) -> None:
    axis.set_title(f"target: {_short(scope.target)}", loc="left", fontweight="bold")
    axis.set_ylabel("rows")
    if scope.classes:
        counts = target.value_counts()
        labels = scope.classes[:LEVELS]
        heights = [int(counts.get(label, 0)) for label in labels]
        axis.bar(
            [_short(label, 12) for label in labels], heights, color=[_colour(index) for index in range(len(labels))]
        )
    else:
        axis.hist(target.to_numpy(), bins=24, color=_COLOURS[0])


def _draw_column(
    axis: Axes, series: pd.Series[Any], target: pd.Series[Any], scope: ScopeSpec, item: dict[str, Any]
) -> None:
    import numpy as np

    axis.set_title(f"{_short(item['name'])}: {item['measure']} {item['association']:.2f}", loc="left")
    axis.set_yticks([])
    axis.set_ylabel("share of each class" if scope.classes else "rows")
    labels = scope.classes[: len(_COLOURS)]
    if item["kind"] == "numeric":
        present = series.notna()
        edges = np.histogram_bin_edges(series[present].to_numpy(dtype=np.float64), bins=24)
        if not labels:
            axis.hist(series[present].to_numpy(dtype=np.float64), bins=edges.tolist(), color=_COLOURS[0])
        for index, label in enumerate(labels):
            values = series[present & (target == label)].to_numpy(dtype=np.float64)
            if len(values):
                axis.hist(
                    values, bins=edges.tolist(), density=True, histtype="stepfilled", alpha=0.55, color=_colour(index)
                )
        return
    counts = series.dropna().astype("str").value_counts()
    levels = sorted(counts.index, key=lambda level: (-int(counts[level]), level))[:LEVELS]
    axis.set(xlabel="rows", ylabel="")
    axis.barh(
        [_short(level, 13) for level in levels][::-1], [int(counts[level]) for level in levels][::-1], color=_COLOURS[0]
    )
    axis.set_yticks(range(len(levels)), [_short(level, 13) for level in levels][::-1])


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _short(text: object, longest: int = 28) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
