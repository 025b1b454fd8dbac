"""The predictions of a search, computed in two processes of this machine (see `agents.skills.forks`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agents.skills import forks
from agents.skills.feature.transform import build_transformer
from agents.skills.shapes import FeatureMap, ScopeSpec
from agents.skills.training.checkpoint import Checkpoint, Kept
from agents.skills.training.folds import Fold
from agents.skills.training.rows import TrainingRows
from agents.skills.training.search import CrossValidator
from agents.skills.training.voting import KINDS

if TYPE_CHECKING:
    from agents.skills.training.candidates import Params, Problem
    from agents.skills.training.search import Elsewhere


@contextlib.contextmanager
def forked(rows: TrainingRows, features: FeatureMap, scope: ScopeSpec) -> Iterator[Processes | None]:
    """Processes that end with the context; None on a machine with one processor, where they would gain nothing."""
    if forks.AT_ONCE < 2:
        yield None
        return
    processes = Processes(rows, features, scope)
    try:
        yield processes
    finally:
        processes.stop()


@dataclass
class Processes:
    """`of` forks the processes and makes what a cross-validation asks for predictions."""

    rows: TrainingRows
    features: FeatureMap
    scope: ScopeSpec
    _pools: list[ProcessPoolExecutor] = field(default_factory=list)

    def of(self, problem: Problem) -> Elsewhere:
        """Fork them now. Raises SkillError when that fails."""
        validator = CrossValidator(
            self.rows.frame, self.rows.target, self.scope.classes, problem,
            lambda: build_transformer(self.features), Checkpoint(None, ""),
        )  # fmt: skip
        self._pools.append(forks.pool(_begin, validator))
        return _InProcesses(self._pools[-1])

    def stop(self) -> None:
        """End them; what they have not begun is dropped."""
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _InProcesses:
    pool: ProcessPoolExecutor

    def predict(self, kind: str, params: Params, folds: Sequence[Fold]) -> list[Kept]:
        """All folds at once. Raises SkillError when a process was killed, and what a fit raises."""
        waiting: list[Future[Kept]] = []
        try:
            waiting += [self.pool.submit(_predict, kind, params, fold) for fold in folds]
            return [each.result() for each in waiting]
        except BrokenProcessPool as problem:
            raise forks.lost() from problem
        finally:
            for each in waiting:
                each.cancel()


@dataclass
class _Worker:
    """What a process knows: its cross-validation, and the folds it has met, whose prepared columns that keeps."""

    validator: CrossValidator
    folds: dict[tuple[bytes, bytes], Fold] = field(default_factory=dict)


_worker: _Worker | None = None


def _begin(validator: CrossValidator) -> None:
    global _worker
    _worker = _Worker(validator)


def _predict(kind: str, params: Params, fold: Fold) -> Kept:
    if _worker is None:
        raise RuntimeError("this process was not begun")
    known = _worker.folds.setdefault((fold.train.tobytes(), fold.test.tobytes()), fold)
    cpu, wall = time.process_time(), time.monotonic()
    predicted = _worker.validator.predicted(KINDS[kind], params, known)
    return Kept(predicted, time.process_time() - cpu, time.monotonic() - wall)
