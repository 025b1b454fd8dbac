"""Skill `data.ingest`: every row of a source as a typed table, whatever it will be used for."""

from __future__ import annotations

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.extract import same_source, schema_of
from agents.skills.data.loading import load_rows
from agents.skills.shapes import ROW_COLUMN, SourceSpec
from schemas.values import Measurement, Mode, Role, TickedItem


class DataIngest(Skill[Parameters, SkillOutput]):
    """Read every row of the source into a typed table with row numbers; no target is needed."""

    name = "data.ingest"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    reads_source = True
    needs = ("data-source.json",)
    produces = ("dataset.parquet", "schema-spec.json")
    # Rows may hold personal data: only the harness's skills read them afterwards, and they never go to git.
    sealed = ("dataset.parquet",)
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `dataset.parquet`: every column of the source, then `__row__` (0..n-1); and the columns' record.

        Raises InputError when the source cannot be read or changed since it was recorded.
        """
        import numpy as np

        recorded = SourceSpec.model_validate(context.read_json("data-source.json"))
        loaded = load_rows(context.ticket, context.roots, context.max_data_bytes)
        same_source(loaded.source, recorded)
        dataset = loaded.frame.copy()
        dataset[ROW_COLUMN] = np.arange(len(dataset), dtype=np.int64)
        dataset.to_parquet(context.out / "dataset.parquet", index=False)
        schema = schema_of(dataset, loaded, context.ticket)
        context.write_json("schema-spec.json", schema.model_dump(mode="json"))
        rows, width = schema.rows, len(schema.columns)
        nulls = sum(column.nulls for column in schema.columns)
        return SkillOutput(
            summary=f"{rows:,} rows × {width} columns read",
            ticked=(
                TickedItem(item="rows-read", evidence=f"dataset.parquet: all {rows:,} rows of {loaded.source.uri}"),
                TickedItem(
                    item="schema-recorded",
                    evidence=f"schema-spec.json: {width} columns with type, {nulls:,} cells without a value",
                ),
            ),
            measurements=(
                Measurement(scope="data", name="rows", value=float(rows)),
                Measurement(scope="data", name="columns", value=float(width)),
            ),
            warnings=loaded.warnings,
        )
