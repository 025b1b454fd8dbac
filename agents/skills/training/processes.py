"""Two processes of this machine that compute the predictions of a search at the same time.

Fitting small tables is Python for the most part, so two threads would wait for each other. Each process is a fork of
the skill's own: it has the prepared rows already, and only settings, row numbers and predictions travel. A model is
fitted on one thread of one process, so what is predicted does not depend on how many there are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agents.skill import SkillError
from agents.skills.feature.transform import build_transformer
from agents.skills.shapes import FeatureMap, ScopeSpec
from agents.skills.training.checkpoint import Checkpoint, Kept
from agents.skills.training.folds import Fold
from agents.skills.training.rows import TrainingRows
from agents.skills.training.search import CrossValidator
from agents.skills.training.voting import KINDS
from workspace.child import DEATH_SIGNAL, prctl

if TYPE_CHECKING:
    from agents.skills.training.candidates import Params, Problem
    from agents.skills.training.search import Elsewhere

AT_ONCE = min(2, os.cpu_count() or 1)


@contextlib.contextmanager
def forked(rows: TrainingRows, features: FeatureMap, scope: ScopeSpec) -> Iterator[Processes | None]:
    """Processes that end with the context; None on a machine with one processor, where they would gain nothing.

    Enter it from the main thread: the processes die with the thread that forks them.
    """
    if AT_ONCE < 2:
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
        """Fork them now, while this process has no other threads of ours."""
        validator = CrossValidator(
            self.rows.frame, self.rows.target, self.scope.classes, problem,
            lambda: build_transformer(self.features), Checkpoint(None, ""),
        )  # fmt: skip
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(AT_ONCE, context, initializer=_begin, initargs=(validator, os.getpid()))
        self._pools.append(pool)
        pool.submit(os.getpid).result()  # the first order forks all of them
        return _InProcesses(pool)

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
            raise SkillError("a process of the search was killed", "look for one that took all memory") from problem
        finally:
            for each in waiting:
                each.cancel()


@dataclass
class _Worker:
    """What a process knows: its cross-validation, and the folds it has met, whose prepared columns that keeps."""

    validator: CrossValidator
    folds: dict[tuple[bytes, bytes], Fold] = field(default_factory=dict)


_worker: _Worker | None = None


def _begin(validator: CrossValidator, parent: int) -> None:
    """In each process, once: on one thread, and not longer there than who forked it."""
    global _worker
    from threadpoolctl import threadpool_limits

    prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threadpool_limits(limits=1)
    _worker = _Worker(validator)


def _predict(kind: str, params: Params, fold: Fold) -> Kept:
    if _worker is None:
        raise RuntimeError("this process was not begun")
    key = (fold.train.tobytes(), fold.test.tobytes())
    known = _worker.folds.setdefault(key, fold)
    cpu, wall = time.process_time(), time.monotonic()
    predicted: Any = _worker.validator.predicted(KINDS[kind], params, known)
    return Kept(predicted, time.process_time() - cpu, time.monotonic() - wall)
