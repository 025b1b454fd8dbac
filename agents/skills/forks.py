"""One skill's work in two processes of this machine.

Fitting small tables is Python for the most part, so two threads would wait for each other. Each process is a fork of
the skill's own: it has all that was read and prepared before, and only what is asked and answered travels. A model is
fitted on one thread of one process, so results do not depend on how many there are. Not for what takes times.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from agents.skill import SkillError
from workspace.child import DEATH_SIGNAL, prctl

AT_ONCE = min(2, os.cpu_count() or 1)

T = TypeVar("T")
R = TypeVar("R")

_work: Callable[[Any], Any] | None = None


def pool(begin: Callable[[Any], None], known: Any) -> ProcessPoolExecutor:
    """AT_ONCE forks, made now, in each of which `begin` was called with `known`, on one thread.

    Call it from the main thread, while there is no other: the processes die with the thread that forks them.
    """
    context = multiprocessing.get_context("fork")
    made = ProcessPoolExecutor(AT_ONCE, context, initializer=_begin, initargs=(os.getpid(), begin, known))
    try:
        made.submit(os.getpid).result()  # the first order forks all of them
    except BrokenProcessPool as problem:
        raise lost() from problem
    return made


def lost() -> SkillError:
    """What to raise when a process of the pool was killed."""
    return SkillError("a process of the skill was killed", "look for one that took all memory, and try again")


def spread(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of each item, in their order, computed AT_ONCE at a time by forks that end before this returns.

    Raises what `work` raises for the first item that fails, SkillError when a process was killed.
    """
    if AT_ONCE < 2 or len(items) < 2:
        return [work(item) for item in items]
    workers = pool(_take, work)
    try:
        return list(workers.map(_do, items))
    except BrokenProcessPool as problem:
        raise lost() from problem
    finally:
        workers.shutdown(cancel_futures=True)


def _begin(parent: int, begin: Callable[[Any], None], known: Any) -> None:
    from threadpoolctl import threadpool_limits

    prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threadpool_limits(limits=1)
    begin(known)


def _take(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work


def _do(item: Any) -> Any:
    if _work is None:
        raise RuntimeError("this process was not begun")
    return _work(item)
