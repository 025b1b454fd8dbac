"""Which rows a model gets wrong: groups by what they have in common, the likely cause of each, confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

from agents.skills.data import twins
from agents.skills.data.personal import scan
from agents.skills.evaluation.scores import ClassOutcome, Outcome, losses
from agents.skills.lead.simple_way import leaf_conditions, plain_inputs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

GROUPS = 6
"""Most groups: more could not be read, and each would hold too few rows."""
MIN_ROWS = 20
CONFIDENT = 0.9
"""Probability from which a wrong answer is a confident mistake."""
FAR = 4.0
"""Errors beyond this many times the median error are the mistakes of a model for numbers."""
EXAMPLES = 5


@dataclass(frozen=True)
class ErrorGroup:
    """Rows with something in common: their mean loss beside that of all other rows, and the likely cause.

    `clear`: higher than elsewhere by more than chance explains among as many groups. `weight` is the loss per case of
    all rows that would go if the group did as well as the others.
    """

    condition: str
    rows: int
    loss: float
    elsewhere: float
    se: float
    clear: bool
    weight: float
    cause: str
    evidence: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def group_errors(outcome: Outcome, frame: pd.DataFrame, groups: NDArray[Any], seed: int) -> tuple[ErrorGroup, ...]:
    """Groups found on half of the rows and measured on the other half, the heaviest first.

    `frame` (rows, raw columns) and `groups` (rows,) are in the order of the outcome. Groups found and measured on the
    same rows would always look worse than they are.
    """
    import numpy as np
    from sklearn.tree import DecisionTreeRegressor

    inputs, names = plain_inputs(frame, ())
    loss = losses(outcome)
    known = np.unique(groups)
    finding = np.isin(groups, np.random.default_rng(seed).permutation(known)[: len(known) // 2])
    if finding.sum() < 2 * MIN_ROWS or (~finding).sum() < 2 * MIN_ROWS:
        return ()
    least = max(MIN_ROWS, int(finding.sum() * 0.05))
    tree = DecisionTreeRegressor(max_leaf_nodes=GROUPS, min_samples_leaf=least, random_state=seed % 2**31)
    tree.fit(inputs[finding], loss[finding])
    conditions = leaf_conditions(tree, names)
    leaves = tree.apply(inputs)
    found = []
    for leaf, condition in conditions.items():
        inside = (leaves == leaf) & ~finding
        outside = (leaves != leaf) & ~finding
        if inside.sum() >= MIN_ROWS // 2 and outside.any():
            found.append(_group(condition, inside, outside, outcome, loss, frame, groups, len(conditions)))
    return tuple(sorted(found, key=lambda each: (-each.weight, each.condition)))


def _group(
    condition: str,
    inside: Mask,
    outside: Mask,
    outcome: Outcome,
    loss: Any,
    frame: pd.DataFrame,
    groups: NDArray[Any],
    compared: int,
) -> ErrorGroup:
    from statistics import NormalDist

    here, there = loss[inside], loss[outside]
    se = sqrt(_variance(here, groups[inside]) + _variance(there, groups[outside]))
    difference = float(here.mean() - there.mean())
    clear = difference > NormalDist().inv_cdf(1 - 0.025 / compared) * se > 0
    cause, evidence = "does no worse", "–"
    if difference > 0:
        cause, evidence = _cause(inside, outside, outcome, loss, frame)
    return ErrorGroup(
        condition=condition,
        rows=int(inside.sum()),
        loss=float(here.mean()),
        elsewhere=float(there.mean()),
        se=se,
        clear=clear,
        weight=max(0.0, difference) * float(inside.sum() / (inside.sum() + outside.sum())),
        cause=cause,
        evidence=evidence,
    )


def _variance(values: Any, groups: NDArray[Any]) -> float:
    """Of the mean of rows that belong to `groups`; a share of exactly 0 or 1 counts as if one more group were half
    wrong."""
    error = twins.mean_error(values, groups)
    return error**2 if error > 0.0 else 0.25 / len(set(groups.tolist())) ** 2


def _cause(inside: Mask, outside: Mask, outcome: Outcome, loss: Any, frame: pd.DataFrame) -> tuple[str, str]:
    """The first rule that holds, with its figures; else that no rule does."""
    import numpy as np

    missing, other = (float(frame[part].isna().to_numpy().mean()) for part in (inside, outside))
    if missing >= 0.05 and missing >= 2 * other:
        return "values are missing", f"{missing:.0%} of the cells are empty, {other:.0%} elsewhere"
    if isinstance(outcome, ClassOutcome):
        sure, usual = (float(outcome.probabilities[part].max(axis=1).mean()) for part in (inside, outside))
        if usual - sure >= 0.05:
            return (
                "the columns do not tell these rows apart",
                f"the model is sure of its answers by {sure:.0%} on average, by {usual:.0%} elsewhere",
            )
        wrong = inside & (loss > 0)
        if wrong.sum() >= 5:
            called, times = np.unique(outcome.predicted[wrong], return_counts=True)
            if times.max() >= 0.8 * wrong.sum():
                return (
                    "one answer is given too often",
                    f"{times.max()} of {wrong.sum()} wrong answers are class {called[times.argmax()] + 1}",
                )
    else:
        error = outcome.predicted[inside] - outcome.truth[inside]
        bias, se = float(error.mean()), float(error.std(ddof=1) / sqrt(len(error)))
        if abs(bias) > 2 * se and abs(bias) > 0.5 * float(loss[inside].mean()):
            return "predictions lie to one side", f"too {'high' if bias > 0 else 'low'} by {abs(bias):.4g} on average"
        spread, usual = (float(outcome.truth[part].std()) for part in (inside, outside))
        if spread > 1.3 * usual:
            return "the target varies more here", f"standard deviation {spread:.4g}, elsewhere {usual:.4g}"
    share = float(inside.sum() / (inside.sum() + outside.sum()))
    if share < 0.1:
        return "few rows to learn from", f"{share:.0%} of the rows"
    return "not seen in the columns", "no rule found one: a person who knows the field should look"


def mistakes(
    outcome: Outcome, frame: pd.DataFrame, columns: Sequence[str], rows: Any, classes: Sequence[str]
) -> dict[str, Any]:
    """Confident mistakes: how many, and the clearest as examples with up to three columns that tell of nobody.

    `rows` are the rows' numbers in the data set, in the order of the outcome; `columns` the most important first.
    """
    import numpy as np

    loss = losses(outcome)
    if isinstance(outcome, ClassOutcome):
        weight = np.where(loss > 0, outcome.probabilities.max(axis=1), 0.0)
        limit, what = CONFIDENT, f"wrong with a probability of {CONFIDENT:.0%} or more"
    else:
        weight = loss
        limit = FAR * (float(np.median(loss)) or float(loss.mean()))
        what = f"off by more than {limit:.4g}, {FAR:g} times the median error"
    far = np.flatnonzero(weight >= limit) if limit > 0 else np.array([], dtype=np.intp)
    worst = far[np.argsort(-weight[far], kind="stable")][:EXAMPLES]
    personal = set(scan(frame))
    shown = [name for name in columns if name in frame.columns and name not in personal][:3]
    return {
        "what": what,
        "count": len(far),
        "share": float(len(far) / len(loss)),
        "left_out_columns": sorted(personal),
        "examples": [_example(outcome, int(at), frame, shown, int(rows[at]), classes) for at in worst],
    }


def _example(
    outcome: Outcome, at: int, frame: pd.DataFrame, shown: Sequence[str], row: int, classes: Sequence[str]
) -> dict[str, Any]:
    values = {name: str(frame[name].iloc[at])[:40] for name in shown}
    if isinstance(outcome, ClassOutcome):
        called = int(outcome.predicted[at])
        return {
            "row": row, "actual": classes[int(outcome.truth[at])], "predicted": classes[called],
            "probability": float(outcome.probabilities[at, called]), "values": values,
        }  # fmt: skip
    return {
        "row": row, "actual": float(outcome.truth[at]), "predicted": float(outcome.predicted[at]),
        "error": float(outcome.predicted[at] - outcome.truth[at]), "values": values,
    }  # fmt: skip
