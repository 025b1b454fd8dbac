"""Skill `evaluation.stress`: what is left of the figures when rows are spoilt, and what a prediction costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.evaluation.bootstrap import Interval, intervals, paired_gain, resample, resample_count
from agents.skills.evaluation.featurecosts import InputCost, as_json, times, with_memory
from agents.skills.evaluation.featurecosts import lines as input_lines
from agents.skills.evaluation.perturb import empty_row, spoilt
from agents.skills.evaluation.text import code, number
from agents.skills.forks import spread
from agents.skills.shapes import ROW_COLUMN, FeatureMap, ScopeSpec
from agents.skills.words import metric_name
from schemas.ticket import LOWER_IS_BETTER
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.scores import Outcome

TOUCHED = 0.2
"""A share of changed answers, or of the metric lost, above which a warning says so."""


@dataclass(frozen=True)
class Damage:
    """One kind of damage: the metric on the spoilt rows, what was lost of it (positive is worse), and the share of
    rows whose answer changed (another class, or a number off by more than a tenth of the target's deviation)."""

    name: str
    what: str
    metric: Interval
    lost: Interval
    changed: float


@dataclass(frozen=True)
class Cost:
    """Milliseconds for one row (median and 95th percentile), for a row of a batch; bytes at most held for one row and
    for the batch, and of the model's file."""

    single_ms: float
    p95_ms: float
    batch_ms: float
    single_bytes: int
    batch_bytes: int
    model_bytes: int
    rows: int


class EvaluationStress(Skill[Parameters, SkillOutput]):
    """Measure the model on spoilt hold-out rows (noise, missing, extremes, unseen levels), and time and memory."""

    name = "evaluation.stress"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = ("model.skops", "holdout-features.parquet", "holdout-labels.parquet", "feature-map.json", "scope.json")
    produces = ("robustness.json", "robustness.md", "robustness.svg")
    harness = True
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the report and its figure. Raises SkillError for a model file that is not one of ours."""
        import pandas as pd
        from threadpoolctl import threadpool_limits

        from agents.skills.feature.transform import prepare_frame
        from agents.skills.training.modelfile import load_model

        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        features = FeatureMap.model_validate(context.read_json("feature-map.json"))
        rows = pd.read_parquet(context.path("holdout-features.parquet"))
        labels = pd.read_parquet(context.path("holdout-labels.parquet"))
        model = load_model(context.path("model.skops"))
        with threadpool_limits(limits=1):
            plain = _outcome(model, prepare_frame(rows, features), rows, labels, scope)
            answers = _answers(model, prepare_frame(empty_row(rows, features), features), scope)
            cost = _cost(model, rows, features, context.path("model.skops").stat().st_size)
            timed = times(rows, features)
            work: tuple[Callable[[], Any], ...] = (
                lambda: _measure(model, plain, rows, labels, features, scope, context),
                lambda: with_memory(timed),
            )
            # times were taken before, with nothing beside them
            (clean, damages), inputs = spread(lambda part: work[part](), range(len(work)))
        document = _document(scope, clean, damages, cost, answers, context.seed)
        context.write_json("robustness.json", document | {"inputs": as_json(inputs)})
        _draw(context, scope.metric, clean, damages)
        context.write_text("robustness.md", _report(context, scope, clean, damages, cost, answers, inputs))
        return _output(scope, damages, cost, answers)


def _outcome(model: Any, frame: pd.DataFrame, rows: pd.DataFrame, labels: pd.DataFrame, scope: ScopeSpec) -> Outcome:
    """What the model says of `frame`, beside the labels of the same row numbers."""
    import numpy as np

    from agents.skills.evaluation.outcomes import class_indices
    from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome
    from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN
    from agents.skills.training.search import class_probabilities

    truth = labels.set_index(ROW_COLUMN).loc[rows[ROW_COLUMN], TARGET_COLUMN]
    if scope.classes:
        return ClassOutcome(class_indices(truth, scope), class_probabilities(model, frame, scope.classes))
    return ValueOutcome(truth.to_numpy(dtype=np.float64), np.asarray(model.predict(frame), dtype=np.float64))


def _measure(
    model: Any,
    plain: Outcome,
    rows: pd.DataFrame,
    labels: pd.DataFrame,
    features: FeatureMap,
    scope: ScopeSpec,
    context: SkillContext,
) -> tuple[Interval, list[Damage]]:
    from agents.skills.data import twins
    from agents.skills.evaluation.scores import statistics
    from agents.skills.feature.transform import prepare_frame

    outcomes = {"plain": plain}
    words = {}
    for damage in spoilt(rows, features, context.seed):
        context.progress(f"hold-out rows with {damage.name}")
        outcomes[damage.name] = _outcome(model, prepare_frame(damage.rows, features), rows, labels, scope)
        words[damage.name] = damage.what
    parts = {name: statistics(outcome)[scope.metric] for name, outcome in outcomes.items()}
    alike = twins.independent(rows.drop(columns=ROW_COLUMN), context.ticket.groups)
    drawn = resample(parts, len(rows), resample_count(len(rows)), context.seed, context.seconds * 0.6, alike)
    found = {
        name: intervals(each, _all(each, scope.metric, drawn[name]), alike)[scope.metric]
        for name, each in outcomes.items()
    }
    better = scope.metric not in LOWER_IS_BETTER
    damages = [
        Damage(
            name=name,
            what=what,
            metric=found[name],
            lost=paired_gain(found["plain"], found[name], drawn["plain"], drawn[name], better),
            changed=_changed(plain, outcomes[name]),
        )
        for name, what in words.items()
    ]
    return found["plain"], sorted(damages, key=lambda each: -each.lost.value)


def _all(outcome: Outcome, metric: str, drawn: Any) -> dict[str, Any]:
    """Resampled values for `intervals`, which looks at every metric: only one was drawn, the others are left out."""
    import numpy as np

    from agents.skills.evaluation.scores import metric_names

    return {name: drawn if name == metric else np.full(1, np.nan) for name in metric_names(outcome)}


def _changed(plain: Outcome, other: Outcome) -> float:
    import numpy as np

    from agents.skills.evaluation.scores import ClassOutcome

    if isinstance(plain, ClassOutcome):
        return float(np.mean(plain.predicted != other.predicted))
    return float(np.mean(np.abs(plain.predicted - other.predicted) > 0.1 * (float(np.std(plain.truth)) or 1.0)))


def _answers(model: Any, frame: pd.DataFrame, scope: ScopeSpec) -> bool:
    """Whether a row without a single value is answered with a valid prediction."""
    import numpy as np

    try:
        value = model.predict_proba(frame) if scope.classes else model.predict(frame)
    except Exception:
        return False
    return bool(np.all(np.isfinite(np.asarray(value, dtype=np.float64))))


def _cost(model: Any, rows: pd.DataFrame, features: FeatureMap, size: int) -> Cost:
    import time
    import tracemalloc

    import numpy as np

    from agents.skills.feature.transform import prepare_frame

    def predict(part: pd.DataFrame) -> None:
        model.predict(prepare_frame(part, features))

    def peak(part: pd.DataFrame) -> int:
        tracemalloc.start()
        try:
            predict(part)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    predict(rows.iloc[:1])  # the first call pays for what is made once
    singles: list[float] = []
    while len(singles) < 40 and sum(singles) < 2.0:
        part = rows.iloc[[len(singles) % len(rows)]]
        started = time.perf_counter()
        predict(part)
        singles.append(time.perf_counter() - started)
    started = time.perf_counter()
    predict(rows)
    batch = time.perf_counter() - started
    return Cost(
        single_ms=float(np.median(singles)) * 1000,
        p95_ms=float(np.quantile(singles, 0.95)) * 1000,
        batch_ms=batch / len(rows) * 1000,
        single_bytes=peak(rows.iloc[:1]),
        batch_bytes=peak(rows),
        model_bytes=size,
        rows=len(rows),
    )


def _document(
    scope: ScopeSpec, clean: Interval, damages: list[Damage], cost: Cost, answers: bool, seed: int
) -> dict[str, Any]:
    return {
        "metric": scope.metric,
        "seed": seed,
        "resamples": resample_count(cost.rows),
        "plain": clean.as_dict(),
        "damages": [
            {
                "name": each.name,
                "what": each.what,
                "metric": each.metric.as_dict(),
                "lost": each.lost.as_dict(),
                "changed": each.changed,
            }
            for each in damages
        ],
        "answers_empty_row": answers,
        "cost": vars(cost),
    }


def _report(
    context: SkillContext,
    scope: ScopeSpec,
    clean: Interval,
    damages: list[Damage],
    cost: Cost,
    answers: bool,
    inputs: list[InputCost],
) -> str:
    from agents.skills.data.markdown import cell, origin_note

    worst = damages[0]
    verdict = (
        f"The worst is *{worst.name}* ({worst.what}): {metric_name(scope.metric)} {worst.metric.text}, "
        f"and {worst.changed:.1%} of the answers change."
    )
    lines = [f"# Robustness: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket)]
    lines += [
        f"The hold-out rows were spoilt in the ways rows are spoilt in use, and predicted again. {verdict}",
        "",
        "![The metric on spoilt rows](robustness.svg)",
        "",
        f"| | rows | {metric_name(scope.metric)} | lost, positive is worse | answers that change |",
        "|---|---|---|---|---|",
        f"| as they are | as they are | {clean.text} | – | – |",
        *(
            f"| {each.name} | {each.what} | {each.metric.text} | {each.lost.text} | {each.changed:.1%} |"
            for each in damages
        ),
        "",
        "An answer changes when another class is called"
        if scope.classes
        else "An answer changes when the number moves by more than a tenth of the target's standard deviation",
    ]
    lines[-1] += (
        f". Intervals: 95 %, {resample_count(cost.rows):,} paired resamples of the same rows, seed {context.seed}."
    )
    lines += [
        "",
        "A row without a single value "
        + ("is answered." if answers else "**is not answered with a valid prediction.**"),
    ]
    lines += [
        "",
        "## What a prediction costs",
        "",
        "| what | measured |",
        "|---|---|",
        f"| one row, median and 95th percentile | {number(cost.single_ms)} ms, {number(cost.p95_ms)} ms |",
        f"| a row in a batch of {cost.rows:,} | {number(cost.batch_ms)} ms |",
        f"| memory for one row, and for the batch | {_size(cost.single_bytes)}, {_size(cost.batch_bytes)} |",
        f"| model file | {_size(cost.model_bytes)} |",
        "",
        "Time and memory are of this machine, one thread, preparing the columns included; memory is what Python and "
        "NumPy hold at most on top of the loaded model.",
        "",
        *input_lines(inputs, cost.rows),
        "## What this does not say",
        "",
        "- Damage in use may be of other kinds, or hit one group of rows more than another: see "
        + code("evaluation-report.md")
        + " for groups.",
        "- A model that hardly changes is not thereby right: it may not read the columns at all.",
    ]
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _draw(context: SkillContext, metric: str, clean: Interval, damages: list[Damage]) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from agents.skills.evaluation.figure import BLUE, GREY, STYLE

    names = ["as they are", *(each.name for each in damages)]
    found = [clean, *(each.metric for each in damages)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.6 + 0.5 * len(names)), layout="constrained")
        axes = figure.subplots()
        for place, interval in enumerate(found):
            axes.plot([interval.lower, interval.upper], [place, place], color=BLUE if place else GREY, linewidth=2)
            axes.plot([interval.value], [place], "o", color=BLUE if place else GREY)
        axes.axvline(clean.value, linestyle="--", color=GREY, linewidth=1)
        axes.set(yticks=range(len(names)), yticklabels=names, xlabel=f"{metric_name(metric)} with its 95 % interval")
        axes.invert_yaxis()
        figure.suptitle("Hold-out rows as they are, and spoilt")
        figure.savefig(context.out / "robustness.svg", format="svg", metadata={"Date": None, "Creator": None})


def _output(scope: ScopeSpec, damages: list[Damage], cost: Cost, answers: bool) -> SkillOutput:
    worst = damages[0]
    warnings = [
        f"robustness: with {each.what}, {each.changed:.0%} of the answers change ({scope.metric} {each.metric.text})"
        for each in damages
        if each.changed > TOUCHED
    ]
    if not answers:
        warnings.append("robustness: a row without a single value gets no valid prediction")
    return SkillOutput(
        summary=f"spoilt rows: worst {worst.name}, {scope.metric} {worst.metric.text}; p95 {number(cost.p95_ms)} ms",
        ticked=(
            TickedItem(
                item="robustness-measured",
                evidence=f"robustness.json: {len(damages)} kinds of damage, worst {worst.name} {worst.metric.text}",
            ),
        ),
        measurements=(
            Measurement(scope="robustness", name="worst_loss", value=worst.lost.value),
            Measurement(scope="robustness", name="worst_loss_upper", value=worst.lost.upper),
            Measurement(scope="robustness", name="changed", value=max(each.changed for each in damages)),
            Measurement(scope="serving", name="p95_ms", value=cost.p95_ms),
            Measurement(scope="serving", name="row_megabytes", value=cost.single_bytes / 1e6),
        ),
        warnings=tuple(warnings),
    )
