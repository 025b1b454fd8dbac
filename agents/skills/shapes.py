"""The shapes of the JSON artifacts that skills hand to each other.

Each is written with `context.write_json(name, shape.model_dump(mode="json"))`, read with `Shape.model_validate(...)`.
"""

from __future__ import annotations

from typing import Literal

from schemas.values import Snapshot, Task, Value, later

TARGET_COLUMN = "__target__"
"""Name of the target column in `train.parquet` and `holdout-labels.parquet`."""
ROW_COLUMN = "__row__"
"""Integer row number in the extracted dataset; joins features, labels and predictions."""
GROUP_COLUMN = "__group__"
"""Integer group id in `train.parquet` (same id: not to be split across folds); each row its own group if ungrouped."""


class ScopeSpec(Value):
    """`scope.json`: what the session sets out to do."""

    task: Task
    target: str
    metric: str
    """What to optimise, one of `schemas.ticket.CLASSIFICATION_METRICS` or `REGRESSION_METRICS`."""
    higher_is_better: bool
    classes: tuple[str, ...]
    """Class labels as strings in sorted order; empty for regression. Binary: the second is the positive class."""
    acceptance: tuple[str, ...]
    acceptance_from: Literal["ticket", "proposed"]
    budget_minutes: float
    budget_usd: float


Kind = Literal["csv", "parquet", "sqlite", "sql", "s3", "sklearn", "statsmodels", "synthetic"]
"""What sort of source rows come from."""


class SourceSpec(Value):
    """`data-source.json`: where the rows came from."""

    uri: str
    kind: Kind
    rows: int
    columns: tuple[str, ...]
    sha256: str
    """Digest of the source's bytes, or of a packaged set's canonical CSV."""
    bytes: int
    synthetic: bool
    """True when the rows were generated; every document about the session says so."""
    description: str
    group_column: str | None = None
    time_column: str | None = None
    snapshot: Snapshot | None = later(None)
    """Of a named source: which item was read, and when."""


class SplitSpec(Value):
    """`split.json`: how rows were divided, and why."""

    strategy: Literal["random", "stratified", "grouped", "time"]
    reason: str
    seed: int
    train_rows: int
    holdout_rows: int
    twin_fraction: float
    """Share of hold-out rows of a random split whose feature values also occur in train, in [0, 1]."""
    twin_fraction_after: float
    """The same share after the split actually made."""
    group_by: str | None
    """Column, or `covariate twins` when groups were formed from identical feature values."""
    dropped_rows: int
    dropped_reason: str = ""


class FeatureColumn(Value):
    """One model input and how it is prepared."""

    name: str
    kind: Literal["numeric", "categorical", "boolean", "datetime"]
    impute: Literal["median", "most_frequent", "none"]
    encode: Literal["scale", "one_hot", "ordinal", "parts", "none"]


class FeatureMap(Value):
    """`feature-map.json`: the model's inputs. `signature` is the SHA-256 of the columns' canonical JSON."""

    columns: tuple[FeatureColumn, ...]
    dropped: dict[str, str]
    """Column name to the reason it is not used (constant, identifier, leak, duplicate of …)."""
    signature: str


class ExperimentPlan(Value):
    """`experiment-plan.json`: what training will try."""

    metric: str
    folds: int
    grouped: bool
    seed: int
    baseline: str
    candidates: tuple[str, ...]
    trials: int
    search_seconds: float
    wide: bool = later(False)
    """Whether settings are searched over the wide ranges, which pay only with many trials."""


class Trial(Value):
    """One evaluated configuration: cross-validated mean and standard error of the metric."""

    model: str
    parameters: dict[str, float | int | str | bool | None]
    mean: float
    standard_error: float
    seconds: float


class ExperimentLog(Value):
    """`experiment-log.json`: what training tried and what it chose."""

    metric: str
    higher_is_better: bool
    baseline: Trial
    trials: tuple[Trial, ...]
    chosen: Trial
    reason: str
    """Why this one: the simpler model unless the paired lower bound of the difference is above zero."""
    model_sha256: str
    seed: int
    tracking: str
    """Where the runs were tracked: an MLflow experiment, or `artifact only` without the extra."""
