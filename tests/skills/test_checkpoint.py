"""A training that is killed goes on from what it had computed, and ends with the bytes of one that was not."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from agents.leftovers import take_over
from agents.port import Attempt, AttemptError, SkillRun
from agents.skill import Skill
from agents.skills.training import checkpoint
from agents.skills.training.candidates import CATALOGUE, Problem
from agents.skills.training.checkpoint import Checkpoint, Kept, open_checkpoint
from agents.skills.training.folds import Fold
from agents.skills.training.search import CrossValidator
from agents.skills.training.train import TrainingTrain
from agents.workbench import Workbench
from agents.worker import preload
from schemas.session import PhaseStarted
from schemas.values import ArtifactRef, FailureClass, Mode, Role, Task
from tests.skills.harness import run_skill
from tests.skills.ml_inputs import binary_wine, make_inputs, quick_plan, ticket
from workspace.blobs import Blobs
from workspace.children import ForkServer

FOLD = Fold(np.arange(6), np.arange(6, 9))
SOME = Kept(np.array([1.0, 2.5, np.pi]), 3.0, 4.0)


class Killed:
    """One session's training phase on one machine, each attempt with a lease and a directory of its own."""

    def __init__(self, place: Path, children: ForkServer, files: dict[str, Path]) -> None:
        self.place, self.children = place, children
        self.blobs = Blobs(place / "blobs")
        self.lines: list[str] = []
        self.refs = tuple(
            ArtifactRef(name=name, sha256=sha256, size=size)
            for name, path in files.items()
            if name in TrainingTrain.needs
            for sha256, size in [self.blobs.put(path)]
        )

    async def attempt(self, number: int, kill_at: str = "") -> SkillRun:
        """Attempt `number`; its child is killed as soon as it tells a line with `kill_at`."""
        phase = PhaseStarted(
            phase="training", agent=Role.TRAINING, mode=Mode.BUILD, attempt=number, skills=(TrainingTrain.name,),
            ticket=ticket(), acceptance=(), artifacts=self.refs, measured={}, roots=(), max_data_bytes=10**9, seed=7,
            timeout_seconds=600.0, remaining_seconds=600.0, started=datetime(2026, 11, 1, tzinfo=UTC), pipeline="p",
        )  # fmt: skip

        def told(skill: str, line: str) -> None:
            self.lines.append(line)
            if kill_at and kill_at in line:
                for pid in Path(f"/proc/{self.children.pid}/task/{self.children.pid}/children").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)

        directory = self.place / "session" / f"training-{number}-{number}"
        attempt = Attempt("s1-abcde", phase, number, directory)
        bench = Workbench(Role.TRAINING, attempt, self.blobs, self.children, told, anyio.CapacityLimiter(1), {})
        return await bench.run(TrainingTrain.name, {})

    def read(self, run: SkillRun, name: str) -> bytes:
        [ref] = [ref for ref in run.artifacts if ref.name == name]
        return self.blobs.read(ref.sha256)


def without_seconds(document: bytes) -> Any:
    """An experiment log without the time that each trial took."""
    return json.loads(document, object_hook=lambda each: {k: v for k, v in each.items() if k != "seconds"})


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
async def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    files = make_inputs(tmp_path / "in", *binary_wine(), metric="f1")
    files["experiment-plan.json"] = quick_plan(tmp_path, "f1", ("linear", "random_forest"), 5)
    async with ForkServer(preload((Role.TRAINING,))) as children:
        whole, cut = (Killed(tmp_path / name, children, files) for name in ("whole", "cut"))
        expected = await whole.attempt(1)
        for number, line in ((1, "trial 3/"), (2, "finalist random_forest")):
            with pytest.raises(AttemptError) as problem:
                await cut.attempt(number, line)
            assert problem.value.failure is FailureClass.AGENT
        run = await cut.attempt(3)
    assert "killed" not in expected.summary
    assert "predictions of folds are from a run that was killed" in run.summary
    for name in ("model.skops", "baseline.skops"):
        assert cut.read(run, name) == whole.read(expected, name)
    logs = [without_seconds(place.read(done, "experiment-log.json")) for place, done in ((whole, expected), (cut, run))]
    assert logs[0] == logs[1]
    session = cut.place / "session"
    assert [each.name for each in session.glob("*/kept")] == ["kept"], "moved from attempt to attempt, never copied"


def test_other_inputs_begin_anew(tmp_path: Path) -> None:
    """What was kept for another plan, other rows or other code is removed and not used."""
    kept = tmp_path / "kept"
    kept.mkdir()
    files = make_inputs(tmp_path / "in", *binary_wine(), metric="f1")
    files["experiment-plan.json"] = quick_plan(tmp_path, "f1", ("linear",), 1)
    first, _ = run_skill(TrainingTrain, ticket(), tmp_path, files, kept=kept)
    again, _ = run_skill(TrainingTrain, ticket(), tmp_path, files, kept=kept)
    assert ("killed" in first.summary, "killed" in again.summary) == (False, True)
    [before] = kept.iterdir()
    scope = json.loads(files["scope.json"].read_text("utf-8"))
    (tmp_path / "scope.json").write_text(json.dumps(scope | {"budget_usd": 4.0}), "utf-8")
    other, _ = run_skill(TrainingTrain, ticket(), tmp_path, files | {"scope.json": tmp_path / "scope.json"}, kept=kept)
    assert "killed" not in other.summary
    [after] = kept.iterdir()
    assert before.name != after.name


def test_the_key_is_of_inputs_code_and_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"rows")
    keys = [open_checkpoint(None, [path]).key]
    assert open_checkpoint(None, [path]).key == keys[0]
    path.write_bytes(b"other rows")
    keys.append(open_checkpoint(None, [path]).key)
    monkeypatch.setattr(checkpoint, "version", lambda name: "9.9")
    keys.append(open_checkpoint(None, [path]).key)
    code = tmp_path / "skills" / "training"
    code.mkdir(parents=True)
    (code / "search.py").write_text("another way")
    monkeypatch.setattr(checkpoint, "_CODE", tmp_path / "skills")
    keys.append(open_checkpoint(None, [path]).key)
    assert len(set(keys)) == 4


def test_what_is_kept_comes_back_to_the_bit_and_only_for_the_same_question(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path, "key")
    place.keep("linear", {"C": 1.0}, FOLD, SOME)
    found = Checkpoint(tmp_path, "key").find("linear", {"C": 1.0}, FOLD, (3,))
    assert found is not None
    assert (found.predicted.tobytes(), found.cpu, found.wall) == (SOME.predicted.tobytes(), 3.0, 4.0)
    assert place.find("linear", {"C": 1.0}, FOLD, (3, 2)) is None
    assert place.find("linear", {"C": 1.1}, FOLD, (3,)) is None
    assert place.find("ridge", {"C": 1.0}, FOLD, (3,)) is None
    assert place.find("linear", {"C": 1.0}, Fold(FOLD.train, np.arange(7, 10)), (3,)) is None
    assert Checkpoint(tmp_path, "another key").find("linear", {"C": 1.0}, FOLD, (3,)) is None
    assert place.taken == 0


@pytest.mark.parametrize("spoil", [lambda whole: b"", lambda whole: whole[:-40], lambda whole: b"\x80\x04K\x01."])
def test_a_torn_file_is_computed_again_and_a_pickle_never_read(tmp_path: Path, spoil: Any) -> None:
    place = Checkpoint(tmp_path, "key")
    place.keep("linear", {}, FOLD, SOME)
    [path] = (tmp_path / "key").iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    assert place.find("linear", {}, FOLD, (3,)) is None
    np.savez(path, predicted=np.array([SOME], dtype=object), spent=np.zeros(2))
    assert place.find("linear", {}, FOLD, (1,)) is None


def test_it_stops_keeping_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 10)
    place = Checkpoint(tmp_path, "key")
    for number in range(3):
        place.keep("linear", {"C": number}, FOLD, SOME)
    assert len(list((tmp_path / "key").iterdir())) == 1


def test_a_holder_whose_files_were_taken_fails(tmp_path: Path) -> None:
    """He is not to write into what another goes on with."""
    first, second = tmp_path / "training-1-1", tmp_path / "training-1-2"
    place = Checkpoint(take_over(first, "training", "kept"), "key")
    place.keep("linear", {}, FOLD, SOME)
    assert Checkpoint(take_over(second, "training", "kept"), "key").find("linear", {}, FOLD, (3,)) is not None
    with pytest.raises(FileNotFoundError):
        place.keep("linear", {"C": 2.0}, FOLD, SOME)


def test_only_the_same_phase_is_taken_over_the_newest_lease_first(tmp_path: Path) -> None:
    for name in ("training-1-2", "training-1-10", "training-plan-1-11", "retraining-1-12"):
        (tmp_path / name / "kept").mkdir(parents=True)
        (tmp_path / name / "kept" / name).touch()
    own = take_over(tmp_path / "training-2-13", "training", "kept")
    assert [each.name for each in own.iterdir()] == ["training-1-10"]
    assert take_over(tmp_path / "training-2-13", "training", "kept") == own, "asked again, it stays"


def test_a_kill_does_not_give_the_search_more_time(tmp_path: Path) -> None:
    """The seconds that a kept prediction had cost count as spent."""
    frame, labels = binary_wine()
    place = Checkpoint(tmp_path, "key")
    place.keep("linear", {"C": 1.0}, FOLD, Kept(np.zeros((3, 2)), 100.0, 200.0))
    problem = Problem(Task.CLASSIFICATION, "roc_auc", 2, 9, 1)
    validator = CrossValidator(
        frame, np.array(labels), ("first", "other"), problem, lambda: pytest.fail("nothing is computed"), place
    )
    cpu, wall = validator.cpu(), validator.wall()
    validator.outcomes(CATALOGUE["linear"], {"C": 1.0}, [FOLD])
    assert validator.cpu() - cpu >= 100.0
    assert validator.wall() - wall >= 200.0


def test_a_skill_keeps_nothing_unless_it_says_so() -> None:
    assert not Skill.resumes
    assert TrainingTrain.resumes
