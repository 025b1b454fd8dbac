"""A thread of one's own for calls that block, one after another: the way there and back is shorter than to a pool."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

_Call = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Worker:
    """Runs calls in its thread, which begins with the first of them and ends with this object."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's."""
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._begun = False

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises. A cancelled scope waits for it, as for a thread of anyio's."""
        if not self._begun:
            self._begun = True
            # A daemon: a process that ends in the middle of a write leaves what a kill leaves.
            threading.Thread(target=_work, args=(self._calls,), name=self._name, daemon=True).start()
            weakref.finalize(self, self._calls.put, None)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._calls.put((loop, done, call))
        with anyio.CancelScope(shield=True):
            await done
        return done.result()


def _work(calls: SimpleQueue[_Call | None]) -> None:
    while (task := calls.get()) is not None:
        loop, done, call = task
        try:
            result, problem = call(), None
        except BaseException as raised:
            result, problem = None, raised
        try:
            loop.call_soon_threadsafe(_settle, done, result, problem)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more
        del task, done, call, result, problem  # while it waits for the next, it keeps nothing of this one


def _settle(done: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if done.cancelled():
        return
    if problem is None:
        done.set_result(result)
    else:
        done.set_exception(problem)
