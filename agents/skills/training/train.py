"""Skill `training.train`: baseline, search, choice, refit, and proof that training twice gives the same model."""

from __future__ import annotations

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.shapes import ExperimentLog, ExperimentPlan, FeatureMap, ScopeSpec, SplitSpec
from agents.skills.training.tracking import open_tracker, record_run
from schemas.values import Measurement, Mode, Role, TickedItem


class TrainingTrain(Skill[Parameters, SkillOutput]):
    """Train baseline and candidates, reproducibly, and choose the simplest that is not clearly beaten."""

    name = "training.train"
    role = Role.TRAINING
    modes = frozenset({Mode.BUILD})
    needs = ("train.parquet", "scope.json", "split.json", "feature-map.json", "experiment-plan.json")
    produces = ("model.skops", "baseline.skops", "experiment-log.json", "experiment-log.md")
    seconds = 600.0
    resumes = True

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the model, the baseline and the log of the experiment.

        Raises InputError when the rows cannot be cross-validated, LimitError when one model takes too much of the time,
        SkillError when the settings name a Ray cluster that cannot be used: it is not done without it.
        """
        from agents.skills.training.checkpoint import open_checkpoint, went_on
        from agents.skills.training.cluster import computing
        from agents.skills.training.experiment import Experiment
        from agents.skills.training.processes import forked
        from agents.skills.training.report import log_document
        from agents.skills.training.rows import read_rows

        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        split = SplitSpec.model_validate(context.read_json("split.json"))
        features = FeatureMap.model_validate(context.read_json("feature-map.json"))
        plan = ExperimentPlan.model_validate(context.read_json("experiment-plan.json"))
        checkpoint = open_checkpoint(context.kept, [context.path(name) for name in self.needs])
        rows = read_rows(context.path("train.parquet"), features, scope)
        with computing(context, rows, features, scope) as cluster, forked(rows, features, scope) as processes:
            place = cluster or processes
            result = Experiment(
                rows,
                features,
                scope,
                plan,
                time_ordered=split.strategy == "time",
                seconds=context.seconds,
                progress=context.progress,
                checkpoint=checkpoint,
                elsewhere=None if place is None else place.of,
            ).run()
        tracker, warning = open_tracker(context, plan.metric)
        log = result.log.model_copy(update={"tracking": tracker.where})
        (context.out / "model.skops").write_bytes(result.model)
        (context.out / "baseline.skops").write_bytes(result.baseline)
        context.write_json("experiment-log.json", log.model_dump(mode="json"))
        context.write_text("experiment-log.md", log_document(log, result, plan, context.ticket))
        warnings = (warning, record_run(tracker, log), *result.warnings)
        notes = went_on(checkpoint) + ("" if cluster is None else cluster.told)
        return SkillOutput(
            summary=f"{log.chosen.model}: cross-validated {log.metric} {log.chosen.mean:.4f} "
            f"(baseline {log.baseline.mean:.4f}) after {len(log.trials)} configurations{notes}",
            ticked=_ticked(log, result.reproducible, result.search_note),
            measurements=(
                Measurement(scope="training", name=f"cv_{log.metric}", value=log.chosen.mean),
                Measurement(scope="training", name=f"cv_{log.metric}_se", value=log.chosen.standard_error),
                Measurement(scope="training", name="trials", value=float(len(log.trials))),
            ),
            warnings=tuple(text for text in warnings if text),
        )


def _ticked(log: ExperimentLog, reproducible: bool, search_note: str) -> tuple[TickedItem, ...]:
    items = [
        TickedItem(
            item="baseline-trained",
            evidence=f"baseline.skops: cross-validated {log.metric} {log.baseline.mean:.4f}",
        ),
        TickedItem(item="search-done", evidence=f"experiment-log.json: {search_note}"),
        TickedItem(item="experiments-tracked", evidence=f"experiment-log.json: {len(log.trials)} configurations"),
    ]
    if reproducible:
        evidence = f"seed {log.seed}; fitted twice, both model.skops {log.model_sha256[:16]}"
        items.append(TickedItem(item="seeded", evidence=evidence))
    return tuple(items)
