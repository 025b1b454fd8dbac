"""Skill `data.split`: hold-out rows put away before anyone looks, and no answer left in train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, heading, origin_note, table
from agents.skills.data.schema import SchemaSpec
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, ScopeSpec, SplitSpec
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.data.division import Division


class DataSplit(Skill[Parameters, SkillOutput]):
    """Search for rows that occur twice, divide train from hold-out so that none is on both sides, seal the labels."""

    name = "data.split"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("dataset.parquet", "schema-spec.json", "scope.json")
    produces = ("train.parquet", "holdout-features.parquet", "holdout-labels.parquet", "split.json", "split.md")
    beside = True
    sealed = ("holdout-labels.parquet",)
    # Reads the sealed dataset, since it is what takes the hold-out labels out of it.
    harness = True
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the three tables and the record of the split.

        `train.parquet`: features, `__target__`, `__row__`, `__group__`; in row order, or time order for a time split.
        `holdout-features.parquet`: features, `__row__`. `holdout-labels.parquet`: `__row__`, `__target__`.
        Raises InputError when no fair division exists.
        """
        import pandas as pd

        from agents.skills.data.division import Rows, divide

        dataset = pd.read_parquet(context.path("dataset.parquet"))
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        schema = SchemaSpec.model_validate(context.read_json("schema-spec.json"))
        features = dataset.drop(columns=[TARGET_COLUMN, ROW_COLUMN])
        ticket = context.ticket
        context.progress(f"searching {len(dataset):,} rows for twins")
        division = divide(Rows(features, dataset[TARGET_COLUMN], scope.task, ticket.groups, ticket.time), context.seed)
        write_tables(context, dataset, division)
        spec = split_spec(division, schema, context.seed)
        context.write_json("split.json", spec.model_dump(mode="json"))
        context.write_text("split.md", split_document(spec, division, context.ticket))
        return _output(spec)


def write_tables(context: SkillContext, dataset: pd.DataFrame, division: Division) -> None:
    """Write train, hold-out features and hold-out labels as the skill's `run` says."""
    train = dataset[~division.holdout & ~division.dropped].copy()
    train[GROUP_COLUMN] = division.groups[train.index]
    if context.ticket.time is not None:
        train = train.sort_values([context.ticket.time, ROW_COLUMN], kind="stable")
    holdout = dataset[division.holdout]
    train.to_parquet(context.out / "train.parquet", index=False)
    holdout.drop(columns=TARGET_COLUMN).to_parquet(context.out / "holdout-features.parquet", index=False)
    holdout[[ROW_COLUMN, TARGET_COLUMN]].to_parquet(context.out / "holdout-labels.parquet", index=False)


def split_spec(division: Division, schema: SchemaSpec, seed: int) -> SplitSpec:
    """The record of a division."""
    dropped = int(division.dropped.sum())
    reasons = [f"{schema.dropped_rows} because {schema.dropped_reason}"] if schema.dropped_rows else []
    if dropped:
        reasons.append(division.dropped_reason)
    return SplitSpec(
        strategy=division.strategy,
        reason=division.reason,
        seed=seed,
        train_rows=int((~division.holdout & ~division.dropped).sum()),
        holdout_rows=int(division.holdout.sum()),
        twin_fraction=division.twin_fraction,
        twin_fraction_after=division.twin_fraction_after,
        group_by=division.group_by,
        dropped_rows=schema.dropped_rows + dropped,
        dropped_reason="; ".join(reasons),
    )


def _output(spec: SplitSpec) -> SkillOutput:
    warnings = []
    if spec.twin_fraction > 0.01:
        warnings.append(
            f"{spec.twin_fraction:.1%} of a random hold-out's rows have the feature values of a training row; "
            f"split {spec.strategy}, now {spec.twin_fraction_after:.1%}"
        )
    if spec.dropped_rows:
        warnings.append(f"{spec.dropped_rows} rows left out: {spec.dropped_reason}")
    return SkillOutput(
        summary=f"{spec.strategy}: {spec.train_rows:,} train, {spec.holdout_rows:,} sealed; {spec.reason}",
        ticked=(
            TickedItem(
                item="twins-searched",
                evidence=f"split.json: twin_fraction {spec.twin_fraction:.4f}, after it {spec.twin_fraction_after:.4f}",
            ),
            TickedItem(
                item="holdout-sealed",
                evidence=f"holdout-labels.parquet: {spec.holdout_rows:,} labels sealed, as is dataset.parquet",
            ),
        ),
        measurements=(
            Measurement(scope="data", name="twin_fraction", value=spec.twin_fraction),
            Measurement(scope="data", name="twin_fraction_after", value=spec.twin_fraction_after),
            Measurement(scope="data", name="train_rows", value=float(spec.train_rows)),
            Measurement(scope="data", name="holdout_rows", value=float(spec.holdout_rows)),
        ),
        warnings=tuple(warnings),
    )


def split_document(spec: SplitSpec, division: Division, ticket: Ticket) -> str:
    """`split.md`."""
    kept = int((~division.dropped).sum())
    groups = len(set(division.groups[~division.dropped].tolist()))
    rows = [
        ("strategy", spec.strategy),
        ("train rows", f"{spec.train_rows:,}"),
        ("hold-out rows", f"{spec.holdout_rows:,} ({spec.holdout_rows / kept:.1%})"),
        ("groups", f"{groups:,}" + (f", by {spec.group_by}" if spec.group_by else " (every row its own)")),
        ("twins in a random hold-out", f"{spec.twin_fraction:.2%}"),
        ("twins in this hold-out", f"{spec.twin_fraction_after:.2%}"),
        ("rows left out", f"{spec.dropped_rows:,}"),
        ("seed", spec.seed),
    ]
    lines = [
        heading("Split", ticket),
        "",
        *origin_note(ticket),
        cell(spec.reason, 500) + ".",
        "",
        *table(("what", "value"), rows),
        "",
    ]
    if spec.dropped_reason:
        lines += [f"Left out: {cell(spec.dropped_reason, 300)}.", ""]
    lines += [
        "A twin is a row whose feature values, identifiers aside, all equal those of a training row. Above 1 %, twins",
        "are kept on one side: a model that has seen a twin's answer would be praised for remembering it.",
        "",
        "The labels of the hold-out rows are sealed: only the harness, which computes the metrics, can read them.",
    ]
    return "\n".join(lines)
