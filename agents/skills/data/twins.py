"""Rows that are alike: covariate twins, and the groups that must stay on one side of a split.

Two rows are twins when all their feature values are equal (missing equals missing). A twin on the other side of a
split is an answer given away: a random split of the RAND health data claims AUC .733, a grouped one .650.
Everything here is exact; nothing rests on hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.skills.data import columns

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MAX_TWINS = 0.01
"""Share of hold-out rows with a twin in train above which a split keeps twins together."""


def key_columns(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` by which rows are compared: no identifiers and no timestamps that all differ.

    Such a column makes every row unique and would hide all twins.
    """
    return tuple(name for name in names if not _tells_rows_apart(frame[name]))


def twin_classes(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.int64]:
    """A number for each row (rows,), the same for rows equal in all columns `names`; 0, 1, … in order of appearance.

    Without columns every row has a number of its own. O(rows × columns).
    """
    import numpy as np
    import pandas as pd

    if not names:
        return np.arange(len(frame), dtype=np.int64)
    classes: NDArray[np.int64] = np.zeros(len(frame), dtype=np.int64)
    for name in names:
        codes, levels = pd.factorize(frame[name], use_na_sentinel=True)
        combined = classes * (len(levels) + 1) + (codes.astype(np.int64) + 1)
        classes = pd.factorize(combined)[0].astype(np.int64)
    return classes


def twin_fraction(classes: NDArray[np.int64], holdout: NDArray[np.bool_]) -> float:
    """Share of hold-out rows whose twin class also occurs outside the hold-out, in [0, 1]. Both are (rows,)."""
    import numpy as np

    if not holdout.any():
        return 0.0
    return float(np.isin(classes[holdout], classes[~holdout]).mean())


def effective(groups: NDArray[np.int64]) -> float:
    """How many independent rows these groups are worth (Kish): (sum of sizes)² / sum of squared sizes."""
    import numpy as np

    sizes = np.unique(groups, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def mean_error(values: NDArray[np.float64], groups: NDArray[Any]) -> float:
    """Standard error of the mean of `values` (rows,) from the totals of whole `groups` (rows,); of rows that are all by
    themselves it is the usual one. Zero for a single group, of which nothing says how others would differ."""
    import numpy as np

    codes = np.unique(groups, return_inverse=True)[1]
    known = int(codes.max()) + 1
    totals = np.bincount(codes, values - values.mean())
    return float(np.sqrt((totals**2).sum() * known / (known - 1)) / len(values)) if known > 1 else 0.0


def merged(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
    """Group numbers (rows,) of the finest grouping in which rows alike in `first` or in `second` are together.

    Both are integer ids (rows,). The groups are the connected components of rows linked by a shared id.
    """
    import numpy as np
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = pd.factorize(first)[0], pd.factorize(second)[0]
    offset = int(left.max()) + 1
    nodes = offset + int(right.max()) + 1
    links = coo_array((np.ones(len(left), dtype=np.int8), (left, right + offset)), shape=(nodes, nodes))
    _, component = connected_components(links, directed=False)
    groups: NDArray[np.int64] = pd.factorize(component[left])[0].astype(np.int64)
    return groups


def independent(features: pd.DataFrame, groups: str | None) -> NDArray[np.int64]:
    """Group numbers (rows,) of rows that say the same thing again: covariate twins, and the rows of one value of the
    column `groups`. A row like no other is a group of its own."""
    others = [str(name) for name in features.columns if name != groups]
    classes = twin_classes(features, key_columns(features, others))
    return classes if groups is None else merged(column_groups(features[groups]), classes)


def column_groups(series: pd.Series[Any]) -> NDArray[np.int64]:
    """Group numbers (rows,) of a grouping column; every row without a value is a group of its own."""
    import numpy as np
    import pandas as pd

    codes = pd.factorize(series, use_na_sentinel=True)[0].astype(np.int64)
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(int(missing.sum()))
    return codes


def _tells_rows_apart(series: pd.Series[Any]) -> bool:
    if columns.identifier(series):
        return True
    return columns.kind_of(series) == "datetime" and columns.unique_share(series) == 1.0
