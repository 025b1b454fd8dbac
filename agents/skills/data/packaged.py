"""Datasets that come inside installed packages: real rows without a download."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from agents.skill import InputError

if TYPE_CHECKING:
    import pandas as pd

SKLEARN = {
    "breast_cancer": ("malignant", "Breast Cancer Wisconsin (Diagnostic): cell nuclei measurements; 1 = malignant."),
    "diabetes": ("progression", "Diabetes: disease progression one year after baseline (Efron et al. 2004)."),
    "wine": ("cultivar", "Wine: chemical analysis of wines of three cultivars (UCI)."),
    "iris": ("species", "Iris: flower measurements of three species (Fisher 1936)."),
    "digits": ("digit", "Optical recognition of handwritten digits, 8×8 pixels (UCI)."),
}
"""Name to the target's column name and a description."""

STATSMODELS = {
    "anes96": "American National Election Study 1996 (public domain).",
    "engel": "Engel 1857: food expenditure of Belgian working-class households (public domain).",
    "fair": "Fair 1978: extramarital affairs survey, Redbook 1974.",
    "grunfeld": "Grunfeld 1950: investment of US firms (public domain).",
    "macrodata": "US macroeconomic series, 1959 to 2009, by quarter (public domain).",
    "modechoice": "Travel mode choice between Sydney, Canberra and Melbourne (public domain).",
    "randhie": "RAND Health Insurance Experiment: doctor visits of insured people (public domain).",
    "star98": "STAR test results of Californian school districts, 1998.",
}

FREQUENT = "frequent_visitor"
FREQUENT_VISITS = 5


def load_sklearn(name: str) -> tuple[pd.DataFrame, str]:
    """A set of scikit-learn with its target as the last column, and its description.

    The target's column is named as in `SKLEARN`; class targets are label texts except `malignant` (0/1) and `digit`.
    """
    from sklearn import datasets

    target, description = SKLEARN[name]
    bunch = getattr(datasets, f"load_{name}")(as_frame=True, **({"scaled": False} if name == "diabetes" else {}))
    frame: pd.DataFrame = bunch.data.copy()
    frame[target] = _target(name, bunch)
    return frame, f"{description} scikit-learn's packaged copy; target column `{target}`."


def load_statsmodels(name: str, target: str | None) -> tuple[pd.DataFrame, str]:
    """A set of statsmodels and its description.

    `randhie` with target `frequent_visitor` gets that column (1 = five or more visits) and loses `mdvis`, the number
    of visits it is made from, which would give the answer away. Raises InputError when the package is not installed.
    """
    try:
        module = importlib.import_module(f"statsmodels.datasets.{name}")
    except ImportError as problem:
        raise InputError(
            f"statsmodels:{name} needs the package statsmodels",
            "install the extra `demo` (agenticops-value-train[demo])",
        ) from problem
    frame: pd.DataFrame = module.load_pandas().data
    description = f"{STATSMODELS[name]} statsmodels' packaged copy."
    if name == "randhie" and target == FREQUENT:
        frame = frame.assign(**{FREQUENT: (frame["mdvis"] >= FREQUENT_VISITS).astype("int64")}).drop(columns="mdvis")
        description += (
            f" Target `{FREQUENT}` is 1 for {FREQUENT_VISITS} or more doctor visits (`mdvis`); `mdvis` itself is left "
            "out, since the target is made from it."
        )
    return frame, description


def _target(name: str, bunch: Any) -> Any:
    """The target's values: inverted for breast_cancer (there 0 is malignant), label texts for iris and wine."""
    if name == "breast_cancer":
        return (bunch.target == 0).astype("int64")
    if name in ("iris", "wine"):
        return bunch.target.map(dict(enumerate(map(str, bunch.target_names)))).astype("str")
    return bunch.target
