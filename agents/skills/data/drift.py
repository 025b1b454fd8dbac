"""How far newer rows have moved from older ones, column by column: the one calculation of drift there is.

Of a model's training rows only their profile is kept, so numbers are compared at the edges the profile has: the
population stability index (PSI) over its bins, and the largest distance between the two distribution functions at those
edges (a lower bound of the Kolmogorov-Smirnov statistic D). PSI is blind on few distinct values, D is not; levels of
text are compared by PSI and by total variation. Both have a limit that grows when rows are few and columns are many, so
that chance is no drift. `compare_rows` does the same for older rows that are at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import log, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PSI_LIMIT = 0.2
"""The customary bound of "moved" (0.1 is "watch")."""
DISTANCE_LIMIT = 0.2
MISSING_LIMIT = 0.1
"""Change of the share of missing cells."""
CHANCE = 0.01
"""Chance that rows of the same kind exceed a limit in any of the compared columns, where chance sets the limit."""
_QUANTILES = ("p5", "p25", "median", "p75", "p95")
_FEWEST_EDGES = 3
"""Different quantiles there must be; else bins of equal width tell more."""


@dataclass(frozen=True)
class Moved:
    """One column: `psi` and `distance` with their limits, missing shares before and now, and whether it `moved`."""

    name: str
    kind: str
    psi: float
    psi_limit: float
    distance: float
    distance_limit: float
    missing_before: float
    missing_now: float
    moved: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare_columns(
    profile: Mapping[str, Any], rows: pd.DataFrame, groups: NDArray[np.int64] | None = None
) -> list[Moved]:
    """Every column of the profile that `rows` has, most moved first. Times are left out: they always move.

    Rows of one number in `groups` (rows,) are of one case (by default each is its own): they say the same thing again,
    and whole cases come and go by chance, so that rows are worth less (Kish's effective number). A few large cases can
    leave so little of them that nothing is ever more than chance; so one row of each case is compared, too, with one
    row of each case before, and so is how many rows a case has (a load that was repeated shows there). A column has
    moved if it has in either comparison.
    """
    from agents.skills.data.twins import effective

    worth = 1.0 if groups is None else effective(groups) / max(1, len(rows))
    compared = [c for c in profile["columns"] if c["name"] in rows.columns and c["kind"] != "datetime"]
    before = profile.get("independent_rows", profile["rows"])
    cases = None if groups is None else profile.get("cases")
    tests = len(compared) if cases is None else 2 * len(compared) + 1
    found = [compare_column(c, rows[c["name"]], int(before), tests, worth) for c in compared]
    if groups is not None and cases is not None:
        found = [*_either(found, _of_cases(cases, rows, groups, tests)), *_sizes(cases, groups, tests)]
    return sorted(found, key=lambda each: (not each.moved, -each.psi, each.name))


def _of_cases(cases: Mapping[str, Any], rows: pd.DataFrame, groups: NDArray[np.int64], tests: int) -> dict[str, Moved]:
    """By name every column of one row of each case, beside the same of before."""
    import numpy as np

    first = rows.iloc[np.sort(np.unique(groups, return_index=True)[1])]
    return {
        str(c["name"]): compare_column(c, first[c["name"]], int(cases["rows"]), tests)
        for c in cases["columns"]
        if c["name"] in rows.columns
    }


def _sizes(cases: Mapping[str, Any], groups: NDArray[np.int64], tests: int) -> list[Moved]:
    """How many rows a case has, beside before; nothing when now each row is its own case."""
    import pandas as pd

    from agents.skills.data.descriptions import sizes_of

    sizes = sizes_of(pd.Series(groups))
    if "sizes" not in cases or len(sizes) == len(groups):
        return []
    return [compare_column(cases["sizes"], sizes, int(cases["rows"]), tests)]


def _either(of_rows: list[Moved], of_cases: Mapping[str, Moved]) -> list[Moved]:
    """Of each column the comparison of rows, or that of cases where only this one says that it moved."""
    return [
        case if (case := of_cases.get(each.name)) is not None and case.moved and not each.moved else each
        for each in of_rows
    ]


def compare_rows(before: pd.DataFrame, now: pd.DataFrame) -> list[Moved]:
    """Every column of `now` beside the same of `before`, as `compare_columns` has them."""
    from agents.skills.data.descriptions import describe_values

    columns = [describe_values(before[name]) for name in now.columns]
    return compare_columns({"rows": len(before), "columns": columns}, now)


def compare_column(
    column: Mapping[str, Any], series: pd.Series[Any], rows_before: int, columns: int = 1, worth: float = 1.0
) -> Moved:
    """One column of a profile (see `descriptions.describe_values`) beside its newer values; it is one of `columns`, and
    each newer row is `worth` so many independent ones."""
    from scipy.stats import chi2

    present = series.dropna()
    before_rows = max(1, round(rows_before * (1 - column["missing"])))
    if column["kind"] == "numeric" and "histogram" in column:
        before, now, distance = _numbers(column, present)
    else:
        before, now = _levels(column, present)
        distance = float(abs(before - now).sum() / 2) if len(present) else 0.0
    psi = _psi(before, now, before_rows, len(present))
    few = 1 / before_rows + 1 / max(1.0, worth * len(present))
    chance = CHANCE / columns
    # Without drift PSI / (1/n + 1/m) is chi-square of one degree less than there are bins, and D follows Kolmogorov.
    psi_limit = max(PSI_LIMIT, float(chi2.isf(chance, max(1, len(before) - 1))) * few)
    distance_limit = max(DISTANCE_LIMIT, sqrt(log(2 / chance) / 2 * few))
    missing = float(series.isna().mean())
    emptied = abs(missing - column["missing"]) > MISSING_LIMIT
    return Moved(
        name=str(column["name"]),
        kind=str(column["kind"]),
        psi=round(psi, 6),
        psi_limit=round(psi_limit, 6),
        distance=round(distance, 6),
        distance_limit=round(distance_limit, 6),
        missing_before=float(column["missing"]),
        missing_now=missing,
        moved=bool(psi > psi_limit or distance > distance_limit or emptied),
    )


def _numbers(
    column: Mapping[str, Any], present: pd.Series[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Shares before and now in the profile's bins, and the largest distance of the distribution functions there."""
    import numpy as np

    values = np.sort(present.to_numpy(dtype=np.float64))
    count = max(1, len(values))
    edges = np.asarray(column["histogram"]["edges"], dtype=np.float64)
    counts = np.asarray(column["histogram"]["counts"], dtype=np.float64)
    bins_before = counts / max(1.0, counts.sum())
    inner = edges[1:-1]  # the outer bins take what lies beyond them
    below = np.searchsorted(values, inner, side="left") / count
    bins_now = np.diff(np.concatenate([[0.0], below, [1.0]]))
    distances = [abs(np.cumsum(bins_before)[:-1] - below).max(initial=0.0)]
    quantiles, first = np.unique([column[name] for name in _QUANTILES], return_index=True)
    if len(quantiles) >= _FEWEST_EDGES:
        shares = np.asarray(column["reached"], dtype=np.float64)[first]
        reached = np.searchsorted(values, quantiles, side="right") / count
        distances.append(abs(shares - reached).max())
        bins_before = np.diff(np.concatenate([[0.0], shares, [1.0]]))
        bins_now = np.diff(np.concatenate([[0.0], reached, [1.0]]))
    return bins_before, bins_now, float(max(distances)) if len(values) else 0.0


def _levels(column: Mapping[str, Any], present: pd.Series[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares before and now of the profile's levels, all others together as the last."""
    import numpy as np

    top: Mapping[str, float] = column.get("top", {})
    known = present.astype("str").value_counts(normalize=True)
    before = np.array([*top.values(), max(0.0, 1.0 - sum(top.values()))])
    shares = [float(known.get(level, 0.0)) for level in top]
    return before, np.array([*shares, max(0.0, 1.0 - sum(shares))])


def _psi(before: NDArray[np.float64], now: NDArray[np.float64], rows_before: int, rows_now: int) -> float:
    """The population stability index; half a row is added to each bin, so that an empty one is no infinity."""
    import numpy as np

    if not rows_now:
        return 0.0
    expected = (before * rows_before + 0.5) / (rows_before + 0.5 * len(before))
    actual = (now * rows_now + 0.5) / (rows_now + 0.5 * len(now))
    return float(((actual - expected) * np.log(actual / expected)).sum())
