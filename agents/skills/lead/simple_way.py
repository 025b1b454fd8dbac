"""A way without machine learning, tried on the data: one constant answer, and a rule of one or a few thresholds.

The rule is a decision tree so small that a person can carry it out by hand: two leaves, for more than two classes at
most four. It is chosen anew in every fold and measured on the rows left out, so its figures are those of a rule
somebody would really have found.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.data.columns import constant, identifier, kind_of
from agents.skills.data.markdown import figure
from agents.skills.evaluation.bootstrap import Interval, intervals, paired_gain, resample
from agents.skills.evaluation.scores import Outcome, joined, losses, statistics
from agents.skills.shapes import ScopeSpec
from schemas.ticket import LOWER_IS_BETTER, Ticket
from schemas.values import Task

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.evaluation.scores import Floats
    from agents.skills.training.candidates import Problem

MAX_ROWS = 5000
"""More rows are sampled: one threshold needs no more."""
_LEVELS = 8
_RESAMPLES = 1000
_FOLDS = 5
_WEIGHTED = frozenset({"balanced_accuracy", "f1", "recall"})
"""Metrics for which a rule that always gives the commonest class is worthless: classes are weighted alike."""


@dataclass(frozen=True)
class SimpleWay:
    """What one answer for all rows and the rule achieve on rows they were not made from.

    `loss` is per case: the share of wrong answers, or the mean absolute error. `leaves` say the rule in words.
    """

    rows: int
    metric: str
    leaves: tuple[str, ...]
    columns: tuple[str, ...]
    constant: dict[str, Interval]
    rule: dict[str, Interval]
    gains: dict[str, Interval]
    constant_loss: float
    rule_loss: float

    def figures(self) -> dict[str, dict[str, float]]:
        """The rule's figures under the names acceptance criteria use."""
        found: dict[str, dict[str, float]] = {"metrics": {"rows": float(self.rows)}, "baseline": {}}
        for scope, part, end in (("metrics", self.rule, ""), ("metrics", self.gains, "_gain"),
                                 ("baseline", self.constant, "")):  # fmt: skip
            for name, interval in part.items():
                found[scope][f"{name}{end}"] = interval.value
                found[scope][f"{name}{end}_lower"] = interval.lower
                found[scope][f"{name}{end}_upper"] = interval.upper
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "metric": self.metric,
            "rule": list(self.leaves),
            "columns": list(self.columns),
            "constant": {name: interval.as_dict() for name, interval in self.constant.items()},
            "rule_figures": {name: interval.as_dict() for name, interval in self.rule.items()},
            "gain": {name: interval.as_dict() for name, interval in self.gains.items()},
            "constant_loss": self.constant_loss,
            "rule_loss": self.rule_loss,
        }


def try_simple_way(
    frame: pd.DataFrame, values: pd.Series[Any], scope: ScopeSpec, ticket: Ticket, seed: int
) -> SimpleWay:
    """Measure the constant answer and the rule on folds that respect the ticket's groups and time.

    `frame` holds the typed columns without the target, `values` the target as later skills see it, both by row.
    Raises InputError when the rows cannot be folded.
    """
    import numpy as np

    from agents.skills.training.candidates import Problem, baseline
    from agents.skills.training.folds import make_folds, plan_folds

    frame, values = _sample(frame, values, ticket, seed)
    inputs, names = plain_inputs(frame, (ticket.groups, ticket.time))
    target: NDArray[Any] = np.asarray(values.to_numpy(dtype=np.float64 if not scope.classes else np.str_))
    groups = _groups(frame, ticket)
    problem = Problem(scope.task, scope.metric, len(scope.classes), len(target), seed % 2**31)
    plan = plan_folds(target, groups, wanted=_FOLDS, classes=bool(scope.classes), time=ticket.time is not None)
    folds = make_folds(plan, target, groups, problem.seed)
    ruled, floor = [], []
    for fold in folds:
        rule = _tree(problem).fit(inputs[fold.train], target[fold.train])
        ruled.append(_outcome(rule, inputs[fold.test], target[fold.test], scope))
        dummy = baseline(problem).fit(inputs[fold.train], target[fold.train])
        floor.append(_outcome(dummy, inputs[fold.test], target[fold.test], scope))
    model, constant_ = joined(ruled), joined(floor)
    alike = groups[np.concatenate([fold.test for fold in folds])]
    measured, lowest, gains = _intervals(model, constant_, alike, seed)
    whole = _tree(problem).fit(inputs, target)
    leaves, used = _words(whole, names, scope)
    return SimpleWay(
        rows=len(model.truth), metric=scope.metric, leaves=leaves, columns=used, constant=lowest, rule=measured,
        gains=gains, constant_loss=float(losses(constant_).mean()), rule_loss=float(losses(model).mean()),
    )  # fmt: skip


def _sample(
    frame: pd.DataFrame, values: pd.Series[Any], ticket: Ticket, seed: int
) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """At most MAX_ROWS rows, in order of time if the ticket names one."""
    import numpy as np

    if len(frame) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(frame), MAX_ROWS, replace=False))
        frame, values = frame.iloc[chosen], values.iloc[chosen]
    if ticket.time is not None:
        order = np.argsort(frame[ticket.time].to_numpy(), kind="stable")
        frame, values = frame.iloc[order], values.iloc[order]
    return frame, values


def plain_inputs(frame: pd.DataFrame, without: Collection[str | None]) -> tuple[Floats, list[str]]:
    """Numbers, yes/no and the commonest levels of text as one float matrix, and what each column of it means."""
    import numpy as np

    parts: list[Floats] = []
    names: list[str] = []
    for name in map(str, frame.columns):
        series = frame[name]
        if name in without or constant(series) or identifier(series):
            continue
        kind = kind_of(series)
        if kind == "numeric":
            parts.append(series.to_numpy(dtype=np.float64, na_value=np.nan))
            names.append(name)
        elif kind in ("boolean", "categorical"):
            text = series.astype("str")
            counts = text[series.notna()].value_counts()
            for level in sorted(counts.index, key=lambda each: (-int(counts[each]), str(each)))[:_LEVELS]:
                parts.append((text == level).to_numpy(dtype=np.float64))
                names.append(f"{name} = {level}")
    if not parts:
        return np.zeros((len(frame), 1)), ["(no column)"]
    return np.column_stack(parts), names


def _groups(frame: pd.DataFrame, ticket: Ticket) -> NDArray[Any]:
    import numpy as np
    import pandas as pd

    if ticket.groups is None:
        return np.arange(len(frame))
    codes: NDArray[Any] = pd.factorize(frame[ticket.groups], use_na_sentinel=False)[0]
    return codes


def _tree(problem: Problem) -> Any:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    fixed: dict[str, Any] = {"random_state": problem.seed, "min_samples_leaf": max(5, problem.rows // 100)}
    if problem.task is Task.REGRESSION:
        return DecisionTreeRegressor(max_leaf_nodes=2, **fixed)
    weight = "balanced" if problem.metric in _WEIGHTED else None
    return DecisionTreeClassifier(max_leaf_nodes=min(4, max(2, problem.classes)), class_weight=weight, **fixed)


def _outcome(model: Any, inputs: Any, target: NDArray[Any], scope: ScopeSpec) -> Outcome:
    from agents.skills.training.search import outcome_of

    return outcome_of(model, inputs, target, scope.classes)


def _intervals(
    model: Outcome, floor: Outcome, groups: NDArray[Any], seed: int
) -> tuple[dict[str, Interval], dict[str, Interval], dict[str, Interval]]:
    """Rule, constant and paired gain, each metric with its interval, from the same resamples of whole groups."""
    parts = {f"m.{name}": each for name, each in statistics(model).items()}
    parts |= {f"c.{name}": each for name, each in statistics(floor).items()}
    drawn = resample(parts, len(model.truth), _RESAMPLES, seed, groups=groups)

    def of(prefix: str) -> dict[str, Floats]:
        return {name[2:]: each for name, each in drawn.items() if name.startswith(prefix)}

    ours, theirs = of("m."), of("c.")
    found, lowest = intervals(model, ours, groups), intervals(floor, theirs, groups)
    gains = {
        name: paired_gain(found[name], lowest[name], ours[name], theirs[name], name not in LOWER_IS_BETTER)
        for name in found
        if name in lowest
    }
    return found, lowest, gains


def _words(tree: Any, names: list[str], scope: ScopeSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Each leaf as one sentence, and the columns the rule reads."""
    inner, weighted = tree.tree_, scope.metric in _WEIGHTED
    sentences = []
    for node, where in leaf_conditions(tree, names).items():
        values = inner.value[node].ravel()
        answer = scope.classes[int(values.argmax())] if scope.classes else figure(float(values[0]))
        share = "" if weighted or not scope.classes else f", {values.max() / values.sum():.0%} of them so"
        sentences.append(f"{where}: {answer} ({int(inner.n_node_samples[node])} rows{share})")
    used = sorted({names[index].split(" = ")[0] for index in inner.feature if index >= 0})
    return tuple(sentences), tuple(used)


def leaf_conditions(tree: Any, names: list[str]) -> dict[int, str]:
    """Each leaf's number with the condition that leads to it, in words; inputs are those of `plain_inputs`."""
    inner = tree.tree_
    found: dict[int, str] = {}

    def visit(node: int, conditions: tuple[str, ...]) -> None:
        if inner.children_left[node] == -1:
            found[node] = " and ".join(conditions) or "always"
            return
        name, cut = names[int(inner.feature[node])], float(inner.threshold[node])
        low, high = (f"not {name}", name) if " = " in name else (f"{name} up to {cut:.4g}", f"{name} above {cut:.4g}")
        visit(int(inner.children_left[node]), (*conditions, low))
        visit(int(inner.children_right[node]), (*conditions, high))

    visit(0, ())
    return found
