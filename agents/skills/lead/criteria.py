"""Acceptance criteria: which figures exist for a task, and whether a criterion reads only those.

A criterion is a CEL expression. It is checked when the ticket is scoped, so that nobody finds out after the training
that nothing measures what was asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from agents.skill import InputError
from schemas.ticket import CLASSIFICATION_METRICS, REGRESSION_METRICS
from schemas.values import Task

_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")
_WORDS = frozenset({"true", "false", "null", "in", "double", "int", "uint", "abs", "min", "max"})
"""Names that are CEL and not figures."""

CALIBRATION = ("brier", "ece")


def metrics_for(task: Task, classes: int) -> tuple[str, ...]:
    """The metrics that can be optimised; average precision is defined here for two classes only."""
    if task is Task.REGRESSION:
        return REGRESSION_METRICS
    return tuple(name for name in CLASSIFICATION_METRICS if classes == 2 or name != "average_precision")


def default_metric(task: Task, classes: int) -> str:
    """What is optimised when the ticket names no metric."""
    if task is Task.REGRESSION:
        return "mae"
    return "roc_auc" if classes == 2 else "balanced_accuracy"


def measurable(task: Task, classes: int) -> tuple[str, ...]:
    """Every figure a criterion may read.

    `metrics.X` is the model's on the hold-out rows, `baseline.X` the baseline's, `_lower` and `_upper` their 95 %
    bounds, `_gain` the model's advantage over the baseline (positive is better).
    """
    bounds = ("", "_lower", "_upper")
    names = metrics_for(task, classes)
    figures = [f"metrics.{name}{part}{bound}" for name in names for part in ("", "_gain") for bound in bounds]
    figures += [f"baseline.{name}{bound}" for name in names for bound in bounds]
    if task is Task.CLASSIFICATION:
        figures += [f"metrics.{name}{bound}" for name in CALIBRATION for bound in bounds]
    return (*figures, "metrics.rows")


def check(criterion: str, known: tuple[str, ...], remedy: str = "") -> None:
    """Raises InputError, naming the criterion and what is wrong, unless it is a CEL condition over `known` figures.

    `remedy` says which those are, where they are not a model's.
    """
    remedy = remedy or f"use only {_summary(known)}"
    read = [re.sub(r"\s", "", name) for name in _NAME.findall(_STRING.sub("''", criterion))]
    read = [name for name in read if name not in _WORDS]
    for name in read:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}? {remedy}" if near else remedy
            raise InputError(f"acceptance criterion {criterion!r} reads {name!r}, which nothing measures", hint)
    if not read:
        raise InputError(f"acceptance criterion {criterion!r} reads no figure", remedy)
    _try(criterion, known)


def propose(metric: str) -> str:
    """The least a model must do: surely gain on the baseline (the lower bound of the paired difference)."""
    return f"metrics.{metric}_gain_lower > 0.0"


def holds(criterion: str, figures: Mapping[str, Mapping[str, float]]) -> bool | None:
    """Whether a checked criterion holds of `figures` (scope to name to value); None if a figure is missing."""
    import cel

    try:
        return cel.evaluate(criterion, {scope: dict(part) for scope, part in figures.items()}) is True
    except (ValueError, TypeError, KeyError, RuntimeError):
        return None


def _try(criterion: str, known: tuple[str, ...]) -> None:
    """Evaluate the criterion once with 0.5 for every figure: it must parse and come to yes or no."""
    import cel

    figures: dict[str, dict[str, float]] = {}
    for name in known:
        scope, _, figure = name.partition(".")
        figures.setdefault(scope, {})[figure] = 0.5
    remedy = "write a condition such as metrics.roc_auc_lower >= 0.9 (figures are doubles: 1.0, not 1, in sums)"
    try:
        outcome = cel.evaluate(criterion, figures)
    except (ValueError, TypeError, KeyError, RuntimeError) as problem:
        reason = str(problem).splitlines()[0]
        raise InputError(f"acceptance criterion {criterion!r} cannot be evaluated: {reason}", remedy) from problem
    if not isinstance(outcome, bool):
        raise InputError(f"acceptance criterion {criterion!r} is not a condition", remedy)


def _summary(known: tuple[str, ...]) -> str:
    """The figures in short: `metrics.X, … with X one of …`."""
    names = [name.removeprefix("baseline.") for name in known if name.startswith("baseline.")]
    plain = [name for name in names if not name.endswith(("_lower", "_upper"))]
    return (
        "metrics.X, metrics.X_lower, metrics.X_upper, baseline.X (and its bounds), metrics.X_gain or metrics.rows, "
        f"where X is one of {', '.join(plain)}"
    )
