"""Calling the forge from async code: in a thread, and again after the server's own wait when a limit is reached."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import anyio
import anyio.to_thread

from forge.errors import RateLimited

T = TypeVar("T")
WORTH_WAITING = 3700.0
"""Seconds; the hourly limit is never further away."""


async def patiently(
    call: Callable[[], T], *, told: Callable[[str, datetime], None] | None = None, at_most: float = WORTH_WAITING
) -> T:
    """What `call` returns, run in a thread. When a rate limit is reached (nothing was done then), wait as long as the
    server says and call again; `told` hears why and until when. Raises RateLimited for waits of more than `at_most`
    seconds, and whatever else `call` raises."""
    while True:
        try:
            return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
        except RateLimited as limit:
            if limit.seconds > at_most:
                raise
            if told is not None:
                told(str(limit), limit.until)
            await anyio.sleep(limit.seconds)
