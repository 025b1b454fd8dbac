"""Skill `evaluation.analyse`: why the model does as it does, from training rows it did not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.evaluation.analysis_report import analysis_document
from agents.skills.evaluation.crossed import Crossed
from agents.skills.evaluation.errors import ErrorGroup
from agents.skills.evaluation.moved import Moved
from agents.skills.evaluation.slices import SliceReport
from agents.skills.lead.statement import read_statement
from agents.skills.shapes import (
    GROUP_COLUMN,
    ROW_COLUMN,
    TARGET_COLUMN,
    ExperimentLog,
    FeatureMap,
    ScopeSpec,
    SplitSpec,
)
from schemas.values import Measurement, Mode, Role, TickedItem


@dataclass(frozen=True)
class Analysis:
    """Everything found. `loss` and `floor` are per case: the share of wrong answers, or the mean absolute error."""

    scope: ScopeSpec
    split: SplitSpec
    model: str
    rows: int
    crossed: Crossed
    value: float
    floor_value: float
    loss: float
    floor: float
    ece: float | None
    groups: tuple[ErrorGroup, ...]
    slices: SliceReport
    mistakes: dict[str, Any]
    moved: tuple[Moved, ...]
    incidents: str

    @property
    def unit(self) -> str:
        """What `loss` counts."""
        return "share of wrong answers" if self.scope.classes else "mean absolute error"

    @property
    def clear(self) -> list[ErrorGroup]:
        """The groups that err more than chance explains."""
        return [each for each in self.groups if each.clear]


class EvaluationAnalyse(Skill[Parameters, SkillOutput]):
    """Group the model's errors, name causes with evidence, rank what it reads, and say whether more rows would help.

    Errors are studied on training rows predicted by models of the same configuration that did not see them: the sealed
    hold-out stays unseen, so that whatever is improved by this can still be measured honestly.
    """

    name = "evaluation.analyse"
    role = Role.EVALUATION
    modes = frozenset({Mode.IMPROVE})
    needs = (
        "impact-report.json", "metrics.json", "scope.json", "split.json", "feature-map.json", "experiment-log.json",
        "train.parquet", "holdout-features.parquet",
    )  # fmt: skip
    produces = ("performance-analysis.json", "performance-analysis.md", "performance-analysis.svg")
    seconds = 600.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write analysis, document and picture."""
        from agents.skills.evaluation.analysis_figure import draw

        found = _analyse(context)
        context.write_json("performance-analysis.json", _json(found))
        draw(context.out / "performance-analysis.svg", found.crossed, found.groups, found.loss, found.unit)
        impact = context.read_json("impact-report.json")
        context.write_text("performance-analysis.md", analysis_document(context.ticket, found, impact))
        return _output(found)


def _analyse(context: SkillContext) -> Analysis:
    import numpy as np
    import pandas as pd

    from agents.skills.evaluation.calibration import calibration_error
    from agents.skills.evaluation.crossed import cross
    from agents.skills.evaluation.errors import group_errors, mistakes
    from agents.skills.evaluation.moved import moved_columns
    from agents.skills.evaluation.scores import ClassOutcome, losses, score
    from agents.skills.evaluation.slices import measure_slices
    from agents.skills.training.rows import read_rows

    scope = ScopeSpec.model_validate(context.read_json("scope.json"))
    split = SplitSpec.model_validate(context.read_json("split.json"))
    features = FeatureMap.model_validate(context.read_json("feature-map.json"))
    log = ExperimentLog.model_validate(context.read_json("experiment-log.json"))
    rows = read_rows(context.path("train.parquet"), features, scope)
    crossed = cross(
        rows, features, scope, log, context.seed, time_ordered=split.strategy == "time", progress=context.progress
    )
    raw = pd.read_parquet(context.path("train.parquet"))
    plain = raw.drop(columns=[ROW_COLUMN, GROUP_COLUMN, TARGET_COLUMN], errors="ignore")
    frame = plain.iloc[crossed.order].reset_index(drop=True)
    groups = np.asarray(rows.groups)[crossed.order]
    used = frame[[column.name for column in features.columns]]
    context.progress("grouping the errors")
    outcome = crossed.model
    asked = pd.read_parquet(context.path("holdout-features.parquet")).drop(columns=ROW_COLUMN, errors="ignore")
    ece = None
    if isinstance(outcome, ClassOutcome):
        ece = float(calibration_error(outcome)(np.ones((1, len(outcome.truth))))[0])
    return Analysis(
        scope=scope,
        split=split,
        model=log.chosen.model,
        rows=len(outcome.truth),
        crossed=crossed,
        value=score(outcome, scope.metric),
        floor_value=score(crossed.floor, scope.metric),
        loss=float(losses(outcome).mean()),
        floor=float(losses(crossed.floor).mean()),
        ece=ece,
        groups=group_errors(outcome, used, groups, context.seed),
        slices=measure_slices(outcome, crossed.floor, used, scope.metric, context.seed, groups=groups),
        mistakes=mistakes(
            outcome, used, [each.column for each in crossed.importance],
            raw[ROW_COLUMN].to_numpy()[crossed.order], scope.classes,
        ),
        moved=moved_columns(plain[asked.columns], asked, split.strategy),
        incidents=read_statement(context.ticket).text("incidents"),
    )  # fmt: skip


def _json(found: Analysis) -> dict[str, Any]:
    half, loss = found.crossed.half, found.crossed.half_loss
    return {
        "rows": found.rows,
        "folds": found.crossed.folds,
        "model": found.model,
        "metric": found.scope.metric,
        "value": found.value,
        "baseline": found.floor_value,
        "unit": found.unit,
        "loss": found.loss,
        "baseline_loss": found.floor,
        "ece": found.ece,
        "error_groups": [each.as_dict() for each in found.groups],
        "slices": [each.as_dict() for each in found.slices.worst],
        "importance": [
            {"column": each.column, "loss": each.loss, "se": each.se, "clear": each.clear}
            for each in found.crossed.importance
        ],
        "mistakes": found.mistakes,
        "more_rows": {
            "compared": "all fitting rows of each fold with half of them",
            "gain": half.gain,
            "lower": half.lower,
            "upper": half.upper,
            "clear": half.won,
            "loss_gain": loss.gain,
            "loss_gain_lower": loss.lower,
        },
        "drift": [each.as_dict() for each in found.moved],
        "incidents": found.incidents,
    }


def _output(found: Analysis) -> SkillOutput:
    heaviest = found.groups[0] if found.groups else None
    caused = [each for each in found.groups if not each.cause.startswith(("not seen", "does no"))]
    explained = [each for each in found.moved if each.explanation]
    half = found.crossed.half
    causes = f"{len(caused)} of {len(found.groups)} groups" if found.groups else "too few rows to form groups"
    if heaviest:
        causes += f"; the heaviest: {heaviest.cause}"
    ticked = [
        TickedItem(
            item="errors-grouped",
            evidence=f"performance-analysis.json: {len(found.groups)} groups and {found.slices.judged} slices, "
            f"{len(found.clear)} err clearly more",
        ),
        TickedItem(item="causes-named", evidence=f"performance-analysis.md: {causes}"),
        TickedItem(
            item="drift-explained",
            evidence=f"performance-analysis.md: {len(found.moved)} columns moved, {len(explained)} explained, "
            "the others are left to a person by name",
        ),
    ]
    if found.incidents:
        ticked.append(TickedItem(item="incidents-reviewed", evidence="performance-analysis.md: those the ticket names"))
    warnings = [
        f"errors are heavier where {each.condition}: {each.loss:.4g}, {each.elsewhere:.4g} elsewhere ({each.cause})"
        for each in found.clear
    ]
    warnings += [f"column {each.column} moved and nobody knows why" for each in found.moved if not each.explanation]
    return SkillOutput(
        summary=f"{found.unit} {found.loss:.4g} on {found.rows} rows not fitted on; {len(found.clear)} groups err "
        f"clearly more; all rows against half: {found.scope.metric} gain {half.gain:+.4g}",
        ticked=tuple(ticked),
        measurements=(
            Measurement(scope="analysis", name="error_groups", value=float(len(found.clear))),
            Measurement(scope="analysis", name="more_rows_gain", value=half.gain),
        ),
        warnings=tuple(warnings),
    )
