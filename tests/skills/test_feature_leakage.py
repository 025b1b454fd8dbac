"""Leakage tests: planted leaks are found, real columns are left in peace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agents.skills.data import twins
from agents.skills.data.loading import load
from agents.skills.feature import leaktests
from agents.skills.feature.leakage import FeatureLeakage
from agents.skills.feature.pipeline import FeaturePipeline, map_features
from agents.skills.lead.scope import LeadScope
from schemas.ticket import Ticket
from tests.skills.conftest import DATA, ECONOMY, TO_SPLIT, VOTES, WINE
from tests.skills.harness import run_chain, run_skill


def suspects_with(ticket: Ticket, leak: Callable[[pd.DataFrame], Any]) -> set[str]:
    """The columns suspected on the rows of a real set with one more column, `leak`."""
    frame = pd.read_csv(DATA / str(ticket.data))
    frame["leak"] = leak(frame)
    target = frame[str(ticket.target)]
    classes = tuple(sorted(set(target))) if target.dtype == "str" else ()
    findings = [
        finding
        for name in frame.columns.drop(str(ticket.target))
        for finding in (
            leaktests.single_feature(frame[name], target, classes, 7),
            leaktests.exact_function(frame[name], target),
        )
    ]
    return {finding.subject for finding in findings if finding.verdict == "suspect"}


def test_real_sets_have_no_suspects(prepared: Any) -> None:
    ticket, outputs, files = prepared
    measured = {item.name: item.value for item in outputs["feature.leakage"].measurements}
    assert measured["suspects"] == 0.0, files["leakage.md"].read_text()
    tests = json.loads(files["leakage.json"].read_text())["tests"]
    always = {"single feature", "exact function", "stands out", "duplicate rows", "near twins", "shift"}
    assert always <= {test["test"] for test in tests}
    shift = next(test for test in tests if test["test"] == "shift")
    if ticket.time:
        assert shift["verdict"] == "warning", "the future differs from the past, and that is no leak"
        assert any("shift" in warning for warning in outputs["feature.leakage"].warnings)


def noise(frame: pd.DataFrame) -> Any:
    return np.random.default_rng(0).normal(size=len(frame))


def half(frame: pd.DataFrame) -> Any:
    return np.random.default_rng(0).random(len(frame)) < 0.5


@pytest.mark.parametrize(
    ("ticket", "leak"),
    [
        (VOTES, lambda f: (f["vote"] == "Dole") * 1.0 + noise(f) / 100),
        (VOTES, lambda f: -(f["vote"] == "Dole") * 1.0 + noise(f) / 100),
        (VOTES, lambda f: np.where(f["vote"] == "Dole", noise(f), np.where(half(f), 50, -50) + noise(f))),
        (VOTES, lambda f: f["vote"].map({"Dole": "R", "Clinton": "D"})),
        (VOTES, lambda f: f["vote"].map({"Dole": 1.0, "Clinton": None}) + noise(f)),
        (VOTES, lambda f: [f"{vote[0]}{i % 40}" for i, vote in enumerate(f["vote"])]),
        (WINE, lambda f: f["cultivar"].map({"first": 2, "second": 0, "third": 1})),
        (WINE, lambda f: f["cultivar"].map({"first": 2, "second": 0, "third": 1}) + noise(f) / 100),
        (WINE, lambda f: "batch " + f["cultivar"]),
        (ECONOMY, lambda f: f["unemp"] * 3 - 1),
        (ECONOMY, lambda f: np.exp(f["unemp"]) + noise(f) / 1000),
    ],
)
def test_planted_answers_are_found(ticket: Ticket, leak: Callable[[pd.DataFrame], Any]) -> None:
    assert suspects_with(ticket, leak) == {"leak"}


def test_a_planted_answer_stops_the_phase(tmp_path: Path) -> None:
    frame = pd.read_csv(DATA / "votes.csv")
    frame["ballot"] = frame["vote"].map({"Dole": "R", "Clinton": "D"})
    (tmp_path / "votes.csv").write_text(frame.to_csv(index=False))
    outputs, files = run_chain((*TO_SPLIT, FeaturePipeline, FeatureLeakage), VOTES, tmp_path / "work", (tmp_path,))
    measured = {item.name: item.value for item in outputs["feature.leakage"].measurements}
    assert measured["suspects"] == 3.0, "criterion leakage.suspects == 0.0 fails"
    assert "| suspect | exact function | ballot |" in files["leakage.md"].read_text()
    assert any("column ballot" in warning for warning in outputs["feature.leakage"].warnings)


@pytest.mark.parametrize(
    ("ticket", "leak"),
    [
        (VOTES, lambda f: (f["vote"] == "Dole") * 2.0 + noise(f)),
        (WINE, lambda f: np.where(f["cultivar"] == "first", 9.0, 0.0) + noise(f)),
        (ECONOMY, lambda f: f["unemp"] + noise(f)),
    ],
)
def test_good_columns_are_not_suspected(ticket: Ticket, leak: Callable[[pd.DataFrame], Any]) -> None:
    assert suspects_with(ticket, leak) == set()


@pytest.mark.parametrize(
    "name", ["sklearn:iris:species", "sklearn:breast_cancer:malignant", "sklearn:diabetes:progression"]
)
def test_the_strongest_real_columns_are_not_suspected(name: str) -> None:
    data, _, target = name.rpartition(":")
    frame = load(Ticket(id=1, title="x", data=data, target=target), (), 1).frame
    labels = frame[target] if target == "progression" else frame[target].astype("str")
    classes = () if target == "progression" else tuple(sorted(set(labels)))
    for column in frame.columns.drop(target):
        for finding in (
            leaktests.single_feature(frame[column], labels, classes, 1),
            leaktests.exact_function(frame[column], labels),
        ):
            assert finding.verdict == "ok", finding


def test_rows_on_both_sides_are_found() -> None:
    rows = pd.DataFrame({"x": np.arange(100) / 3, "serial": range(100)})
    finding, _ = leaktests.twin_rows(rows.head(80), rows.tail(20), None)
    assert (finding.value, finding.verdict) == (0.0, "ok")
    doubled = pd.concat([rows.tail(20), rows.head(2).assign(serial=[700, 701])])
    finding, groups = leaktests.twin_rows(rows.head(80), doubled, None)
    assert finding.value == pytest.approx(2 / 22)
    assert finding.verdict == "suspect"
    assert len(set(groups)) == 100


def shift_of(train: pd.DataFrame, holdout: pd.DataFrame, *, by_time: bool = False, seed: int = 1) -> leaktests.Finding:
    mapped = map_features(train, None, None)
    _, groups = leaktests.twin_rows(train, holdout, None)
    return leaktests.shift(train, holdout, mapped, groups, by_time=by_time, seed=seed)


def test_a_holdout_of_another_kind_is_found() -> None:
    rows = pd.read_csv(DATA / "votes.csv").drop(columns="vote").sort_values("age", kind="stable")
    finding = shift_of(rows.head(750), rows.tail(194))
    assert finding.verdict == "suspect"
    assert finding.value > 0.95
    assert shift_of(rows.head(750), rows.tail(194), by_time=True).verdict == "warning"


def test_random_holdouts_are_left_in_peace_and_the_test_repeats() -> None:
    rows = pd.read_csv(DATA / "votes.csv").drop(columns="vote")
    for seed in range(4):
        shuffled = rows.sample(frac=1, random_state=seed)
        finding = shift_of(shuffled.head(750), shuffled.tail(194), seed=seed)
        assert finding.verdict == "ok", finding
    assert finding == shift_of(shuffled.head(750), shuffled.tail(194), seed=seed)


def test_copies_count_once_when_chance_is_judged() -> None:
    groups = np.repeat(np.arange(10), 50)
    assert twins.effective(groups) == pytest.approx(10.0)
    assert twins.effective(np.arange(500)) == pytest.approx(500.0)
    assert twins.effective(np.array([0] * 99 + [1])) == pytest.approx(100**2 / (99**2 + 1))


def test_the_skill_sees_no_label_of_the_holdout() -> None:
    assert not FeatureLeakage.harness
    assert "holdout-labels.parquet" not in FeatureLeakage.needs + FeatureLeakage.optional
    assert not LeadScope.harness


def test_the_same_rows_give_the_same_bytes(prepared: Any, tmp_path: Path) -> None:
    ticket, _, files = prepared
    again = run_skill(FeatureLeakage, ticket, tmp_path, files)[1]
    assert again["leakage.json"].read_bytes() == files["leakage.json"].read_bytes()
