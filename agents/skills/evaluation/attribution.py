"""Shapley values of a delivered pipeline, by the columns that went in: what was encoded from a column counts for it.

A tree model is explained by the paths of its trees (exact), a linear one by its coefficients (exact), an average of
models by permutations of its inputs (sampled, seeded). shap's other way through trees, against background rows, is not
used: with version 0.51 its values do not add up to the model's output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.extras import needed
from agents.skills.feature.transform import DATETIME_PARTS, part_name
from agents.skills.shapes import FeatureMap

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.evaluation.scores import Floats

MOST_ROWS, LEAST_ROWS = 300, 20
MOST_VALUES = 20_000_000
"""Rows × encoded columns × outputs held at once: 160 MB."""
MOST_PREDICTIONS = 400_000
"""Predictions that explaining an average of models may cost."""
BACKGROUND, PERMUTED_BACKGROUND = 100, 20
PERMUTATIONS = 2
MOST_AT_ONCE = 4_000_000
"""Cells of rows that a model is asked about at once."""
TOLERANCE = 1e-6
"""Share of the outputs' range by which values may miss the output and still count as adding up."""


@dataclass(frozen=True)
class Attribution:
    """Values of shape (rows, inputs, outputs), their bases (outputs,), and what the model says (rows, outputs).

    `at` are the positions of the explained rows in the frame; `labels` name the outputs (classes, or the target).
    """

    at: NDArray[Any]
    values: Floats
    base: Floats
    output: Floats
    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    unit: str
    method: str

    @property
    def error(self) -> float:
        """The largest distance of base plus values from the model's output."""
        import numpy as np

        return float(np.abs(self.values.sum(axis=1) + self.base - self.output).max())

    @property
    def span(self) -> float:
        """The range of the outputs."""
        import numpy as np

        return float(np.ptp(self.output))

    @property
    def adds_up(self) -> bool:
        """Whether the values add up to the output; a model that says the same of every row has a range of zero."""
        return self.error <= TOLERANCE * max(self.span, 1e-3)

    @property
    def strength(self) -> Floats:
        """The mean size of each input's values over rows and outputs, (inputs,)."""
        import numpy as np

        mean: Floats = np.abs(self.values).mean(axis=(0, 2))
        return mean


def attribute(pipeline: Any, frame: pd.DataFrame, features: FeatureMap, target: str, seed: int) -> Attribution:
    """Explain up to MOST_ROWS rows of `frame` (prepared columns), drawn with `seed`.

    Raises InputError without the extra `explain`.
    """
    import numpy as np

    shap = needed("shap", "explain", "SHAP")
    generator = np.random.default_rng(seed)
    model = pipeline[-1]
    if _averages(model):
        return _by_permutation(pipeline, frame, features, target, generator)
    encoded = pipeline[:-1].transform(frame)
    outputs = len(getattr(model, "classes_", ())) or 1
    wanted = min(MOST_ROWS, max(LEAST_ROWS, MOST_VALUES // max(1, encoded.shape[1] * outputs)))
    at = np.sort(generator.permutation(len(frame))[:wanted])
    if hasattr(model, "coef_"):
        background = encoded[np.sort(generator.permutation(len(frame))[:BACKGROUND])]
        explainer = shap.LinearExplainer(model, shap.maskers.Independent(background, max_samples=len(background)))
        values, method = explainer.shap_values(encoded[at]), "the coefficients of the linear model"
    else:
        explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
        values, method = explainer.shap_values(encoded[at], check_additivity=False), "the paths of the trees"
    told = _outputs(model)(encoded[at])
    values = np.asarray(values, dtype=np.float64).reshape(len(at), encoded.shape[1], -1)
    base = np.asarray(explainer.expected_value, dtype=np.float64).reshape(-1)
    labels = _labels(model, target)
    if len(labels) == 1 and told.shape[1] == 2:  # a forest speaks of both classes, and one is enough
        values, base, told = values[..., -1:], base[-1:], told[:, -1:]
    names = encoded_inputs(pipeline[0], features)
    columns = tuple(column.name for column in features.columns)
    summed = np.zeros((len(at), len(columns), values.shape[2]))
    for place, name in enumerate(names):
        summed[:, columns.index(name), :] += values[:, place, :]
    return Attribution(at, summed, base, told, columns, labels, _unit(model, target), method)


def encoded_inputs(transformer: Any, features: FeatureMap) -> list[str]:
    """The input column behind each column that a fitted transformer gives, in its order."""
    source = {column.name: column.name for column in features.columns}
    for column in features.columns:
        if column.kind == "datetime":
            source |= {part_name(column.name, part): column.name for part in DATETIME_PARTS}
    names: list[str] = []
    for step, fitted, columns in transformer.transformers_:
        own = [source[str(name)] for name in columns]
        if step == "one_hot":
            made = fitted[-1].get_feature_names_out([str(place) for place in range(len(own))])
            own = [own[int(str(name).partition("_")[0])] for name in made]
        elif step == "numeric" and (indicator := fitted[0].indicator_) is not None:
            own += [own[int(place)] for place in indicator.features_]
        names += own
    return names


def shuffled(pipeline: Any, frame: pd.DataFrame, found: Attribution, features: FeatureMap, seed: int) -> Floats:
    """The mean distance that the output moves when one input's values are shuffled among the explained rows (inputs,):
    another measure of what the model reads, which owes nothing to shap."""
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = frame.iloc[found.at]
    told = _of_pipeline(pipeline)
    before = told(rows)
    moved = []
    for column in features.columns:
        parts = (
            [part_name(column.name, part) for part in DATETIME_PARTS] if column.kind == "datetime" else [column.name]
        )
        order = generator.permutation(len(rows))
        other = rows.copy()
        other[parts] = rows[parts].to_numpy()[order]
        moved.append(float(np.abs(told(other) - before).mean()))
    return np.array(moved)


def _averages(model: Any) -> bool:
    return type(model).__name__.startswith("Voting")


def _labels(model: Any, target: str) -> tuple[str, ...]:
    classes = tuple(str(label) for label in getattr(model, "classes_", ()))
    return classes[1:] if len(classes) == 2 else classes or (target,)


def _margin(model: Any) -> bool:
    """Whether the model is explained in log-odds: its probabilities are no sum of parts."""
    return hasattr(model, "classes_") and hasattr(model, "decision_function") and not _averages(model)


def _unit(model: Any, target: str) -> str:
    if not hasattr(model, "classes_"):
        return f"units of {target}"
    return "log-odds" if _margin(model) else "probability"


def _outputs(model: Any) -> Callable[[Any], Floats]:
    """What of the model is explained: log-odds, probabilities or numbers, always (rows, outputs)."""
    import numpy as np

    if not hasattr(model, "classes_"):
        call = model.predict
    else:
        call = model.decision_function if _margin(model) else model.predict_proba
    return lambda rows: np.asarray(call(rows), dtype=np.float64).reshape(len(rows), -1)


def _of_pipeline(pipeline: Any) -> Callable[[pd.DataFrame], Floats]:
    """The same for prepared rows, with one output for two classes."""
    told = _outputs(pipeline[-1])
    two = len(getattr(pipeline[-1], "classes_", ())) == 2

    def call(rows: pd.DataFrame) -> Floats:
        values = told(pipeline[:-1].transform(rows))
        return values[:, -1:] if two else values

    return call


def _by_permutation(
    pipeline: Any, frame: pd.DataFrame, features: FeatureMap, target: str, generator: Any
) -> Attribution:
    """Sampled values of any pipeline, its prepared columns taken as they are; text goes in and out as numbers."""
    import numpy as np

    matrix, decode = _as_numbers(frame)
    wanted = MOST_PREDICTIONS // (PERMUTED_BACKGROUND * PERMUTATIONS * (matrix.shape[1] + 1))
    wanted = min(MOST_ROWS, max(LEAST_ROWS, wanted))
    at = np.sort(generator.permutation(len(frame))[:wanted])
    background = matrix[np.sort(generator.permutation(len(frame))[:PERMUTED_BACKGROUND])]
    told = _of_pipeline(pipeline)

    def call(rows: Floats) -> Floats:
        return told(decode(rows))

    values = np.stack([_permuted(call, matrix[place], background, generator) for place in at])
    base = call(background).mean(axis=0)
    columns = tuple(column.name for column in features.columns)
    source = {name: name for name in columns} | {
        part_name(column.name, part): column.name
        for column in features.columns
        if column.kind == "datetime"
        for part in DATETIME_PARTS
    }
    summed = np.zeros((len(at), len(columns), values.shape[2]))
    for place, name in enumerate(frame.columns):
        summed[:, columns.index(source[str(name)]), :] += values[:, place, :]
    model = pipeline[-1]
    method = f"{PERMUTATIONS} permutations of the inputs against {len(background)} background rows"
    return Attribution(
        at, summed, base, told(frame.iloc[at]), columns, _labels(model, target), _unit(model, target), method
    )


def _permuted(call: Callable[[Floats], Floats], row: Floats, background: Floats, generator: Any) -> Floats:
    """The values of one row (columns, outputs): the background becomes the row column by column, in orders that come in
    pairs, one the reverse of the other (Štrumbelj and Kononenko 2014). They add up whatever the order.

    shap has the same, but compiles for half a minute before its first value.
    """
    import numpy as np

    count = len(row)
    values: Any = 0.0
    at_once = max(1, MOST_AT_ONCE // (len(background) * count))
    for _ in range(PERMUTATIONS // 2):
        drawn = generator.permutation(count)
        for order in (drawn, drawn[::-1]):
            place = np.empty(count, dtype=np.intp)
            place[order] = np.arange(count)
            means = []
            for first in range(0, count + 1, at_once):
                known = place[None, :] < np.arange(first, min(first + at_once, count + 1))[:, None]
                states = np.where(known[:, None, :], row, background[None, :, :])
                said = call(states.reshape(-1, count))
                means.append(said.reshape(*states.shape[:2], -1).mean(axis=1))
            steps = np.diff(np.concatenate(means), axis=0)
            values = values + steps[place] / PERMUTATIONS
    found: Floats = np.asarray(values, dtype=np.float64)
    return found


def _as_numbers(frame: pd.DataFrame) -> tuple[Floats, Callable[[Floats], pd.DataFrame]]:
    """Prepared columns as one array, levels by their number (-1 is missing), and the way back."""
    import numpy as np
    import pandas as pd

    levels: dict[str, Any] = {}
    columns = []
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name]):
            columns.append(frame[name].to_numpy(dtype=np.float64))
        else:
            codes, found = pd.factorize(frame[name])
            levels[str(name)] = np.append(np.asarray(found, dtype=object), np.nan)
            columns.append(codes.astype(np.float64))

    def decode(rows: Floats) -> pd.DataFrame:
        plain: dict[str, Any] = {}
        for place, name in enumerate(frame.columns):
            known = levels.get(str(name))
            plain[str(name)] = rows[:, place] if known is None else known[rows[:, place].astype(np.intp)]
        return pd.DataFrame(plain, columns=frame.columns)

    return np.column_stack(columns), decode


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Spearman's rank correlation of two measures of the same inputs; None where it is not defined."""
    import numpy as np
    from scipy.stats import spearmanr

    if len(ours) < 3 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return None
    return float(spearmanr(ours, theirs).statistic)
