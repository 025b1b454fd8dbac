"""Holding what a session claims against what the harness finds when it does the same work again.

Every check returns problems in words, none if all is well. Nothing here trusts a figure from an artifact that an agent
wrote: tables are compared with the sealed dataset, the model and its cross-validated score are made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isclose
from typing import TYPE_CHECKING, Any

from agents.skill import SkillError
from agents.skills.evaluation.bootstrap import resample
from agents.skills.evaluation.scores import Outcome, statistics
from agents.skills.shapes import (
    GROUP_COLUMN,
    ROW_COLUMN,
    TARGET_COLUMN,
    ExperimentLog,
    ExperimentPlan,
    FeatureMap,
    ScopeSpec,
    SplitSpec,
)
from schemas.ticket import Ticket

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.scores import Integers
    from agents.skills.training.rows import TrainingRows

SAME = 1e-9
"""Relative difference up to which a cross-validated mean counts as the one that was claimed."""
RESAMPLES = 200


@dataclass(frozen=True)
class Check:
    """One check: what was held against what, and the problems found."""

    name: str
    looked_at: str
    problems: tuple[str, ...]


def check_tables(dataset: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame, labels: pd.DataFrame) -> Check:
    """Every row of the three tables is a row of the sealed dataset, unchanged, and on one side only.

    A column computed from all rows before they were divided, a label that was changed, a row that was copied to the
    other side: each makes a table differ from the dataset.
    """
    import numpy as np

    problems = []
    whole = dataset.set_index(ROW_COLUMN)
    shared = np.intersect1d(train[ROW_COLUMN], holdout[ROW_COLUMN])
    if len(shared):
        problems.append(f"{len(shared)} rows are on both sides of the split, the first {shared[0]}")
    parts = (
        ("train.parquet", train.drop(columns=GROUP_COLUMN, errors="ignore")),
        ("holdout-features.parquet", holdout),
        ("holdout-labels.parquet", labels),
    )
    for name, part in parts:
        problems += [f"{name}: {text}" for text in _differing(whole, part)]
    if set(labels[ROW_COLUMN]) != set(holdout[ROW_COLUMN]):
        problems.append("holdout-labels.parquet and holdout-features.parquet hold other rows")
    looked = f"{len(train):,} training and {len(holdout):,} hold-out rows against {len(dataset):,} extracted"
    return Check("rows", looked, tuple(problems))


def _differing(whole: pd.DataFrame, part: pd.DataFrame) -> list[str]:
    rows = part[ROW_COLUMN]
    if not rows.is_unique:
        return [f"{int(rows.duplicated().sum())} rows occur more than once"]
    if strange := int((~rows.isin(whole.index)).sum()):
        return [f"{strange} rows are not in the dataset"]
    problems = []
    own = whole.loc[rows]
    for name in part.columns:
        if name == ROW_COLUMN:
            continue
        if name not in own.columns:
            problems.append(f"column {name} is not in the dataset: it was made before the rows were divided")
            continue
        left, right = part[name].reset_index(drop=True), own[name].reset_index(drop=True)
        differ = ~((left == right) | (left.isna() & right.isna())).fillna(False)
        if differ.any():
            problems.append(f"{int(differ.sum())} values of column {name} are not the dataset's")
    return problems


def check_division(train: pd.DataFrame, holdout: pd.DataFrame, split: SplitSpec, ticket: Ticket) -> Check:
    """Twins, groups and time, counted again: what `split.json` says of them is a claim like any other."""
    import numpy as np
    import pandas as pd

    from agents.skills.data import twins

    left = train.drop(columns=[TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN], errors="ignore")
    both = pd.concat([left, holdout.drop(columns=ROW_COLUMN)], ignore_index=True)
    names = [str(name) for name in both.columns if name != ticket.groups]
    side = np.arange(len(both)) >= len(left)
    share = twins.twin_fraction(twins.twin_classes(both, twins.key_columns(both, names)), side)
    problems = []
    if share > twins.MAX_TWINS:
        problems.append(f"{share:.1%} of the hold-out rows have a twin in train ({split.twin_fraction_after:.1%} said)")
    if ticket.groups is not None and (common := set(train[ticket.groups]) & set(holdout[ticket.groups])):
        problems.append(f"{len(common)} groups ({ticket.groups}) are on both sides")
    if ticket.time is not None and not (train[ticket.time].max() < holdout[ticket.time].min()):
        problems.append(f"training rows are as new as hold-out rows ({ticket.time})")
    return Check("division", f"{split.strategy} split: twins, groups and time counted again", tuple(problems))


@dataclass(frozen=True)
class Claims:
    """What training left, as read from its artifacts; `model_sha256` is that of the bytes of `model.skops`."""

    log: ExperimentLog
    plan: ExperimentPlan
    features: FeatureMap
    scope: ScopeSpec
    split: SplitSpec
    model_sha256: str


def check_training(
    claims: Claims, rows: TrainingRows, seconds: float, progress: Callable[[str], None]
) -> tuple[tuple[Check, Check], dict[str, dict[str, float]]]:
    """The delivered model and its cross-validated score, made again from the training rows and the chosen settings.

    The same rows, settings and seed give the same bytes and the same mean. A score from the rows the model was fitted
    to, or from columns chosen with a look at the rows it is scored on, is another number; a model that saw other rows
    has other bytes.

    Beside the checks: every metric of cross-validation, `value` and `se`, as the harness found it.
    """
    from threadpoolctl import threadpool_limits

    from agents.skills.training.experiment import Experiment
    from agents.skills.training.modelfile import digest
    from agents.skills.training.voting import KINDS, own_settings

    log, chosen = claims.log, claims.log.chosen
    kind = chosen.model.partition(" (")[0]
    if kind not in KINDS:
        raise SkillError(f"experiment-log.json: {kind[:60]!r} is no kind of model that is trained here", "train again")
    experiment = Experiment(
        rows, claims.features, claims.scope, claims.plan, time_ordered=claims.split.strategy == "time",
        seconds=seconds, progress=progress,
    )  # fmt: skip
    candidate = KINDS[kind]
    if not own_settings(kind, chosen.parameters, experiment.problem):
        raise SkillError(f"experiment-log.json: the settings of its {kind} model are not its own", "train again")
    progress(f"{chosen.model}: cross-validating and fitting again")
    with threadpool_limits(limits=1):
        mean, outcome, groups = experiment.score_again(candidate, chosen.parameters)
        again = digest(experiment.fit(candidate.build(chosen.parameters, experiment.problem)))
    problems: list[str] = []
    if not isclose(mean, chosen.mean, rel_tol=SAME, abs_tol=SAME):
        problems.append(f"{log.metric} {chosen.mean:.6g} was claimed; the same folds give {mean:.6g}")
    score = Check("claimed score", f"{chosen.model}: {log.metric} on the folds of the plan", tuple(problems))
    problems = []
    for what, found in (("experiment-log.json names", log.model_sha256), ("model.skops is", claims.model_sha256)):
        if found != again:
            problems.append(f"{what} {found[:12]}; its settings on the training rows give {again[:12]}")
    model = Check("delivered model", f"{chosen.model}: fitted again on the training rows", tuple(problems))
    return (score, model), _crossed(outcome, groups, claims.plan.seed)


def _crossed(outcome: Outcome, groups: Integers, seed: int) -> dict[str, dict[str, float]]:
    """Every metric that is defined on `outcome`, with its standard error by bootstrap of whole `groups` (rows,)."""
    import numpy as np

    rows = len(outcome.truth)
    drawn = resample(statistics(outcome), rows, RESAMPLES, seed, groups=groups)
    found = {}
    for name, statistic in statistics(outcome).items():
        value, error = float(statistic(np.ones((1, rows)))[0]), float(np.nanstd(drawn[name]))
        if np.isfinite(value) and np.isfinite(error):
            found[name] = {"value": value, "se": error}
    return found


def sentences(checks: tuple[Check, ...]) -> list[str]:
    """Every problem with its check's name."""
    return [f"{check.name}: {problem}" for check in checks for problem in check.problems]


def as_json(checks: tuple[Check, ...], crossed: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `claims-audit.json`."""
    return {
        "crossed": dict(crossed),
        "findings": len(sentences(checks)),
        "checks": [
            {"check": each.name, "looked_at": each.looked_at, "problems": list(each.problems)} for each in checks
        ],
    }
