"""What metrics and models are called in documents for people; JSON, criteria and events keep the short names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.skills.evaluation.text import code, estimate
from schemas.shown_figures import counted as counted

METRICS = {
    "roc_auc": ("ROC AUC", "how often a row of one class is ranked above a row of the other; 0.5 is chance, 1 perfect"),
    "average_precision": ("average precision", "precision over all thresholds; chance is the positive class's share"),
    "accuracy": ("accuracy", "share of the rows that are called right"),
    "balanced_accuracy": ("balanced accuracy", "share of each class that is called right, averaged over the classes"),
    "f1": ("F1", "harmonic mean of precision and recall; 1 is perfect"),
    "recall": ("recall", "share of the positive rows that are found"),
    "precision": ("precision", "share of the rows called positive that are positive"),
    "brier": ("Brier score", "mean squared error of the probabilities; 0 is perfect"),
    "ece": ("expected calibration error", "how far probabilities lie from what happened, on average; 0 is perfect"),
    "mae": ("mean absolute error", "how far off a prediction is on average, in the target's unit"),
    "rmse": ("root mean squared error", "the same with large errors weighing more, in the target's unit"),
    "r2": ("R²", "share of the target's variance that is predicted; 0 is no better than its mean, 1 perfect"),
}
"""Name of a metric in criteria and JSON, to what people call it and what it says."""

_KINDS = {
    "dummy": "constant answer",
    "linear": "linear model",
    "random_forest": "random forest",
    "hist_gradient_boosting": "gradient-boosted trees",
}
_SETTINGS = {"default": "default settings", "tuned": "tuned"}
_MODEL = re.compile(
    rf"\bvoting \((?P<parts>[a-z_]+(?: \+ [a-z_]+)*)\)"
    rf"|\b(?P<kind>{'|'.join(_KINDS)})(?: \((?P<settings>{'|'.join(_SETTINGS)})\))?(?![\w.])"
)
_COMPARED = re.compile(r"(?P<one>.+) is (?P<no>not )?clearly better than (?P<other>.+) \(paired gain (?P<gain>.+)\)")


def metric_name(metric: str) -> str:
    """What people call `metric`; a name that is not known stays as it is."""
    return METRICS[metric][0] if metric in METRICS else metric


def metric_meaning(metric: str) -> str:
    """What a figure of `metric` says, in a few words; empty for one that is not known."""
    return METRICS[metric][1] if metric in METRICS else ""


def model_name(model: str, classification: bool | None = None) -> str:
    """`logistic regression (default settings)` for `linear (default)`; also within a sentence that names several."""
    linear = {True: "logistic regression", False: "ridge regression", None: _KINDS["linear"]}[classification]
    kinds = _KINDS | {"linear": linear}

    def words(match: re.Match[str]) -> str:
        if match["kind"]:
            return kinds[match["kind"]] + (f" ({_SETTINGS[match['settings']]})" if match["settings"] else "")
        names = [kinds.get(name, name) for name in match["parts"].split(" + ")]
        return f"average of {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else f"average of {names[0]}"

    return _MODEL.sub(words, model)


def why_this_model(model: str, reason: str, classification: bool | None = None) -> str:
    """The reason an experiment log gives for its choice, as sentences without an end mark."""
    listed = reason.removeprefix(f"{model} chosen: ").split("; ")
    compared = [_COMPARED.fullmatch(each) for each in listed]
    if not all(compared):
        return model_name(reason, classification)
    duels = [match for match in compared if match]
    beaten = [model_name(m["other"], classification) for m in duels if m["one"] == model and not m["no"]]
    others = [m for m in duels if m["other"] == model and m["no"]]
    parts = [f"clearly better than {each} in cross-validation" for each in beaten]
    if others:
        gains = "; ".join(f"{model_name(m['one'], classification)} {_gain(m['gain'])}" for m in others)
        parts.append(
            f"no more complex candidate is clearly better (gain over it on the same rows, with 95 % interval: {gains})"
        )
    return "; ".join(parts) or model_name(reason, classification)


def _gain(text: str) -> str:
    """`-0.0066 [-0.0205, +0.0073]` with the digits its interval bears out."""
    ends = [float(each) for each in re.findall(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", text)]
    return estimate(*ends) if len(ends) == 3 else text


def called(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """What a table of two classes says, in a sentence without an end mark."""
    (right, false), (missed, found) = confusion
    positive = code(classes[1], 40)
    return (
        f"of {counted(missed + found, 'row')} that are {positive}, {found:,} are called so and {missed:,} missed; of "
        f"{counted(right + false, 'other row')}, {false:,} {'is' if false == 1 else 'are'} called {positive} wrongly "
        "(at a probability of one half)"
    )
