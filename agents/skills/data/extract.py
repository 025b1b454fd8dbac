"""Skill `data.extract`: every row, once, as a typed table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data import target as targets
from agents.skills.data.columns import kind_of
from agents.skills.data.loading import Loaded, load
from agents.skills.data.schema import ColumnSpec, SchemaSpec
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, ScopeSpec, SourceSpec
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd


class DataExtract(Skill[Parameters, SkillOutput]):
    """Read the ticket's rows into a typed table with row numbers, and record its columns."""

    name = "data.extract"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    reads_source = True
    needs = ("scope.json", "data-source.json")
    produces = ("dataset.parquet", "schema-spec.json")
    # The dataset holds the labels of the rows that become the hold-out: no agent may read it afterwards.
    sealed = ("dataset.parquet",)
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `dataset.parquet`: the feature columns, then `__target__` and `__row__` (0..n-1).

        Raises InputError when the source changed since it was recorded, or its target no longer fits the scope.
        """
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        recorded = SourceSpec.model_validate(context.read_json("data-source.json"))
        loaded = load(context.ticket, context.roots, context.max_data_bytes)
        same_source(loaded.source, recorded)
        dataset = dataset_of(loaded, scope)
        dataset.to_parquet(context.out / "dataset.parquet", index=False)
        schema = schema_of(dataset, loaded, context.ticket)
        context.write_json("schema-spec.json", schema.model_dump(mode="json"))
        rows, width = schema.rows, len(schema.columns)
        return SkillOutput(
            summary=f"{rows:,} rows × {width} feature columns read, {loaded.dropped} left out",
            ticked=(
                TickedItem(
                    item="rows-read",
                    evidence=f"dataset.parquet: {rows:,} of {loaded.source.rows:,} rows, {loaded.dropped} dropped",
                ),
                TickedItem(item="schema-recorded", evidence=f"schema-spec.json: {width} columns with type and nulls"),
            ),
            measurements=(
                Measurement(scope="data", name="rows", value=float(rows)),
                Measurement(scope="data", name="columns", value=float(width)),
            ),
            warnings=loaded.warnings,
        )


def dataset_of(loaded: Loaded, scope: ScopeSpec) -> pd.DataFrame:
    """Features with the target and the row number under their fixed names."""
    import numpy as np

    values = targets.as_target(loaded.frame[loaded.target], scope.task)
    if scope.classes and targets.classes_of(values) != scope.classes:
        raise InputError(f"the classes of {loaded.target!r} are not those of scope.json", "start a new session")
    dataset = loaded.frame.drop(columns=loaded.target)
    dataset[TARGET_COLUMN] = values
    dataset[ROW_COLUMN] = np.arange(len(dataset), dtype=np.int64)
    return dataset


def same_source(now: SourceSpec, recorded: SourceSpec) -> None:
    """Raises InputError when the source's bytes are not those that were recorded."""
    if now.sha256 != recorded.sha256:
        raise InputError(
            f"{recorded.uri} changed since it was recorded (sha256 {recorded.sha256[:12]}, now {now.sha256[:12]})",
            "start a new session, or restore the file",
        )


def schema_of(dataset: pd.DataFrame, loaded: Loaded, ticket: Ticket) -> SchemaSpec:
    """The columns of `dataset` (rows, features with `__row__`, and `__target__` if the rows have a target)."""
    roles: dict[str | None, Literal["groups", "time"]] = {ticket.groups: "groups", ticket.time: "time"}
    specs = tuple(
        ColumnSpec(
            name=str(name),
            type=str(dataset[name].dtype),
            kind=kind_of(dataset[name]),
            nulls=int(dataset[name].isna().sum()),
            distinct=int(dataset[name].nunique()),
            role=roles.get(str(name), "feature"),
        )
        for name in dataset.columns
        if name not in (TARGET_COLUMN, ROW_COLUMN)
    )
    return SchemaSpec(
        rows=len(dataset),
        columns=specs,
        target=loaded.target,
        target_type=str(dataset[TARGET_COLUMN].dtype) if loaded.target else "",
        dropped_rows=loaded.dropped,
        dropped_reason=loaded.dropped_reason,
        warnings=loaded.warnings,
    )
