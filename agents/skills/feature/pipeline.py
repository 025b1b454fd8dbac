"""Skill `feature.pipeline`: which columns the model gets, and how each is prepared."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data import columns
from agents.skills.data.markdown import cell, heading, origin_note, table
from agents.skills.shapes import (
    GROUP_COLUMN,
    ROW_COLUMN,
    TARGET_COLUMN,
    FeatureColumn,
    FeatureMap,
    ScopeSpec,
    SourceSpec,
)
from agents.skills.words import counted
from schemas.ticket import Ticket
from schemas.values import Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.feature.known import Known
    from schemas.features import FeatureRegistry, FeatureUse

_PREPARED: dict[str, tuple[Literal["median", "most_frequent"], Literal["scale", "one_hot", "parts", "none"]]] = {
    "numeric": ("median", "scale"),
    "boolean": ("most_frequent", "none"),
    "categorical": ("most_frequent", "one_hot"),
    "datetime": ("median", "parts"),
}


class FeaturePipeline(Skill[Parameters, SkillOutput]):
    """Decide for every column whether the model gets it and how it is prepared; sign the result."""

    name = "feature.pipeline"
    role = Role.FEATURE
    modes = frozenset({Mode.DESIGN, Mode.BUILD})
    needs = ("train.parquet",)
    optional = ("data-source.json", "scope.json")
    produces = ("feature-map.json", "feature-map.md", "feature-reuse.json", "feature-reuse.svg")
    seconds = 60.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the feature map, made from training rows and from what the record knows of the same source's columns.

        Raises InputError when no column is left, or the registry of definitions is none.
        """
        import pandas as pd

        from agents.skills.feature import reuse
        from agents.skills.feature.known import read_registry

        train = pd.read_parquet(context.path("train.parquet"))
        mapped = map_features(train, context.ticket.groups, context.ticket.time)
        registry, digest = read_registry(context)
        asked, found = _ask(context, mapped, registry, train)
        gone = {each.column.name: f"left out: {each.why}" for each in found if each.standing == "left out"}
        mapped = _without(mapped, gone)
        if not mapped.columns:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(mapped.dropped.items())[:5])
            raise InputError(
                f"no column is left to learn from ({reasons})", "add columns that say something of the target"
            )
        context.write_json("feature-map.json", mapped.model_dump(mode="json"))
        context.write_text("feature-map.md", _document(mapped, context.ticket) + "\n".join(reuse.lines(found, asked)))
        context.write_json(
            "feature-reuse.json", reuse.as_json(found, asked, digest, registry.left_out if registry else ())
        )
        context.write_text("feature-reuse.svg", reuse.draw(found))
        again = sum(each.standing == "reused" for each in found)
        used, dropped = len(mapped.columns), len(mapped.dropped)
        return SkillOutput(
            summary=f"{used} columns used, {dropped} dropped; "
            + (f"{again} defined as in an earlier session; " if again else "")
            + f"signature {mapped.signature[:12]}",
            ticked=(
                TickedItem(
                    item="features-mapped", evidence=f"feature-map.json: {used} used, {dropped} dropped with a reason"
                ),
                TickedItem(item="signature-computed", evidence=f"feature-map.json: sha256 {mapped.signature[:12]}…"),
            ),
            warnings=tuple(
                f"column {name} is not used: {why}"
                for name, why in [*gone.items(), *((n, w) for n, w in mapped.dropped.items() if n not in gone)][:10]
            ),
        )


def _ask(
    context: SkillContext, mapped: FeatureMap, registry: FeatureRegistry | None, train: pd.DataFrame
) -> tuple[str, list[Known]]:
    """Why other sessions were not asked (empty if they were), and what becomes of each column."""
    from agents.skills.feature.known import judge

    asked = ""
    uses: list[FeatureUse] = []
    target = ""
    if not context.ticket.reuse:
        asked = "the ticket says `reuse: false`"
    elif registry is None:
        asked = "this agent runs where the record's features.json is not"
    elif not {"data-source.json", "scope.json"} <= set(context.inputs):
        asked = "nothing says which source and which target these rows are of"
    else:
        source = SourceSpec.model_validate(context.read_json("data-source.json")).uri
        target = ScopeSpec.model_validate(context.read_json("scope.json")).target
        uses = [use for use in registry.uses if use.source == source and use.session != context.session]
    return asked, judge(mapped.columns, uses, target, train)


def _without(mapped: FeatureMap, gone: dict[str, str]) -> FeatureMap:
    """The map without the columns in `gone`, each with its reason."""
    kept = [column for column in mapped.columns if column.name not in gone]
    return FeatureMap(columns=tuple(kept), dropped=mapped.dropped | gone, signature=signature(kept))


def map_features(train: pd.DataFrame, groups: str | None, time: str | None) -> FeatureMap:
    """The feature map of training rows (rows, features with `__target__`, `__row__`, `__group__`).

    The target is not looked at. Every column is either used or dropped with a reason.
    """
    names = [str(name) for name in train.columns if name not in (TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN)]
    copies = columns.duplicates(train, names)
    dropped: dict[str, str] = {}
    used: list[FeatureColumn] = []
    for name in names:
        if why := _reason_to_drop(train[name], groups, time, copies.get(name)):
            dropped[name] = why
            continue
        kind = columns.kind_of(train[name])
        impute, encode = _PREPARED[kind]
        used.append(FeatureColumn(name=name, kind=kind, impute=impute, encode=encode))
    return FeatureMap(columns=tuple(used), dropped=dropped, signature=signature(used))


def signature(used: list[FeatureColumn]) -> str:
    """SHA-256 of the columns' canonical JSON (sorted keys, no blanks): equal signatures mean equal model inputs."""
    text = json.dumps([column.model_dump(mode="json") for column in used], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _reason_to_drop(series: pd.Series[Any], groups: str | None, time: str | None, copy_of: str | None) -> str:
    """Why the column is not used, or an empty string."""
    name = str(series.name)
    if name == groups:
        return "grouping column: new rows belong to new groups"
    if name == time:
        return "time column of the split: the future lies outside what was seen"
    if not series.notna().any():
        return "empty: no training row has a value"
    if columns.constant(series):
        return "constant: every training row has the same value"
    if copy_of is not None:
        return f"duplicate of {copy_of}"
    if why := columns.identifier(series):
        return why
    if columns.high_cardinality(series):
        levels, share = series.nunique(), columns.unique_share(series)
        return f"high cardinality: {levels} levels, {share:.0%} of the values differ"
    return ""


_WORDS = {
    "median": "the median",
    "most_frequent": "the commonest value",
    "none": "as they are",
    "scale": "standardised",
    "one_hot": "one input a level",
    "ordinal": "levels in order",
    "parts": "parts of the moment",
}
"""What `impute` and `encode` are called in the document."""


def _document(mapped: FeatureMap, ticket: Ticket) -> str:
    lines = [
        heading("Feature map", ticket),
        "",
        *origin_note(ticket),
        f"{counted(len(mapped.columns), 'column')} used, {len(mapped.dropped)} not. Signature: `{mapped.signature}`. "
        "Each line is an input of the model, and how it is prepared.",
        "",
        *table(
            ("column", "kind", "missing values become", "encoding"),
            [
                (column.name, column.kind, _WORDS.get(column.impute, column.impute), _WORDS[column.encode])
                for column in mapped.columns
            ],
        ),
        "",
        "Standardised numbers come with an indicator of what was missing. With one input a level, rare and unseen",
        "levels share one. A moment's parts are days since 1970, year, month, day, weekday and hour.",
        "",
        "## Not used",
        "",
    ]
    if not mapped.dropped:
        return "\n".join([*lines, "Every column is used."])
    return "\n".join([*lines, *(f"- {cell(name)}: {cell(why, 200)}" for name, why in sorted(mapped.dropped.items()))])
