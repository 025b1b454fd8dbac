"""The generator of defects: each takes clean rows and a seed and gives what a careless colleague would hand in.

There are three kinds. A defect of the data is in the table that a ticket names (`ml-delivery`). A defect of a delivery
is in the newer rows for a model in use (`retrain`, its first phase). A defect of the process is in what an agent does:
a skill of its own takes the place of the shipped one (`impostors`), and its claims with it.

Forms and strengths vary with the seed, so that a gate cannot learn one of them by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from agents.skill import Skill
from agents.skills.data import twins
from benchmarks.gate_honesty import impostors
from benchmarks.gate_honesty.sets import RealSet, category

Where = Literal["data", "delivery", "process"]


@dataclass
class Case:
    """What is handed in: rows, more fields of the ticket, and the skills that are not the shipped ones."""

    rows: pd.DataFrame
    form: str
    """Which form of the defect, in a few words."""
    ticket: dict[str, Any] = field(default_factory=dict)
    impostors: tuple[type[Skill[Any, Any]], ...] = ()
    same_file: bool = False
    """Hand in the file the model in use was made from."""
    claim: Callable[[pd.DataFrame], float] | None = None


@dataclass(frozen=True)
class Defect:
    """One kind of defect. `needs_time`: the model in use of a delivery must know a `recorded` column."""

    name: str
    where: Where
    inject: Callable[[RealSet, pd.DataFrame, np.random.Generator], Case]
    needs_time: bool = False


def numeric(chosen: RealSet, rows: pd.DataFrame) -> list[str]:
    """Numeric feature columns with more than two values, those that vary most relative to chance first."""
    names = [str(n) for n in rows.columns if n not in (chosen.target, chosen.groups) and rows[n].dtype.kind in "fi"]
    return [name for name in names if rows[name].nunique() > 2]


def with_time(chosen: RealSet, rows: pd.DataFrame, start: str = "2026-01-01", days: int = 300) -> pd.DataFrame:
    """The rows with a column `recorded` and without the set's groups: made-up moments, `days` days in all.

    They are in the order of the rows, but rows of one person (covariate twins) follow each other: with a person's rows
    all over the time no split by time could be fair, and the gate would refuse every table.
    """
    rows = rows.drop(columns=chosen.groups or [])
    people = twins.independent(rows.drop(columns=chosen.target), None)
    rows = rows.iloc[np.argsort(people, kind="stable")].reset_index(drop=True)
    step = days * 1440 / max(1, len(rows))
    moments = pd.Timestamp(start) + pd.to_timedelta(np.round(np.arange(len(rows)) * step), unit="min")
    return rows.assign(recorded=moments.strftime("%Y-%m-%dT%H:%M:%S"))


def _codes(chosen: RealSet, rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The target as numbers: class codes, or the numbers themselves."""
    if chosen.classes:
        return pd.factorize(rows[chosen.target], sort=True)[0].astype(np.float64)
    return rows[chosen.target].to_numpy(dtype=np.float64)


# ---- defects of the data


def _target_leak(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """The outcome itself under another name: as a code, or as text, or on another scale."""
    codes = _codes(chosen, rows)
    if chosen.classes and rng.random() < 0.5:
        words = np.array([f"state {chr(65 + i)}" for i in rng.permutation(int(codes.max()) + 1)])
        return Case(rows.assign(case_state=words[codes.astype(int)]), "its classes as other words")
    scale, offset = rng.uniform(0.3, 3), rng.uniform(-5, 5)
    return Case(rows.assign(case_score=(scale * codes + offset).round(4)), "on another scale")


def _proxy_leak(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """A column set after the outcome, that is right but for 1 row in 100, or has 1 % of noise in its variance."""
    codes = _codes(chosen, rows)
    if not chosen.classes:
        noise = rng.normal(0, 0.1 * codes.std(), len(codes))
        return Case(rows.assign(follow_up=(codes + noise).round(3)), "with 1 % noise")
    if rng.random() < 0.5:
        wrong = rng.random(len(codes)) < 0.01
        said = np.where(wrong, rng.integers(0, int(codes.max()) + 1, len(codes)), codes)
        return Case(rows.assign(follow_up=pd.Series(said).map(lambda c: f"path {int(c)}")), "wrong in 1 of 100")
    return Case(rows.assign(follow_up=(codes + rng.normal(0, 0.25, len(codes))).round(3)), "classes 4 sd apart")


def _twins(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """Three rows in ten are in the table twice and a split that does not look puts copies on both sides."""
    again = rows.iloc[rng.permutation(len(rows))[: int(0.3 * len(rows))]]
    both = pd.concat([rows, again], ignore_index=True).sample(frac=1, random_state=int(rng.integers(2**31)))
    return Case(both.reset_index(drop=True), "copies over a random split", impostors=(impostors.RandomSplit,))


def _group_leak(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """Each case is in the table three times, measured anew (2 % noise in its numbers), with its number beside it.
    Either the ticket does not say that the number is a group, or it does and the split does not care."""
    kept = rows.iloc[rng.permutation(len(rows))[: max(80, len(rows) // 3)]].reset_index(drop=True)
    visits = pd.concat([kept] * 3, ignore_index=True)
    for name in numeric(chosen, visits):
        spread = float(visits[name].std())
        visits[name] = visits[name] + rng.normal(0, 0.02 * spread, len(visits))
    numbers = rng.permutation(9000)[: len(kept)] + 1000
    visits = visits.drop(columns=chosen.groups or []).assign(case_number=np.tile(numbers, 3))
    visits = visits.iloc[rng.permutation(len(visits))].reset_index(drop=True)
    if rng.random() < 0.5:
        return Case(visits, "groups nobody named", {"groups": None})
    return Case(visits, "groups named, split at random", {"groups": "case_number"}, (impostors.RandomSplit,))


def _time_travel(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """A date filled in after the fact, a mean over rows to come, or a split that mixes then and now."""
    timed = with_time(chosen, rows)
    codes = _codes(chosen, timed)
    more: dict[str, Any] = {"time": "recorded", "groups": None}
    form = int(rng.integers(3))
    if form == 0:
        moments = pd.to_datetime(timed["recorded"])
        slow = (codes > np.median(codes)) if chosen.classes is False else (codes == codes.max())
        closed = moments + pd.to_timedelta(rng.exponential(np.where(slow, 20, 5)), unit="D")
        closed = closed.where(closed <= moments.max())
        return Case(timed.assign(closed=closed.dt.strftime("%Y-%m-%dT%H:%M:%S")), "a date of later", more)
    if form == 1:
        ahead = pd.Series(codes)[::-1].rolling(4, min_periods=1).mean()[::-1]
        return Case(timed.assign(trend=ahead.round(4)), "a mean over rows to come", more)
    return Case(timed, "a split that mixes then and now", more, (impostors.RandomSplit,))


# ---- defects of a delivery


def _units(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """A column a hundred times too large, in all rows or in one of five."""
    usable = [n for n in numeric(chosen, rows) if float((rows[n] != 0).mean()) > 0.5]
    name = str(rng.choice(usable))
    part = rng.random(len(rows)) < (1.0 if rng.random() < 0.5 else 0.2)
    values = rows[name].to_numpy(dtype=np.float64)
    form = "all rows" if part.all() else "one row of five"
    return Case(rows.assign(**{name: np.where(part, values * 100, values)}), f"{name}, {form}")


def _category_drift(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """The codes of a column of text change their meaning, or one gets another name."""
    name = category(chosen, rows)
    levels = [str(level) for level in rows[name].value_counts().index]
    if rng.random() < 0.5:
        return Case(rows.assign(**{name: rows[name].replace({levels[0]: levels[0].upper() + " (2)"})}), "a new name")
    kept = (rows[name] == levels[0]).to_numpy() | (rng.random(len(rows)) < 0.15)
    other = rows.iloc[np.flatnonzero(kept)]
    if len(other) < 60:
        other = pd.concat([other, rows.iloc[: 60 - len(other)]])
    return Case(other.reset_index(drop=True), "one level takes over")


def _covariate_shift(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """Rows of another kind: of those in the lower half of one column nine in ten are missing."""
    usable = [n for n in numeric(chosen, rows) if rows[n].nunique() >= 4]
    name = str(rng.choice(usable))
    low = rows[name].rank(pct=True, method="average").to_numpy() <= 0.5
    return Case(rows[~low | (rng.random(len(rows)) < 0.1)].reset_index(drop=True), name)


def _label_noise(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """Two labels in five are those of other rows."""
    part = np.flatnonzero(rng.random(len(rows)) < 0.4)
    labels = rows[chosen.target].to_numpy().copy()
    if chosen.classes:
        levels = np.unique(labels)
        codes = np.searchsorted(levels, labels[part])
        labels[part] = levels[(codes + rng.integers(1, len(levels), len(part))) % len(levels)]
    else:
        labels[part] = labels[rng.permutation(part)]
    return Case(rows.assign(**{chosen.target: labels}), "40 % of the labels")


def _stale(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """The file the model was made from, sent again; or rows of the year before, as an old export."""
    if rng.random() < 0.5:
        return Case(rows, "the same file", same_file=True)
    return Case(with_time(chosen, rows, "2025-01-01"), "an old export")


def _schema_change(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """A column gets another name, turns into text, or two columns change places."""
    names = numeric(chosen, rows)
    name = str(rng.choice(names))
    form = int(rng.integers(3))
    if form == 0:
        return Case(rows.rename(columns={name: f"{name}_v2"}), f"{name} renamed")
    if form == 1:
        return Case(rows.assign(**{name: rows[name].map(lambda v: f"{v:.3f} units")}), f"{name} as text")
    medians = rows[names].median()
    other = str((medians - medians[name]).abs().idxmax())
    return Case(rows.assign(**{name: rows[other], other: rows[name]}), f"{name} and {other} swapped")


def _duplicates(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """A load that was tried again: two rows in five are written twice."""
    again = rows.iloc[rng.permutation(len(rows))[: int(0.4 * len(rows))]]
    return Case(pd.concat([rows, again], ignore_index=True), "40 % of the rows twice")


# ---- defects of the process


def _preprocessing(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """Columns that look at the labels are made before the folds (or before the split): scores of noise look good."""
    if rng.random() < 0.5:
        return Case(rows, "means of the target over all rows", impostors=(impostors.EncodedSplit,))
    return Case(rows, "noise chosen by the labels outside the folds", impostors=(impostors.ChosenOutside,))


def _on_train(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """The score that is claimed is that of the rows the model was fitted to."""
    return Case(rows, "score of the training rows", impostors=(impostors.ScoredOnTrain,))


def _on_test(chosen: RealSet, rows: pd.DataFrame, rng: np.random.Generator) -> Case:
    """Training reads the sealed labels, or reads the source once more and fits to the hold-out rows, too."""
    if rng.random() < 0.5:
        return Case(rows, "asks for the sealed labels", impostors=(impostors.ReadsSealed,))
    return Case(rows, "reads the source again", impostors=(impostors.FitsAll,))


DEFECTS = {
    each.name: each
    for each in (
        Defect("target leak", "data", _target_leak),
        Defect("proxy leak", "data", _proxy_leak),
        Defect("train/test twins", "data", _twins),
        Defect("group leak", "data", _group_leak),
        Defect("time travel", "data", _time_travel),
        Defect("preprocessing leak", "process", _preprocessing),
        Defect("metric computed on train", "process", _on_train),
        Defect("tuned on test", "process", _on_test),
        Defect("unit error x100", "delivery", _units),
        Defect("category drift", "delivery", _category_drift),
        Defect("covariate shift", "delivery", _covariate_shift),
        Defect("label noise", "delivery", _label_noise),
        Defect("stale data", "delivery", _stale, needs_time=True),
        Defect("silent schema change", "delivery", _schema_change),
        Defect("duplicated rows", "delivery", _duplicates),
    )
}
