"""The thread that writes."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from store.worker import Worker


async def test_a_call_returns_what_it_returns_and_raises_what_it_raises() -> None:
    worker = Worker("one")
    assert await worker.run(lambda: 7) == 7
    with pytest.raises(KeyError, match="x"):
        await worker.run(partial(dict[str, int]().__getitem__, "x"))
    assert await worker.run(threading.current_thread) is await worker.run(threading.current_thread)
    assert (await worker.run(threading.current_thread)).name == "one"


async def test_calls_follow_each_other() -> None:
    worker, order = Worker("one"), list[int]()
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(worker.run, partial(order.append, number))
    assert order == list(range(20))


async def test_who_is_cancelled_waits_for_the_call() -> None:
    worker, begun, go, ended = Worker("one"), threading.Event(), threading.Event(), list[str]()

    def call() -> None:
        begun.set()
        go.wait(30.0)
        ended.append("call")

    async def wait() -> None:
        try:
            await worker.run(call)
        finally:
            ended.append("scope")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        assert await anyio.to_thread.run_sync(begun.wait, 30.0)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
        assert ended == []
        go.set()
    assert ended == ["call", "scope"]


async def test_a_task_that_is_killed_harms_no_later_call() -> None:
    """asyncio's own cancellation knows no shield."""
    worker, begun, go = Worker("one"), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go.wait(30.0)

    task = asyncio.ensure_future(worker.run(call))
    assert await anyio.to_thread.run_sync(begun.wait, 30.0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    go.set()
    assert await worker.run(lambda: 7) == 7


def test_a_loop_that_is_closed_harms_no_later_call() -> None:
    abandoned: list[asyncio.Future[None]] = []
    worker, begun, go = Worker("one"), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go.wait(30.0)

    async def leave() -> None:
        abandoned.append(asyncio.ensure_future(worker.run(call)))
        await anyio.to_thread.run_sync(begun.wait, 30.0)

    asyncio.run(leave())
    go.set()
    assert asyncio.run(worker.run(lambda: 7)) == 7


async def test_the_thread_ends_with_its_worker() -> None:
    worker = Worker("one")
    thread = await worker.run(threading.current_thread)
    del worker
    gc.collect()
    await anyio.to_thread.run_sync(thread.join, 30.0)
    assert not thread.is_alive()


async def test_nothing_of_a_call_is_kept_while_the_thread_waits() -> None:
    class Large:
        pass

    worker, gone = Worker("one"), threading.Event()

    def call(large: Large) -> None:
        weakref.finalize(large, gone.set)

    async def once(make: Callable[[], Large]) -> None:
        await worker.run(partial(call, make()))

    await once(Large)
    gc.collect()
    assert await anyio.to_thread.run_sync(gone.wait, 30.0)
