"""Work that runs beside a context's body, and whose failure ends the body: nothing fails in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` as tasks while the context is open; on leaving they are cancelled and waited for.

    The first that fails cancels the body, and its exception comes out of the context (not an ExceptionGroup: callers
    catch what they name). One that returns early is fine. Enter and leave in the same task.
    """
    failed: list[BaseException] = []
    with anyio.CancelScope() as body:

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (problem := task.exception()) is not None:
                failed.append(problem)
                body.cancel()

        tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
        for task in tasks:
            task.add_done_callback(ended)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await end_tasks(tasks)
    if failed:
        raise failed[0]


async def end_tasks(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel and wait until all are done; whatever they raise is dropped (`beside` has noted it)."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()  # again each second: a handler may have swallowed the first
        _, pending = await asyncio.wait(pending, timeout=1.0)
