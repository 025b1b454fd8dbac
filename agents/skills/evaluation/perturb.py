"""Hold-out rows spoilt on purpose, the ways rows are spoilt in use. Seeded: the same rows give the same spoilt ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.skills.shapes import FeatureMap

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

UNSEEN = "a level nobody has seen"
NOISE, MISSING, EXTREME = 0.1, 0.1, 0.05


@dataclass(frozen=True)
class Spoilt:
    """Rows after one kind of damage; `what` says in words which."""

    name: str
    what: str
    rows: pd.DataFrame


def spoilt(rows: pd.DataFrame, features: FeatureMap, seed: int) -> Iterator[Spoilt]:
    """Every kind of damage that the columns can take. `rows` stays as it is."""
    import numpy as np

    numeric = [column.name for column in features.columns if column.kind == "numeric"]
    text = [column.name for column in features.columns if column.kind == "categorical"]
    if numeric:
        yield Spoilt(
            "noise",
            f"noise of {NOISE:.0%} of a standard deviation on every number",
            _noise(rows, numeric, np.random.default_rng(seed)),
        )
        yield Spoilt(
            "extremes",
            f"in {EXTREME:.0%} of the rows every number ten interquartile ranges above its median",
            _extremes(rows, numeric, np.random.default_rng(seed + 1)),
        )
    names = [column.name for column in features.columns]
    yield Spoilt(
        "missing",
        f"{MISSING:.0%} of all cells without a value",
        _missing(rows, names, MISSING, np.random.default_rng(seed + 2)),
    )
    if text:
        yield Spoilt("unseen", "one categorical column after the other holds a level never seen", _unseen(rows, text))


def _noise(rows: pd.DataFrame, names: list[str], random: np.random.Generator) -> pd.DataFrame:
    import pandas as pd

    found = rows.copy()
    for name in names:
        values = pd.to_numeric(found[name], errors="coerce").astype("float64")
        found[name] = values + random.normal(0.0, 1.0, len(values)) * NOISE * (values.std(ddof=0) or 0.0)
    return found


def _extremes(rows: pd.DataFrame, names: list[str], random: np.random.Generator) -> pd.DataFrame:
    import pandas as pd

    found = rows.copy()
    hit = random.random(len(found)) < EXTREME
    hit[random.integers(len(found))] = True  # few rows: at least one
    for name in names:
        values = pd.to_numeric(found[name], errors="coerce").astype("float64")
        low, middle, high = values.quantile([0.25, 0.5, 0.75])
        found[name] = values.mask(hit, middle + 10 * ((high - low) or abs(middle) or 1.0))
    return found


def _missing(rows: pd.DataFrame, names: list[str], share: float, random: np.random.Generator) -> pd.DataFrame:
    found = rows.copy()
    for name in names:
        found[name] = found[name].astype(object).mask(random.random(len(found)) < share, None)
    return found


def _unseen(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Row i has the unseen level in the text column i modulo their number."""
    import numpy as np

    found = rows.copy()
    turn = np.arange(len(found)) % len(names)
    for number, name in enumerate(names):
        found[name] = found[name].astype(object).mask(turn == number, UNSEEN)
    return found


def empty_row(rows: pd.DataFrame, features: FeatureMap) -> pd.DataFrame:
    """One row without a single value."""
    import pandas as pd

    found = rows.iloc[:1].copy()
    for column in features.columns:
        found[column.name] = pd.Series([None], index=found.index, dtype=object)
    return found
