"""Skill `training.retrain`: the model in use, with its kind, settings and inputs, fitted to newer rows."""

from __future__ import annotations

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.shapes import ExperimentLog, ExperimentPlan, FeatureMap, ScopeSpec, SplitSpec
from agents.skills.training.candidates import Candidate, Params, Problem, baseline_name
from agents.skills.training.inuse import ModelInUse
from agents.skills.training.tracking import open_tracker, record_run
from agents.skills.training.voting import KINDS, VOTING, own_settings
from schemas.values import Measurement, Mode, Role, TickedItem


class TrainingRetrain(Skill[Parameters, SkillOutput]):
    """Train the model in use anew: same kind, same settings, same inputs, newer rows; and the baseline with it."""

    name = "training.retrain"
    role = Role.TRAINING
    modes = frozenset({Mode.BUILD})
    needs = ("train.parquet", "scope.json", "split.json", "feature-map.json", "model-in-use.json")
    produces = ("model.skops", "baseline.skops", "experiment-log.json", "experiment-log.md")
    seconds = 600.0
    resumes = True

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the model, the baseline and the log.

        Raises InputError when the package names a kind or settings no model of ours has, or rows cannot be folded.
        """
        from agents.skills.training.checkpoint import open_checkpoint, went_on
        from agents.skills.training.experiment import Experiment
        from agents.skills.training.processes import forked
        from agents.skills.training.report import log_document
        from agents.skills.training.rows import read_rows

        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        split = SplitSpec.model_validate(context.read_json("split.json"))
        features = FeatureMap.model_validate(context.read_json("feature-map.json"))
        in_use = ModelInUse.model_validate(context.read_json("model-in-use.json"))
        plan = _plan(scope, split, in_use, context.seed)
        rows = read_rows(context.path("train.parquet"), features, scope)
        checkpoint = open_checkpoint(context.kept, [context.path(name) for name in self.needs])
        with forked(rows, features, scope) as processes:
            experiment = Experiment(
                rows,
                features,
                scope,
                plan,
                time_ordered=split.strategy == "time",
                seconds=context.seconds,
                progress=context.progress,
                checkpoint=checkpoint,
                elsewhere=None if processes is None else processes.of,
            )
            result = experiment.again(plan.candidates[0], settings(in_use, experiment.problem))
        tracker, warning = open_tracker(context, plan.metric)
        log = result.log.model_copy(update={"tracking": tracker.where})
        (context.out / "model.skops").write_bytes(result.model)
        (context.out / "baseline.skops").write_bytes(result.baseline)
        context.write_json("experiment-log.json", log.model_dump(mode="json"))
        context.write_text("experiment-log.md", log_document(log, result, plan, context.ticket))
        warnings = (warning, record_run(tracker, log), *result.warnings)
        return SkillOutput(
            summary=f"{log.chosen.model} fitted to {split.train_rows:,} newer rows: cross-validated {log.metric} "
            f"{log.chosen.mean:.4f} (baseline {log.baseline.mean:.4f}){went_on(checkpoint)}",
            ticked=_ticked(log, in_use, result.reproducible),
            measurements=(
                Measurement(scope="training", name=f"cv_{log.metric}", value=log.chosen.mean),
                Measurement(scope="training", name=f"cv_{log.metric}_se", value=log.chosen.standard_error),
            ),
            warnings=tuple(text for text in warnings if text),
        )


def settings(in_use: ModelInUse, problem: Problem) -> Params:
    """The settings of the model in use. Raises InputError unless they are exactly those its kind has.

    A package is not trusted: a setting no search of ours gives (a number of threads, a path) goes nowhere near a model.
    """
    candidate = _candidate(in_use)
    given = dict(in_use.parameters)
    if not own_settings(candidate.name, given, problem):
        known = set() if candidate.name == VOTING else set(candidate.defaults(problem))
        strange = ", ".join(sorted(set(given) ^ known))
        raise InputError(
            f"{in_use.uri}: the settings of its {candidate.name} model are not its own ({strange[:200]})",
            "deliver the model again with pipeline ml-delivery",
        )
    return given


def _candidate(in_use: ModelInUse) -> Candidate:
    kind = in_use.kind.partition(" (")[0]
    if kind not in KINDS:
        raise InputError(
            f"{in_use.uri}: its model is of kind {kind[:60]!r}, which is not trained here",
            f"name a package with a model of kind {', '.join(KINDS)}",
        )
    return KINDS[kind]


def _plan(scope: ScopeSpec, split: SplitSpec, in_use: ModelInUse, seed: int) -> ExperimentPlan:
    return ExperimentPlan(
        metric=scope.metric,
        folds=5 if split.train_rows >= 50 else 3,
        grouped=split.strategy == "grouped",
        seed=seed % 2**31,
        baseline=baseline_name(bool(scope.classes), scope.metric),
        candidates=(_candidate(in_use).name,),
        trials=0,
        search_seconds=0.0,
    )


def _ticked(log: ExperimentLog, in_use: ModelInUse, reproducible: bool) -> tuple[TickedItem, ...]:
    settings = ", ".join(f"{name}={value}" for name, value in sorted(log.chosen.parameters.items()))
    items = [
        TickedItem(
            item="baseline-trained", evidence=f"baseline.skops: cross-validated {log.metric} {log.baseline.mean:.4f}"
        ),
        TickedItem(
            item="plan-kept",
            evidence=f"experiment-log.json: {log.chosen.model}, {settings or 'defaults'}, as in {in_use.sha256[:12]}",
        ),
        TickedItem(item="experiments-tracked", evidence=f"experiment-log.json: {len(log.trials)} configuration"),
    ]
    if reproducible:
        evidence = f"seed {log.seed}; fitted twice, both model.skops {log.model_sha256[:16]}"
        items.append(TickedItem(item="seeded", evidence=evidence))
    return tuple(items)
