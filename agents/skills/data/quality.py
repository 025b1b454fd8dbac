"""Skill `data.quality`: the dataset's problems, counted and summed up in one score."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agents.skill import Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data import columns, twins
from agents.skills.data.markdown import figure, heading, origin_note, table
from agents.skills.data.schema import SchemaSpec
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, ScopeSpec
from agents.skills.words import counted
from schemas.ticket import Ticket
from schemas.values import Measurement, Mode, Role, TickedItem

if TYPE_CHECKING:
    import pandas as pd

NEARLY = 0.995
"""Share of one value from which a column counts as nearly constant."""

MUCH_MISSING = 0.4


@dataclass(frozen=True)
class Finding:
    """One problem: what, where, how much (a share in [0, 1] or a count), and what it may cause."""

    problem: str
    column: str
    amount: float
    meaning: str


@dataclass(frozen=True)
class Quality:
    """What was counted. Shares are in [0, 1], of cells, rows or columns as the name says."""

    rows: int
    columns: int
    missing_cells: float
    duplicate_rows: int
    useless_columns: float
    """Share of columns that are constant, empty, copies of another, identifiers, or of too many levels."""
    outlying_cells: float
    """Share of numeric cells more than three interquartile ranges outside the quartiles."""
    rarest_class: float | None
    dropped_rows: float
    findings: tuple[Finding, ...]

    @property
    def penalties(self) -> dict[str, float]:
        """Points lost, by cause: see `DataQuality`."""
        return {
            "missing values": 40 * self.missing_cells,
            "duplicate rows": 30 * self.duplicate_rows / self.rows,
            "useless columns": 20 * self.useless_columns,
            "outliers": 20 * self.outlying_cells,
            "rare class": 0.0 if self.rarest_class is None else 100 * max(0.0, 0.1 - self.rarest_class),
            "rows without target": 30 * self.dropped_rows,
        }

    @property
    def score(self) -> float:
        """100 less the penalties, at least 0, to one decimal."""
        return round(max(0.0, 100.0 - sum(self.penalties.values())), 1)


class DataQuality(Skill[Parameters, SkillOutput]):
    """Count missing, constant, doubled, identifying, outlying and imbalanced data, and score it from 0 to 100.

    score = 100 − 40 · share of missing cells − 30 · share of rows that repeat an earlier row (target included,
    identifiers not) − 20 · share of useless columns (constant, empty, copies, identifiers, too many levels)
    − 20 · share of numeric cells more than three interquartile ranges outside the quartiles − 100 · (0.1 − share of
    the rarest class, if that is positive) − 30 · share of rows dropped for a missing target; never below 0.
    """

    name = "data.quality"
    role = Role.DATA
    modes = frozenset({Mode.BUILD})
    needs = ("dataset.parquet", "schema-spec.json", "scope.json")
    produces = ("data-quality.json", "data-quality.md")
    beside = True
    # Reads the sealed dataset, which holds the labels of the rows that become the hold-out; reports counts only.
    harness = True
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write `data-quality.json` and its readable form."""
        import pandas as pd

        dataset = pd.read_parquet(context.path("dataset.parquet"))
        schema = SchemaSpec.model_validate(context.read_json("schema-spec.json"))
        scope = ScopeSpec.model_validate(context.read_json("scope.json"))
        found = assess(dataset, schema, scope)
        context.write_json("data-quality.json", asdict(found) | {"penalties": found.penalties, "score": found.score})
        context.write_text("data-quality.md", quality_document(found, context.ticket))
        return SkillOutput(
            summary=f"quality {found.score:g} of 100; {len(found.findings)} findings, {found.duplicate_rows:,} copies",
            ticked=(
                TickedItem(
                    item="quality-scored",
                    evidence=f"data-quality.json: score {found.score:g}, {len(found.findings)} findings",
                ),
            ),
            measurements=(
                Measurement(scope="data", name="quality_score", value=found.score),
                Measurement(scope="data", name="duplicate_rows", value=float(found.duplicate_rows)),
                Measurement(scope="data", name="missing_share", value=found.missing_cells),
            ),
            warnings=tuple(f"{item.problem}: {item.column}" for item in found.findings if item.amount >= MUCH_MISSING)[
                :10
            ],
        )


def assess(dataset: pd.DataFrame, schema: SchemaSpec, scope: ScopeSpec | None) -> Quality:
    """Count everything in `dataset` (rows, features with `__row__`, and with `scope` also `__target__`)."""
    features = [str(name) for name in dataset.columns if name not in (TARGET_COLUMN, ROW_COLUMN)]
    table_ = dataset[features]
    copies = columns.duplicates(table_, features)
    findings = [finding for name in features for finding in _column_findings(table_[name], copies.get(name))]
    useless = {item.column for item in findings if item.problem in _USELESS}
    outlying, numeric = _outliers(table_)
    findings += [
        Finding("outliers", name, share, "squared errors and means follow these few rows")
        for name, share in sorted(outlying.items())
        if share > 0.02
    ]
    rarest = None
    if scope is not None and scope.classes:
        rarest = float(dataset[TARGET_COLUMN].value_counts(normalize=True).iloc[-1])
    if rarest is not None and rarest < 0.1:
        findings.append(Finding("rare class", schema.target, rarest, "accuracy says little; intervals are wide"))
    compared = [*twins.key_columns(table_, features), *([] if scope is None else [TARGET_COLUMN])]
    repeated = int(dataset.duplicated(subset=compared).sum()) if compared else 0
    total = len(dataset) + schema.dropped_rows
    return Quality(
        rows=len(dataset),
        columns=len(features),
        missing_cells=float(table_.isna().to_numpy().mean()),
        duplicate_rows=repeated,
        useless_columns=len(useless) / len(features),
        outlying_cells=sum(outlying.values()) / numeric if numeric else 0.0,
        rarest_class=rarest,
        dropped_rows=schema.dropped_rows / total,
        findings=tuple(findings),
    )


_USELESS = frozenset({"empty", "constant", "copy", "identifier", "high cardinality"})


def _column_findings(series: pd.Series[Any], copy_of: str | None) -> list[Finding]:
    """The problems of one feature column; a useless one is reported once."""
    name = str(series.name)
    if not series.notna().any():
        return [Finding("empty", name, 1.0, "no row has a value")]
    if columns.constant(series):
        return [Finding("constant", name, 1.0, "every row has the same value")]
    if copy_of is not None:
        return [Finding("copy", name, 1.0, f"equals column {copy_of} in every row")]
    if why := columns.identifier(series):
        return [Finding("identifier", name, columns.unique_share(series), why)]
    findings = []
    missing = float(series.isna().mean())
    if missing > 0.05:
        findings.append(Finding("missing values", name, missing, "imputed; ask why they are missing"))
    top = float(series.value_counts(normalize=True, dropna=False).iloc[0])
    if top >= NEARLY:
        findings.append(Finding("nearly constant", name, top, "hardly any row differs"))
    if columns.high_cardinality(series):
        findings.append(
            Finding("high cardinality", name, columns.unique_share(series), "too many levels to learn from")
        )
    return findings


def _outliers(table_: pd.DataFrame) -> tuple[dict[str, float], int]:
    """Share of outlying present cells of each numeric column, and how many numeric columns there are.

    Columns whose quartiles coincide (counts with many zeros) have no scale to judge by and count as 0.
    """
    shares = {}
    for name in table_.columns:
        series = table_[name]
        if columns.kind_of(series) != "numeric":
            continue
        present = series.dropna()
        low, high = present.quantile(0.25), present.quantile(0.75)
        spread = 3 * (high - low)
        outside = (present < low - spread) | (present > high + spread)
        shares[str(name)] = float(outside.mean()) if len(present) and spread > 0 else 0.0
    return shares, len(shares)


def _amount(amount: float) -> str:
    """A share as a percentage, a count as it is."""
    return f"{amount:.2%}" if amount <= 1.0 else figure(amount)


def quality_document(found: Quality, ticket: Ticket) -> str:
    """`data-quality.md`."""
    penalties = [(cause, f"{points:.2f}") for cause, points in found.penalties.items() if points]
    lines = [
        heading("Data quality", ticket),
        "",
        *origin_note(ticket),
        f"Score **{found.score:g}** of 100, over {counted(found.rows, 'row')} and "
        f"{counted(found.columns, 'feature column')}.",
        "",
        *(table(("penalty for", "points"), penalties) if penalties else ["Nothing was taken off."]),
        "",
        f"Missing cells: {found.missing_cells:.2%}. Rows that repeat an earlier one, target included, identifiers not: "
        f"{found.duplicate_rows:,}.",
        "",
        "## Findings",
        "",
    ]
    if not found.findings:
        return "\n".join([*lines, "None."])
    rows = [(item.problem, item.column, _amount(item.amount), item.meaning) for item in found.findings]
    return "\n".join([*lines, *table(("problem", "column", "how much", "what it may cause"), rows)])
