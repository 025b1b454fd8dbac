"""The search in processes of this machine: the same model to the byte as in one, and no process outlives it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.skill import SkillError
from agents.skills import forks
from agents.skills.shapes import FeatureMap, ScopeSpec
from agents.skills.training import processes
from agents.skills.training.candidates import BOOSTING, CATALOGUE, FOREST, LINEAR, Problem
from agents.skills.training.checkpoint import Kept
from agents.skills.training.folds import Fold
from agents.skills.training.rows import read_rows
from agents.skills.training.search import Elsewhere
from agents.skills.training.train import TrainingTrain
from schemas.values import Task
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import binary_wine, make_inputs, quick_plan, ticket
from tests.skills.test_checkpoint import without_seconds


def test_the_same_model_and_log_come_out_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make_inputs(tmp_path / "in", *binary_wine(), metric="f1")
    files["experiment-plan.json"] = quick_plan(tmp_path, "f1", (LINEAR, FOREST, BOOSTING), 5)
    asked: list[int] = []
    forked = processes.Processes.of
    monkeypatch.setattr(processes.Processes, "of", lambda self, problem: asked.append(1) or forked(self, problem))
    monkeypatch.setattr(forks, "AT_ONCE", 2)
    _, several = run_skill(TrainingTrain, ticket(), tmp_path / "two", files)
    monkeypatch.setattr(forks, "AT_ONCE", 1)
    _, one = run_skill(TrainingTrain, ticket(), tmp_path / "one", files)
    assert asked == [1], "the first training did not fork, or the second did"
    for name in ("model.skops", "baseline.skops"):
        assert several[name].read_bytes() == one[name].read_bytes()
    logs = [without_seconds(each["experiment-log.json"].read_bytes()) for each in (several, one)]
    assert logs[0] == logs[1]


class _Bench:
    """A search's processes, and three folds of rows."""

    def __init__(self, place: Path) -> None:
        files = make_inputs(place / "in", *binary_wine(), metric="f1")
        features = FeatureMap.model_validate_json(files["feature-map.json"].read_text("utf-8"))
        scope = ScopeSpec.model_validate_json(files["scope.json"].read_text("utf-8"))
        rows = read_rows(files["train.parquet"], features, scope)
        self.problem = Problem(Task.CLASSIFICATION, "f1", 2, len(rows.target), 7)
        self.processes = processes.Processes(rows, features, scope)
        parts = np.array_split(np.random.default_rng(1).permutation(len(rows.target)), 3)
        self.folds = [Fold(np.concatenate([*parts[:i], *parts[i + 1 :]]), parts[i]) for i in range(3)]

    def predict(self, elsewhere: Elsewhere) -> list[Kept]:
        return elsewhere.predict(LINEAR, CATALOGUE[LINEAR].defaults(self.problem), self.folds)


def _pids(elsewhere: Any) -> list[int]:
    return list(elsewhere.pool._processes)


def test_no_process_outlives_the_search(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    elsewhere = bench.processes.of(bench.problem)
    first, second = bench.predict(elsewhere), bench.predict(elsewhere)
    assert [each.predicted.tobytes() for each in first] == [each.predicted.tobytes() for each in second]
    assert all(each.cpu > 0 for each in first)
    pids = _pids(elsewhere)
    assert len(pids) == forks.AT_ONCE
    bench.processes.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_killed_process_fails_the_search_and_says_so(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    elsewhere = bench.processes.of(bench.problem)
    try:
        os.kill(_pids(elsewhere)[0], signal.SIGKILL)
        with pytest.raises(SkillError, match="a process of the skill was killed"):
            while True:  # until the pool has seen it
                bench.predict(elsewhere)
    finally:
        bench.processes.stop()


def test_what_a_fit_raises_is_raised_here(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    elsewhere = bench.processes.of(bench.problem)
    try:
        with pytest.raises(ValueError, match=r"The .C. parameter"):
            elsewhere.predict(LINEAR, {"C": -1.0}, bench.folds)
    finally:
        bench.processes.stop()


def test_work_is_spread_over_forks_and_its_results_keep_their_order() -> None:
    forked: list[tuple[int, int]] = forks.spread(lambda item: (item * item, os.getpid()), range(20))
    assert [square for square, _ in forked] == [item * item for item in range(20)]
    assert os.getpid() not in {pid for _, pid in forked} or forks.AT_ONCE == 1


def test_one_piece_of_work_is_not_worth_a_fork() -> None:
    assert forks.spread(lambda item: os.getpid(), [1]) == [os.getpid()]
    assert forks.spread(lambda item: item, []) == []


def test_the_first_failure_in_order_is_raised() -> None:
    def fail(item: int) -> int:
        if item > 1:
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match=r"^item 2$"):
        forks.spread(fail, range(6))


@pytest.mark.skipif(forks.AT_ONCE < 2, reason="one processor: nothing is forked")
def test_a_fork_that_is_killed_is_told() -> None:
    own = os.getpid()

    def die(item: int) -> int:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(SkillError, match="was killed"):
        forks.spread(die, range(4))
