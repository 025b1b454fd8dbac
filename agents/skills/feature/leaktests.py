"""Tests for answers that slipped into the inputs. Each gives a value, a threshold and a verdict.

Thresholds come from measurements on real data: a legitimate single measurement separates tumours with AUC .981, so
only .995 is suspicious; and train and hold-out of a fair split differ by chance, so the bound follows the sample size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from agents.skills.data import twins
from agents.skills.data.association import rank_auc, separation, spearman
from agents.skills.data.columns import kind_of
from agents.skills.feature.finding import Finding, Verdict
from agents.skills.feature.transform import build_transformer, prepare_frame
from agents.skills.shapes import FeatureMap

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

TOO_GOOD = 0.995
"""AUC or rank correlation of a single column with the target above which it is taken for the answer in disguise."""

ROWS_PER_VALUE = 5.0
"""Rows each value needs on average before `this value always has that target` means anything."""

STANDARD_ERRORS = 4.0
FOLDS = 3
SAMPLE = 20_000
"""Most rows the train-against-hold-out test looks at."""


def single_feature(series: pd.Series[Any], target: pd.Series[Any], classes: tuple[str, ...], seed: int) -> Finding:
    """How well one column alone tells the target: mean one-against-rest AUC, or |Spearman| for numbers.

    Numbers count by rank and, for classes, also by a small cross-validated tree (which sees what is not monotone);
    categories by cross-validated target means, so that rare levels cannot remember their own rows. Whether a value is
    missing counts as a column too. The best of these is the value.
    """
    import numpy as np

    if classes:
        positives = [np.asarray(target == label, dtype=np.bool_) for label in classes]
        value = max(_class_scores(series, target, positives, seed))
    else:
        numbers = _numbers(series) if kind_of(series) != "categorical" else _means(series, target, seed)
        value = max(spearman(numbers, target), _gap_correlation(series, target))
    verdict: Verdict = "suspect" if value > TOO_GOOD else "ok"
    measure = "AUC" if classes else "|Spearman|"
    return Finding("single feature", str(series.name), value, TOO_GOOD, verdict, f"{measure} of this column alone")


def exact_function(series: pd.Series[Any], target: pd.Series[Any]) -> Finding:
    """Share of rows whose value (missing is one) always comes with the same target; 0 if values hardly repeat."""
    values = series.astype("str").where(series.notna(), "")
    levels = values.nunique()
    share = 0.0
    if levels > 1 and len(values) / levels >= ROWS_PER_VALUE and target.nunique() > 1:
        spread = target.groupby(values.to_numpy()).transform("nunique")
        share = float((spread == 1).mean())
    verdict: Verdict = "suspect" if share > TOO_GOOD else "ok"
    return Finding("exact function", str(series.name), share, TOO_GOOD, verdict, "rows whose value fixes the target")


def twin_rows(train: pd.DataFrame, holdout: pd.DataFrame, groups: str | None) -> tuple[Finding, NDArray[np.int64]]:
    """Share of hold-out rows with a covariate twin in train, and the independent groups of all rows, train first."""
    import numpy as np
    import pandas as pd

    both = pd.concat([train, holdout], ignore_index=True)
    names = [str(name) for name in both.columns if name != groups]
    classes = twins.twin_classes(both, twins.key_columns(both, names))
    side = np.arange(len(both)) >= len(train)
    share = twins.twin_fraction(classes, side)
    verdict: Verdict = "suspect" if share > twins.MAX_TWINS else "ok"
    finding = Finding(
        "duplicate rows", "rows", share, twins.MAX_TWINS, verdict, "hold-out rows whose features equal a training row's"
    )
    if groups is not None:
        classes = twins.merged(classes, twins.column_groups(both[groups]))
    return finding, classes


def shared_groups(train: pd.DataFrame, holdout: pd.DataFrame, groups: str) -> Finding:
    """Share of hold-out rows whose group (patient, customer, machine) is in train, too."""
    both = set(train[groups].dropna()) & set(holdout[groups].dropna())
    share = float(holdout[groups].isin(both).mean()) if len(holdout) else 0.0
    verdict: Verdict = "suspect" if share > 0 else "ok"
    return Finding("shared groups", "rows", share, 0.0, verdict, f"hold-out rows whose {groups} is in train")


def shift(
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    mapped: FeatureMap,
    groups: NDArray[np.int64],
    *,
    by_time: bool,
    seed: int,
) -> Finding:
    """Adversarial validation: the cross-validated AUC of a model that tells hold-out rows from training rows.

    After a fair split it cannot: suspicious above 0.5 + 4 standard errors of the AUC of a coin (Hanley and McNeil 1982)
    for as many independent groups as there are on each side. `groups` are those of all rows, train first; folds keep
    them whole. A later hold-out does differ from the past, so for a split by time it is a warning.
    """
    import numpy as np
    import pandas as pd

    both = pd.concat([train, holdout], ignore_index=True)
    later = np.arange(len(both)) >= len(train)
    if len(both) > SAMPLE:
        chosen = np.sort(np.random.default_rng(seed).choice(len(both), SAMPLE, replace=False))
        both, later, groups = both.iloc[chosen].reset_index(drop=True), later[chosen], groups[chosen]
    area = _told_apart(prepare_frame(both, mapped), later, groups, mapped, seed)
    bound = 0.5 + STANDARD_ERRORS * _chance_error(*(twins.effective(groups[side]) for side in (~later, later)))
    verdict: Verdict = "ok" if area <= bound else "warning" if by_time else "suspect"
    return Finding("shift", "rows", area, bound, verdict, "AUC of telling hold-out rows from training rows")


def _chance_error(first: float, second: float) -> float:
    """Standard error of the AUC of a random score: sqrt((m + n + 1) / (12 m n)); infinite if a side is empty."""
    return math.sqrt((first + second + 1) / (12 * first * second)) if first and second else math.inf


def _told_apart(
    frame: pd.DataFrame, later: NDArray[np.bool_], groups: NDArray[np.int64], mapped: FeatureMap, seed: int
) -> float:
    """Mean AUC over folds of whole groups; 0.5 when no fold has both sides. One thread, so that it repeats exactly."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from threadpoolctl import threadpool_limits

    state = seed % 2**32
    grouped = len(np.unique(groups)) < len(groups)
    count = min(FOLDS, len(np.unique(groups)), int(later.sum()), int((~later).sum()))
    if count < 2:
        return 0.5
    splitter = GroupKFold if grouped else StratifiedKFold
    folds = splitter(count, shuffle=True, random_state=state)
    areas = []
    with threadpool_limits(limits=1):
        for fit, score in folds.split(frame, later, groups if grouped else None):
            if len(set(later[fit].tolist())) < 2 or len(set(later[score].tolist())) < 2:
                continue
            model = HistGradientBoostingClassifier(
                max_iter=30, max_leaf_nodes=15, min_samples_leaf=20, early_stopping=False, random_state=state
            )
            pipeline = Pipeline([("transform", build_transformer(mapped)), ("model", model)])
            pipeline.fit(frame.iloc[fit], later[fit])
            areas.append(rank_auc(pipeline.predict_proba(frame.iloc[score])[:, 1], later[score]))
    return float(np.mean(areas)) if areas else 0.5


def _class_scores(
    series: pd.Series[Any], target: pd.Series[Any], positives: list[NDArray[np.bool_]], seed: int
) -> list[float]:
    """Mean one-against-rest AUCs of the column in each of its readings; two classes need one comparison only."""
    import numpy as np

    asked = positives[1:] if len(positives) == 2 else positives
    gaps = series.isna().to_numpy(dtype=np.float64)
    scores = [float(np.mean([separation(gaps, positive) for positive in asked]))]
    if kind_of(series) == "categorical":
        means = [_means(series, positive.astype(np.float64), seed) for positive in asked]
        return [
            *scores,
            float(np.mean([rank_auc(mean, positive) for mean, positive in zip(means, asked, strict=True)])),
        ]
    numbers = _numbers(series)
    scores.append(float(np.mean([separation(numbers, positive) for positive in asked])))
    tree = _tree_scores(numbers, np.argmax(np.stack(positives), axis=0), seed)
    own = tree[:, 1:] if len(positives) == 2 else tree
    return [*scores, float(np.mean([rank_auc(own[:, index], positive) for index, positive in enumerate(asked)]))]


def _tree_scores(numbers: NDArray[np.float64], codes: NDArray[np.intp], seed: int) -> NDArray[np.float64]:
    """Cross-validated class probabilities (rows, classes) of a small tree on one column (rows,), missing included."""
    import numpy as np
    from sklearn.tree import DecisionTreeClassifier

    count = int(codes.max()) + 1
    tree: NDArray[np.float64] = np.full((len(codes), count), 1.0 / count, dtype=np.float64)
    for fit, score in _folds(len(codes), seed):
        model = DecisionTreeClassifier(max_leaf_nodes=4 * count, min_samples_leaf=5, random_state=seed % 2**32)
        model.fit(numbers[fit, None], codes[fit])
        tree[np.ix_(score, model.classes_)] = model.predict_proba(numbers[score, None])
    return tree


def _means(series: pd.Series[Any], target: Any, seed: int) -> NDArray[np.float64]:
    """Cross-validated mean target (rows,) of each row's level, missing being a level; the overall mean for new ones."""
    import numpy as np
    import pandas as pd

    levels = series.astype("str").where(series.notna(), "").to_numpy()
    values = np.asarray(target, dtype=np.float64)
    means: NDArray[np.float64] = np.full(len(values), float(values.mean()), dtype=np.float64)
    for fit, score in _folds(len(values), seed):
        known = pd.Series(values[fit]).groupby(levels[fit]).mean()
        means[score] = pd.Series(levels[score]).map(known).fillna(values[fit].mean()).to_numpy(dtype=np.float64)
    return means


def _folds(rows: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    from sklearn.model_selection import KFold

    return list(KFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(range(rows)))


def _numbers(series: pd.Series[Any]) -> NDArray[np.float64]:
    """A numeric, boolean or datetime column as float64 (rows,), missing as NaN."""
    import numpy as np
    import pandas as pd

    if kind_of(series) == "datetime":
        return np.asarray((series - pd.Timestamp("1970-01-01")).dt.total_seconds(), dtype=np.float64)
    return np.asarray(series.astype("float64"), dtype=np.float64)


def _gap_correlation(series: pd.Series[Any], target: pd.Series[Any]) -> float:
    return spearman(series.isna().astype("float64"), target) if series.isna().any() else 0.0
