"""A skill that is not shipped: `outliers.count`, for the agent Data. `docs/extending.md` walks through it."""

from __future__ import annotations

from pydantic import Field

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from schemas.values import Measurement, Mode, Role, TickedItem


class OutlierParameters(Parameters):
    """What a planner or an input file may set."""

    distance: float = Field(default=8.0, gt=0, description="Robust deviations from the median that make an outlier.")


class CountOutliers(Skill[OutlierParameters, SkillOutput]):
    """Count the training rows with a number far from its column's median, measured in robust deviations."""

    name = "outliers.count"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("train.parquet",)
    produces = ("outliers.json", "outliers.md")
    seconds = 60.0
    parameters = OutlierParameters

    def run(self, parameters: OutlierParameters, context: SkillContext) -> SkillOutput:
        """Write the counts. Raises InputError when no column holds numbers."""
        import pandas as pd  # here, not above: importing the file must stay cheap

        rows = pd.read_parquet(context.path("train.parquet"))
        numbers = rows.select_dtypes("number").loc[:, lambda frame: ~frame.columns.str.startswith("__")]
        if numbers.empty:
            raise InputError("no column of the training rows holds numbers", "leave this phase out for such data")
        middle = numbers.median()
        spread = (numbers - middle).abs().median() * 1.4826
        far = (numbers - middle).abs() > parameters.distance * spread.where(spread > 0)
        share = float(far.any(axis=1).mean())
        counts = {str(name): int(count) for name, count in far.sum().items()}
        context.write_json("outliers.json", {"rows": len(rows), "share": share, "columns": counts})
        lines = [f"| {name.replace('|', ' ')} | {count} |" for name, count in sorted(counts.items()) if count]
        table = ["| column | rows |", "|---|---|", *lines] if lines else ["No column has any."]
        context.write_text(
            "outliers.md", "\n".join(["# Outliers", "", f"{share:.1%} of {len(rows):,} rows.", "", *table])
        )
        return SkillOutput(
            summary=f"{share:.1%} of {len(rows):,} training rows hold an outlier",
            ticked=(TickedItem(item="outliers-counted", evidence=f"outliers.json: {len(counts)} columns"),),
            measurements=(Measurement(scope="outliers", name="share", value=share),),
        )
