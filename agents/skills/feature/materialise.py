"""Skill `feature.materialise`: which inputs to compute once and keep, which on demand, and how long to keep them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.feature.pipeline import signature
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, FeatureMap, SourceSpec
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

    from agents.skills.shapes import FeatureColumn

DAYS, HOURS = 30.0, 720.0
"""The month in which everything is counted."""
_REPEATS = 3


class MaterialiseParameters(Parameters):
    """What is known of the use. Everything else is measured."""

    requests_per_day: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How often the model is asked; by default a 365th of the cases a year that the ticket states."""
    fresh_hours: Annotated[float, Field(ge=0, le=87_600)] = 24.0
    """How old a value may be when it is used: stored ones are computed anew as often. 0: none may be stored."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """How many cases values are kept of; by default as many as there are training rows."""
    trainings_per_month: Annotated[float, Field(ge=0, le=10_000)] = 1.0
    """How often each model that reads the inputs is trained."""
    usd_per_gb_month: Annotated[float, Field(ge=0, le=1_000)] = 0.023
    """The price of keeping a gigabyte for a month."""
    keep_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """How long stored values are kept at most; the installation's `backfill_days` bounds it."""


@dataclass(frozen=True)
class Use:
    """What the plan is counted with, and where the number of requests is from."""

    requests_per_day: float
    requests_from: str
    fresh_hours: float
    rows: int
    trainings_per_month: float
    usd_per_cpu_hour: float
    price_from: str
    usd_per_gb_month: float
    days: int
    personal_days: int


@dataclass(frozen=True)
class Planned:
    """One input: what was measured of it, what follows for a month, and the decision with its reason.

    Seconds are of one core. `stored_s` is refreshing and reading together; `bytes` what is kept at once.
    """

    name: str
    definition: str
    models: int
    row_us: float | None
    read_us: float
    row_bytes: float
    tag: str
    keep_days: int
    reads: float
    on_demand_s: float
    stored_s: float
    bytes: float
    usd: float
    stored: bool
    why: str


class FeatureMaterialise(Skill[MaterialiseParameters, SkillOutput]):
    """Plan which inputs to store and which to compute on demand, from measured cost, use and freshness; and retention.

    Every figure of the plan is measured, stated by the ticket, or a parameter, and the page says which.
    """

    name = "feature.materialise"
    role = Role.FEATURE
    modes = frozenset({Mode.DESIGN, Mode.BUILD})
    needs = ("train.parquet", "feature-map.json", "robustness.json")
    optional = ("data-source.json", "opportunity-brief.json")
    produces = ("materialisation-plan.json", "materialisation-plan.md", "materialisation-plan.svg")
    parameters = MaterialiseParameters
    seconds = 120.0

    def run(self, parameters: MaterialiseParameters, context: SkillContext) -> SkillOutput:
        """Write the plan. Raises InputError when nothing was measured of any input, or nobody says how often the model
        is asked."""
        import pandas as pd

        from agents.skills.feature.materialise_report import document, draw

        features = FeatureMap.model_validate(context.read_json("feature-map.json"))
        costs = {each["name"]: each for each in context.read_json("robustness.json").get("inputs", ())}
        if not costs:
            raise InputError("robustness.json measured no input", "run evaluation.stress again")
        train = pd.read_parquet(context.path("train.parquet"))
        use = _use(parameters, context, len(train))
        plan = make_plan(train, features, costs, use, _models(context, features))
        report = as_json(plan, use, features.signature)
        context.write_json("materialisation-plan.json", report)
        draw(plan, context.out / "materialisation-plan.svg")
        context.write_text("materialisation-plan.md", document(context.ticket, plan, use))
        stored = [each for each in plan if each.stored]
        saved, size = float(report["saved_seconds_a_month"]), float(report["stored_bytes"])
        return SkillOutput(
            summary=f"{len(stored)} of {len(plan)} inputs to store: {saved:,.3g} s of a core saved a month for "
            f"{size / 1e6:,.3g} MB kept",
            ticked=(
                TickedItem(
                    item="materialisation-planned",
                    evidence=f"materialisation-plan.json: {len(plan)} inputs with cost, use, freshness and retention",
                ),
            ),
            measurements=(
                Measurement(scope="materialise", name="stored", value=float(len(stored))),
                Measurement(scope="materialise", name="saved_seconds", value=saved),
                Measurement(scope="materialise", name="bytes", value=size),
            ),
            warnings=tuple(
                f"{each.name} is {each.tag}: kept {each.keep_days} days at most" for each in plan if each.tag
            )[:10],
        )


def _use(parameters: MaterialiseParameters, context: SkillContext, rows: int) -> Use:
    from agents.skills.lead.effort import usd_per_cpu_hour

    requests, origin = parameters.requests_per_day, "the parameter `requests_per_day`"
    if requests is None and "opportunity-brief.json" in context.inputs:
        cases = ((context.read_json("opportunity-brief.json") or {}).get("value") or {}).get("cases_per_year")
        if cases is not None:
            requests, origin = float(cases) / 365.0, f"the {float(cases):,.0f} cases a year that the ticket states"
    if requests is None:
        raise InputError(
            "nobody says how often the model is asked", "give the parameter `requests_per_day` (0: for training only)"
        )
    price, price_from = usd_per_cpu_hour(dict(context.facts.get("usage") or {}))
    days = int(context.facts.get("backfill_days") or 365)
    personal = int(context.facts.get("backfill_personal_days") or 30)
    if parameters.keep_days is not None:
        days, personal = min(days, parameters.keep_days), min(personal, parameters.keep_days)
    return Use(
        requests, origin, parameters.fresh_hours, parameters.rows or rows, parameters.trainings_per_month, price,
        price_from, parameters.usd_per_gb_month, days, min(days, personal),
    )  # fmt: skip


def _models(context: SkillContext, features: FeatureMap) -> dict[str, int]:
    """How many models read each definition on this source: completed sessions of the record, each target once, and
    this session."""
    from agents.skills.feature.known import read_registry

    registry, _ = read_registry(context)
    if registry is None or "data-source.json" not in context.inputs:
        return {}
    source = SourceSpec.model_validate(context.read_json("data-source.json")).uri
    targets: dict[str, set[tuple[str, str]]] = {}
    for use in registry.uses:
        if use.source == source and use.ending == "completed" and use.session != context.session:
            targets.setdefault(use.definition, set()).add((use.target, use.metric))
    return {name: len(found) + 1 for name, found in targets.items()}


def make_plan(
    train: pd.DataFrame, features: FeatureMap, costs: dict[str, Any], use: Use, models: dict[str, int]
) -> list[Planned]:
    """The plan, what saves most first. `costs` are the inputs of `robustness.json`, `models` readers by definition."""
    from agents.skills.data.personal import DIRECT, scan

    names = [column.name for column in features.columns]
    rows = train.drop(columns=[TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN], errors="ignore")
    tags = {
        name: DIRECT if any(each.direct for each in findings) else findings[0].tag
        for name, findings in scan(rows[names]).items()
    }
    found = []
    for column in features.columns:
        read_us, row_bytes = _stored_cost(rows, column, features)
        measured = costs.get(column.name)
        found.append(
            plan_one(
                column.name, signature([column]), None if measured is None else float(measured["row_us"]), read_us,
                row_bytes, tags.get(column.name, ""), models.get(signature([column]), 1), use,
            )
        )  # fmt: skip
    return sorted(found, key=lambda each: (not each.stored, -each.usd, each.name))


def plan_one(
    name: str,
    definition: str,
    row_us: float | None,
    read_us: float,
    row_bytes: float,
    tag: str,
    models: int,
    use: Use,
) -> Planned:
    """The arithmetic of one input, pure. `row_us` is what computing it takes for a row, `read_us` reading it."""
    from agents.skills.data.personal import DIRECT

    keep = use.personal_days if tag else use.days
    reads = DAYS * use.requests_per_day + use.trainings_per_month * use.rows * models
    refreshes = HOURS / use.fresh_hours if use.fresh_hours > 0 else 0.0
    computed = (row_us or 0.0) / 1e6
    on_demand = reads * computed
    stored_s = refreshes * use.rows * computed + reads * read_us / 1e6
    copies = max(1, ceil(keep * 24 / use.fresh_hours)) if use.fresh_hours > 0 else 0
    size = use.rows * row_bytes * copies
    usd = (on_demand - stored_s) / 3600 * use.usd_per_cpu_hour - size / 1e9 * use.usd_per_gb_month
    if row_us is None:
        stored, why = False, "its cost was not measured"
    elif tag == DIRECT:
        stored, why = False, "it names a person: no second copy"
    elif use.fresh_hours <= 0:
        stored, why = False, "no value may be older than its request"
    elif usd <= 0:
        dearer = (
            "refreshing and reading takes longer" if stored_s >= on_demand else "keeping it costs more than it saves"
        )
        stored, why = False, dearer
    else:
        stored, why = True, f"{on_demand - stored_s:.3g} s and {usd:.3g} USD a month are saved"
    return Planned(
        name, definition, models, row_us, read_us, row_bytes, tag, keep if stored else 0, reads, on_demand, stored_s,
        size, usd, stored, why,
    )  # fmt: skip


def _stored_cost(rows: pd.DataFrame, column: FeatureColumn, features: FeatureMap) -> tuple[float, float]:
    """Microseconds to read one row's value of the input from Parquet, and its bytes there: both measured here, on the
    values that a backfill would write."""
    import io
    import time

    import pyarrow as pa
    import pyarrow.parquet as pq

    from agents.skills.feature.transform import prepare_frame

    alone = features.model_copy(update={"columns": (column,), "dropped": {}})
    frame = prepare_frame(rows, alone)
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = frame[name].astype("str").where(frame[name].notna(), None).astype(object)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    file = pq.ParquetFile(io.BytesIO(buffer.getvalue()))
    groups = (file.metadata.row_group(place) for place in range(file.metadata.num_row_groups))
    size = sum(group.column(at).total_compressed_size for group in groups for at in range(group.num_columns))
    taken = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        pq.read_table(io.BytesIO(buffer.getvalue())).to_pandas()
        taken.append(time.perf_counter() - started)
    return min(taken) / len(rows) * 1e6, size / len(rows)


def as_json(plan: list[Planned], use: Use, signed: str) -> dict[str, Any]:
    """`materialisation-plan.json`."""
    stored = [each for each in plan if each.stored]
    return {
        "signature": signed,
        "use": vars(use),
        "inputs": [vars(each) for each in plan],
        "saved_seconds_a_month": sum(each.on_demand_s - each.stored_s for each in stored),
        "stored_bytes": sum(each.bytes for each in stored),
        "saved_usd_a_month": sum(each.usd for each in stored),
        "keep_days": {"others": use.days, "personal": use.personal_days},
    }
