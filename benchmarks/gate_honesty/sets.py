"""The real data sets, and how each is cut: rows that are given to the train, and rows kept from everything until the
claim stands. Kept rows never have a covariate twin among the given ones, where the set has people in it more than once:
production asks about people the model has not seen.

Every set has a column of text, made from one of its own columns where it had none: the defects of categories need one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from agents.skills.data import twins

KEPT = 0.4
"""Share of rows that are kept for the delivered metric, and are the next delivery in the defects of deliveries."""


@dataclass(frozen=True)
class RealSet:
    """A real data set. `held_out`: no threshold was chosen with a look at it."""

    name: str
    load: Callable[[], pd.DataFrame]
    target: str
    category: str
    """Its column of text."""
    held_out: bool
    groups: str | None = None
    classes: bool = True


def _bands(frame: pd.DataFrame, name: str, labels: tuple[str, ...]) -> pd.DataFrame:
    """The numeric column `name` as text, by its quantiles."""
    ranks = frame[name].rank(pct=True, method="average")
    texts = pd.cut(ranks, np.linspace(0, 1, len(labels) + 1), labels=list(labels), include_lowest=True)
    return frame.assign(**{name: texts.astype("str")})


def _sklearn(name: str, target: str) -> pd.DataFrame:
    from agents.skills.data.packaged import load_sklearn

    frame = load_sklearn(name)[0]
    frame.columns = [str(column).replace(" ", "_") for column in frame.columns]
    return frame.rename(columns={target.replace(" ", "_"): target})


def packaged(name: str, target: str | None) -> pd.DataFrame:
    """A packaged set as it comes: of scikit-learn when its `target` is named, else of statsmodels."""
    return _sklearn(name, target) if target else _statsmodels(name)


def _statsmodels(name: str) -> pd.DataFrame:
    from agents.skills.data.packaged import load_statsmodels

    return load_statsmodels(name, None)[0]


def _breast_cancer() -> pd.DataFrame:
    frame = _bands(_sklearn("breast_cancer", "malignant"), "mean_texture", ("fine", "even", "coarse", "rough"))
    return frame.assign(malignant=np.where(frame["malignant"] == 1, "yes", "no"))


def _diabetes() -> pd.DataFrame:
    frame = _sklearn("diabetes", "progression")
    return frame.assign(sex=frame["sex"].map({1.0: "first", 2.0: "second"}).astype("str"))


def _digits() -> pd.DataFrame:
    """Every second image, and of its 64 pixels those that are not nearly always blank."""
    frame = _sklearn("digits", "digit").iloc[::2].reset_index(drop=True)
    pixels = [name for name in frame.columns if name != "digit" and frame[name].std() > 2.0]
    frame = frame[[*pixels, "digit"]].assign(digit=frame["digit"].map(lambda d: f"d{int(d)}").astype("str"))
    return _bands(frame, pixels[10], ("blank", "light", "dark"))


def _anes96() -> pd.DataFrame:
    frame = _statsmodels("anes96").drop(columns="logpopul")
    party = {0: "strong dem", 1: "weak dem", 2: "ind dem", 3: "ind", 4: "ind rep", 5: "weak rep", 6: "strong rep"}
    return frame.assign(
        PID=frame["PID"].astype(int).map(party).astype("str"), vote=np.where(frame["vote"] == 1, "dole", "clinton")
    )


def _randhie() -> pd.DataFrame:
    """Four thousand rows of whole people: rows of one person share all covariates."""
    frame = _statsmodels("randhie")
    frame = frame.assign(frequent=np.where(frame["mdvis"] >= 5, "yes", "no")).drop(columns="mdvis")
    frame = frame.assign(idp=np.where(frame["idp"] == 1, "individual", "family"))
    people = twins.twin_classes(frame, [name for name in frame.columns if name != "frequent"])
    order = np.random.default_rng(7).permutation(people.max() + 1)
    return frame.iloc[np.argsort(order[people], kind="stable")[:4000]].reset_index(drop=True)


def _modechoice() -> pd.DataFrame:
    frame = _statsmodels("modechoice")
    modes = {1: "air", 2: "train", 3: "bus", 4: "car"}
    return frame.assign(
        individual=frame["individual"].astype(int),
        mode=frame["mode"].astype(int).map(modes).astype("str"),
        choice=np.where(frame["choice"] == 1, "chosen", "not"),
    )


def _fair() -> pd.DataFrame:
    frame = _statsmodels("fair")
    frame = frame.assign(any=np.where(frame["affairs"] > 0, "yes", "no")).drop(columns="affairs")
    jobs = {1: "student", 2: "farming", 3: "white collar", 4: "teacher", 5: "business", 6: "professional"}
    frame = frame.assign(occupation=frame["occupation"].astype(int).map(jobs).astype("str"))
    return frame.sample(3000, random_state=7).reset_index(drop=True)


SETS = {
    each.name: each
    for each in (
        RealSet("breast_cancer", _breast_cancer, "malignant", "mean_texture", held_out=False),
        RealSet("diabetes", _diabetes, "progression", "sex", held_out=False, classes=False),
        RealSet("anes96", _anes96, "vote", "PID", held_out=False),
        RealSet("randhie", _randhie, "frequent", "idp", held_out=False),
        RealSet("modechoice", _modechoice, "choice", "mode", held_out=False, groups="individual"),
        RealSet("fair", _fair, "any", "occupation", held_out=True),
        RealSet("digits", _digits, "digit", "", held_out=True),
    )
}


def cut(chosen: RealSet, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Given and kept rows, both with index 0..n-1, and in random order unless rows of a group follow each other."""
    frame = chosen.load()
    rng = np.random.default_rng([seed, 1])
    names = [str(name) for name in frame.columns if name not in (chosen.target, chosen.groups)]
    units: Any = twins.twin_classes(frame, names)
    if chosen.groups is not None:
        units = twins.merged(units, twins.column_groups(frame[chosen.groups]))
    place = rng.permutation(units.max() + 1)[units]
    counts = np.bincount(place)
    kept = place < np.searchsorted(np.cumsum(counts), KEPT * len(frame))
    shuffled = rng.permutation(len(frame))
    given = frame.iloc[shuffled[~kept[shuffled]]].reset_index(drop=True)
    return given, frame.iloc[shuffled[kept[shuffled]]].reset_index(drop=True)


def category(chosen: RealSet, frame: pd.DataFrame) -> str:
    """The set's column of text."""
    if chosen.category:
        return chosen.category
    return next(str(name) for name in frame.columns if name != chosen.target and frame[name].dtype == "str")
