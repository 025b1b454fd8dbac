"""Newer rows beside the contract of those a model was trained on: what changed, and what is promised from now on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import InputError
from agents.skills.data import odcs
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, FeatureMap, ScopeSpec, SourceSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Change:
    """What is different: columns new, missing or of another type, and values the old contract does not allow."""

    new: tuple[str, ...]
    missing: tuple[str, ...]
    retyped: tuple[str, ...]
    values: tuple[str, ...]
    same_source: bool
    """The rows are byte for byte those the model in use was trained on."""

    @property
    def shape(self) -> bool:
        """Whether columns or types changed."""
        return bool(self.new or self.missing or self.retyped)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "new_columns": list(self.new),
            "missing_columns": list(self.missing),
            "retyped_columns": list(self.retyped),
            "values_outside_the_old_contract": list(self.values),
            "same_source": self.same_source,
        }


def changes(contract: Mapping[str, Any], dataset: pd.DataFrame, features: FeatureMap, source: SourceSpec) -> Change:
    """Hold `dataset` (features, `__target__`, `__row__`) against the old contract.

    Raises InputError when a column the model reads is missing or holds another type: what it learned to read is not
    there. Columns it does not read may come, go and change; that is reported.
    """
    old = {item["physicalName"]: str(item["physicalType"]) for item in contract["schema"][0]["properties"]}
    kept = (TARGET_COLUMN, ROW_COLUMN)
    now = {str(name): str(dataset[name].dtype) for name in dataset.columns if name not in kept}
    before = {name: kind for name, kind in old.items() if name not in kept}
    read = {column.name for column in features.columns}
    missing = tuple(sorted(set(before) - set(now)))
    retyped = tuple(
        f"{name} ({before[name]}, now {now[name]})"
        for name in sorted(set(before) & set(now))
        if _family(before[name]) != _family(now[name])
    )
    wrong = [f"{name} is missing" for name in missing if name in read]
    wrong += [text for text in retyped if text.rpartition(" (")[0] in read]
    if wrong:
        raise InputError(
            f"the newer rows do not have what the model in use reads: {', '.join(wrong[:10])}",
            "bring the columns back as they were, or start a new model with pipeline ml-delivery",
        )
    alike = [str(name) for name in dataset.columns if str(name) in old and str(name) not in _names(retyped)]
    types = {item["physicalName"]: item for item in contract["schema"][0]["properties"]}
    properties = [types[name] | {"physicalType": str(dataset[name].dtype)} for name in alike]
    table = {**contract["schema"][0], "properties": properties}
    values = odcs.violations({**contract, "schema": [table]}, dataset[alike])
    recorded = {item["property"]: item["value"] for item in contract.get("customProperties", [])}
    return Change(
        tuple(sorted(set(now) - set(before))),
        missing,
        retyped,
        tuple(values),
        recorded.get("sourceSha256") == source.sha256,
    )


def _names(retyped: tuple[str, ...]) -> set[str]:
    return {text.rpartition(" (")[0] for text in retyped}


def _family(dtype: str) -> str:
    """Whole and broken numbers are one family: a column of 1, 2, 3 may hold 2.5 tomorrow; so are kinds of yes/no."""
    return {"int64": "number", "float64": "number", "bool": "truth", "boolean": "truth"}.get(dtype, dtype[:10])


def renewed(
    contract: Mapping[str, Any], dataset: pd.DataFrame, source: SourceSpec, scope: ScopeSpec, change: Change
) -> dict[str, Any]:
    """The contract from now on: the old rules while the rows keep them, else rules from the newer rows.

    The version says which: unchanged, a minor step for other values or new columns, a major one for columns that went
    or hold another type.
    """
    if not change.shape and not odcs.violations(contract, dataset):
        properties = [each for each in contract.get("customProperties", []) if each["property"] != "sourceSha256"]
        return {
            **contract,
            "customProperties": [*properties, {"property": "sourceSha256", "value": source.sha256}],
        }
    major, minor, _ = (int(part) for part in str(contract["version"]).split("."))
    version = f"{major + 1}.0.0" if change.missing or change.retyped else f"{major}.{minor + 1}.0"
    return odcs.write_contract(dataset, source, scope, version)
