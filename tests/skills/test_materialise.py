"""Which inputs to store: arithmetic that a person can repeat, on figures that were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.skill import InputError
from agents.skills.data.personal import DIRECT, SPECIAL
from agents.skills.evaluation.featurecosts import as_json, input_costs
from agents.skills.feature.materialise import FeatureMaterialise, MaterialiseParameters, Use, plan_one
from agents.skills.feature.pipeline import FeaturePipeline
from agents.skills.shapes import FeatureMap
from tests.skills.conftest import DATA, TO_SPLIT, VOTES
from tests.skills.harness import run_chain, run_skill
from tests.skills.test_feature_reuse import registry, told

USE = Use(1_000.0, "test", 24.0, 100, 0.0, 3.6, "test", 0.0, 30, 10)
"""A core's second costs 0.001 USD, keeping nothing."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real rows with a feature map and measured costs of its inputs."""
    folder = tmp_path_factory.mktemp("votes")
    files = run_chain((*TO_SPLIT, FeaturePipeline), VOTES, folder, roots=(DATA,))[1]
    features = FeatureMap.model_validate_json(files["feature-map.json"].read_bytes())
    costs = as_json(input_costs(pd.read_parquet(files["train.parquet"]), features))
    (folder / "robustness.json").write_text(json.dumps({"inputs": costs}))
    return files | {"robustness.json": folder / "robustness.json"}


def run(rows: dict[str, Path], folder: Path, facts: Any = None, **parameters: Any) -> tuple[Any, dict[str, Any], str]:
    output, files = run_skill(
        FeatureMaterialise, VOTES, folder, rows, facts=facts or {}, parameters=MaterialiseParameters(**parameters)
    )
    ElementTree.parse(files["materialisation-plan.svg"])
    page = files["materialisation-plan.md"].read_text("utf-8")
    return output, json.loads(files["materialisation-plan.json"].read_text("utf-8")), page


def test_the_arithmetic_of_one_input() -> None:
    """30,000 reads a month; stored 30 times anew for 100 cases."""
    plan = plan_one("x", "d", 50.0, 10.0, 8.0, "", 1, USE)
    assert plan.reads == 30_000
    assert plan.on_demand_s == pytest.approx(1.5)
    assert plan.stored_s == pytest.approx(30 * 100 * 50e-6 + 30_000 * 10e-6)
    assert plan.bytes == 100 * 8 * 30
    assert plan.usd == pytest.approx((1.5 - 0.45) * 0.001)
    assert (plan.stored, plan.keep_days) == (True, 30)
    personal = plan_one("x", "d", 50.0, 10.0, 8.0, SPECIAL, 1, USE)
    assert (personal.stored, personal.keep_days, personal.bytes) == (True, 10, 100 * 8 * 10)


@pytest.mark.parametrize(
    ("changes", "more", "why"),
    [
        ({}, {"tag": DIRECT}, "it names a person: no second copy"),
        ({}, {"row_us": None}, "its cost was not measured"),
        ({}, {"read_us": 60.0}, "refreshing and reading takes longer"),
        ({"fresh_hours": 0.0}, {}, "no value may be older than its request"),
        ({"usd_per_gb_month": 1_000.0}, {}, "keeping it costs more than it saves"),
        ({"requests_per_day": 0.0}, {}, "refreshing and reading takes longer"),
    ],
)
def test_what_is_not_worth_storing_says_why(changes: dict[str, Any], more: dict[str, Any], why: str) -> None:
    given = {"row_us": 50.0, "read_us": 10.0, "row_bytes": 8.0, "tag": "", "models": 1} | more
    plan = plan_one("x", "d", use=Use(**{**vars(USE), **changes}), **given)
    assert (plan.stored, plan.why, plan.keep_days) == (False, why, 0)


@given(st.floats(0.1, 1e3), st.floats(0.1, 1e3), st.floats(0, 1e5), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
@pytest.mark.untraced
def test_more_readers_never_speak_against_a_store_that_reads_faster(
    row_us: float, read_us: float, requests: float, models: int
) -> None:
    use = Use(**{**vars(USE), "requests_per_day": requests, "trainings_per_month": 1.0})
    fewer, more = (plan_one("x", "d", row_us, read_us, 8.0, "", number, use) for number in (models, models + 1))
    assert (more.usd >= fewer.usd) == (row_us >= read_us) or more.usd == pytest.approx(fewer.usd)
    assert fewer.stored == (fewer.usd > 0)


def test_real_inputs_are_planned_with_measured_figures(rows: dict[str, Path], tmp_path: Path) -> None:
    output, found, page = run(rows, tmp_path, requests_per_day=100_000, fresh_hours=168)
    features = json.loads(rows["feature-map.json"].read_text())["columns"]
    assert {each["name"] for each in found["inputs"]} == {column["name"] for column in features}
    costs = {each["name"]: each for each in json.loads(rows["robustness.json"].read_text())["inputs"]}
    for each in found["inputs"]:
        assert each["row_us"] == costs[each["name"]]["row_us"]
        assert each["definition"] == costs[each["name"]]["definition"]
        assert each["read_us"] > 0
        assert 0 < each["row_bytes"] < 200
        assert each["stored"] == (each["usd"] > 0)
    stored = [each for each in found["inputs"] if each["stored"]]
    assert stored, "reading a column is faster than computing it"
    assert found["saved_seconds_a_month"] == pytest.approx(sum(e["on_demand_s"] - e["stored_s"] for e in stored))
    assert next(m.value for m in output.measurements) == len(stored)
    [age] = [each for each in found["inputs"] if each["name"] == "age"]
    assert age["tag"].startswith("personal:")
    assert age["keep_days"] in (0, 30)
    assert "| requests a day | 100,000 | the parameter" in page
    idle = run(rows, tmp_path, requests_per_day=0, trainings_per_month=0)[1]
    assert not any(each["stored"] for each in idle["inputs"])
    short = run(
        rows, tmp_path, {"backfill_days": "90", "backfill_personal_days": "20"}, requests_per_day=1, keep_days=50
    )
    assert short[1]["keep_days"] == {"others": 50, "personal": 20}


def test_readers_are_counted_in_the_record_and_requests_in_the_ticket(rows: dict[str, Path], tmp_path: Path) -> None:
    other = told(rows, "s2", 5)
    other.documents["scope.json"]["target"] = "income"  # type: ignore[index]
    facts = registry(tmp_path, told(rows, "s1"), other, told(rows, "s3", 6, "aborted"))
    _, found, _ = run(rows, tmp_path, facts, requests_per_day=1)
    assert {each["models"] for each in found["inputs"]} == {3}
    with pytest.raises(InputError, match="nobody says how often the model is asked"):
        run(rows, tmp_path)
    brief = tmp_path / "opportunity-brief.json"
    brief.write_text(json.dumps({"value": {"cases_per_year": 36_500}}))
    _, found, page = run(rows | {"opportunity-brief.json": brief}, tmp_path)
    assert found["use"]["requests_per_day"] == 100.0
    assert "the 36,500 cases a year that the ticket states" in page
