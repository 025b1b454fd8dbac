"""Splitting: no twin and no group on both sides, nothing lost, the same every time; properties over made-up rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agents.skill import InputError
from agents.skills.data import twins
from agents.skills.data.division import Division, Rows, divide
from agents.skills.data.loading import load
from agents.skills.data.split import DataSplit
from agents.skills.data.target import as_target
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN, SplitSpec
from schemas.ticket import Ticket
from schemas.values import Task
from tests.skills.conftest import DATA, ECONOMY, TO_DATASET, TO_SPLIT, TRAVEL, VOTES
from tests.skills.harness import run_chain, run_skill

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def real(ticket: Ticket, task: Task, *drop: str) -> Rows:
    found = load(ticket, (DATA,), 10_000_000)
    features = found.frame.drop(columns=[found.target, *drop])
    return Rows(features, as_target(found.frame[found.target], task), task, ticket.groups, ticket.time)


def same(first: Division, second: Division) -> bool:
    return bool((first.holdout == second.holdout).all() and (first.groups == second.groups).all())


# ---- twins


def brute_force_fraction(frame: pd.DataFrame, holdout: Any) -> float:
    """The definition, in plain Python: tuples, missing equals missing."""
    tuples = [tuple("missing" if pd.isna(value) else value for value in row) for row in frame.itertuples(index=False)]
    train = {row for row, out in zip(tuples, holdout, strict=True) if not out}
    found = [row in train for row, out in zip(tuples, holdout, strict=True) if out]
    return sum(found) / len(found) if found else 0.0


values = st.one_of(st.none(), st.integers(-1, 2), st.sampled_from([0.5, -0.0, 1e-300]))
words = st.one_of(st.none(), st.sampled_from(["", "a", "b", "a,b"]))


@quick
@given(st.lists(st.tuples(values, words, st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_twin_fraction_is_what_the_definition_says(rows: list[tuple[Any, Any, bool, bool]]) -> None:
    frame = pd.DataFrame(
        {
            "number": pd.Series([row[0] for row in rows], dtype="float64"),
            "word": pd.Series([row[1] for row in rows], dtype="str"),
            "flag": [row[2] for row in rows],
        }
    )
    holdout = np.array([row[3] for row in rows])
    classes = twins.twin_classes(frame, list(frame.columns))
    assert twins.twin_fraction(classes, holdout) == pytest.approx(brute_force_fraction(frame, holdout))


@quick
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_merged_groups_are_the_finest_that_hold_both_together(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    merged = twins.merged(first, second)
    reached = {row: {row} for row in range(len(pairs))}
    for _ in pairs:
        for row, seen in reached.items():
            reached[row] = seen | {
                other
                for other in range(len(pairs))
                for one in seen
                if first[one] == first[other] or second[one] == second[other]
            }
    for row, seen in reached.items():
        assert {other for other in range(len(pairs)) if merged[other] == merged[row]} == seen


def test_an_identifier_does_not_hide_twins() -> None:
    rows = real(VOTES, Task.CLASSIFICATION, "popul", "age", "income")
    before = divide(rows, 3)
    assert before.twin_fraction > 0.01
    named = rows.features.assign(respondent_id=range(len(rows.target)), code=[f"c{i}" for i in range(len(rows.target))])
    after = divide(Rows(named, rows.target, rows.task), 3)
    assert after.twin_fraction == before.twin_fraction
    assert after.strategy == "grouped"


# ---- real data


def test_independent_rows_are_divided_in_proportion() -> None:
    rows = real(VOTES, Task.CLASSIFICATION)
    made = divide(rows, 7)
    assert made.strategy == "stratified"
    assert made.holdout.sum() == 189
    assert made.group_by is None
    whole = rows.target.value_counts(normalize=True)
    part = rows.target[made.holdout].value_counts(normalize=True)
    assert (whole - part).abs().max() < 0.005


def test_twins_stay_together_and_classes_in_proportion() -> None:
    rows = real(VOTES, Task.CLASSIFICATION, "popul", "age", "income")
    made = divide(rows, 7)
    assert made.strategy == "grouped"
    assert made.group_by == "covariate twins"
    assert made.twin_fraction > 0.1
    assert made.twin_fraction_after == 0.0
    assert made.holdout.mean() == pytest.approx(0.2, abs=0.02)
    whole = rows.target.value_counts(normalize=True)
    part = rows.target[made.holdout].value_counts(normalize=True)
    assert (whole - part).abs().max() < 0.02


def test_randhie_holds_the_leak_that_is_documented() -> None:
    pytest.importorskip("statsmodels")
    found = load(Ticket(id=1, title="x", data="statsmodels:randhie", target="frequent_visitor"), (), 1)
    features, target = (
        found.frame.drop(columns="frequent_visitor"),
        as_target(found.frame["frequent_visitor"], Task.CLASSIFICATION),
    )
    made = divide(Rows(features, target, Task.CLASSIFICATION), 7)
    assert made.twin_fraction == pytest.approx(0.986, abs=0.005)
    assert made.strategy == "grouped"
    assert made.twin_fraction_after == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_groups_of_a_column_stay_together_and_so_do_twins_across_them(seed: int) -> None:
    rows = real(TRAVEL, Task.CLASSIFICATION)
    made = divide(rows, seed)
    assert made.strategy == "grouped"
    assert made.group_by in ("individual", "individual and covariate twins")
    individuals = rows.features["individual"]
    assert not set(individuals[made.holdout]) & set(individuals[~made.holdout])
    assert made.twin_fraction_after <= 0.01


def test_a_split_by_time_puts_the_latest_away() -> None:
    rows = real(ECONOMY, Task.REGRESSION)
    made = divide(rows, 7)
    when = rows.features["quarter_start"]
    assert made.strategy == "time"
    assert when[made.holdout].min() > when[~made.holdout].max()
    assert made.holdout.mean() == pytest.approx(0.2, abs=0.01)
    assert not made.dropped.any()


def test_a_split_by_time_leaves_out_earlier_rows_of_held_out_groups() -> None:
    count = 300
    features = pd.DataFrame({"when": range(count), "firm": [i % 240 for i in range(count)], "x": np.arange(count) / 7})
    target = pd.Series(np.arange(count, dtype=np.float64))
    made = divide(Rows(features, target, Task.REGRESSION, groups="firm", time="when"), 1)
    kept = ~made.holdout & ~made.dropped
    assert not set(features["firm"][made.holdout]) & set(features["firm"][kept])
    assert made.dropped.sum() == 60
    assert "60 earlier rows of groups" in made.dropped_reason


def test_rows_without_a_time_are_left_out() -> None:
    rows = real(ECONOMY, Task.REGRESSION)
    rows.features.loc[[3, 7], "quarter_start"] = pd.NaT
    made = divide(rows, 7)
    assert made.dropped.sum() == 2
    assert "2 without 'quarter_start'" in made.dropped_reason
    assert not made.holdout[[3, 7]].any()


# ---- what cannot be divided


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


NOISE = np.random.default_rng(0).normal(size=200)
HALF = pd.Series(["a", "b"] * 100)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (Rows(frame(x=NOISE), pd.Series(["a"] * 197 + ["rare"] * 3), Task.CLASSIFICATION), ["'rare'", "only 3 row(s)"]),
        (
            Rows(frame(x=[0, 1, 2, 3] * 50), HALF, Task.CLASSIFICATION),
            ["4 group(s)", "covariate twins", "tell rows apart"],
        ),
        (Rows(frame(x=NOISE, g=["one"] * 200), HALF, Task.CLASSIFICATION, groups="g"), ["grouped by g", "1 group(s)"]),
        (
            Rows(frame(x=NOISE, g=["big"] * 190 + list("abcdefghij")), HALF, Task.CLASSIFICATION, groups="g"),
            ["grouped by g", "95%", "no fair hold-out"],
        ),
        (
            Rows(frame(x=NOISE, t=range(200)), pd.Series(["a"] * 150 + ["b"] * 50), Task.CLASSIFICATION, time="t"),
            ["no row of class 'a'", "hold-out", "time split"],
        ),
        (Rows(frame(x=NOISE, t=["May"] * 200), HALF, Task.CLASSIFICATION, time="t"), ["'t'", "'May'", "ISO 8601"]),
        (Rows(frame(x=NOISE, t=[1] * 200), HALF, Task.CLASSIFICATION, time="t"), ["'t'", "too few distinct values"]),
        (
            Rows(frame(x=NOISE, t=[None] * 50 + list(range(150))), HALF, Task.CLASSIFICATION, time="t"),
            ["'t' is missing in 25%"],
        ),
        (
            Rows(frame(x=NOISE, t=range(200), g=[i % 20 for i in range(200)]), HALF, Task.CLASSIFICATION, "g", "t"),
            ["160 of 160 earlier rows", "`groups`"],
        ),
    ],
)
def test_rows_nobody_can_divide_fairly(rows: Rows, says: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        divide(rows, 1)
    for part in says:
        assert part in str(caught.value)
    assert caught.value.remedy


# ---- properties


@st.composite
def tables(draw: st.DrawFn) -> tuple[Rows, int]:
    """Rows with many or few twins, with or without a group column, for both tasks."""
    count = draw(st.integers(60, 160))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([8, 30, 10_000]))
    features = pd.DataFrame({"x": random.integers(0, levels, count) / 3, "word": random.choice(list("abc"), count)})
    groups = None
    if draw(st.booleans()):
        groups = "who"
        features["who"] = random.integers(0, draw(st.integers(10, 60)), count)
    if draw(st.booleans()):
        return Rows(
            features, pd.Series(random.choice(["no", "yes"], count, p=[0.7, 0.3])), Task.CLASSIFICATION, groups
        ), count
    return Rows(features, pd.Series(random.normal(size=count)), Task.REGRESSION, groups), count


@quick
@given(tables(), st.integers(0, 2**63))
def test_any_split_keeps_groups_and_twins_whole(table: tuple[Rows, int], seed: int) -> None:
    rows, _ = table
    try:
        made = divide(rows, seed)
    except InputError:
        assume(False)
        raise
    assert same(made, divide(rows, seed)), "the same seed gives the same split"
    assert not set(made.groups[made.holdout]) & set(made.groups[~made.holdout]), "no group on both sides"
    assert made.twin_fraction_after <= twins.MAX_TWINS
    assert brute_force_fraction(rows.features.drop(columns=rows.groups or []), made.holdout) <= twins.MAX_TWINS
    assert 0.1 <= made.holdout.mean() <= 0.35
    assert not made.dropped.any()
    if rows.groups is not None:
        who = rows.features[rows.groups]
        assert not set(who[made.holdout]) & set(who[~made.holdout])
    if rows.task is Task.CLASSIFICATION:
        assert set(rows.target[made.holdout]) == set(rows.target[~made.holdout]) == set(rows.target)


def test_another_seed_gives_another_split() -> None:
    rows = real(VOTES, Task.CLASSIFICATION)
    assert not (divide(rows, 1).holdout == divide(rows, 2).holdout).all()


# ---- the skill


@pytest.mark.parametrize("ticket", [VOTES, TRAVEL, ECONOMY], ids=lambda ticket: str(ticket.data))
def test_the_tables_hold_every_row_once_and_no_label_leaves(tmp_path: Path, ticket: Ticket) -> None:
    outputs, files = run_chain(TO_SPLIT, ticket, tmp_path, roots=(DATA,))
    dataset = pd.read_parquet(files["dataset.parquet"])
    train, holdout = pd.read_parquet(files["train.parquet"]), pd.read_parquet(files["holdout-features.parquet"])
    labels = pd.read_parquet(files["holdout-labels.parquet"])
    features = [name for name in dataset.columns if name not in (TARGET_COLUMN, ROW_COLUMN)]
    assert list(train.columns) == [*features, TARGET_COLUMN, ROW_COLUMN, GROUP_COLUMN]
    assert list(holdout.columns) == [*features, ROW_COLUMN]
    assert list(labels.columns) == [ROW_COLUMN, TARGET_COLUMN]
    assert sorted([*train[ROW_COLUMN], *holdout[ROW_COLUMN]]) == list(range(len(dataset)))
    assert list(holdout[ROW_COLUMN]) == list(labels[ROW_COLUMN])
    both = pd.concat([train.drop(columns=GROUP_COLUMN), holdout.merge(labels, on=ROW_COLUMN)])
    pd.testing.assert_frame_equal(
        both.sort_values(ROW_COLUMN)[dataset.columns].reset_index(drop=True), dataset, check_dtype=True
    )
    assert train[GROUP_COLUMN].dtype == np.int64
    spec = SplitSpec.model_validate_json(files["split.json"].read_text())
    assert (spec.train_rows, spec.holdout_rows) == (len(train), len(holdout))
    measured = {item.name: item.value for item in outputs["data.split"].measurements}
    assert measured["twin_fraction_after"] <= 0.01
    assert measured["holdout_rows"] == len(holdout)
    assert DataSplit.sealed == ("holdout-labels.parquet",)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    _, files = run_chain(TO_DATASET, TRAVEL, tmp_path, roots=(DATA,))
    first = run_skill(DataSplit, TRAVEL, tmp_path, files)[1]
    second = run_skill(DataSplit, TRAVEL, tmp_path, files)[1]
    other = run_skill(DataSplit, TRAVEL, tmp_path, files, seed=8)[1]
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name
    assert first["train.parquet"].read_bytes() != other["train.parquet"].read_bytes()


def test_training_rows_of_a_split_by_time_are_in_the_order_of_time(tmp_path: Path) -> None:
    frame = pd.read_csv(DATA / "economy.csv").sample(frac=1, random_state=3)
    (tmp_path / "economy.csv").write_text(frame.to_csv(index=False))
    _, files = run_chain(TO_SPLIT, ECONOMY, tmp_path / "work", roots=(tmp_path,))
    train = pd.read_parquet(files["train.parquet"])
    assert train["quarter_start"].is_monotonic_increasing, "folds that never look ahead go by the order of the file"
    assert not train[ROW_COLUMN].is_monotonic_increasing


def test_rows_dropped_while_reading_are_accounted_for(tmp_path: Path) -> None:
    text = (DATA / "votes.csv").read_text().splitlines()
    text[5:8] = [line.rsplit(",", 1)[0] + "," for line in text[5:8]]
    (tmp_path / "votes.csv").write_text("\n".join(text) + "\n")
    _, files = run_chain(TO_SPLIT, VOTES, tmp_path / "work", roots=(tmp_path,))
    spec = SplitSpec.model_validate_json(files["split.json"].read_text())
    assert spec.dropped_rows == 3
    assert "target 'vote' is missing" in spec.dropped_reason
