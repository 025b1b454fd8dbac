"""Risks of the model itself, scored from how it was trained and measured."""

from __future__ import annotations

from math import hypot
from statistics import NormalDist

from agents.skills.evaluation.text import like, measured
from agents.skills.risk.record import Record
from agents.skills.risk.register import Risk
from agents.skills.words import metric_name

MIN_HOLDOUT = 30
"""Fewer hold-out rows cannot carry a decision."""
MAX_TWINS = 0.01
"""Share of hold-out rows whose feature values also occur in train, above which the measurement is not one."""


def model_risks(record: Record) -> list[Risk]:
    """Every model risk that applies to this record."""
    risks = [
        _leakage(record), _twins(record), _small_holdout(record), _no_better(record), _overfitting(record),
        _weak_slice(record),
    ]  # fmt: skip
    if record.metrics.get("calibration", {}).get("ece"):
        risks.append(_miscalibration(record))
    if record.source.synthetic:
        risks.append(_synthetic(record))
    return risks


def _leakage(record: Record) -> Risk:
    suspects = record.suspects
    evidence = f"leakage.json: suspects {', '.join(suspects[:5])}" if suspects else "leakage.json: no suspects"
    return Risk(
        id="leakage",
        title="Target leakage",
        kind="model",
        cause="a column knows what it should predict, or rows are known from training",
        effect="measured well, useless in operation",
        signal="a single column that predicts almost perfectly; a score that falls in operation",
        mitigation="single-column, duplicate and shift tests; suspects are dropped before training",
        owner="feature",
        likelihood=5 if suspects else 1 if record.leakage is not None else 2,
        impact=5,
        evidence=evidence if record.leakage is not None else "leakage was not tested",
        veto=f"leakage suspects remain: {', '.join(suspects[:5])}" if suspects else "",
    )


def _twins(record: Record) -> Risk:
    share = record.split.twin_fraction_after
    over = share > MAX_TWINS
    return Risk(
        id="twin-rows",
        title="Twin rows in train and hold-out",
        kind="model",
        cause="rows with the same feature values lie on both sides of the split",
        effect="the score measures memory",
        signal="more than 1 % of hold-out rows have a twin in train",
        mitigation="the split keeps twins together when they are more than 1 %",
        owner="data",
        likelihood=5 if over else 1,
        impact=4,
        evidence=f"split.json: {share:.2%}, {record.split.strategy} split; {record.split.twin_fraction:.2%} at random",
        veto=f"{share:.1%} of the hold-out rows have a twin in train" if over else "",
    )


def _small_holdout(record: Record) -> Risk:
    rows, rarest = record.rows, min(record.metrics.get("class_rows") or [record.rows])
    return Risk(
        id="small-hold-out",
        title="Few hold-out rows",
        kind="model",
        cause="the data set is small or a class is rare",
        effect="the score is luck, good or bad",
        signal="fewer than 50 hold-out rows, or fewer than 5 of a class",
        mitigation="gates read the lower bound of the interval; a person weighs what few rows can say",
        owner="evaluation",
        likelihood=5 if rows < MIN_HOLDOUT else 2 if rows < 50 or rarest < 5 else 1,
        impact=4,
        evidence=f"metrics.json: {rows} hold-out rows, {rarest} of the rarest class",
        veto=f"{rows} hold-out rows are fewer than {MIN_HOLDOUT}" if rows < MIN_HOLDOUT else "",
    )


def _no_better(record: Record) -> Risk:
    gain = record.gain
    weak = gain is not None and gain["lower"] <= 0
    shown = "none measured" if gain is None else measured(gain)
    return Risk(
        id="no-better-than-baseline",
        title="No better than the baseline",
        kind="model",
        cause="the columns say little of the target",
        effect="cost and complexity for nothing",
        signal="the lower bound of the paired gain is not above zero",
        mitigation="the gain over a constant baseline is measured on the same rows",
        owner="training",
        likelihood=5 if weak else 1,
        impact=4,
        evidence=f"metrics.json: gain of {metric_name(record.metric)} on the same rows {shown}",
        veto=f"the model is not clearly better than the baseline ({metric_name(record.metric)} gain {shown})"
        if weak
        else "",
    )


def _overfitting(record: Record) -> Risk:
    """Compares cross-validation with the hold-out, in standard errors of their difference."""
    expected, error = record.log.chosen.mean, hypot(record.log.chosen.standard_error, record.value["se"])
    drop = (expected - record.value["value"]) * (1 if record.log.higher_is_better else -1)
    distance = drop / error if error > 0 else 0.0
    return Risk(
        id="overfitting",
        title="Overfitting",
        kind="model",
        cause="the search fitted the folds, or the hold-out rows are of another kind",
        effect="less in operation than was promised",
        signal="the hold-out score lies more than 2.5 standard errors below cross-validation",
        mitigation="simplest model that is not clearly beaten; finalists compared on fresh folds",
        owner="training",
        likelihood=1 if distance < 2.5 else 2 if distance < 4 else 4,
        impact=4,
        evidence=f"{metric_name(record.metric)}: {like(expected, record.value)} in cross-validation, "
        f"{like(record.value['value'], record.value)} on hold-out rows, "
        f"{abs(distance):.1f} standard errors {'worse' if distance > 0 else 'better'}",
    )


def _weak_slice(record: Record) -> Risk:
    """A hard slice is not a failure (close calls are hard for any model); one that does worse than no model is, by more
    than the worst of as many slices does by chance (Bonferroni, 95 %)."""
    slices = record.metrics.get("slices", {})
    worse = [part for part in slices.get("worst", []) if part["clearly_worse"]]
    errors = NormalDist().inv_cdf(1 - 0.025 / max(1, slices.get("judged", 1)))
    harmed = [part for part in worse if part["gain"]["value"] + errors * part["gain"]["se"] < 0]
    shown = harmed or worse
    evidence = f"metrics.json: {slices.get('judged', 0)} slices judged, none clearly worse than the whole"
    if shown:
        where = f"{shown[0]['column']} {shown[0]['values']} ({shown[0]['rows']} rows)"
        evidence = f"metrics.json: clearly worse for {where}"
        evidence += ", clearly below the baseline there" if harmed else ", not clearly below the baseline there"
    return Risk(
        id="weak-slice",
        title="A group the model fails",
        kind="model",
        cause="few or different rows of one kind",
        effect="some people or cases are served worse than by no model at all",
        signal="a slice clearly below the baseline",
        mitigation="slices are measured and the worst is named; use is restricted where the model does not help",
        owner="evaluation",
        likelihood=3 if harmed else 1,
        impact=4,
        evidence=evidence,
    )


def _miscalibration(record: Record) -> Risk:
    ece = record.metrics["calibration"]["ece"]
    likelihood = 4 if ece["lower"] > 0.15 else 3 if ece["lower"] > 0.1 else 1
    return Risk(
        id="miscalibration",
        title="Probabilities that cannot be taken at their word",
        kind="model",
        cause="the model is over- or underconfident",
        effect="thresholds and costs computed from its probabilities are wrong",
        signal="an expected calibration error above 0.1",
        mitigation="calibration is measured; recalibrate before probabilities are used as such",
        owner="evaluation",
        likelihood=likelihood,
        impact=2,
        evidence=f"metrics.json: calibration error {ece['value']:.3f} [{ece['lower']:.3f}, {ece['upper']:.3f}]",
    )


def _synthetic(record: Record) -> Risk:
    return Risk(
        id="synthetic-data",
        title="Learned from generated rows",
        kind="model",
        cause="no real data was available",
        effect="the figures describe the generator, not the world",
        signal="the source is labelled synthetic",
        mitigation="every document says so; replace the source before anybody relies on a prediction",
        owner="data",
        likelihood=4,
        impact=3,
        evidence="data-source.json: synthetic",
    )
