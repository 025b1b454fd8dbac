"""Skill `evaluation.measure`: the figures gates read, from predictions and labels no agent could see together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.evaluation.bootstrap import Interval, intervals, paired_gain, resample, resample_count
from agents.skills.evaluation.calibration import (
    Bin,
    calibration_intervals,
    calibration_statistics,
    reliability,
)
from agents.skills.evaluation.scores import ClassOutcome, statistics
from agents.skills.evaluation.slices import SliceReport, measure_slices
from agents.skills.evaluation.text import number
from agents.skills.shapes import ScopeSpec
from schemas.ticket import LOWER_IS_BETTER
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    from agents.skills.evaluation.outcomes import HoldOut


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on the hold-out rows, which form `independent` groups. `gains` are over the baseline,
    positive when better."""

    rows: int
    independent: int
    resamples: int
    seed: int
    model: dict[str, Interval]
    baseline: dict[str, Interval]
    gains: dict[str, Interval]
    calibration: dict[str, Interval]
    bins: list[Bin]
    slices: SliceReport
    confusion: list[list[int]]
    class_rows: list[int]


class EvaluationMeasure(Skill[Parameters, SkillOutput]):
    """Measure model and baseline on the sealed hold-out rows, with intervals, calibration and slices."""

    name = "evaluation.measure"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = ("predictions.parquet", "holdout-labels.parquet", "holdout-features.parquet", "scope.json", "split.json")
    optional = ("data-source.json", "experiment-log.json")
    produces = ("metrics.json", "evaluation-report.md", "evaluation.svg")
    beside = True
    harness = True
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `metrics.json`, the report and its figure.

        Raises SkillError when predictions do not match the sealed rows one to one or are not valid.
        """
        from agents.skills.evaluation.figure import draw
        from agents.skills.evaluation.outcomes import read_holdout
        from agents.skills.evaluation.report import report_document

        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        holdout = read_holdout(
            context.path("predictions.parquet"),
            context.path("holdout-labels.parquet"),
            context.path("holdout-features.parquet"),
            scope,
            context.ticket.groups,
        )
        found = evaluate(holdout, scope, context)
        context.write_json("metrics.json", metrics_json(found, scope))
        title = f"{context.ticket.title[:70]} ({found.rows} hold-out rows)"
        draw(context.out / "evaluation.svg", holdout.model, found.bins, scope.classes, title)
        measurements = measurements_of(found)
        context.write_text("evaluation-report.md", report_document(found, scope, context, measurements))
        return _output(found, scope, measurements)


def evaluate(holdout: HoldOut, scope: ScopeSpec, context: SkillContext) -> Evaluation:
    """Measure all there is, from one set of bootstrap resamples shared by model and baseline."""
    rows, resamples = holdout.rows, resample_count(holdout.rows)
    parts = {f"model.{name}": statistic for name, statistic in statistics(holdout.model).items()}
    parts |= {f"baseline.{name}": statistic for name, statistic in statistics(holdout.baseline).items()}
    parts |= {f"calibration.{name}": part for name, part in calibration_statistics(holdout.model).items()}
    context.progress(f"{resamples} bootstrap resamples of {holdout.independent} groups of {rows} hold-out rows")
    drawn = resample(parts, rows, resamples, context.seed, context.seconds * 0.6, holdout.groups)

    def of(prefix: str) -> dict[str, Any]:
        return {name[len(prefix) :]: values for name, values in drawn.items() if name.startswith(prefix)}

    model_drawn, baseline_drawn = of("model."), of("baseline.")
    model = intervals(holdout.model, model_drawn, holdout.groups)
    baseline = intervals(holdout.baseline, baseline_drawn, holdout.groups)
    gains = {
        name: paired_gain(
            model[name], baseline[name], model_drawn[name], baseline_drawn[name], name not in LOWER_IS_BETTER
        )
        for name in model
        if name in baseline
    }
    _need_metric(scope.metric, model)
    context.progress(f"slices of {holdout.features.shape[1]} columns")
    return Evaluation(
        rows=rows,
        independent=holdout.independent,
        resamples=resamples,
        seed=context.seed,
        model=model,
        baseline=baseline,
        gains=gains,
        calibration=calibration_intervals(holdout.model, of("calibration.")),
        bins=reliability(holdout.model),
        slices=measure_slices(
            holdout.model, holdout.baseline, holdout.features, scope.metric, context.seed, groups=holdout.groups
        ),
        confusion=_confusion(holdout.model),
        class_rows=[sum(line) for line in _confusion(holdout.model)],
    )


def _need_metric(metric: str, model: dict[str, Interval]) -> None:
    from agents.skill import InputError

    if metric not in model:
        raise InputError(
            f"{metric} is undefined on the hold-out rows: they do not hold every class it compares",
            "provide more rows of the rarest class, or choose another metric",
        )


def _confusion(outcome: Any) -> list[list[int]]:
    """Rows by actual class, columns by predicted class; empty for numbers."""
    if not isinstance(outcome, ClassOutcome):
        return []
    import numpy as np

    classes = outcome.probabilities.shape[1]
    pairs = np.bincount(outcome.truth * classes + outcome.predicted, minlength=classes * classes)
    counts: list[list[int]] = pairs.reshape(classes, classes).tolist()
    return counts


def metrics_json(found: Evaluation, scope: ScopeSpec) -> dict[str, Any]:
    """The content of `metrics.json`."""
    return {
        "task": scope.task.value,
        "metric": scope.metric,
        "higher_is_better": scope.higher_is_better,
        "rows": found.rows,
        "independent": found.independent,
        "classes": list(scope.classes),
        "class_rows": found.class_rows,
        "confidence": 0.95,
        "resamples": found.resamples,
        "seed": found.seed,
        "metrics": {name: interval.as_dict() for name, interval in found.model.items()},
        "baseline": {name: interval.as_dict() for name, interval in found.baseline.items()},
        "gain": {name: interval.as_dict() for name, interval in found.gains.items()},
        "calibration": {
            **{name: interval.as_dict() for name, interval in found.calibration.items()},
            "bins": [bin.as_dict() for bin in found.bins],
        },
        "confusion": found.confusion,
        "slices": {
            "metric": found.slices.metric,
            "formed": found.slices.formed,
            "judged": found.slices.judged,
            "columns_left_out": found.slices.columns_left_out,
            "worst": [part.as_dict() for part in found.slices.worst],
        },
    }


def measurements_of(found: Evaluation) -> tuple[Measurement, ...]:
    """`metrics.*` and `baseline.*`, with bounds."""
    values = [Measurement(scope="metrics", name="rows", value=float(found.rows))]
    for name, interval in (found.model | found.calibration).items():
        values += interval_measurements("metrics", name, interval)
        values.append(Measurement(scope="metrics", name=f"{name}_se", value=interval.se))
    for name, interval in found.gains.items():
        values += interval_measurements("metrics", f"{name}_gain", interval)
    for name, interval in found.baseline.items():
        values += interval_measurements("baseline", name, interval)
    return tuple(values)


def interval_measurements(scope: str, name: str, interval: Interval) -> list[Measurement]:
    """A value and its two bounds."""
    ends = {name: interval.value, f"{name}_lower": interval.lower, f"{name}_upper": interval.upper}
    return [Measurement(scope=scope, name=key, value=value) for key, value in ends.items()]


def _output(found: Evaluation, scope: ScopeSpec, measurements: tuple[Measurement, ...]) -> SkillOutput:
    value, gain, floor = found.model[scope.metric], found.gains[scope.metric], found.baseline[scope.metric]
    judged = f"{found.slices.judged} of {found.slices.formed} slices have rows enough to judge"
    if not found.slices.formed:
        judged = f"{found.rows} rows are too few to divide"
    worst = "none can be named"
    warnings = []
    if found.slices.worst:
        part = found.slices.worst[0]
        worst = f"worst: {part.column} {part.values} with {found.slices.metric} {number(part.interval.value)}"
        if part.clearly_worse:
            warnings.append(f"slice {part.column} {part.values} is clearly worse than all rows: {part.interval.text}")
    if gain.lower <= 0:
        warnings.append(f"not clearly better than the baseline: {scope.metric} gain {gain.text}")
    if found.rows < 30:
        warnings.append(f"{found.rows} hold-out rows: intervals of so few rows are unreliable")
    elif found.independent < 30:
        warnings.append(
            f"the {found.rows} hold-out rows form {found.independent} groups: intervals of so few are unreliable"
        )
    return SkillOutput(
        summary=f"{scope.metric} {value.text} on {found.rows} hold-out rows; baseline {number(floor.value)}",
        ticked=(
            TickedItem(item="holdout-measured", evidence=f"metrics.json: {found.rows} sealed rows, joined one to one"),
            TickedItem(
                item="intervals-given",
                evidence=f"metrics.json: {len(found.model)} metrics, 95 % intervals, {found.resamples} resamples",
            ),
            TickedItem(item="baseline-compared", evidence=f"metrics.json: paired {scope.metric} gain {gain.text}"),
            TickedItem(item="slices-measured", evidence=f"metrics.json: {judged}; {worst}"),
        ),
        measurements=measurements,
        warnings=tuple(warnings),
    )
