"""One process at a time does what must not be done twice at once: relaying, when several conductors share a record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio import to_thread

from store.port import Lease, StoreUnavailable

TRY_EVERY = 0.5
"""Seconds between two attempts to take the lease: how soon another takes over from a leader that died."""

RENEW_EVERY = 2.0
"""Seconds; a leader that says nothing for several times as long (`store.postgres_lease.IDLE`) is replaced."""


@asynccontextmanager
async def leadership(lease: Lease) -> AsyncIterator[None]:
    """Wait until this process holds `lease`, then run the block as the leader.

    When the lease is lost meanwhile, the block is cancelled and the `async with` ends normally: enter another one to
    lead again. A leader that was suspended may go on for a moment before it notices, so what it does must bear being
    done twice; the relay does, since an event is published again under the same id.
    """
    # A lease must not run out because all the other threads are busy.
    ask = partial(to_thread.run_sync, limiter=anyio.CapacityLimiter(1))

    async def keep() -> None:
        try:
            while True:
                await anyio.sleep(RENEW_EVERY)
                await ask(lease.renew)
        except StoreUnavailable:
            leading.cancel_scope.cancel()

    problem: Exception | None = None
    try:
        while True:
            if await ask(_acquire, lease):
                break
            await anyio.sleep(TRY_EVERY)
        async with anyio.create_task_group() as leading:
            leading.start_soon(keep)
            try:
                yield
            except Exception as raised:
                problem = raised  # as it is, not wrapped into the group's
            leading.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await ask(lease.release)
    if problem is not None:
        raise problem


def _acquire(lease: Lease) -> bool:
    """Whether `lease` is held now. While the database is away nobody can lead: it is waited for."""
    try:
        return lease.acquire()
    except StoreUnavailable:
        return False
