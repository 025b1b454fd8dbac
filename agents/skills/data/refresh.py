"""Skill `data.refresh`: newer rows read as those before them, held against them, and divided anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.comparison import Comparison, drift_document
from agents.skills.data.extract import dataset_of, schema_of
from agents.skills.data.loading import Loaded, load
from agents.skills.data.newer import Change, changes, renewed
from agents.skills.data.split import split_document, split_spec, write_tables
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, ScopeSpec, SplitSpec
from agents.skills.training.inuse import Package, open_in_use
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from agents.skills.data.division import Division
    from agents.skills.data.drift import Moved


class DataRefresh(Skill[Parameters, SkillOutput]):
    """Read newer rows by schema and contract of the model in use, measure their drift, put hold-out rows away."""

    name = "data.refresh"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    reads_source = True
    produces = (
        "model-in-use.json", "scope.json", "feature-map.json", "data-source.json", "dataset.parquet",
        "schema-spec.json", "data-contract.yaml", "data-drift.json", "data-drift.md", "data-profile.json",
        "train.parquet", "holdout-features.parquet", "holdout-labels.parquet", "split.json", "split.md",
    )  # fmt: skip
    sealed = ("dataset.parquet", "holdout-labels.parquet")
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the tables of a split, as `data.split` does, and everything later phases need of the model in use.

        Raises InputError when the ticket names no usable model, its rows cannot be read, they lack what the model
        reads, or they break the contract: the same rows would break it again, so no attempt is made twice.
        """
        import yaml

        from agents.skills.data import odcs
        from agents.skills.data.descriptions import describe_rows
        from agents.skills.data.division import Rows, divide

        package = open_in_use(context)
        scope = _scope(package, context.ticket)
        loaded = load(context.ticket.model_copy(update={"target": scope.target}), context.roots, context.max_data_bytes)
        dataset = _dataset(loaded, scope)
        contract = yaml.safe_load(package.files["data-contract.yaml"])
        change = changes(contract, dataset, package.features, loaded.source)
        text = yaml.safe_dump(
            renewed(contract, dataset, loaded.source, scope, change), sort_keys=False, allow_unicode=True, width=120
        )
        _hold(odcs.violations(yaml.safe_load(text), dataset))
        context.progress(f"dividing {len(dataset):,} rows")
        features = dataset.drop(columns=[TARGET_COLUMN, ROW_COLUMN])
        division = divide(
            Rows(features, dataset[TARGET_COLUMN], scope.task, context.ticket.groups, context.ticket.time), context.seed
        )
        write_tables(context, dataset, division)
        schema = schema_of(dataset, loaded, context.ticket)
        split = split_spec(division, schema, context.seed)
        train = dataset[~division.holdout & ~division.dropped]
        found = _compared(package, dataset, division, change, context)
        shown: dict[str, Any] = {
            "model-in-use.json": package.in_use().model_dump(mode="json"),
            "scope.json": scope.model_dump(mode="json"),
            "feature-map.json": package.features.model_dump(mode="json"),
            "data-source.json": loaded.source.model_dump(mode="json"),
            "schema-spec.json": schema.model_dump(mode="json"),
            "split.json": split.model_dump(mode="json"),
            "data-profile.json": describe_rows(
                train.assign(**{GROUP_COLUMN: division.groups[train.index]}), scope, context.ticket.time
            ),
            "data-drift.json": _drift(package, found),
        }
        for name, value in shown.items():
            context.write_json(name, value)
        dataset.to_parquet(context.out / "dataset.parquet", index=False)
        context.write_text("data-contract.yaml", text)
        context.write_text("split.md", split_document(split, division, context.ticket))
        context.write_text("data-drift.md", drift_document(context.ticket, package, found))
        version = yaml.safe_load(text)["version"]
        return _output(loaded, split, found, f"version {version}")


def _hold(broken: Sequence[str]) -> None:
    """Raises InputError when the rows broke the contract that holds from now on."""
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise InputError(
            f"the newer rows break their contract: {'; '.join(broken[:5])}{more}",
            "put these columns right, or start a new model with pipeline ml-delivery",
        )


def _scope(package: Package, ticket: Ticket) -> ScopeSpec:
    """The model's own scope, with the ticket's acceptance and budget; the ticket may not ask for something else."""
    scope = package.scope
    for field, asked, has in (
        ("target", ticket.target, scope.target),
        ("task", ticket.task, scope.task),
        ("metric", ticket.metric, scope.metric),
    ):
        if asked is not None and asked != has:
            raise InputError(
                f"the ticket's `{field}` is {str(asked)!r}, but the model in use has {str(has)!r}",
                f"leave `{field}` out, or start a new model with pipeline ml-delivery",
            )
    return scope.model_copy(
        update={
            "acceptance": ticket.acceptance,
            "acceptance_from": "ticket",
            "budget_minutes": ticket.budget.minutes,
            "budget_usd": ticket.budget.usd,
        }
    )


def _dataset(loaded: Loaded, scope: ScopeSpec) -> pd.DataFrame:
    """As `data.extract` makes it. Raises InputError when the target's classes are not those of the model in use."""
    from agents.skills.data import target as targets

    if scope.classes:
        found = set(targets.classes_of(targets.as_target(loaded.frame[loaded.target], scope.task)))
        if found != set(scope.classes):
            new, gone = sorted(found - set(scope.classes)), sorted(set(scope.classes) - found)
            parts = [f"new: {', '.join(new[:5])}"] if new else []
            parts += [f"missing: {', '.join(gone[:5])}"] if gone else []
            raise InputError(
                f"the classes of {loaded.target!r} are not those of the model in use ({'; '.join(parts)})",
                "give rows of the same classes, or start a new model with pipeline ml-delivery",
            )
    return dataset_of(loaded, scope)


def _compared(
    package: Package, dataset: pd.DataFrame, division: Division, change: Change, context: SkillContext
) -> Comparison:
    """Newer rows beside those before: drift of the columns and breaks of all rows, drift of the training
    part's target, and how the model in use does there: labels of the hold-out are not looked at."""
    import yaml

    from agents.skills.data.breaks import find_breaks
    from agents.skills.data.drift import compare_columns
    from agents.skills.training.standing import standing

    contract = yaml.safe_load(package.files["data-contract.yaml"])
    train = dataset[~division.holdout & ~division.dropped]
    return Comparison(
        moved=tuple(compare_columns(package.profile, dataset, division.groups)),
        target=_target_moved(package, train, package.scope, division.groups[train.index]),
        breaks=tuple(find_breaks(package.profile, contract, dataset, same_source=change.same_source)),
        standing=standing(package, train, division.groups[train.index], context.seed),
        change=change,
    )


def _target_moved(package: Package, train: pd.DataFrame, scope: ScopeSpec, groups: NDArray[np.int64]) -> Moved:
    from agents.skills.data.drift import compare_column
    from agents.skills.data.twins import effective

    rows_before = int(package.profile.get("independent_rows", package.profile["rows"]))
    before = package.profile["target"]
    as_column = {"name": scope.target, "missing": 0.0, "distinct": len(train)}
    as_column |= {"kind": "categorical", "top": before["classes"]} if scope.classes else {"kind": "numeric", **before}
    worth = effective(groups) / max(1, len(train))
    return compare_column(as_column, train[TARGET_COLUMN], rows_before, worth=worth)


def _drift(package: Package, found: Comparison) -> dict[str, Any]:
    return {"model_in_use": package.sha256, "rows_before": package.profile["rows"], **found.as_dict()}


def _output(loaded: Loaded, split: SplitSpec, found: Comparison, version: str) -> SkillOutput:
    rows, change = split.train_rows + split.holdout_rows, found.change
    names = found.names
    note = [f"{what}: {', '.join(cols)}" for what, cols in (("new", change.new), ("gone", change.missing)) if cols]
    ticked = [
        TickedItem(item="rows-read", evidence=f"dataset.parquet: {rows:,} of {loaded.source.rows:,} rows"),
        TickedItem(
            item="schema-unchanged",
            evidence="schema-spec.json: every column the model reads is there and of its type"
            + (f"; not read by it, {'; '.join(note)}"[:300] if note else ""),
        ),
        TickedItem(
            item="drift-measured", evidence=f"data-drift.json: {len(names)} of {len(found.moved) + 1} columns moved"
        ),
        TickedItem(
            item="breaks-searched",
            evidence=f"data-drift.json: {len(found.breaks)} breaks (units, levels, copies, old rows)",
        ),
        TickedItem(item="holdout-sealed", evidence=f"holdout-labels.parquet: {split.holdout_rows:,} labels sealed"),
        TickedItem(
            item="contract-holds", evidence=f"data-contract.yaml {version}: pandera found no violation in the rows"
        ),
    ]
    warnings = [*(f"break: {each.sentence}" for each in found.breaks), *found.surprises, *loaded.warnings]
    warnings += [f"the contract was renewed: {line}" for line in change.values[:20]]
    if change.same_source:
        warnings.append("these are the very rows the model in use was trained on: it has seen those held out")
    return SkillOutput(
        summary=f"{split.train_rows:,} train, {split.holdout_rows:,} sealed; {len(found.breaks)} breaks; "
        f"{len(names)} of {len(found.moved) + 1} columns moved" + (f": {', '.join(names[:5])}" if names else ""),
        ticked=tuple(ticked),
        measurements=(
            Measurement(scope="data", name="rows", value=float(rows)),
            Measurement(scope="data", name="train_rows", value=float(split.train_rows)),
            Measurement(scope="data", name="holdout_rows", value=float(split.holdout_rows)),
            Measurement(scope="drift", name="score", value=found.score),
            Measurement(scope="drift", name="columns", value=float(len(names))),
            Measurement(scope="drift", name="breaks", value=float(len(found.breaks))),
            Measurement(scope="drift", name="surprises", value=float(len(found.surprises))),
        ),
        warnings=tuple(warnings),
    )
