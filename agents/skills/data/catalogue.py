"""Skill `data.catalogue`: a data set's entry in the catalogue, and what is promised of its freshness and quality."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, figure, origin_note, table
from agents.skills.data.schema import SchemaSpec
from agents.skills.shapes import SourceSpec
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

REREAD_DAYS = 30.0
"""How old a reading may become when rows carry no time: then only the reading's own age can be watched."""


class DataCatalogue(Skill[Parameters, SkillOutput]):
    """Enter the data set into the catalogue: version, owner, contract, lineage, tags; state freshness and quality."""

    name = "data.catalogue"
    role = Role.DATA
    modes = frozenset({Mode.DELIVER})
    needs = (
        "data-source.json", "schema-spec.json", "data-contract.yaml", "data-quality.json", "data-profile.json",
        "risk-profile.json",
    )  # fmt: skip
    produces = ("catalogue-entry.json", "catalogue-entry.md", "data-slo.yaml")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write entry and targets. The same rows give the same version, whoever reads them and whenever."""
        import yaml

        source = SourceSpec.model_validate(context.read_json("data-source.json"))
        schema = SchemaSpec.model_validate(context.read_json("schema-spec.json"))
        profile, quality = context.read_json("data-profile.json"), context.read_json("data-quality.json")
        risk = context.read_json("risk-profile.json")
        targets = _targets(profile, quality, context.now)
        entry = _entry(context, source, schema, profile, risk) | {"quality_score": quality["score"]}
        context.write_json("catalogue-entry.json", entry)
        text = yaml.safe_dump(_slo(entry, targets, context.ticket), sort_keys=False, allow_unicode=True, width=120)
        context.write_text("data-slo.yaml", text)
        context.write_text("catalogue-entry.md", _document(entry, targets, context.ticket))
        tagged = [column["name"] for column in entry["columns"] if column["tags"]]
        age, limit = targets["age_days"], targets["max_age_days"]
        late = age is not None and age > limit
        return SkillOutput(
            summary=f"{entry['name']} {entry['version'][:19]}: {len(entry['columns'])} columns, {len(tagged)} tagged",
            ticked=(
                TickedItem(
                    item="catalogued",
                    evidence=f"catalogue-entry.json: owner {entry['owner']}, {len(entry['columns'])} columns described",
                ),
                TickedItem(
                    item="personal-data-tagged", evidence=f"catalogue-entry.json: {', '.join(tagged) or 'no column'}"
                ),
                TickedItem(
                    item="freshness-agreed", evidence=f"data-slo.yaml: {targets['basis']}, {limit:g} days at most"
                ),
                TickedItem(
                    item="lineage-recorded",
                    evidence=f"catalogue-entry.json: {source.uri} {source.sha256[:12]} to {len(entry['lineage']['to'])}"
                    " artifacts by digest",
                ),
            ),
            warnings=(f"the newest row is {age:,.0f} days old, the target is {limit:g}",) if late else (),
        )


def _entry(
    context: SkillContext, source: SourceSpec, schema: SchemaSpec, profile: Mapping[str, Any], risk: Mapping[str, Any]
) -> dict[str, Any]:
    """The entry; meaning of a column is its kind and values, since no source says more."""
    ticket = context.ticket
    artifacts = dict(context.facts.get("artifacts") or {})
    for name, path in context.inputs.items():
        artifacts.setdefault(name, hashlib.sha256(path.read_bytes()).hexdigest())
    # The table's own digest where the record has it: two sources with the same rows are one version.
    content = {"rows": artifacts.get("dataset.parquet", source.sha256), "contract": artifacts["data-contract.yaml"]}
    version = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    described = {column["name"]: column for column in profile["columns"]}
    return {
        "name": ticket.slug,
        "title": ticket.title,
        "version": f"sha256:{version}",
        "owner": ticket.requester or "nobody yet: the ticket names no requester",
        "steward": Role.DATA.value,
        "registered": context.now,
        "synthetic": source.synthetic,
        "description": source.description,
        "rows": schema.rows,
        "columns": [
            {
                "name": column.name,
                "type": column.type,
                "kind": described[column.name]["kind"],
                "meaning": _meaning(described[column.name]),
                "missing": round(described[column.name]["missing"], 4),
                "tags": described[column.name]["tags"],
            }
            for column in schema.columns
        ],
        "contract": {"file": "data-contract.yaml", "sha256": artifacts["data-contract.yaml"], "standard": "ODCS 3.1"},
        "risk": {"tier": risk["tier_name"], "advice": risk["advice"]},
        "access": "a person decides" if risk["tier"] or source.snapshot else "anybody who may read the backlog",
        "lineage": {
            "from": {"uri": source.uri, "kind": source.kind, "sha256": source.sha256, "rows": source.rows},
            "session": context.session,
            "to": {name: digest for name, digest in sorted(artifacts.items()) if name != "data-source.json"},
        },
    }


def _meaning(column: Mapping[str, Any]) -> str:
    if column["hidden"]:
        return "names a person; values are not shown"
    if "top" in column:
        levels = [str(level) for level in column["top"]]
        return f"one of {', '.join(levels)}" if column["distinct"] == len(levels) else f"text such as {levels[0]}"
    if "mean" in column:
        return f"a number from {figure(column['min'])} to {figure(column['max'])}"
    return f"a moment from {column['min']} to {column['max']}" if "min" in column else "never present"


def _targets(profile: Mapping[str, Any], quality: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Limits from what was measured: three times the usual gap between moments, and a little below today's quality."""
    time = profile["time"]
    age, limit, basis = None, REREAD_DAYS, "no column of times: age of the last reading"
    if time is not None:
        newest, today = datetime.fromisoformat(time["newest"]), datetime.fromisoformat(now)
        newest = newest if newest.tzinfo else newest.replace(tzinfo=today.tzinfo)
        age = (today - newest).total_seconds() / 86_400
        limit = round(max(1.0, 3 * (time["p95_gap_days"] or REREAD_DAYS / 3)), 1)
        basis = f"age of the newest {time['column']}, three of its usual gaps"
    return {
        "age_days": age,
        "max_age_days": limit,
        "basis": basis,
        "score": quality["score"],
        "min_score": round(max(0.0, float(quality["score"]) - 5.0), 1),
        "missing": quality["missing_cells"],
        "max_missing": round(min(1.0, float(quality["missing_cells"]) + 0.02), 4),
        "rows": profile["rows"],
        "min_rows": int(0.9 * profile["rows"]),
    }


def _slo(entry: Mapping[str, Any], targets: Mapping[str, Any], ticket: Ticket) -> dict[str, Any]:
    age = targets["age_days"]
    return {
        "apiVersion": "value-train/v1",
        "kind": "DataServiceLevel",
        "name": entry["name"],
        "version": entry["version"],
        "owner": entry["owner"],
        "tell": ticket.requester or "the operators of the Value Train",
        "objectives": [
            {
                "name": "freshness",
                "what": targets["basis"],
                "time_column": ticket.time,
                "measured_days": None if age is None else round(age, 1),
                "max_days": targets["max_age_days"],
            },
            {"name": "quality", "measured": targets["score"], "min": targets["min_score"], "of": 100},
            {"name": "missing", "measured": round(targets["missing"], 4), "max": targets["max_missing"]},
            {"name": "rows", "measured": targets["rows"], "min": targets["min_rows"]},
            {"name": "contract", "measured": 0, "max": 0, "what": "violations of data-contract.yaml"},
        ],
    }


def _document(entry: Mapping[str, Any], targets: Mapping[str, Any], ticket: Ticket) -> str:
    lineage = entry["lineage"]["from"]
    age = "unknown" if targets["age_days"] is None else f"{targets['age_days']:,.0f} days"
    lines = [
        f"# Data set: {cell(ticket.title, 300)}",
        "",
        *origin_note(ticket),
        f"- Version: `{entry['version']}`",
        f"- Owner: {cell(entry['owner'])}; access: {entry['access']} (risk tier {entry['risk']['tier']})",
        f"- From: {cell(lineage['uri'])} ({lineage['kind']}, {lineage['rows']:,} rows), SHA-256 `{lineage['sha256']}`",
        f"- {cell(entry['description'], 500)}",
        "- Contract: `data-contract.yaml` (ODCS 3.1); service levels: `data-slo.yaml`",
        "",
        "## What is promised",
        "",
        *table(
            ("objective", "measured", "limit"),
            [
                ("age", age, f"at most {targets['max_age_days']:g} days ({targets['basis']})"),
                ("quality", f"{targets['score']:g} of 100", f"at least {targets['min_score']:g}"),
                ("missing cells", f"{targets['missing']:.2%}", f"at most {targets['max_missing']:.2%}"),
                ("rows", f"{targets['rows']:,}", f"at least {targets['min_rows']:,}"),
            ],
        ),
        "",
        "## Columns",
        "",
        *table(
            ("column", "kind", "meaning", "missing", "tags"),
            [
                (c["name"], c["kind"], c["meaning"], f"{c['missing']:.1%}", ", ".join(c["tags"]))
                for c in entry["columns"]
            ],
        ),
    ]
    return "\n".join(lines)
