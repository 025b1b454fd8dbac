"""The board kept up to date from the event stream, and waiting until it has caught up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import structlog

from bus.port import Bus
from chatops.board import Board, Row
from schemas.envelope import EventEnvelope, UnreadableMessage, decode_event
from schemas.messages import Event
from schemas.subjects import ROOT

_log = structlog.get_logger("chatops")
Listener = Callable[[EventEnvelope[Event], Row], None]


class Feed:
    """Follows every session of the tenant."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self.board = Board()
        self._bus = bus
        self._tenant = tenant
        self._position = 0
        self._changed = anyio.Event()

    @asynccontextmanager
    async def running(self, listener: Listener | None = None) -> AsyncIterator[Feed]:
        """Follow while the context is open; entering waits until everything published so far was read. `listener` is
        called for each event of a session from the first on."""

        async def take(subject: str, raw: bytes, headers: dict[str, str], position: int) -> None:
            try:
                envelope = decode_event(raw)
                row = self.board.apply(envelope)
                if row is not None and listener is not None:
                    listener(envelope, row)
            except (UnreadableMessage, LookupError, ValueError, json.JSONDecodeError) as problem:
                # Only a newer conductor can have written it; what it says is left to that newer version.
                _log.error("event_not_understood", subject=subject, reason=str(problem))
            finally:
                self._position = position
                self._changed.set()
                self._changed = anyio.Event()

        async with self._bus.follow((f"{ROOT}.{self._tenant}.evt.>",), take):
            await self.caught_up()
            yield self

    async def change(self) -> None:
        """Return when something was read."""
        await self._changed.wait()

    async def caught_up(self) -> None:
        """Return when everything that is published now was read. Raises BusUnavailable."""
        newest = await self._bus.last_sequence()
        while self._position < newest:
            changed = self._changed
            with anyio.move_on_after(1.0):
                await changed.wait()
