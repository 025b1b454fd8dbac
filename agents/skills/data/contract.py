"""Skill `data.contract`: what the data must look like, written down and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.shapes import ScopeSpec, SourceSpec
from schemas.values import Mode, Role, TickedItem

if TYPE_CHECKING:
    from typing import Any


class DataContract(Skill[Parameters, SkillOutput]):
    """Write the dataset's contract (ODCS 3.1: types, ranges, levels, missing values) and hold the data against it."""

    name = "data.contract"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("dataset.parquet", "scope.json", "data-source.json")
    produces = ("data-contract.yaml",)
    beside = True
    # Reads the sealed dataset, which holds the labels of the rows that become the hold-out; gives none of them away.
    harness = True
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `data-contract.yaml`; ticks `contract-holds` only when the written file, read back, is fulfilled."""
        import pandas as pd
        import yaml

        from agents.skills.data import odcs

        dataset = pd.read_parquet(context.path("dataset.parquet"))
        source = SourceSpec.model_validate(context.read_json("data-source.json"))
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        contract = odcs.write_contract(dataset, source, scope)
        text = yaml.safe_dump(contract, sort_keys=False, allow_unicode=True, width=120)
        context.write_text("data-contract.yaml", text)
        broken = odcs.violations(yaml.safe_load(text), dataset)
        properties: list[dict[str, Any]] = contract["schema"][0]["properties"]
        rules = sum(len(item.get("quality", ())) for item in properties)
        written = TickedItem(
            item="contract-written",
            evidence=f"data-contract.yaml: {len(properties)} columns, {rules} rules, ODCS v3.1.0",
        )
        holds = TickedItem(
            item="contract-holds", evidence=f"data-contract.yaml: pandera found no violation in {len(dataset):,} rows"
        )
        return SkillOutput(
            summary=f"{rules} rules for {len(properties)} columns, {len(broken)} broken",
            ticked=(written,) if broken else (written, holds),
            warnings=tuple(f"contract broken: {line}" for line in broken[:20]),
        )
