"""Skill `data.describe`: every column of a data set for those who will use it, with personal data tagged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, heading, origin_note, table
from agents.skills.data.profile import bars
from agents.skills.shapes import ROW_COLUMN
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd


class DataDescribe(Skill[Parameters, SkillOutput]):
    """Describe every column: values, missing cells, doubts, and which rules found personal data in it."""

    name = "data.describe"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("dataset.parquet", "schema-spec.json")
    produces = ("data-profile.json", "data-profile.md", "data-profile.svg")
    # Reads the sealed rows; values of columns that name a person are left out of what it writes.
    harness = True
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the profile as JSON, as text with small histograms, and as a picture."""
        import pandas as pd

        from agents.skills.data.overview import draw_overview

        rows = pd.read_parquet(context.path("dataset.parquet")).drop(columns=ROW_COLUMN)
        columns = describe_rows(rows)
        profile = {"rows": len(rows), "columns": columns, "time": _time(rows, context.ticket.time)}
        context.write_json("data-profile.json", profile)
        context.write_text("data-profile.md", _document(profile, context.ticket))
        draw_overview(rows, columns, context.out / "data-profile.svg")
        tagged = [item for item in columns if item["tags"]]
        doubtful = [item for item in columns if item["doubts"]]
        forbidden = [item["name"] for item in columns if item["forbidden"]]
        names = ", ".join(item["name"] for item in tagged[:5])
        return SkillOutput(
            summary=f"{len(columns)} columns of {len(rows):,} rows; personal data in {len(tagged)}"
            + (f": {names}" if tagged else ""),
            ticked=(
                TickedItem(item="profile-written", evidence=f"data-profile.json: all {len(columns)} columns"),
                TickedItem(
                    item="personal-data-searched",
                    evidence=f"data-profile.json: {len(tagged)} of {len(columns)} columns tagged by rule",
                ),
                TickedItem(
                    item="doubts-named", evidence=f"data-profile.md: {len(doubtful)} columns that say little or nothing"
                ),
            ),
            measurements=(Measurement(scope="data", name="personal_columns", value=float(len(tagged))),),
            warnings=tuple(f"{name}: holds numbers that must not be kept in the clear" for name in forbidden),
        )


def describe_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Each column's values by `describe_values`, with `tags` (and the `findings` behind them), `doubts`, and `hidden`.

    Of hidden columns (they name a person) only counts are given.
    """
    from agents.skills.data import columns as facts
    from agents.skills.data.descriptions import describe_values
    from agents.skills.data.personal import FORBIDDEN, scan

    found = scan(rows)
    names = [str(name) for name in rows.columns]
    copies = facts.duplicates(rows, names)
    described = []
    for name in names:
        findings = found.get(name, [])
        hidden = any(finding.direct for finding in findings)
        item = describe_values(rows[name])
        if hidden:
            item = {key: item[key] for key in ("name", "type", "kind", "missing", "distinct")}
        doubts = [facts.identifier(rows[name])]
        doubts += ["constant"] if facts.constant(rows[name]) else []
        doubts += [f"the same values as {copies[name]}"] if name in copies else []
        described.append(
            item
            | {
                "tags": sorted({finding.tag for finding in findings}),
                "findings": [finding.as_dict() for finding in findings],
                "forbidden": any(finding.rule.removeprefix("value:") in FORBIDDEN for finding in findings),
                "hidden": hidden,
                "doubts": [doubt for doubt in doubts if doubt],
            }
        )
    return described


def _time(rows: pd.DataFrame, name: str | None) -> dict[str, Any] | None:
    """Oldest and newest moment of the time column and the days between moments; None without a column of dates."""
    from agents.skills.data.columns import kind_of

    if name is None or kind_of(rows[name]) != "datetime" or rows[name].isna().all():
        return None
    moments = rows[name].dropna().drop_duplicates().sort_values()
    gaps = moments.diff().dropna().dt.total_seconds() / 86_400
    return {
        "column": name,
        "oldest": moments.iloc[0].isoformat(),
        "newest": moments.iloc[-1].isoformat(),
        "moments": len(moments),
        "median_gap_days": float(gaps.median()) if len(gaps) else None,
        "p95_gap_days": float(gaps.quantile(0.95)) if len(gaps) else None,
    }


def _document(profile: dict[str, Any], ticket: Ticket) -> str:
    columns = profile["columns"]
    lines = [
        heading("Data profile", ticket),
        "",
        *origin_note(ticket),
        f"{profile['rows']:,} rows, {len(columns)} columns.",
        "",
    ]
    if profile["time"] is not None:
        time = profile["time"]
        gap = time["median_gap_days"]
        lines += [
            f"Time: {cell(time['column'])} from {time['oldest']} to {time['newest']}"
            + (f", {figure(gap)} days between one moment and the next (median)." if gap is not None else "."),
            "",
        ]
    lines += ["![One drawing for each column](data-profile.svg)", "", "## Columns", ""]
    lines += table(("column", "kind", "missing", "distinct", "distribution", "values"), map(_row, columns))
    lines += ["", "## Personal data", ""]
    tagged = [(item["name"], each) for item in columns for each in item["findings"]]
    if tagged:
        found = [(name, each["tag"], each["what"], each["rule"], f"{each['share']:.0%}") for name, each in tagged]
        lines += table(("column", "tag", "what", "rule", "share of values"), found)
    else:
        lines += ["No rule found any."]
    lines += [
        "",
        "Rules look at names and at the form of values, not at their meaning: a person must add what they miss and may",
        "overrule what they find wrongly. `personal:direct` names a person, `personal:indirect` helps to find one,",
        "`personal:special` are the categories of article 9 of the General Data Protection Regulation.",
        "",
        "## Columns that say little",
        "",
    ]
    doubts = [(item["name"], "; ".join(item["doubts"])) for item in columns if item["doubts"]]
    return "\n".join([*lines, *(table(("column", "why"), doubts) if doubts else ["None."])])


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    if item["hidden"]:
        shown = "not shown"
    elif "top" in item:
        shown = ", ".join(f"{value} {share:.0%}" for value, share in list(item["top"].items())[:3])
    elif "mean" in item:
        shown = f"{figure(item['min'])} … {figure(item['median'])} … {figure(item['max'])}"
    else:
        shown = f"{item.get('min', '–')} … {item.get('max', '–')}"
    counts = item["histogram"]["counts"] if item.get("histogram") else []
    return item["name"], item["kind"], f"{item['missing']:.1%}", item["distinct"], bars(counts), shown
