"""Fetching rows of named sources for sessions, and for people who try a source out.

The rows are read in a process of its own, which gets the secret through a pipe and ends with it: whatever a server
sends is taken apart there, and neither the signing key nor another source's password is near. What comes out is a file
in the artifact store, and a receipt that names it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread
import structlog

from autopilot.board import SessionRow
from bus.port import Ack, Bus, ConsumerSpec, Delivery, GiveUp, NoReceipt, Outcome, Retry
from ingest.errors import SourceError
from ingest.secrets import secrets_of
from ingest.settings import Item, Source, Sources
from schemas.commands import RecordEffect, RecordEffectFailure
from schemas.envelope import EventEnvelope, UnreadableMessage, decode_event
from schemas.messages import Command, Event
from schemas.session import EffectRequested
from schemas.values import Snapshot
from workspace.blobs import BlobError, Blobs
from workspace.children import ForkServer
from workspace.outcomes import ChildFailure, ChildTimeout
from workspace.scratch import scratch_folder

MEMORY = 4 << 30
"""Bytes that reading may take."""

GRACE = 15.0
"""Seconds to start, connect and write, beyond a source's own limit."""

PAUSES = (5.0, 30.0)
"""Seconds before the next try of a source that is away; after the last one the session blocks and says so."""

_log = structlog.get_logger("sources")


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads items of the sources in a file that is read anew each time.

    `load` gives what the file says (raises ValueError for one that cannot be used); `base` is where its relative paths
    begin.
    """

    load: Callable[[], Sources]
    base: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    async def fetch(self, target: str, blobs: Blobs) -> Snapshot:
        """Store the rows of `NAME/ITEM` as a sealed artifact. Raises SourceError, BlobError, OSError."""
        source, item = self._find(target)
        with scratch_folder() as folder:
            read = await self._child(source, item, folder, folder / "rows")
            sha256, size = await anyio.to_thread.run_sync(lambda: blobs.put(folder / "rows", sealed=True))
        return Snapshot(
            source=source.name,
            item=item.name,
            kind=source.kind,
            format=read["format"],
            sha256=sha256,
            size=size,
            rows=read["rows"],
            taken=datetime.now(UTC).replace(microsecond=0),
            version=read["version"],
        )

    async def look(self, target: str) -> str:
        """What can be seen of `NAME/ITEM` without reading it all. Raises SourceError, OSError."""
        source, item = self._find(target)
        with scratch_folder() as folder:
            return str((await self._child(source, item, folder, None))["seen"])

    def _find(self, target: str) -> tuple[Source, Item]:
        try:
            return self.load().find(target)
        except ValueError as problem:
            raise SourceError(str(problem), "correct that file") from problem

    async def _child(self, source: Source, item: Item, folder: Path, out: Path | None) -> dict[str, Any]:
        request = {
            "kind": source.kind,
            "source": source.model_dump(mode="json"),
            "item": item.model_dump(mode="json"),
            "secrets": secrets_of(source, self.base, self.environment),
            "base": str(self.base),
            "out": None if out is None else str(out),
        }
        async with ForkServer() as children:  # nothing is preloaded: it lives for this one run
            result = await children.run(
                "ingest.reading:run",
                {"request": request},
                cwd=folder,
                log=folder / "log",
                seconds=source.limits.seconds + GRACE,
                memory_bytes=MEMORY,
                file_bytes=max(4 * source.limits.bytes, 1 << 26),
            )
        shown = f"{source.name}/{item.name}"
        try:
            answer: dict[str, Any] = result.unwrap()
        except ChildTimeout:
            raise SourceError(
                f"{shown} took longer than {source.limits.seconds:g} s", "read less, or raise `limits.seconds`"
            ) from None
        except ChildFailure as problem:
            what = f"{shown}: reading ended with {type(problem).__name__}"
            raise SourceError(what, "read fewer rows or columns, or give the machine more memory") from None
        if "problem" in answer:
            raise SourceError(answer["problem"], answer["remedy"], away=bool(answer["away"]))
        return answer


class Desk(Protocol):
    """What the effect executor lends: it knows the sessions and speaks to the conductor."""

    async def row(self, envelope: EventEnvelope[Event]) -> SessionRow | None:
        """The session's row, once the events up to this one were read."""
        ...

    async def tell(self, cause: EventEnvelope[Event], command: Command) -> dict[str, Any]:
        """Send a receipt; the verdict. Raises NoReceipt."""
        ...


class SourceFetcher:
    """Carries out the effect `fetch`. Told twice, it reads twice at worst: the conductor takes one receipt."""

    def __init__(self, bus: Bus, desk: Desk, blobs: Blobs, reader: Reader, pauses: tuple[float, ...] = PAUSES) -> None:
        self._bus = bus
        self._desk = desk
        self._blobs = blobs
        self._reader = reader
        self._pauses = pauses

    @asynccontextmanager
    async def running(self, spec: ConsumerSpec) -> AsyncIterator[None]:
        """Fetch while the context is open."""
        async with self._bus.consume(spec, self.handle):
            yield

    async def handle(self, delivery: Delivery) -> Outcome:
        """One EffectRequested. Acknowledged only after the conductor's receipt."""
        try:
            envelope = decode_event(delivery.raw)
        except UnreadableMessage as problem:
            return GiveUp(str(problem))
        effect = envelope.event
        if not isinstance(effect, EffectRequested) or effect.kind != "fetch":
            return Ack()
        row = await self._desk.row(envelope)
        if row is None:
            return Retry(1.0, f"the events of {envelope.stream.name} before this effect have not been seen yet")
        if effect.effect not in row.pending_effects:
            return Ack()  # done, or nobody waits for it any more
        command: Command
        try:
            snapshot = await self._reader.fetch(effect.target, self._blobs)
            command = RecordEffect(effect=effect.effect, kind="fetch", snapshot=snapshot)
            _log.info("source_fetched", effect=effect.effect, rows=snapshot.rows, sha256=snapshot.sha256)
        except SourceError as problem:
            if problem.away and delivery.attempt <= len(self._pauses):
                pause = self._pauses[delivery.attempt - 1]
                _log.warning("source_away", effect=effect.effect, seconds=pause, reason=str(problem))
                return Retry(pause, str(problem))
            command = self._failed(effect, problem)
        except (BlobError, OSError) as problem:
            command = self._failed(effect, problem)
        return await self._answer(self._desk.tell, envelope, command)

    @staticmethod
    def _failed(effect: EffectRequested, problem: Exception) -> RecordEffectFailure:
        _log.warning("effect_failed", effect=effect.effect, reason=str(problem))
        return RecordEffectFailure(effect=effect.effect, kind="fetch", reason=str(problem))

    @staticmethod
    async def _answer(
        tell: Callable[[EventEnvelope[Event], Command], Awaitable[dict[str, Any]]],
        envelope: EventEnvelope[Event],
        command: Command,
    ) -> Outcome:
        try:
            verdict = await tell(envelope, command)
        except NoReceipt as problem:
            return Retry(1.0, str(problem))
        if not verdict["accepted"]:
            _log.info("effect_receipt_refused", session=envelope.stream.name, reason=verdict["reason"])
        return Ack()
