"""A delivered model as time passes: real rows, a known decay found and dated, and none found where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from agents.skill import InputError
from agents.skills.evaluation.decay import DecayParameters, EvaluationDecay
from agents.skills.evaluation.decay_trend import FEWEST_ROWS, Decay, constant, measure, windows_of
from agents.skills.evaluation.scores import ClassOutcome
from schemas.figures import MEASURED
from schemas.ticket import Ticket
from tests.skills.conftest import DATA
from tests.skills.harness import run_skill
from tests.skills.packages import package, scope_of

VOTES = pd.read_csv(DATA / "votes.csv")
CLASSES = ("Clinton", "Dole")


def dated(rows: pd.DataFrame, first: str = "2024-01-01", days: int = 720) -> pd.DataFrame:
    """Real rows in random order, each on a day: nothing in them depends on it."""
    when = pd.Timestamp(first) + pd.to_timedelta(np.sort(np.arange(len(rows)) * days // len(rows)), unit="D")
    return rows.assign(day=when.strftime("%Y-%m-%d"))


def turned(rows: pd.DataFrame, share: float, seed: int = 3) -> pd.DataFrame:
    """The same with a concept that drifts: of the newest rows `share` have the other answer, of the oldest none."""
    chance = np.linspace(0, share, len(rows))
    other = np.random.default_rng(seed).random(len(rows)) < chance
    vote = rows["vote"].where(~other, rows["vote"].map(dict(zip(CLASSES, reversed(CLASSES), strict=True))))
    return rows.assign(vote=vote)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a third of the survey's rows, and the rest as later rows."""
    folder = tmp_path_factory.mktemp("decay")
    mixed = VOTES.sample(frac=1.0, random_state=11).reset_index(drop=True)
    train, later = mixed.head(300), mixed.iloc[300:].reset_index(drop=True)
    package(
        folder / "model-package.zip",
        dated(train.drop(columns="vote"), "2023-01-01", 360).assign(day=lambda rows: pd.to_datetime(rows["day"])),
        train["vote"],
        scope_of("vote", CLASSES, "roc_auc"), leave_out=("day",), estimator=LogisticRegression(max_iter=1000),
        promised={"metric": "roc_auc", "higher_is_better": True, "value": 0.94, "se": 0.012},
    )  # fmt: skip
    dated(later).to_csv(folder / "steady.csv", index=False)
    turned(dated(later), 0.5).to_csv(folder / "turned.csv", index=False)
    return folder


def run(place: Path, data: str, work: Path, **more: Any) -> tuple[Any, dict[str, Any], str]:
    parameters = DecayParameters(**more.pop("parameters", {}))
    fields = {"id": 8, "title": "Votes in use", "data": data, "time": "day", "model": "model-package.zip"}
    output, files = run_skill(
        EvaluationDecay, Ticket(**fields | more), work, {}, roots=(place,), parameters=parameters
    )  # fmt: skip
    ElementTree.parse(files["decay.svg"])
    return output, json.loads(files["decay.json"].read_text("utf-8")), files["decay.md"].read_text("utf-8")


def test_a_known_decay_is_found_and_dated(place: Path, tmp_path: Path) -> None:
    """Half of the newest answers are turned, so the true area falls from that of the steady rows to one half: it
    crosses 0.85 where a tenth to a quarter are turned."""
    output, found, page = run(
        place, "turned.csv", tmp_path, acceptance=("metrics.roc_auc_lower >= 0.85",), parameters={"windows": 6}
    )
    figures = {m.name: m.value for m in output.measurements}
    assert {f"decay.{name}" for name in figures} <= set(MEASURED["evaluation.decay"])
    assert (found["decays"], found["fallen"], figures["shown"], figures["fallen"]) == (True, True, 1.0, 1.0)
    assert figures["slope_upper"] < 0.0
    assert found["limit"]["value"] == 0.85
    assert "`metrics.roc_auc_lower >= 0.85`" in found["limit"]["from"]
    reached = found["limit"]["reached"]
    assert "2024-03" <= reached["at"] <= "2024-12"
    assert reached["lower"] <= reached["at"] <= reached["upper"]
    assert found["half_life"]["reached"]["at"] > reached["at"]
    assert figures["time_to_limit"] < 0.0, "it is behind the newest row already"
    assert found["windows"][0]["value"]["value"] > found["windows"][-1]["value"]["value"] + 0.2
    assert "**roc\\_auc decays**" in page or "**roc_auc decays**" in page
    assert any("decays" in warning for warning in output.warnings)


def test_no_decay_is_shown_where_there_is_none(place: Path, tmp_path: Path) -> None:
    output, found, page = run(place, "steady.csv", tmp_path)
    figures = {m.name: m.value for m in output.measurements}
    assert (found["decays"], found["fallen"]) == (False, False)
    assert figures["slope_lower"] < 0.0 < figures["slope_upper"]
    assert "time_to_limit" not in figures
    assert found["limit"]["reached"] == {"at": None, "lower": None, "upper": None}
    assert "not shown by these rows" in page
    assert found["limit"]["from"] == "the bad end of the promised 95 % interval"
    assert all(each["gain_over_a_constant"]["lower"] > 0.2 for each in found["windows"])
    assert all(each["inputs_moved"] == [] for each in found["windows"])


def scored(seed: int, share: float = 0.0, groups: int = 0) -> Decay | None:
    """Real rows in another random order, with the model's own probabilities of them; `share` as in `turned`."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(PROBABILITIES))
    truth = TRUTH[order]
    truth = np.where(generator.random(len(truth)) < np.linspace(0, share, len(truth)), 1 - truth, truth)
    outcome = ClassOutcome(truth, PROBABILITIES[order])
    times = np.arange(len(truth), dtype=np.float64)
    ids = np.arange(len(truth)) if not groups else generator.integers(0, groups, len(truth))
    parts = windows_of(times, 6)
    floor = constant(outcome, {"classes": {"Clinton": 0.6, "Dole": 0.4}}, CLASSES)
    return measure(
        outcome, floor, "roc_auc", times, ids, parts, promised=None, limit=0.9, chance=0.5, seed=seed, resamples=200
    )  # fmt: skip


def _probabilities() -> tuple[Any, Any]:
    from agents.skills.feature.pipeline import map_features
    from agents.skills.feature.transform import build_transformer, prepare_frame

    mixed = VOTES.sample(frac=1.0, random_state=11).reset_index(drop=True)
    features = map_features(mixed.drop(columns="vote"), None, None)
    frame = prepare_frame(mixed, features)
    step = build_transformer(features).fit(frame.head(300))
    model = LogisticRegression(max_iter=1000).fit(step.transform(frame.head(300)), mixed["vote"].head(300))
    return model.predict_proba(step.transform(frame.iloc[300:])), (mixed["vote"].iloc[300:] == "Dole").to_numpy() * 1


PROBABILITIES, TRUTH = _probabilities()


def test_false_alarms_are_as_rare_as_promised_and_decay_is_rarely_missed() -> None:
    """One interval in twenty misses, half of them on the worse side: of 60 orders of the same rows about 1.5."""
    alarms = [found.decays for seed in range(60) if (found := scored(seed))]
    assert len(alarms) == 60
    assert sum(alarms) <= 5
    hits = [found.decays for seed in range(20) if (found := scored(seed, 0.4))]
    assert sum(hits) >= 18


def test_windows_that_scatter_more_than_their_rows_explain_widen_the_trend() -> None:
    """Answers of every second window are turned: no trend, but far more scatter than rows give."""
    steady = scored(1)
    times = np.arange(len(TRUTH), dtype=np.float64)
    parts = windows_of(times, 6)
    truth = TRUTH.copy()
    for part in parts[::2]:
        truth[part[::3]] = 1 - truth[part[::3]]
    outcome = ClassOutcome(truth, PROBABILITIES)
    found = measure(
        outcome, outcome, "roc_auc", times, np.arange(len(truth)), parts, promised=None, limit=0.9, chance=0.5, seed=1,
        resamples=200,
    )  # fmt: skip
    assert steady is not None
    assert found is not None
    assert found.ratio > 2.0 > steady.ratio
    assert found.slope.se > 1.5 * steady.slope.se
    assert not found.decays


def test_groups_are_drawn_whole() -> None:
    """Forty people who each say the same thing many times are worth forty rows, not six hundred."""
    alone, grouped = scored(4), scored(4, groups=40)
    assert alone is not None
    assert grouped is not None
    people = np.repeat(np.arange(len(TRUTH) // 16 + 1), 16)[: len(TRUTH)]
    truth, probabilities = TRUTH[people], PROBABILITIES[people]
    outcome = ClassOutcome(truth, probabilities)
    times = np.random.default_rng(0).permutation(len(truth)).astype(np.float64)
    parts = windows_of(times, 6)
    widths = []
    for ids in (np.arange(len(truth)), people):
        found = measure(
            outcome, outcome, "roc_auc", times, ids, parts, promised=None, limit=0.9, chance=0.5, seed=1, resamples=200
        )  # fmt: skip
        assert found is not None
        widths.append(found.whole.se)
    assert widths[1] > 2.5 * widths[0]


def test_a_model_of_numbers_on_real_quarters(tmp_path: Path) -> None:
    """Unemployment from the economy's other figures: a model of 1959 to 1975 asked about all later quarters."""
    rows = pd.read_csv(DATA / "economy.csv")
    rows.to_csv(tmp_path / "economy.csv", index=False)
    train = rows[rows["quarter_start"] < "1976"]
    inputs = train[["quarter_start", "infl", "realint", "tbilrate"]].assign(
        quarter_start=lambda frame: pd.to_datetime(frame["quarter_start"])
    )
    package(
        tmp_path / "model-package.zip", inputs, train["unemp"], scope_of("unemp"), leave_out=("quarter_start",),
        estimator=LinearRegression(), promised={"metric": "mae", "higher_is_better": False, "value": 0.8, "se": 0.08},
    )  # fmt: skip
    fields = {"id": 8, "title": "Unemployment", "data": "economy.csv", "time": "quarter_start"}
    output, files = run_skill(
        EvaluationDecay, Ticket(**fields, model="model-package.zip"), tmp_path, {}, roots=(tmp_path,),
        parameters=DecayParameters(windows=3),
    )  # fmt: skip
    found = json.loads(files["decay.json"].read_text("utf-8"))
    later = rows[rows["quarter_start"] > "1975-10-01"]
    assert (found["rows"], found["rows_not_later"]) == (len(later), len(train))
    assert sum(each["rows"] for each in found["windows"]) == len(later)
    assert all(each["rows"] >= FEWEST_ROWS for each in found["windows"])
    assert found["fallen"], "what was promised on the sixties does not hold in the eighties"
    assert found["windows"][0]["inputs_moved"], "and the inputs say so too"
    assert found["windows"][0]["from"] == "1976-01-01"
    assert any("was promised" in warning for warning in output.warnings)


def test_what_cannot_be_used_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no `time`"):
        run(place, "steady.csv", tmp_path, time=None)
    rows = pd.read_csv(place / "steady.csv")
    rows.head(90).to_csv(place / "few.csv", index=False)
    with pytest.raises(InputError, match="has 90 rows of several times that are later than the newest training row"):
        run(place, "few.csv", tmp_path)
    rows.assign(day="2020-01-01").to_csv(place / "old.csv", index=False)
    with pytest.raises(InputError, match="has 0 rows of several times"):
        run(place, "old.csv", tmp_path)
    rows.assign(day="soon").to_csv(place / "soon.csv", index=False)
    with pytest.raises(InputError, match="holds neither dates"):
        run(place, "soon.csv", tmp_path)
    rows.assign(vote=rows["vote"].replace("Dole", "Perot")).to_csv(place / "other.csv", index=False)
    with pytest.raises(InputError, match=r"that the model does not know: \['Perot'\]"):
        run(place, "other.csv", tmp_path)


def test_a_measured_decay_brings_the_next_training_forward(place: Path, tmp_path: Path) -> None:
    """The retraining plan's own derivation, with what the skill wrote."""
    from agents.skills.training.schedule import TrainingSchedule, _days_to_limit
    from agents.skills.training.triggers import NO_TIME_DAYS, SHORTEST_DAYS, Figures, days_between

    assert "decay.json" in TrainingSchedule.optional
    found = run(place, "turned.csv", tmp_path, parameters={"windows": 6, "limit": 0.1})[1]
    earliest = found["limit"]["until"]["lower"]
    assert earliest > 0.0
    known: dict[str, Any] = {name: None for name in Figures.__dataclass_fields__ if name != "days_to_limit"}
    plain, soon, late = (days_between(Figures(**known, days_to_limit=days)) for days in (None, 30.6, 400.0))
    assert (plain[0], late) == (NO_TIME_DAYS, plain)
    assert soon[0] == 30
    assert "the measured decay may reach the limit in 31 days" in soon[1]
    assert days_between(Figures(**known, days_to_limit=0.0))[0] == SHORTEST_DAYS

    def told(document: dict[str, Any]) -> float | None:
        context: Any = type("C", (), {"inputs": {"decay.json": 1}, "read_json": staticmethod(lambda name: document)})()
        return _days_to_limit(context)

    assert told(found) == pytest.approx(earliest)
    assert told(found | {"decays": False}) is None
    assert told(found | {"time_unit": "year"}) is None
