"""The feed: follows the event stream into a board, and wakes whoever waits for a change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import structlog

from autopilot.board import Board, SessionRow
from bus.port import Bus
from schemas.envelope import EventEnvelope, UnreadableMessage, decode_event
from schemas.messages import Event
from schemas.subjects import ROOT

_log = structlog.get_logger("autopilot")
Listener = Callable[[EventEnvelope[Event], SessionRow | None], None]


class Feed:
    """A board that keeps itself up to date."""

    def __init__(self, bus: Bus, tenant: str, listener: Listener | None = None) -> None:
        self.board = Board()
        self._bus = bus
        self._tenant = tenant
        self._listener = listener
        self._position = 0
        self._changed = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Feed]:
        """Follow while the context is open; entering waits until everything published so far was read: every tenant has
        a stream of its own, so its newest message is one of ours."""
        newest = await self._bus.last_sequence()
        events = (f"{ROOT}.{self._tenant}.evt.>",)
        async with (
            self._bus.follow(events, self._take),
            self._bus.subscribe(f"{ROOT}.{self._tenant}.tel.*.*.progress", self._told),
        ):
            while self._position < newest:
                await self.change()
            yield self

    async def change(self, seconds: float = 5.0) -> None:
        """Return when something changed, or after `seconds` at the latest."""
        changed = self._changed
        with anyio.move_on_after(seconds):
            await changed.wait()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._changed.set()
        self._changed = anyio.Event()

    async def _take(self, subject: str, raw: bytes, headers: dict[str, str], position: int) -> None:
        self._position = position
        try:
            envelope = decode_event(raw)
        except UnreadableMessage as problem:
            # Only a newer conductor can have written it; its sessions are left to that newer version.
            _log.error("event_not_understood", subject=subject, reason=str(problem))
            return self.wake()
        row = self.board.apply(envelope)
        if self._listener is not None:
            self._listener(envelope, row)
        self.wake()

    def _told(self, subject: str, raw: bytes, headers: dict[str, str]) -> None:
        try:
            told = json.loads(raw)
            row = self.board.sessions.get(told["session"])
            if row is not None and row.phase == told["phase"]:
                row.line = f"{told['skill']}: {told['line']}"
        except (ValueError, KeyError, TypeError):
            _log.debug("telemetry_not_understood", subject=subject)
