"""What only broken data explains, in a delivery of newer rows: nobody's world changes its units overnight.

Drift is the world's: values move, and a person decides what that means. A break is the pipe's: another unit, levels
nobody has heard of, rows written twice, an old file sent again. Breaks are found by comparing with what the package of
the model in use keeps of its training rows (a profile and the contract, no rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.data.columns import kind_of
from agents.skills.data.descriptions import repeated_share
from agents.skills.shapes import ROW_COLUMN

if TYPE_CHECKING:
    import pandas as pd

FACTOR = 5.0
"""From this factor between the quantiles of then and now on, a column is taken to be in another unit."""

FAR = 0.02
"""Share of rows that may lie far outside: more than the whole width of the old range beyond its ends."""

UNKNOWN = 0.02
"""Share of rows that may have a level the contract does not know."""

MORE_COPIES = 0.05
"""How much larger the share of rows that repeat another may be than it was, besides what chance gives."""

_QUANTILES = ("p5", "p25", "median", "p75", "p95")


@dataclass(frozen=True)
class Break:
    """One break: its kind (`unit`, `far outside`, `unknown levels`, `copies`, `stale`), column or `rows`, in words."""

    kind: str
    subject: str
    says: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self.kind}: {self.subject}: {self.says}"


def find_breaks(
    profile: Mapping[str, Any], contract: Mapping[str, Any], dataset: pd.DataFrame, *, same_source: bool
) -> list[Break]:
    """Every break of `dataset` (features, `__target__`, `__row__`) against profile and contract of the model in use.

    A profile from before it said how many rows repeat others, or how new they are, allows fewer of these tests.
    """
    found = []
    for column in profile["columns"]:
        name = str(column["name"])
        if name in dataset.columns and column["kind"] == "numeric" and kind_of(dataset[name]) == "numeric":
            found += _numbers(column, dataset[name])
    found += _levels(contract, dataset)
    found += _copies(profile, dataset)
    found += _stale(profile, dataset, same_source=same_source)
    return found


def _numbers(column: Mapping[str, Any], series: pd.Series[Any]) -> list[Break]:
    """Another unit, for all rows or for some."""
    import numpy as np

    name, present = str(column["name"]), series.dropna().to_numpy(dtype=np.float64)
    if "p5" not in column or len(present) < 10 or not column["sd"] > 0:
        return []
    before = np.array([column[q] for q in _QUANTILES])
    now = np.quantile(present, [0.05, 0.25, 0.5, 0.75, 0.95])
    factor = float((now @ before) / (before @ before)) if (before @ before) > 0 else 1.0
    if factor > 0 and not 1 / FACTOR < factor < FACTOR:
        gap = float(np.abs(now / factor - before).max() / max(before[-1] - before[0], column["sd"]))
        if gap < 0.5:
            return [Break("unit", name, f"its quantiles are {factor:.3g} times what they were")]
    low, high = float(column["min"]), float(column["max"])
    width = max(high - low, abs(high), abs(low)) if high == low else high - low
    far = float(((present < low - width) | (present > high + width)).mean())
    if far > FAR:
        return [Break("far outside", name, f"{far:.1%} of the values lie far beyond {low:.4g} to {high:.4g}")]
    return []


def _levels(contract: Mapping[str, Any], dataset: pd.DataFrame) -> list[Break]:
    found = []
    for item in contract["schema"][0]["properties"]:
        name = str(item["physicalName"])
        rules = [rule for rule in item.get("quality", ()) if rule.get("metric") == "invalidValues"]
        if name not in dataset.columns or not rules:
            continue
        present = dataset[name].dropna()
        strange = ~present.isin(rules[0]["arguments"]["validValues"])
        if len(present) and float(strange.mean()) > UNKNOWN:
            shown = ", ".join(repr(str(level))[:40] for level in present[strange].value_counts().index[:3])
            found.append(Break("unknown levels", name, f"{strange.mean():.1%} of the values are new, such as {shown}"))
    return found


def _copies(profile: Mapping[str, Any], dataset: pd.DataFrame) -> list[Break]:
    """More rows that repeat another than there were, in as many rows."""
    before, rows = profile.get("repeated_rows"), int(profile["rows"])
    if before is None:
        return []
    compared = dataset.drop(columns=ROW_COLUMN, errors="ignore")
    if len(compared) > rows:  # more rows repeat each other more often
        compared = compared.sample(rows, random_state=0)
    now = repeated_share(compared)
    chance = 3 * (max(before, 1 / rows) * (1 - before) * (1 / rows + 1 / len(compared))) ** 0.5
    if now > before + MORE_COPIES + chance:
        return [Break("copies", "rows", f"{now:.1%} repeat another row; it was {before:.1%}")]
    return []


def _stale(profile: Mapping[str, Any], dataset: pd.DataFrame, *, same_source: bool) -> list[Break]:
    if same_source:
        return [Break("stale", "rows", "they are byte for byte those the model in use was trained on")]
    newest = profile.get("newest")
    if newest is None or newest["column"] not in dataset.columns:
        return []
    import pandas as pd

    series = dataset[newest["column"]]
    if kind_of(series) != "datetime":
        return []
    last = series.max()
    if pd.notna(last) and last <= pd.Timestamp(newest["value"]):
        return [Break("stale", "rows", f"the newest is of {last.isoformat()}; the model knows {newest['value']}")]
    return []
