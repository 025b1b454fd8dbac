"""Rows that are all but copies, and columns that name what rows belong to: two ways in which one case is on both sides.

Twins are equal in every column; a case that was measured twice, or copied and rounded, is not, so no comparison of
values finds it. What gives it away: in every measured column at once it differs by almost nothing, and in most of them
it does differ. With few columns, or coarse ones, that happens by chance, too: with fewer than five nothing is said, and
what chance makes is told from the pairs that are a little further apart. Of independent rows as many pairs lie within a
distance as its power of their dimensions (the correlation integral, Grassberger and Procaccia 1983), so beyond NEAR and
within twice NEAR lie at least three times as many as within NEAR if they have two dimensions or more; copies have no
such neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skills.data.columns import kind_of
from agents.skills.feature.finding import Finding, Verdict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

NEAR = 0.1
"""Near twins differ by less than this in each measured column, in standard deviations."""

FEWEST_COLUMNS = 5
"""Measured columns that are needed."""

MOST = 0.05
"""Share of hold-out rows that may have a near twin beyond what chance makes."""

DIMENSIONS = 2.0
"""The fewest dimensions that rows of FEWEST_COLUMNS measures or more are taken to have. Rows along a line, such as
those of one process one after the other, are near twins indeed."""

NEIGHBOURS = 50
"""How many nearest training rows are looked at for each hold-out row."""

SAMPLE = 4_000
"""Most rows of each side looked at."""

LEVELS = 20
REPEATS = (1.5, 50.0)
"""A column that names cases has at least LEVELS of them, each met so often on average."""

WITHIN = 0.1
"""Share of a column's variance that is left within the cases of another, below which the cases fix it."""

FIXED = 0.5
"""Share of the other columns that cases must fix before their column is taken for the name of a group."""


def near_twins(train: pd.DataFrame, holdout: pd.DataFrame, seed: int) -> Finding:
    """Share of hold-out rows that are near twins of a training row; the bound is MOST more than chance makes. Exact
    twins do not count: they have their own test. Measured columns are numbers of many different values."""
    import numpy as np

    measured = [str(name) for name in train.columns if _measured(train[name])]
    share = chance = 0.0
    if len(measured) >= FEWEST_COLUMNS and len(holdout):
        rng = np.random.default_rng(seed)
        sides = [part.iloc[np.sort(rng.permutation(len(part))[:SAMPLE])][measured] for part in (train, holdout)]
        share, chance = _shares(*(_scaled(side, sides[0]) for side in sides))
    bound = min(1.0, chance + MOST)
    verdict: Verdict = "suspect" if share > bound else "ok"
    meaning = (
        f"hold-out rows within {NEAR:g} standard deviations of a training row in all {len(measured)} measures "
        f"(chance makes {chance:.4f})"
    )
    return Finding("near twins", "rows", share, bound, verdict, meaning)


def unnamed_groups(features: pd.DataFrame, groups: str | None) -> list[Finding]:
    """A finding for each column that looks like the name of what rows belong to (a patient, a machine), if it is not
    the ticket's `groups`: rows of one value agree in most other columns. The value is the share of those columns."""
    found = []
    for name in map(str, features.columns):
        if name == groups or not _names_cases(features[name]):
            continue
        others = [str(other) for other in features.columns if str(other) not in (name, groups)]
        share = _fixed(features[name], features[others]) if len(others) > 1 else 0.0
        verdict: Verdict = "suspect" if share > FIXED else "ok"
        meaning = "other columns that are all but the same in every row of one value; if it names a group, say so"
        found.append(Finding("unnamed group", name, share, FIXED, verdict, f"share of {meaning}"))
    return found


def _measured(series: pd.Series[Any]) -> bool:
    return kind_of(series) == "numeric" and series.nunique() > LEVELS


def _scaled(frame: pd.DataFrame, reference: pd.DataFrame) -> NDArray[np.float64]:
    """Columns in standard deviations of the reference (from its quartiles, which outliers do not move)."""
    import numpy as np

    spread = (reference.quantile(0.75) - reference.quantile(0.25)) / 1.349
    spread = spread.where(spread > 0, reference.std(ddof=0)).replace(0.0, 1.0)
    filled = frame.astype("float64").replace([np.inf, -np.inf], np.nan).fillna(reference.median())
    scaled: NDArray[np.float64] = (filled / spread).to_numpy()
    return scaled


def _shares(train: NDArray[np.float64], holdout: NDArray[np.float64]) -> tuple[float, float]:
    """The share of hold-out rows with a near training row, and the share that chance makes: pairs that agree in most
    columns exactly count for neither."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(train))
    search = NearestNeighbors(n_neighbors=count, metric="chebyshev", n_jobs=1).fit(train)
    distances, indices = search.kneighbors(holdout)
    rows, places = np.nonzero(distances < 2 * NEAR)
    differing = (train[indices[rows, places]] != holdout[rows]).mean(axis=1) >= 0.5
    close = distances[rows, places] < NEAR
    share = len(np.unique(rows[close & differing])) / len(holdout)
    by_chance = float((~close & differing).sum()) / len(holdout) / (2**DIMENSIONS - 1)
    return share, 1.0 - float(np.exp(-by_chance))


def _names_cases(series: pd.Series[Any]) -> bool:
    kind = kind_of(series)
    if kind not in ("numeric", "categorical"):
        return False
    if kind == "numeric" and not bool((series.dropna() % 1 == 0).all()):
        return False
    levels = series.nunique()
    return levels >= LEVELS and REPEATS[0] <= series.notna().sum() / levels <= REPEATS[1]


def _fixed(names: pd.Series[Any], others: pd.DataFrame) -> float:
    """The share of the other columns of which almost nothing varies within rows of one name (if met twice)."""
    import pandas as pd

    repeated = names.notna() & (names.groupby(names).transform("size") > 1)
    keys = names[repeated].to_numpy()
    if len(keys) < LEVELS:
        return 0.0
    fixed = []
    for column in others.columns:
        series = others.loc[repeated, column]
        if kind_of(series) == "datetime" or series.nunique() < 2:
            continue
        values = (
            pd.Series(pd.factorize(series)[0], index=series.index)
            if kind_of(series) == "categorical"
            else series.astype("float64").fillna(series.astype("float64").median())
        )
        within = (values - values.groupby(keys).transform("mean")).var(ddof=0)
        fixed.append(bool(within < WITHIN * values.var(ddof=0)))
    return sum(fixed) / len(fixed) if fixed else 0.0
