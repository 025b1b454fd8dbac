"""Source, extraction, contract, quality, profile, and the generated refills."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.skill import InputError
from agents.skills.data import association, columns, markdown, odcs, quality, refills
from agents.skills.data.contract import DataContract
from agents.skills.data.extract import DataExtract
from agents.skills.data.loading import load
from agents.skills.data.profile import DataProfile, bars
from agents.skills.data.quality import DataQuality
from agents.skills.data.schema import SchemaSpec
from agents.skills.data.source import DataSource
from agents.skills.data.split import DataSplit
from agents.skills.feature.leakage import FeatureLeakage
from agents.skills.feature.pipeline import FeaturePipeline
from agents.skills.lead.scope import LeadScope
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, ScopeSpec, SourceSpec
from conductor import pipelines
from schemas.ticket import Ticket
from tests.skills.conftest import DATA, ECONOMY, TICKETS, TO_DATASET, TO_SPLIT, VOTES
from tests.skills.harness import run_chain, run_skill

SKILLS = (
    LeadScope,
    DataSource,
    DataExtract,
    DataContract,
    DataQuality,
    DataSplit,
    DataProfile,
    FeaturePipeline,
    FeatureLeakage,
)


def test_every_phase_gets_its_items_and_artifacts_from_its_skills(tmp_path: Path) -> None:
    outputs, files = run_chain(SKILLS, VOTES, tmp_path, roots=(DATA,))
    ours = {skill.name: skill for skill in SKILLS}
    for phase in pipelines.load("ml-delivery").phases:
        if phase.skills[0] not in ours:
            continue
        ticked = [item.item for name in phase.skills for item in outputs[name].ticked]
        assert sorted(ticked) == sorted(item.id for item in phase.checklist), phase.name
        produced = {artifact for name in phase.skills for artifact in ours[name].produces}
        assert set(phase.artifacts) <= produced, phase.name
        assert all(ours[name].role == phase.agent and phase.mode in ours[name].modes for name in phase.skills)
    measured = {f"{item.scope}.{item.name}" for output in outputs.values() for item in output.measurements}
    promised = "rows columns quality_score duplicate_rows twin_fraction twin_fraction_after holdout_rows"
    assert {f"data.{name}" for name in promised.split()} <= measured
    assert {"leakage.suspects", "leakage.adversarial_auc"} <= measured
    for output in outputs.values():
        for item in output.ticked:
            assert any(name in item.evidence for name in files)
            assert "\n" not in item.evidence


def test_sealed_artifacts_reach_only_the_harness() -> None:
    readers = {skill.name for skill in SKILLS if {"dataset.parquet", "holdout-labels.parquet"} & set(skill.needs)}
    assert readers == {"data.contract", "data.quality", "data.split"}
    assert all(skill.harness for skill in SKILLS if skill.name in readers)
    assert DataExtract.sealed == ("dataset.parquet",)


# ---- source and extraction


def test_the_source_is_recorded(tmp_path: Path) -> None:
    output, files = run_skill(DataSource, VOTES, tmp_path, {}, roots=(DATA,))
    source = SourceSpec.model_validate_json(files["data-source.json"].read_text())
    assert (source.uri, source.rows, len(source.columns)) == ("votes.csv", 944, 10)
    assert source.sha256 in files["data-sources.md"].read_text()
    assert str(DATA) not in files["data-source.json"].read_text(), "no path of this machine in the record"
    assert "sha256" in output.summary


@pytest.mark.parametrize("name", TICKETS)
def test_the_dataset_holds_the_rows_and_text_labels(tmp_path: Path, name: str) -> None:
    ticket = TICKETS[name]
    _, files = run_chain(TO_DATASET, ticket, tmp_path, roots=(DATA,))
    dataset = pd.read_parquet(files["dataset.parquet"])
    raw = pd.read_csv(DATA / f"{name}.csv")
    assert list(dataset[ROW_COLUMN]) == list(range(len(raw)))
    assert ticket.target not in dataset.columns
    assert list(dataset[TARGET_COLUMN]) == list(raw[ticket.target])
    assert str(dataset[TARGET_COLUMN].dtype) == ("float64" if name == "economy" else "str")
    schema = SchemaSpec.model_validate_json(files["schema-spec.json"].read_text())
    roles = {spec.name: spec.role for spec in schema.columns if spec.role != "feature"}
    wanted = {ticket.groups: "groups", ticket.time: "time"}
    assert roles == {column: role for column, role in wanted.items() if column}


def test_a_source_that_changed_after_it_was_recorded_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    text = (DATA / "votes.csv").read_text()
    (root / "votes.csv").write_text(text)
    _, files = run_chain(TO_DATASET[:2], VOTES, tmp_path, roots=(root,))
    (root / "votes.csv").write_text(text.replace("Dole\n", "Clinton\n", 1))
    with pytest.raises(InputError, match=r"votes\.csv changed since it was recorded"):
        run_skill(DataExtract, VOTES, tmp_path, files, roots=(root,))


# ---- contract


@pytest.fixture(scope="module")
def contracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], pd.DataFrame]:
    _, files = run_chain((*TO_DATASET, DataContract), VOTES, tmp_path_factory.mktemp("contract"), roots=(DATA,))
    return yaml.safe_load(files["data-contract.yaml"].read_text()), pd.read_parquet(files["dataset.parquet"])


def test_the_contract_is_odcs(contracted: tuple[dict[str, Any], pd.DataFrame]) -> None:
    """The keys and values the ODCS v3.1.0 JSON schema requires or restricts, for what we write."""
    contract, dataset = contracted
    assert {"version", "apiVersion", "kind", "id", "status"} <= set(contract)
    assert (contract["apiVersion"], contract["kind"]) == ("v3.1.0", "DataContract")
    assert set(contract["description"]) <= {"usage", "purpose", "limitations"}
    (table,) = contract["schema"]
    assert table["logicalType"] == "object"
    assert {item["physicalName"] for item in table["properties"]} == set(dataset.columns)
    known = {
        "name",
        "physicalName",
        "logicalType",
        "physicalType",
        "required",
        "unique",
        "primaryKey",
        "quality",
        "description",
    }
    for item in table["properties"]:
        assert set(item) <= known
        assert item["logicalType"] in {"string", "date", "timestamp", "time", "number", "integer", "boolean"}
        for rule in item.get("quality", ()):
            operators = [key for key in rule if key.startswith("mustBe")]
            if rule["type"] == "library":
                assert rule["metric"] in {"nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount"}
                assert len(operators) == 1
            else:
                assert (rule["type"], rule["engine"]) == ("custom", "pandera")
                assert isinstance(rule["implementation"], dict)


def test_ordinary_variation_does_not_break_the_contract(contracted: tuple[dict[str, Any], pd.DataFrame]) -> None:
    contract, dataset = contracted
    assert odcs.violations(contract, dataset) == []
    varied = dataset.copy()
    varied.loc[:8, "age"] = 130
    varied.loc[:8, "party"] = "green"
    assert odcs.violations(contract, varied) == [], "one row in a hundred may differ"


SOURCE = SourceSpec(
    uri="rows.csv",
    kind="csv",
    rows=400,
    columns=("value",),
    sha256="a" * 64,
    bytes=400,
    synthetic=False,
    description="",
)


@settings(max_examples=30)
@given(
    st.integers(50, 400), st.sampled_from(["normal", "laplace", "cauchy", "lognormal", "two lumps"]), st.integers(0, 99)
)
def test_rows_keep_the_contract_that_is_inferred_from_them(rows: int, shape: str, seed: int) -> None:
    """Few rows with long tails on both sides: of 182, four lay outside of a range that let 2 % of them be there."""
    random = np.random.default_rng(seed)
    values = {
        "normal": random.normal(size=rows),
        "laplace": random.laplace(size=rows),
        "cauchy": random.standard_cauchy(size=rows),
        "lognormal": random.lognormal(sigma=2.0, size=rows),
        "two lumps": np.where(random.random(rows) < 0.03, 1e6, random.normal(size=rows)),
    }[shape]
    dataset = pd.DataFrame({ROW_COLUMN: range(rows), "value": values})
    contract = yaml.safe_load(yaml.safe_dump(odcs.write_contract(dataset, SOURCE, None)))
    assert odcs.violations(contract, dataset) == []
    spoilt = dataset.assign(value=dataset["value"].abs().max() * 100 + 1)
    assert odcs.violations(contract, spoilt), "all values far outside"


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda frame: frame.assign(age=frame["age"] * 12), "age"),
        (lambda frame: frame.assign(party=frame["party"].str.upper()), "party"),
        (lambda frame: frame.assign(party=frame["party"].where(frame.index % 5 > 0)), "party"),
        (lambda frame: frame.assign(age=frame["age"].astype("str")), "age"),
        (lambda frame: frame.drop(columns="income"), "income"),
        (lambda frame: frame.assign(extra=1), "extra"),
        (lambda frame: frame.assign(**{TARGET_COLUMN: frame[TARGET_COLUMN].replace("Dole", "Perot")}), TARGET_COLUMN),
        (lambda frame: frame.assign(**{ROW_COLUMN: 0}), ROW_COLUMN),
        (lambda frame: frame.head(20), "20|30 rows"),
    ],
)
def test_what_breaks_the_contract_is_named(
    contracted: tuple[dict[str, Any], pd.DataFrame], spoil: Any, names: str
) -> None:
    contract, dataset = contracted
    broken = odcs.violations(contract, spoil(dataset))
    assert any(part in line for line in broken for part in names.split("|")), broken


def test_a_rule_nobody_checks_is_an_error(contracted: tuple[dict[str, Any], pd.DataFrame]) -> None:
    contract = json.loads(json.dumps(contracted[0]))
    contract["schema"][0]["properties"][0]["quality"].append({"type": "sql", "query": "SELECT 1", "mustBe": 1})
    with pytest.raises(ValueError, match="a rule nobody checks"):
        odcs.executable(contract)


# ---- quality

SCOPE = ScopeSpec(
    task="classification", target="y", metric="roc_auc", higher_is_better=True, classes=("a", "b"), acceptance=("x",),
    acceptance_from="proposed", budget_minutes=1, budget_usd=1,
)  # fmt: skip
SCHEMA = SchemaSpec(rows=100, columns=(), target="y", target_type="str", dropped_rows=0, dropped_reason="", warnings=())


def dataset_of(**features: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"x": np.random.default_rng(1).normal(size=100)} | features)
    frame[TARGET_COLUMN] = ["a", "b"] * 50
    frame[ROW_COLUMN] = range(100)
    return frame


@pytest.mark.parametrize(
    ("features", "problem", "column"),
    [
        ({"z": [1] * 100}, "constant", "z"),
        ({"z": [None] * 100}, "empty", "z"),
        ({"z": np.random.default_rng(1).normal(size=100)}, "copy", "z"),
        ({"z": range(1000, 1100)}, "identifier", "z"),
        ({"z": [f"patient {i}" for i in range(100)]}, "identifier", "z"),
        ({"z": [f"ward {i % 60}" for i in range(100)]}, "high cardinality", "z"),
        ({"z": [0.0] * 10 + [None] * 20 + list(range(70))}, "missing values", "z"),
        ({"z": [*range(97), 5000, 5000, 5000]}, "outliers", "z"),
    ],
)
def test_problems_are_found(features: dict[str, Any], problem: str, column: str) -> None:
    found = quality.assess(dataset_of(**features), SCHEMA, SCOPE)
    assert (problem, column) in {(item.problem, item.column) for item in found.findings}
    assert found.score < 100.0


def test_clean_rows_score_a_hundred_and_the_formula_is_the_published_one() -> None:
    assert quality.assess(dataset_of(), SCHEMA, SCOPE).score == 100.0
    frame = dataset_of(z=[1] * 100, gap=[None] * 50 + list(np.random.default_rng(2).normal(size=50)))
    frame = pd.concat([frame, frame.head(10)], ignore_index=True)
    hidden = frame.assign(serial=range(len(frame)))
    assert quality.assess(hidden, SCHEMA, SCOPE).duplicate_rows == 10, "a row number hides no copies"
    found = quality.assess(frame, SCHEMA.model_copy(update={"dropped_rows": 11}), SCOPE)
    assert found.duplicate_rows == 10
    missing, useless, dropped = 60 / 330, 1 / 3, 11 / 121
    expected = 100 - 40 * missing - 30 * 10 / 110 - 20 * useless - 20 * found.outlying_cells - 30 * dropped
    assert found.score == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(
    ("name", "values", "is_one"),
    [
        ("row", range(60), True),
        ("salary", [2000 + 7 * ((i * 37) % 60) for i in range(60)], False),
        ("patient_id", [i // 1.5 // 1 for i in range(60)], True),
        ("patientId", [i % 40 for i in range(60)], True),
        ("acid", [i % 40 for i in range(60)], False),
        ("weight", np.random.default_rng(0).normal(size=60), False),
        ("name", [f"n{i}" for i in range(60)], True),
        ("town", [f"n{i % 30}" for i in range(60)], False),
        ("flag", [True, False] * 30, False),
    ],
)
def test_identifiers_are_told_from_measurements(name: str, values: Any, *, is_one: bool) -> None:
    assert bool(columns.identifier(pd.Series(list(values), name=name))) is is_one


# ---- association and profile


def test_rank_measures_agree_with_the_libraries() -> None:
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(3)
    values, target = random.integers(0, 9, 200).astype(float), random.normal(size=200)
    positive = target + values / 9 > 0.5
    assert association.rank_auc(values, positive) == pytest.approx(roc_auc_score(positive, values))
    assert association.spearman(values, target) == pytest.approx(abs(spearmanr(values, target).statistic))
    assert association.separation(-values, positive) == pytest.approx(association.separation(values, positive))
    assert association.rank_auc(np.full(3, np.nan), np.array([True, False, True])) == 0.5
    groups = pd.Series(["a", "a", "b", "b"])
    assert association.correlation_ratio(groups, [1, 1, 2, 2]) == pytest.approx(1.0)
    assert association.cramers_v(pd.Series(["a", "b"] * 50), pd.Series(["u", "v"] * 50)) == pytest.approx(1.0, abs=0.02)


def test_the_profile_reads_training_rows_only_and_repeats(tmp_path: Path) -> None:
    _, files = run_chain(TO_SPLIT, ECONOMY, tmp_path, roots=(DATA,))
    first = run_skill(DataProfile, ECONOMY, tmp_path, files)[1]
    second = run_skill(DataProfile, ECONOMY, tmp_path, files)[1]
    assert {name: path.read_bytes() for name, path in first.items()} == {
        name: path.read_bytes() for name, path in second.items()
    }
    assert set(DataProfile.needs) == {"train.parquet", "scope.json"}
    profile = json.loads(first["data-profile.json"].read_text())
    train = pd.read_parquet(files["train.parquet"])
    assert profile["rows"] == len(train)
    assert profile["target"]["mean"] == pytest.approx(train[TARGET_COLUMN].mean())
    by_name = {item["name"]: item for item in profile["columns"]}
    assert by_name["quarter_start"]["max"] == train["quarter_start"].max().isoformat()
    assert sum(by_name["cpi"]["histogram"]["counts"]) == len(train)
    svg = first["data-profile.svg"].read_text()
    assert svg.lstrip().startswith("<?xml")
    assert "unemp" in svg
    assert "<dc:date>" not in svg


def test_a_profile_of_odd_columns_is_still_a_profile(tmp_path: Path) -> None:
    text = "empty,flat,huge,$x^2_<b>,flag,y\n" + "".join(
        f",1,{'1e36' if i % 7 else '-1e36'},a|b{i % 3},{str(i % 4 == 0).lower()},{i % 2}\n" for i in range(60)
    )
    (tmp_path / "rows.csv").write_text(text)
    ticket = Ticket(id=1, title="x", data="rows.csv", target="y")
    _, files = run_chain((*TO_SPLIT, DataProfile), ticket, tmp_path / "work", roots=(tmp_path,), seed=1)
    profile = json.loads(files["data-profile.json"].read_text())
    assert {item["name"] for item in profile["columns"]} == {"empty", "flat", "huge", "$x^2_<b>", "flag"}
    lines = [line for line in files["data-profile.md"].read_text().splitlines() if line.startswith("| ")]
    bars_of = {line.replace("\\|", "").count("|") for line in lines}
    assert bars_of == {8}, "a bar in a value does not open another cell"


def test_bars_and_cells() -> None:
    assert bars([0, 1, 2]) == "▁▅█"
    assert bars([]) == bars([0, 0]) == "–"
    assert markdown.cell("a|b\n<i>@me_") == "a\\|b &lt;i&gt;&#64;me\\_"
    assert markdown.cell("prior_late_count") == "prior_late_count"
    assert len(markdown.cell("x" * 500)) == 80


# ---- generated refills


def test_the_oracle_of_the_refills_scores_what_is_published() -> None:
    from sklearn.metrics import roc_auc_score

    frame, truth = refills.generate()
    assert len(frame) == 4000
    assert refills.expected_auc(truth) == pytest.approx(refills.ORACLE_AUC, abs=0.001)
    assert roc_auc_score(frame[refills.TARGET], truth) == pytest.approx(0.778, abs=0.005)
    _, many = refills.generate(rows=100_000, seed=1)
    assert refills.expected_auc(many) == pytest.approx(0.778, abs=0.005), "true of the generator, not of one seed"
    assert str(refills.ORACLE_AUC) in refills.DESCRIPTION
    assert "SYNTHETIC" in refills.DESCRIPTION


def test_the_expected_auc_is_the_mean_over_labels() -> None:
    truth = np.array([0.1, 0.3, 0.35, 0.8])
    total = weight = 0.0
    for labels in range(1, 15):
        late = np.array([bool(labels >> i & 1) for i in range(4)])
        pairs = [(i, j) for i in range(4) for j in range(4) if late[i] and not late[j]]
        chance = math.prod(truth[late]) * math.prod(1 - truth[~late])
        total += chance * sum(truth[i] > truth[j] for i, j in pairs)
        weight += chance * len(pairs)
    own = sum(p * (1 - p) for p in truth)
    everything = truth.sum() * (1 - truth).sum()
    exact = total / weight
    blended = refills.expected_auc(truth)
    assert exact * (everything - own) + own / 2 == pytest.approx(blended * everything)


def test_refills_repeat_and_are_labelled(tmp_path: Path) -> None:
    ticket = Ticket(id=1, title="x", data="synthetic:refills", target=refills.TARGET)
    first, second = load(ticket, (), 1), load(ticket, (), 1)
    assert first.source == second.source
    assert first.source.synthetic
    assert first.source.kind == "synthetic"
    assert not first.frame.drop(columns=refills.TARGET).duplicated().any()
    _, files = run_chain((*TO_SPLIT, DataProfile, FeaturePipeline), ticket, tmp_path)
    for name in ("scope.md", "data-sources.md", "split.md", "data-profile.md", "feature-map.md"):
        assert "Synthetic data" in files[name].read_text(), name
