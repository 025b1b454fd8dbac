"""One figure for the report, as SVG whose bytes depend on nothing but the numbers.

Only aggregates are drawn: curves at fixed steps, bins of ten rows and more; never one mark for one hold-out row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.skills.evaluation.calibration import Bin
from agents.skills.evaluation.scores import ClassOutcome, Outcome

STYLE: Any = {"svg.hashsalt": "value-train", "svg.fonttype": "none", "font.size": 9, "text.parse_math": False}
BLUE, GREY = "#1f5fa8", "#8a8a8a"


def draw(path: Path, outcome: Outcome, bins: Sequence[Bin], classes: Sequence[str], title: str) -> None:
    """Two panels: how well the model tells rows apart, and whether its predictions can be taken at their word."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        if not isinstance(outcome, ClassOutcome):
            _errors(left, outcome)
        elif len(classes) == 2:
            _roc(left, outcome, classes[1])
        else:
            _recalls(left, outcome, classes)
        _reliability(right, bins, outcome, classes)
        figure.suptitle(title)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _roc(axes: Any, outcome: ClassOutcome, positive: str) -> None:
    import numpy as np
    from sklearn.metrics import roc_curve

    axes.plot([0, 1], [0, 1], "--", color=GREY, label="baseline")
    truth = outcome.truth == 1
    if truth.any() and not truth.all():
        false, true, _ = roc_curve(truth, outcome.probabilities[:, 1])
        steps = np.linspace(0, 1, 21)
        axes.plot(steps, np.interp(steps, false, true), color=BLUE, label="model")
    axes.set(title=f"ROC, class {positive}", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right", frameon=False)


def _recalls(axes: Any, outcome: ClassOutcome, classes: Sequence[str]) -> None:
    import numpy as np

    sizes = np.bincount(outcome.truth, minlength=len(classes))
    hits = np.bincount(outcome.truth[outcome.predicted == outcome.truth], minlength=len(classes))
    shown = np.argsort(-sizes, kind="stable")[:20]
    axes.barh([f"{classes[i]} ({sizes[i]})" for i in shown], hits[shown] / np.maximum(sizes[shown], 1), color=BLUE)
    axes.invert_yaxis()
    axes.set(title="Recall by class (rows)", xlabel="recall", xlim=(0, 1))


def _errors(axes: Any, outcome: Any) -> None:
    import numpy as np

    levels = np.linspace(0.05, 0.95, 19)
    axes.plot(np.quantile(outcome.truth - outcome.predicted, levels), levels, color=BLUE)
    axes.axvline(0, linestyle="--", color=GREY)
    axes.set(
        title="Errors (actual less predicted)",
        xlabel="error, in the target's unit",
        ylabel="share of rows below",
        ylim=(0, 1),
    )


def _reliability(axes: Any, bins: Sequence[Bin], outcome: Outcome, classes: Sequence[str]) -> None:
    predicted, observed = [bin.predicted for bin in bins], [bin.observed for bin in bins]
    ends = [0.0, 1.0] if isinstance(outcome, ClassOutcome) else [min(predicted + observed), max(predicted + observed)]
    axes.plot(ends, ends, "--", color=GREY, label="perfect")
    axes.plot(predicted, observed, "o-", color=BLUE, label="model")
    axes.legend(loc="upper left", frameon=False)
    if not isinstance(outcome, ClassOutcome):
        axes.set(title=f"Calibration, {len(bins)} groups of rows", xlabel="mean predicted", ylabel="mean actual")
    elif len(classes) == 2:
        axes.set(title=f"Calibration, class {classes[1]}", xlabel="predicted probability", ylabel="observed frequency")
    else:
        axes.set(title="Calibration of the chosen class", xlabel="predicted probability", ylabel="share right")
