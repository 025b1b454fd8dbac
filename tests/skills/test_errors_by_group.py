"""Standard errors and intervals where rows belong to groups: ten rows of one person are not ten people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agents.skill import InputError
from agents.skills.data import twins
from agents.skills.data.packaged import load_statsmodels
from agents.skills.evaluation import bootstrap, groups, slices
from agents.skills.evaluation.outcomes import read_holdout
from agents.skills.evaluation.scores import ClassOutcome, ValueOutcome, score, statistics
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN, ScopeSpec
from schemas.values import Task


def error(outcome: Any, metric: str, alike: Any = None, resamples: int = 600, seed: int = 1) -> float:
    parts = {metric: statistics(outcome)[metric]}
    return float(bootstrap.resample(parts, len(outcome.truth), resamples, seed, groups=alike)[metric].std(ddof=1))


def people(rng: np.random.Generator, count: int, rows: int, share: float) -> tuple[Any, Any]:
    """Errors of a constant prediction for `rows` rows of each of `count` persons, `share` of whose variance is the
    person's own; and whose rows they are."""
    own = np.repeat(np.arange(count), rows)
    noise = rng.normal(0, (1 - share) ** 0.5, count * rows)
    return 5 + rng.normal(0, share**0.5, count)[own] + noise, own


def persons_of_randhie() -> tuple[pd.DataFrame, Any]:
    """Whole people of the RAND health data with two to five rows, and the person of each row. Larger classes of twins
    are several people who are alike."""
    frame = load_statsmodels("randhie", None)[0]
    who = twins.twin_classes(frame, [str(name) for name in frame.columns if name != "mdvis"])
    sizes = np.bincount(who)[who]
    kept = (who < 900) & (sizes >= 2) & (sizes <= 5)
    return frame[kept].reset_index(drop=True), np.unique(who[kept], return_inverse=True)[1]


def test_the_error_on_the_rand_health_data_grows_as_its_design_effect_says() -> None:
    """Kish (1965): variance grows by 1 + (m - 1) * rho, rho being the share of variance between people."""
    frame, who = persons_of_randhie()
    visits = frame["mdvis"].to_numpy(dtype=np.float64)
    sizes = np.bincount(who)
    means = np.bincount(who, visits) / sizes
    within = float(((visits - means[who]) ** 2).sum()) / (len(visits) - len(sizes))
    between = float((sizes * (means - visits.mean()) ** 2).sum()) / (len(sizes) - 1)
    typical = (len(visits) - (sizes**2).sum() / len(visits)) / (len(sizes) - 1)
    rho = (between - within) / (between + (typical - 1) * within)
    effect = 1 + ((sizes**2).sum() / len(visits) - 1) * rho
    assert effect > 1.5, "else the data set shows nothing"
    outcome = ValueOutcome(visits, np.zeros(len(visits)))
    by_rows, by_people = error(outcome, "mae"), error(outcome, "mae", who)
    assert by_rows == pytest.approx(visits.std() / len(visits) ** 0.5, rel=0.1)
    assert by_people / by_rows == pytest.approx(effect**0.5, rel=0.15)
    assert by_people == pytest.approx(twins.mean_error(visits, who), rel=0.1)


def test_intervals_of_whole_people_hold_the_truth_as_often_as_they_say_and_those_of_rows_do_not() -> None:
    rng = np.random.default_rng(3)
    held = {"people": 0, "rows": 0}
    for _ in range(300):
        values, who = people(rng, 60, 5, 0.6)
        outcome = ValueOutcome(values, np.zeros(len(values)))
        for name, alike in (("people", who), ("rows", None)):
            drawn = bootstrap.resample({"mae": statistics(outcome)["mae"]}, len(values), 300, 1, groups=alike)["mae"]
            found = bootstrap.percentile_interval(score(outcome, "mae"), drawn)
            held[name] += found.lower <= 5 <= found.upper
    assert 0.91 <= held["people"] / 300 <= 0.98
    assert held["rows"] / 300 < 0.85


def test_few_groups_do_not_make_the_error_too_small() -> None:
    """Eight people: drawing eight of eight would give seven eighths of the variance."""
    rng = np.random.default_rng(4)
    found, means = [], []
    for _ in range(400):
        values, who = people(rng, 8, 4, 0.9)
        found.append(error(ValueOutcome(values, np.zeros(len(values))), "mae", who, 200) ** 2)
        means.append(values.mean())
    assert np.mean(found) == pytest.approx(np.var(means, ddof=1), rel=0.15)


def test_rows_that_are_all_by_themselves_are_drawn_as_without_groups() -> None:
    outcome = ValueOutcome(np.arange(50.0), np.zeros(50))
    plain, own = (bootstrap.resample(statistics(outcome), 50, 40, 2, groups=each) for each in (None, np.arange(50)))
    assert all(np.array_equal(plain[name], own[name]) for name in plain)


def test_one_group_says_nothing_of_others() -> None:
    outcome = ValueOutcome(np.arange(5.0), np.zeros(5))
    with pytest.raises(InputError, match="5 rows that are measured all belong to one group"):
        bootstrap.resample(statistics(outcome), 5, 10, 1, groups=np.zeros(5, dtype=np.intp))


def test_a_person_whose_rows_are_all_right_was_right_once() -> None:
    truth = np.repeat([0, 1], 40)
    outcome = ClassOutcome(truth, np.eye(2)[truth] * 0.8 + 0.1)
    who = np.repeat(np.arange(16), 5)
    drawn = bootstrap.resample(statistics(outcome), 80, 50, 1, groups=who)
    found = bootstrap.intervals(outcome, drawn, who)
    assert found["recall"].lower == pytest.approx(bootstrap.wilson_lower(8))
    assert found["roc_auc"].lower == pytest.approx(bootstrap.perfect_auc_lower(8, 8))


def test_groups_of_people_differ_clearly_only_by_more_than_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sex is served worse, but each person's rows are served alike."""
    monkeypatch.setattr(groups, "RESAMPLES", 100)
    by_people = by_rows = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(40), 10)
        sex = pd.Series(rng.integers(0, 2, 40)[who])
        truth = rng.integers(0, 2, 400)
        right = rng.random(400) < rng.choice([0.1, 0.98], 40)[who]
        called = np.where(right, truth, 1 - truth)
        outcome = ClassOutcome(truth, np.eye(2)[called] * 0.8 + 0.1)
        by_people += bool(groups.compare("sex", sex, outcome, seed, who).clear)
        by_rows += bool(groups.compare("sex", sex, outcome, seed).clear)
    assert by_people <= 2
    assert by_rows >= 4


def test_a_slice_of_few_people_is_not_judged() -> None:
    rng = np.random.default_rng(6)
    values, who = people(rng, 40, 10, 0.8)
    outcome = ValueOutcome(values, np.full(len(values), 5.0))
    place = pd.DataFrame({"place": np.where(who < 6, "few", "many")})
    rows = slices.measure_slices(outcome, outcome, place, "mae", 1)
    whole = slices.measure_slices(outcome, outcome, place, "mae", 1, groups=who)
    assert (rows.judged, whole.judged) == (2, 1)
    assert whole.worst[0].interval.se > 1.5 * next(p for p in rows.worst if p.values == "many").interval.se


def test_hold_out_rows_are_grouped_by_twins_and_by_the_tickets_column(tmp_path: Path) -> None:
    rows = pd.DataFrame({ROW_COLUMN: range(6), "who": [1, 1, 2, 3, 4, 4], "x": [0.5, 0.7, 0.9, 0.9, 1.1, 1.2]})
    rows.to_parquet(tmp_path / "features")
    rows[[ROW_COLUMN]].assign(**{TARGET_COLUMN: np.arange(6.0)}).to_parquet(tmp_path / "labels")
    rows[[ROW_COLUMN]].assign(prediction=1.0, b_prediction=0.0).to_parquet(tmp_path / "predictions")
    scope = ScopeSpec(
        task=Task.REGRESSION, target="y", metric="mae", higher_is_better=False, classes=(), acceptance=(),
        acceptance_from="ticket", budget_minutes=1.0, budget_usd=1.0,
    )  # fmt: skip
    files = [tmp_path / name for name in ("predictions", "labels", "features")]
    found = read_holdout(files[0], files[1], files[2], scope, "who")
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2], "persons 2 and 3 are twins"
    assert found.independent == 3
    assert read_holdout(files[0], files[1], files[2], scope, None).independent == 6
