"""Skill `evaluation.compare`: the retrained model against the one in use, on the same sealed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.evaluation.bootstrap import Interval
from agents.skills.evaluation.challenge import Challenge, challenge, challenge_section
from agents.skills.evaluation.measure import evaluate, interval_measurements, measurements_of, metrics_json
from agents.skills.evaluation.predict import milliseconds, prediction_columns
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, FeatureMap, ScopeSpec
from agents.skills.training.inuse import ModelInUse, open_in_use
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.evaluation.scores import Outcome


class EvaluationCompare(Skill[Parameters, SkillOutput]):
    """Ask both models about the same sealed rows, give the paired gain its interval, and name the winner."""

    name = "evaluation.compare"
    role = Role.EVALUATION
    modes = frozenset({Mode.EVALUATE})
    needs = (
        "model.skops", "baseline.skops", "holdout-features.parquet", "holdout-labels.parquet", "feature-map.json",
        "scope.json", "split.json", "model-in-use.json",
    )  # fmt: skip
    optional = ("data-source.json", "experiment-log.json", "data-drift.json")
    produces = ("predictions.parquet", "metrics.json", "evaluation-report.md", "evaluation.svg")
    harness = True
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write both models' predictions, `metrics.json` (with `champion`), the report and its figure.

        Raises InputError when the model in use is not the one recorded, SkillError when a model file holds anything
        but what training writes.
        """
        import pandas as pd

        from agents.skills.evaluation.figure import draw
        from agents.skills.evaluation.outcomes import read_holdout
        from agents.skills.evaluation.report import report_document

        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        in_use = ModelInUse.model_validate(context.read_json("model-in-use.json"))
        raw = pd.read_parquet(context.path("holdout-features.parquet"))
        predictions, single = _predict(context, raw, scope, in_use)
        predictions.to_parquet(context.out / "predictions.parquet", index=False)
        holdout = read_holdout(
            context.out / "predictions.parquet",
            context.path("holdout-labels.parquet"),
            context.path("holdout-features.parquet"),
            scope,
            context.ticket.groups,
        )
        found = evaluate(holdout, scope, context)
        champion = _champion(predictions, context, scope)
        compared = challenge(holdout.model, champion, holdout.features, scope, context, holdout.groups)
        context.write_json("metrics.json", metrics_json(found, scope) | {"champion": compared.as_dict()})
        draw(context.out / "evaluation.svg", holdout.model, found.bins, scope.classes, context.ticket.title[:70])
        measurements = (*measurements_of(found), *_champion_measurements(compared))
        report = report_document(found, scope, context, measurements)
        section = "\n".join(challenge_section(compared, in_use.name, in_use.version))
        context.write_text("evaluation-report.md", report.replace("## Metrics\n", f"{section}\n## Metrics\n", 1))
        seen = "data-drift.json" in context.inputs and context.read_json("data-drift.json")["same_source"]
        return _output(compared, in_use, measurements, single, seen=bool(seen))


def _predict(
    context: SkillContext, raw: pd.DataFrame, scope: ScopeSpec, in_use: ModelInUse
) -> tuple[pd.DataFrame, float]:
    """Every model's predictions (`p_` the challenger, `b_` the baseline, `c_` the champion), and ms for one row."""
    import numpy as np
    import pandas as pd
    from threadpoolctl import threadpool_limits

    from agents.skills.feature.transform import prepare_frame
    from agents.skills.training.modelfile import load_model, loads_model

    package = open_in_use(context, in_use)
    features = FeatureMap.model_validate(context.read_json("feature-map.json"))
    model, floor = (load_model(context.path(name)) for name in ("model.skops", "baseline.skops"))
    champion = loads_model("model.skops of the model in use", package.files["model.skops"])
    context.progress(f"asking three models about {len(raw)} hold-out rows")
    with threadpool_limits(limits=1):
        frame = prepare_frame(raw, features)
        table: dict[str, Any] = {ROW_COLUMN: raw[ROW_COLUMN].to_numpy(dtype=np.int64)}
        table |= prediction_columns(model, frame, scope, "p_", "prediction")
        table |= prediction_columns(floor, frame, scope, "b_", "b_prediction")
        table |= prediction_columns(champion, prepare_frame(raw, package.features), scope, "c_", "c_prediction")
        single = milliseconds(lambda: model.predict(prepare_frame(raw.iloc[:1], features)), 15)
    return pd.DataFrame(table), single


def _champion(predictions: pd.DataFrame, context: SkillContext, scope: ScopeSpec) -> Outcome:
    """What the champion said beside what happened, in ascending row number as `read_holdout` has the rows."""
    import numpy as np
    import pandas as pd

    from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome

    said = predictions.set_index(ROW_COLUMN).sort_index()
    truth = pd.read_parquet(context.path("holdout-labels.parquet")).set_index(ROW_COLUMN).sort_index()[TARGET_COLUMN]
    if not scope.classes:
        return ValueOutcome(truth.to_numpy(dtype=np.float64), said["c_prediction"].to_numpy(dtype=np.float64))
    lookup = {label: index for index, label in enumerate(scope.classes)}
    indices = np.array([lookup[str(label)] for label in truth], dtype=np.intp)
    columns = [f"c_{index}" for index in range(len(scope.classes))]
    return ClassOutcome(indices, said[columns].to_numpy(dtype=np.float64))


def _champion_measurements(compared: Challenge) -> list[Measurement]:
    values = [Measurement(scope="champion", name="rows", value=float(compared.rows))]
    for name, interval in compared.champion.items():
        values += interval_measurements("champion", name, interval)
    named: dict[str, Interval] = {f"{name}_gain": gain for name, gain in compared.gains.items()}
    for name, gain in {**named, "gain": compared.gain}.items():
        values += interval_measurements("champion", name, gain)
    return values


def _output(
    compared: Challenge, in_use: ModelInUse, measurements: tuple[Measurement, ...], single: float, *, seen: bool
) -> SkillOutput:
    winner = "challenger" if compared.won else "champion"
    worse = compared.worse_slices
    slices = (
        f"clearly worse in {len(worse)}: {', '.join(f'{part.column} {part.values}' for part in worse)}"
        if worse
        else f"in none of {compared.slices.judged} clearly worse"
    )
    warnings = [
        f"slice {part.column} {part.values} is clearly worse than before: gain {part.gain.text}" for part in worse
    ]
    if seen:
        warnings.append("the model in use was trained on the hold-out rows: the comparison favours it")
    if compared.rows < 30:
        warnings.append(f"{compared.rows} hold-out rows: intervals of so few rows are unreliable")
    return SkillOutput(
        summary=f"{winner}: {compared.metric} gain {compared.gain.text} on {compared.rows} rows",
        ticked=(
            TickedItem(
                item="same-rows",
                evidence=f"metrics.json: {compared.rows} sealed rows, champion {in_use.sha256[:12]} and challenger",
            ),
            TickedItem(
                item="gain-with-interval", evidence=f"metrics.json: {compared.metric} gain {compared.gain.text}, paired"
            ),
            TickedItem(item="slices-not-worse", evidence=f"metrics.json: {slices}"[:300]),
            TickedItem(item="winner-named", evidence=f"evaluation-report.md: {compared.reason}"),
        ),
        measurements=(*measurements, Measurement(scope="serving", name="single_row_ms", value=single)),
        warnings=tuple(warnings),
    )
