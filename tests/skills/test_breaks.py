"""Broken deliveries are told from drift, on real rows: units, levels, copies, old rows; and clean ones are let by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agents.skills.data import odcs
from agents.skills.data.breaks import find_breaks
from agents.skills.data.descriptions import describe_rows, describe_values
from agents.skills.data.drift import compare_columns, compare_rows
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, ScopeSpec, SourceSpec
from schemas.values import Task
from tests.skills.conftest import DATA

SOURCE = SourceSpec(
    uri="votes.csv", kind="csv", rows=1, columns=("a",), sha256="a" * 64, bytes=1, synthetic=False, description=""
)
SCOPE = ScopeSpec(
    task=Task.CLASSIFICATION, target="vote", metric="roc_auc", higher_is_better=True, classes=("Clinton", "Dole"),
    acceptance=(), acceptance_from="proposed", budget_minutes=1.0, budget_usd=1.0,
)  # fmt: skip


def votes() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Half of the survey as the rows a model knows, the other half as the next delivery."""
    frame = pd.read_csv(DATA / "votes.csv").sample(frac=1, random_state=3).reset_index(drop=True)
    frame = frame.rename(columns={"vote": TARGET_COLUMN}).assign(**{ROW_COLUMN: range(len(frame))})
    half = len(frame) // 2
    return frame.iloc[:half].reset_index(drop=True), frame.iloc[half:].reset_index(drop=True)


def known() -> tuple[dict[str, Any], dict[str, Any]]:
    """What a package keeps of the first half: profile and contract."""
    before, _ = votes()
    grouped = before.assign(**{GROUP_COLUMN: range(len(before))})
    return describe_rows(grouped, SCOPE, None), odcs.write_contract(before, SOURCE, SCOPE)


def kinds(now: pd.DataFrame, **more: Any) -> set[tuple[str, str]]:
    profile, contract = known()
    found = find_breaks(profile | more.pop("profile", {}), contract, now, **({"same_source": False} | more))
    return {(each.kind, each.subject) for each in found}


def test_the_other_half_of_a_survey_is_no_break_and_no_drift() -> None:
    profile, _ = known()
    now = votes()[1]
    assert kinds(now) == set()
    assert [each.name for each in compare_columns(profile, now) if each.moved] == []


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda rows: rows.assign(age=rows["age"] * 100.0), {("unit", "age")}),
        (
            lambda rows: rows.assign(age=rows["age"].where(rows.index % 5 > 0, rows["age"] * 100)),
            {("far outside", "age")},
        ),
        (lambda rows: rows.assign(party=rows["party"].str.upper()), {("unknown levels", "party")}),
        (lambda rows: pd.concat([rows, rows.iloc[: len(rows) // 3]], ignore_index=True), {("copies", "rows")}),
    ],
)  # fmt: skip
def test_what_only_broken_data_explains(spoil: Callable[[pd.DataFrame], pd.DataFrame], found: set[Any]) -> None:
    assert kinds(spoil(votes()[1])) == found


def test_rows_that_are_not_newer_are_stale() -> None:
    now = votes()[1]
    assert kinds(now, same_source=True) == {("stale", "rows")}
    now = now.assign(day=pd.date_range("2025-01-01", periods=len(now), freq="D"))
    newest = {"newest": {"column": "day", "value": "2030-01-01T00:00:00"}}
    assert kinds(now, profile=newest) == {("stale", "rows")}
    assert kinds(now, profile={"newest": {"column": "day", "value": "2025-06-01T00:00:00"}}) == set()


def test_rows_of_few_people_need_a_larger_gap_to_be_called_drift() -> None:
    """Whole people come and go by chance: a column that is theirs moves more than its rows would by themselves."""
    random = np.random.default_rng(0)
    before = pd.DataFrame({"income": np.repeat(random.normal(size=40), 50)})
    now = pd.DataFrame({"income": np.repeat(random.normal(0.1, 1, size=40), 50)})
    assert compare_rows(before, now)[0].moved
    profile = {"rows": 2000, "independent_rows": 40.0, "columns": [describe_values(before["income"])]}
    people = np.repeat(np.arange(40), 50)
    assert not compare_columns(profile, now, people)[0].moved


def test_a_few_large_cases_do_not_hide_that_the_others_moved() -> None:
    """One case of a thousand rows, and three hundred of three: the rows are worth few, the cases are not."""
    random = np.random.default_rng(1)

    def rows(shift: float) -> tuple[pd.DataFrame, Any]:
        sizes = np.array([1000] + [3] * 300)
        values = random.normal(shift, 1, len(sizes))
        return pd.DataFrame({"income": np.repeat(values, sizes)}), np.repeat(np.arange(len(sizes)), sizes)

    before, groups = rows(0.0)
    target = np.where(random.random(len(before)) < 0.5, "yes", "no")
    known = before.assign(**{GROUP_COLUMN: groups, ROW_COLUMN: range(len(before)), TARGET_COLUMN: target})
    profile = describe_rows(known, SCOPE, None)
    assert profile["cases"]["rows"] == 301
    assert not compare_columns(profile, *rows(0.0))[0].moved
    assert compare_columns(profile, *rows(1.2))[0].moved
    assert not compare_columns({**profile, "cases": None}, *rows(1.2))[0].moved, "else the test shows nothing"
    now, whose = rows(0.0)
    again = random.permutation(len(now))[: len(now) // 2]
    twice = pd.concat([now, now.iloc[again]], ignore_index=True), np.concatenate([whose, whose[again]])
    assert [each.name for each in compare_columns(profile, *twice) if each.moved] == ["rows of a case"]
