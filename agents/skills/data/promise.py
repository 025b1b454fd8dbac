"""Skill `data.promise`: what a data set promises to everybody, and how good it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.quality import MUCH_MISSING, assess, quality_document
from agents.skills.data.schema import SchemaSpec
from agents.skills.shapes import SourceSpec
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    from typing import Any


class DataPromise(Skill[Parameters, SkillOutput]):
    """Write the data set's contract (ODCS 3.1) and its quality report without a target, and check both."""

    name = "data.promise"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("dataset.parquet", "schema-spec.json", "data-source.json")
    produces = ("data-contract.yaml", "data-quality.json", "data-quality.md")
    # Reads the sealed rows; writes rules and counts only.
    harness = True
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write contract and quality report; ticks `contract-holds` only when the written file, read back, is kept."""
        import pandas as pd
        import yaml

        from agents.skills.data import odcs
        from agents.skills.data.personal import scan

        dataset = pd.read_parquet(context.path("dataset.parquet"))
        schema = SchemaSpec.model_validate(context.read_json("schema-spec.json"))
        source = SourceSpec.model_validate(context.read_json("data-source.json"))
        contract = odcs.write_contract(dataset, source, None)
        _classify(contract, scan(dataset))
        text = yaml.safe_dump(contract, sort_keys=False, allow_unicode=True, width=120)
        context.write_text("data-contract.yaml", text)
        broken = odcs.violations(yaml.safe_load(text), dataset)
        found = assess(dataset, schema, None)
        context.write_json("data-quality.json", asdict(found) | {"penalties": found.penalties, "score": found.score})
        context.write_text("data-quality.md", quality_document(found, context.ticket))
        properties: list[dict[str, Any]] = contract["schema"][0]["properties"]
        rules = sum(len(item.get("quality", ())) for item in properties)
        written = TickedItem(
            item="contract-written", evidence=f"data-contract.yaml: {len(properties)} columns, {rules} rules, ODCS 3.1"
        )
        holds = TickedItem(
            item="contract-holds", evidence=f"data-contract.yaml: pandera found no violation in {len(dataset):,} rows"
        )
        scored = TickedItem(
            item="quality-scored",
            evidence=f"data-quality.json: score {found.score:g}, {len(found.findings)} findings",
        )
        much = [f"{item.problem}: {item.column}" for item in found.findings if item.amount >= MUCH_MISSING]
        return SkillOutput(
            summary=f"{rules} rules for {len(properties)} columns, {len(broken)} broken; "
            f"quality {found.score:g} of 100",
            ticked=(written, scored) if broken else (written, holds, scored),
            measurements=(
                Measurement(scope="data", name="quality_score", value=found.score),
                Measurement(scope="data", name="duplicate_rows", value=float(found.duplicate_rows)),
                Measurement(scope="data", name="missing_share", value=found.missing_cells),
            ),
            warnings=(*(f"contract broken: {line}" for line in broken[:20]), *much[:10]),
        )


def _classify(contract: dict[str, Any], tags: dict[str, list[Any]]) -> None:
    """Mark columns with personal data in the contract, and keep their values out of it: a level can be a name."""
    for item in contract["schema"][0]["properties"]:
        found = tags.get(item["physicalName"], [])
        if not found:
            continue
        item["classification"] = "personal"
        item["tags"] = sorted({finding.tag for finding in found})
        if any(finding.direct for finding in found):
            item["quality"] = [rule for rule in item["quality"] if rule.get("metric") == "nullValues"]
