"""How much one column says of the target: rank measures that need no model and no scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skills.data.columns import kind_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def rank_auc(values: Any, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of `values` (rows,) as a score for `positive` (rows,), ties counting one half.

    The Mann-Whitney statistic over the product of the class sizes, in [0, 1]. Rows with a missing value are left out;
    0.5 if then one class is empty.
    """
    import numpy as np
    from scipy.stats import rankdata

    numbers = np.asarray(values, dtype=np.float64)
    present = np.isfinite(numbers)
    ranks, yes = rankdata(numbers[present]), positive[present]
    many, few = int(yes.sum()), int((~yes).sum())
    if not many or not few:
        return 0.5
    return float((ranks[yes].sum() - many * (many + 1) / 2) / (many * few))


def separation(values: Any, positive: NDArray[np.bool_]) -> float:
    """`rank_auc` in whichever direction is better, in [0.5, 1]."""
    area = rank_auc(values, positive)
    return max(area, 1.0 - area)


def spearman(values: Any, target: Any) -> float:
    """Absolute rank correlation in [0, 1] over rows where both are present; 0 if either is constant there."""
    import numpy as np
    from scipy.stats import rankdata

    left, right = np.asarray(values, dtype=np.float64), np.asarray(target, dtype=np.float64)
    both = np.isfinite(left) & np.isfinite(right)
    if both.sum() < 3:
        return 0.0
    first, second = rankdata(left[both]), rankdata(right[both])
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(min(1.0, abs(np.corrcoef(first, second)[0, 1])))


def correlation_ratio(categories: pd.Series[Any], numbers: Any) -> float:
    """Eta: the root of the share of the variance of `numbers` that lies between categories, in [0, 1]."""
    import numpy as np
    import pandas as pd

    table = pd.DataFrame(
        {"category": categories.astype("str").to_numpy(), "number": np.asarray(numbers, dtype="float64")}
    )
    table = table[np.isfinite(table["number"])]
    total = float(((table["number"] - table["number"].mean()) ** 2).sum())
    if not total:
        return 0.0
    means = table.groupby("category")["number"].transform("mean")
    return float(np.sqrt(min(1.0, float(((means - table["number"].mean()) ** 2).sum()) / total)))


def cramers_v(first: pd.Series[Any], second: pd.Series[Any]) -> float:
    """Cramér's V with the bias correction of Bergsma (2013), in [0, 1]; missing is a category."""
    import numpy as np
    import pandas as pd

    counts = pd.crosstab(first.astype("str").to_numpy(), second.astype("str").to_numpy()).to_numpy(dtype=np.float64)
    total = counts.sum()
    height, width = counts.shape
    if min(height, width) < 2 or total < 2:
        return 0.0
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / total
    phi = float(((counts - expected) ** 2 / expected).sum() / total)
    corrected = max(0.0, phi - (height - 1) * (width - 1) / (total - 1))
    sides = min(height - (height - 1) ** 2 / (total - 1), width - (width - 1) ** 2 / (total - 1)) - 1
    return float(np.sqrt(min(1.0, corrected / sides))) if sides > 0 else 0.0


def association(series: pd.Series[Any], target: pd.Series[Any], classes: tuple[str, ...]) -> tuple[str, float]:
    """The fitting measure's name and value for a typed column and the target.

    Numbers: ROC AUC for two classes, eta (of ranks) for more, Spearman for a numeric target. Categories: Cramér's V, or
    eta for a numeric target.
    """
    import numpy as np
    import pandas as pd

    kind = kind_of(series)
    if kind in ("categorical", "boolean"):
        if classes:
            return "Cramér's V", cramers_v(series, target)
        return "eta", correlation_ratio(series, target)
    numbers = series.astype("float64") if kind == "numeric" else _epoch(series)
    if not classes:
        return "Spearman", spearman(numbers, target)
    if len(classes) == 2:
        return "AUC", separation(numbers, np.asarray(target == classes[1], dtype=np.bool_))
    return "eta", correlation_ratio(target, pd.Series(numbers).rank().to_numpy())


def _epoch(series: pd.Series[Any]) -> pd.Series[Any]:
    """Datetimes as seconds since 1970, missing as NaN."""
    import pandas as pd

    return (series - pd.Timestamp("1970-01-01")).dt.total_seconds()
