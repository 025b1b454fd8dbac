"""Skill `feature.leakage`: has an answer slipped into the inputs?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import figure, heading, origin_note, table
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, FeatureMap, ScopeSpec, SplitSpec
from agents.skills.words import counted
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.feature.finding import Finding


class FeatureLeakage(Skill[Parameters, SkillOutput]):
    """Test the inputs for leakage: columns that give the target away, doubled rows, shift against the hold-out."""

    name = "feature.leakage"
    role = Role.FEATURE
    modes = frozenset({Mode.BUILD})
    needs = ("train.parquet", "holdout-features.parquet", "feature-map.json", "scope.json", "split.json")
    produces = ("leakage.json", "leakage.md")
    seconds = 180.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write every test with value, threshold and verdict. Hold-out labels are neither needed nor readable."""
        import pandas as pd

        train = pd.read_parquet(context.path("train.parquet"))
        holdout = pd.read_parquet(context.path("holdout-features.parquet"))
        mapped = FeatureMap.model_validate(context.read_json("feature-map.json"))
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        split = SplitSpec.model_validate(context.read_json("split.json"))
        findings = examine(train, holdout, mapped, scope, split, context.ticket, context.seed)
        suspects = [item for item in findings if item.verdict == "suspect"]
        shift = next(item for item in findings if item.test == "shift")
        context.write_json(
            "leakage.json",
            {"suspects": len(suspects), "tests": [asdict(item) for item in findings], "rows": len(train)},
        )
        context.write_text("leakage.md", _document(findings, context.ticket))
        return SkillOutput(
            summary=f"{len(findings)} tests, {len(suspects)} suspects; adversarial AUC {shift.value:.3f}",
            ticked=(
                TickedItem(
                    item="leakage-tested",
                    evidence=f"leakage.json: {len(findings)} tests, {len(suspects)} suspects, shift {shift.value:.3f}",
                ),
            ),
            measurements=(
                Measurement(scope="leakage", name="suspects", value=float(len(suspects))),
                Measurement(scope="leakage", name="adversarial_auc", value=shift.value),
                Measurement(scope="leakage", name="adversarial_bound", value=min(shift.threshold, 1.0)),
            ),
            warnings=tuple(_sentence(item) for item in findings if item.verdict != "ok"),
        )


def examine(
    train: pd.DataFrame, holdout: pd.DataFrame, mapped: FeatureMap, scope: ScopeSpec, split: SplitSpec,
    ticket: Ticket, seed: int,
) -> list[Finding]:  # fmt: skip
    """Run all tests: of every column by itself, of the strongest beside all others, of the split, of time."""
    from agents.skills.feature import leaktests, nearness, proxies

    target = train[TARGET_COLUMN]
    findings, strengths = [], {}
    for column in mapped.columns:
        alone = leaktests.single_feature(train[column.name], target, scope.classes, seed)
        strengths[column.name] = alone.value
        findings += [alone, leaktests.exact_function(train[column.name], target)]
    own = train[GROUP_COLUMN].to_numpy()
    findings += proxies.stand_outs(train, target, mapped, scope.classes, strengths, own, seed)
    features = train.drop(columns=[TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN])
    others = holdout.drop(columns=ROW_COLUMN)
    if ticket.groups is not None:
        findings.append(leaktests.shared_groups(features, others, ticket.groups))
    twins, independent = leaktests.twin_rows(features, others, ticket.groups)
    findings += [twins, nearness.near_twins(features, others, seed)]
    findings += nearness.unnamed_groups(features, ticket.groups)
    if ticket.time is not None:
        findings += _of_time(train, others, mapped, scope, ticket.time)
    by_time = split.strategy == "time"
    return [
        *findings, leaktests.shift(features, others, mapped, independent, by_time=by_time, seed=seed)
    ]  # fmt: skip


def _of_time(
    train: pd.DataFrame, holdout: pd.DataFrame, mapped: FeatureMap, scope: ScopeSpec, time: str
) -> list[Finding]:
    """Nothing may come from later than the row itself."""
    from agents.skills.data.twins import effective
    from agents.skills.feature import timetests

    ordered = train.sort_values([time, ROW_COLUMN], kind="stable")
    independent = effective(ordered[GROUP_COLUMN].to_numpy())
    newest = max(train[time].max(), holdout[time].max())
    found = [timetests.order(train, holdout, time)]
    for column in mapped.columns:
        if column.kind == "datetime":
            found.append(timetests.later_events(ordered[column.name], ordered[time], newest))
        else:
            target = ordered[TARGET_COLUMN]
            found.append(timetests.knows_next(ordered[column.name], target, scope.classes, independent))
    return found


def _sentence(item: Finding) -> str:
    where = "" if item.subject == "rows" else f" of column {item.subject}"
    return f"{item.test}{where}: {item.meaning} {item.value:.4f}, above {item.threshold:.4f} ({item.verdict})"


def _document(findings: list[Finding], ticket: Ticket) -> str:
    raised = sorted(
        (item for item in findings if item.verdict != "ok"),
        key=lambda item: (item.verdict != "suspect", item.test, -item.value, item.subject),
    )
    passed: dict[str, list[Finding]] = {}
    for item in sorted(findings, key=lambda item: (item.test, -item.value, item.subject)):
        if item.verdict == "ok":
            passed.setdefault(item.test, []).append(item)
    suspects = sum(item.verdict == "suspect" for item in findings)
    lines = [
        heading("Leakage tests", ticket),
        "",
        *origin_note(ticket),
        f"**{counted(suspects, 'suspect')}** in {counted(len(findings), 'test')}. A suspect stops the phase. If a "
        "column is not known at the moment the model is asked, or is made from the target, take it out of the data and "
        "start again.",
        "",
    ]
    if raised:
        rows = [
            (item.verdict, item.test, item.subject, figure(item.value), figure(item.threshold), item.meaning)
            for item in raised
        ]
        header = ("verdict", "test", "of what", "value", "threshold", "what it is")
        lines += ["## Raised", "", *table(header, rows, 200), ""]
    if passed:
        # One line for each kind: of hundreds of columns that passed only the nearest to a threshold tells something.
        tests = [
            (name, len(items), items[0].subject, figure(items[0].value), figure(items[0].threshold), items[0].meaning)
            for name, items in passed.items()
        ]
        header = ("test", "passed", "nearest to the threshold", "value", "threshold", "what it is")
        lines += ["## Passed", "", *table(header, tests, 200), "", "`leakage.json` has every test of every column."]
    return "\n".join(lines)
