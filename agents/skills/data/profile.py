"""Skill `data.profile`: a look at the training rows, and only at those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, heading, origin_note, table
from agents.skills.evaluation.text import code
from agents.skills.shapes import ScopeSpec
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

_BARS = "▁▂▃▄▅▆▇█"


class DataProfile(Skill[Parameters, SkillOutput]):
    """Profile every training column: type, missing values, distribution, association with the target."""

    name = "data.profile"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("train.parquet", "scope.json")
    produces = ("data-profile.json", "data-profile.md", "data-profile.svg")
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the profile as JSON, as text with small histograms, and as a picture."""
        import pandas as pd

        from agents.skills.data.descriptions import describe_rows
        from agents.skills.data.picture import draw
        from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN

        train = pd.read_parquet(context.path("train.parquet"))
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        features = train.drop(columns=[TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN])
        found = describe_rows(train, scope, context.ticket.time)
        target, columns = found["target"], found["columns"]
        context.write_json("data-profile.json", found)
        context.write_text("data-profile.md", _document(train, target, columns, context.ticket))
        draw(features, train[TARGET_COLUMN], scope, columns, context.out / "data-profile.svg")
        strongest = columns[0] if columns else None
        says = (
            f"; strongest: {strongest['name']} ({strongest['measure']} {strongest['association']:.3g})"
            if strongest
            else ""
        )
        return SkillOutput(
            summary=f"{len(columns)} columns of {len(train):,} training rows profiled{says}",
            ticked=(
                TickedItem(
                    item="profile-written", evidence=f"data-profile.json: {len(columns)} columns, {len(train):,} rows"
                ),
                TickedItem(item="target-understood", evidence=f"data-profile.json: {_target_line(target)}"),
            ),
        )


def _target_line(target: dict[str, Any]) -> str:
    if "classes" in target:
        return ", ".join(f"{label} {share:.1%}" for label, share in list(target["classes"].items())[:6])
    return f"mean {target['mean']:.4g}, standard deviation {target['sd']:.4g}, skewness {target['skewness']:.2g}"


def _document(train: pd.DataFrame, target: dict[str, Any], columns: list[dict[str, Any]], ticket: Ticket) -> str:
    lines = [
        heading("Data profile", ticket),
        "",
        *origin_note(ticket),
        f"{len(train):,} training rows. Hold-out rows were not looked at.",
        "",
        "## Target",
        "",
        f"{code(target['name'])}: {cell(_target_line(target), 300)}.",
        "",
    ]
    if "histogram" in target:
        lines += [f"{bars(target['histogram']['counts'])}  from {figure(target['min'])} to {figure(target['max'])}", ""]
    lines += ["![Columns by the target](data-profile.svg)", ""]
    lines += ["## Columns, the strongest association with the target first", ""]
    lines += [
        "Values of numbers and times: least, median, greatest; else the commonest with their shares. Association with "
        "the target: AUC of the column alone (0.5 is none), else Spearman's correlation, Cramér's V or eta (0: none).",
        "",
    ]
    header = ("column", "kind", "missing", "distinct", "distribution", "values", "association")
    return "\n".join([*lines, *table(header, [_row(item) for item in columns])])


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    if "top" in item:
        shown = ", ".join(f"{value} {share:.0%}" for value, share in list(item["top"].items())[:3])
    elif "mean" in item:
        shown = f"{figure(item['min'])} … {figure(item['median'])} … {figure(item['max'])}"
    else:
        shown = f"{item.get('min', '–')} … {item.get('max', '–')}"
    counts = item["histogram"]["counts"] if item.get("histogram") else []
    strength = f"{item['measure']} {item['association']:.3f}"
    return item["name"], item["kind"], f"{item['missing']:.1%}", item["distinct"], bars(counts), shown, strength


def bars(counts: list[int]) -> str:
    """Counts as a row of block characters, the largest full; `–` for none."""
    most = max(counts, default=0)
    return "".join(_BARS[round((len(_BARS) - 1) * count / most)] for count in counts) if most else "–"
