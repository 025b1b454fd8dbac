"""The parts of the comparison of models: places, scores, the table."""

from __future__ import annotations

import pytest

from benchmarks import model_quality
from benchmarks.gate_honesty.sets import cut

SEED = 100


def test_equal_scores_share_their_places() -> None:
    assert model_quality.ranks({"a": 0.9, "b": 0.95, "c": 0.90001}) == {"a": 2.5, "b": 1.0, "c": 2.5}


@pytest.mark.parametrize(("task", "least"), [("wine", 0.97), ("star98", 0.5), ("modechoice", 0.7)])
def test_simple_models_learn_from_given_rows_and_are_scored_on_kept_ones(
    task: str, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_quality, "THREADS", 1)  # on a busy machine two threads wait for each other
    chosen = model_quality.TASKS[task]
    given, kept = cut(chosen, SEED)
    for model in (model_quality._linear(chosen, SEED), model_quality._boosting(chosen, SEED)):
        assert least < model_quality.simple(model, chosen, given, kept) <= 1.0
        shuffled = given.assign(**{chosen.target: given[chosen.target].sample(frac=1, random_state=1).to_numpy()})
        assert model_quality.simple(model, chosen, shuffled, kept) < least, "labels that follow from nothing"


def test_there_are_nine_tasks_and_only_those_who_ran_everywhere_are_ranked() -> None:
    assert len(model_quality.TASKS) == 9

    def told(**scores: float) -> dict[str, dict[str, float]]:
        return {name: {"score": value, "seconds": 2.0, "cpu": 30 * value / 0.75} for name, value in scores.items()}

    found = [
        {"task": "wine", "seed": 1, "told": told(one=0.9, two=1.1)},
        {"task": "digits", "seed": 1, "not_run": "FLAML failed"},
        {"task": "fair", "seed": 1, "told": told(one=0.7, two=0.75, three=0.8)},
    ]
    assert model_quality.table(found) == [
        "| task | seed | one | two |",
        "|---|---|---|---|",
        "| wine | 1 | 0.9000 | **1.1000** † |",
        "| fair | 1 | 0.7000 | **0.7500** |",
        "| mean rank | | 2.00 | 1.00 |",
        "| median seconds | | 2.0 | 2.0 |",
        "| median CPU seconds | | 32.0 | 37.0 |",
        "| most CPU seconds | | 36.0 | 44.0 |",
        "\n† took more than 40 s of CPU time",
        "\nNot ranked: digits, seed 1: FLAML failed",
    ]


def test_cpu_time_of_ended_children_counts() -> None:
    before = model_quality._cpu()
    assert model_quality.slowness() >= 1.0
    assert model_quality._cpu() - before >= model_quality.THREADS * model_quality.SPIN
