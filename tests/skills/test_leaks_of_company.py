"""Leaks that no column shows by itself: stand-outs, near copies, unnamed groups, time travel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agents.skills.data.packaged import load_sklearn
from agents.skills.feature import leaktests, nearness, proxies, timetests
from agents.skills.feature.pipeline import map_features
from agents.skills.shapes import GROUP_COLUMN, ROW_COLUMN, TARGET_COLUMN

RANDOM = np.random.default_rng(5)


def cancer() -> tuple[pd.DataFrame, pd.Series]:
    """Features and labels (`no`, `yes`) of the breast cancer set."""
    frame = load_sklearn("breast_cancer")[0]
    return frame.drop(columns="malignant"), pd.Series(np.where(frame["malignant"] == 1, "yes", "no"))


def suspects(features: pd.DataFrame, target: pd.Series) -> set[str]:
    count = np.arange(len(features))
    train = features.assign(**{TARGET_COLUMN: target, ROW_COLUMN: count, GROUP_COLUMN: count})
    mapped = map_features(train, None, None)
    strengths = {
        c.name: leaktests.single_feature(train[c.name], target, ("no", "yes"), 1).value for c in mapped.columns
    }
    found = proxies.stand_outs(train, target, mapped, ("no", "yes"), strengths, count, 1)
    assert len(found) == proxies.ASKED
    return {each.subject for each in found if each.verdict == "suspect"}


def test_a_column_that_is_wrong_once_in_a_hundred_stands_out_and_the_best_measurement_does_not() -> None:
    features, target = cancer()
    assert suspects(features, target) == set(), "one of its measurements alone reaches AUC .977"
    said = target.where(RANDOM.random(len(target)) > 0.01, target.map({"yes": "no", "no": "yes"}))
    assert suspects(features.assign(ward=said), target) == {"ward"}


def test_cases_measured_twice_are_near_twins_and_others_are_not() -> None:
    features, _ = cancer()
    train, holdout = features.iloc[:400], features.iloc[400:]
    assert nearness.near_twins(train, holdout, 1).verdict == "ok"
    again = train.iloc[:30] * (1 + RANDOM.normal(0, 0.001, (30, train.shape[1])))
    found = nearness.near_twins(train, pd.concat([holdout, again]), 1)
    assert (found.verdict, round(found.value * (len(holdout) + 30))) == ("suspect", 30)


def test_coarse_columns_make_neighbours_by_chance_and_copies_among_them_are_found() -> None:
    """Five whole numbers that come of three: hold-out rows have neighbours, and none is a copy."""
    random = np.random.default_rng(8)
    three = random.normal(size=(900, 3))
    five = np.column_stack([three, three[:, 0] + three[:, 1], three[:, 1] - three[:, 2]])
    rows = pd.DataFrame(np.round(20 * five), columns=list("abcde"))
    train, holdout = rows.iloc[:750], rows.iloc[750:]
    clean = nearness.near_twins(train, holdout, 1)
    assert clean.value > nearness.MOST, "else the test shows nothing"
    assert clean.verdict == "ok"
    again = train.iloc[:45] + random.integers(-1, 2, (45, 5))
    assert nearness.near_twins(train, pd.concat([holdout, again]), 1).verdict == "suspect"


def test_a_number_whose_rows_agree_names_a_group() -> None:
    features, _ = cancer()
    cases = pd.concat([features.iloc[:100]] * 3, ignore_index=True)
    cases += RANDOM.normal(0, 0.01, cases.shape) * cases.std().to_numpy()
    cases["patient"] = np.tile(np.arange(100), 3)
    found = {each.subject: each for each in nearness.unnamed_groups(cases, None)}
    assert found["patient"].verdict == "suspect"
    assert nearness.unnamed_groups(cases, "patient") == []
    cases["patient"] = RANDOM.permutation(cases["patient"].to_numpy())
    assert all(each.verdict == "ok" for each in nearness.unnamed_groups(cases, None))


def test_what_comes_next_is_not_known_before() -> None:
    random = np.random.default_rng(2)  # its own: the others' order must not change it
    target = pd.Series(random.normal(size=400).cumsum() * 0.1 + random.normal(size=400), name="y")
    past = target.shift(1).rolling(3, min_periods=1).mean().bfill().rename("past")
    ahead = target[::-1].rolling(4, min_periods=1).mean()[::-1].rename("ahead")
    assert timetests.knows_next(past, target, ()).verdict == "ok"
    assert timetests.knows_next(ahead, target, ()).verdict == "suspect"


def test_of_several_classes_the_next_are_not_known_before_either() -> None:
    random = np.random.default_rng(3)
    names = [f"c{n}" for n in range(10)]
    codes = pd.Series(random.integers(0, 10, 200))
    target = codes.map(lambda code: names[code])
    ahead = codes[::-1].rolling(4, min_periods=1).mean()[::-1].rename("ahead")
    single = max(
        abs(timetests._correlation(ahead.to_numpy()[:-1], (codes == n).to_numpy(dtype=float)[1:])) for n in range(10)
    )
    found = timetests.knows_next(ahead, target, names)
    assert found.verdict == "suspect"
    assert found.value > single * 200**0.5, "no class by itself says as much"
    past = codes.shift(1).rolling(4, min_periods=1).mean().bfill().rename("past")
    assert timetests.knows_next(past, target, names).verdict == "ok"
    chance = [timetests.knows_next(pd.Series(random.normal(size=200)), target, names).value for _ in range(30)]
    assert max(chance) < timetests.STANDARD_ERRORS


@pytest.mark.parametrize(("beyond", "verdict"), [(0, "suspect"), (60, "warning")])
def test_dates_filled_in_later_end_where_the_data_ends_and_planned_ones_do_not(beyond: int, verdict: str) -> None:
    times = pd.Series(pd.date_range("2026-01-01", periods=300, freq="D"))
    later = (times + pd.Timedelta(20 + beyond, "D")).rename("closed")
    later = later.where(later <= times.max() + pd.Timedelta(beyond, "D"))
    assert timetests.later_events(later[:240], times[:240], times.max()).verdict == verdict
    assert timetests.later_events((times - pd.Timedelta(3, "D")).rename("asked"), times, times.max()).verdict == "ok"


def test_groups_and_times_on_both_sides_are_found() -> None:
    left = pd.DataFrame({"who": [1, 2, 3], "when": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-05"])})
    right = pd.DataFrame({"who": [3, 4], "when": pd.to_datetime(["2026-01-04", "2026-01-06"])})
    assert leaktests.shared_groups(left, right, "who").value == 0.5
    assert timetests.order(left, right, "when").verdict == "suspect"
    assert leaktests.shared_groups(left[:2], right, "who").verdict == "ok"
    assert timetests.order(left[:2], right, "when").verdict == "ok"
