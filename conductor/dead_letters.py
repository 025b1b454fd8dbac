"""Takes what the bus gave up into the record, and puts back what a person released. Shell of `conductor.letters`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread
import structlog

from bus.port import Bus, BusError, BusUnavailable
from conductor.letters import LETTER, letter_id
from conductor.service import CONDUCTOR, Conductor
from schemas import commands as cmd
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.subjects import command_sender
from schemas.values import Sender
from store.port import Store, StoreUnavailable

_log = structlog.get_logger("dead_letters")
PAUSE = 0.5
"""Seconds between two looks. Looking costs one question to the bus and one to the store."""

PutBack = Callable[[str, str, bytes, str], Awaitable[int]]
"""Gets login, subject, message and message id; returns the JetStream sequence. The login is the one that spoke first:
so the sender in a command's subject stays identity, and the server still says what that login may say. May raise
BusError."""


class DeadLetters:
    """One for each tenant and record. `keep` and `fetch` file a message's bytes under their SHA-256."""

    def __init__(
        self,
        conductor: Conductor,
        store: Store,
        bus: Bus,
        tenant: str,
        keep: Callable[[bytes], tuple[str, int]],
        fetch: Callable[[str], bytes],
        put_back: PutBack,
    ) -> None:
        self._conductor = conductor
        self._store = store
        self._bus = bus
        self._tenant = tenant
        self._keep = keep
        self._fetch = fetch
        self._put_back = put_back
        self._position = 1
        self._busy = anyio.Lock()

    async def run(self) -> None:
        """Look again and again until cancelled. A bus or store that is away is waited for."""
        while True:
            try:
                await self.look()
            except (BusError, StoreUnavailable) as problem:
                _log.warning("dead_letters_wait", reason=str(problem))
            except Exception:  # a full disk, bytes we did not foresee: the letter stays on the bus and is tried again
                _log.exception("dead_letters_failed")
            await anyio.sleep(PAUSE)

    async def look(self) -> None:
        """Record what was given up since the last look, put back what was released.

        Raises BusError and StoreUnavailable; the next look goes on from there.
        """
        async with self._busy:
            while await self._record_next():
                pass
            rows = await anyio.to_thread.run_sync(self._store.views, self._tenant, "letter")
            for row in rows:
                if row["status"] == "released":
                    await self._release(row)

    async def _record_next(self) -> bool:
        letters, after = await self._bus.dead_letters_from(self._position)
        for letter in letters:
            tokens = letter["subject"].split(".")
            if len(tokens) > 1 and tokens[1] == self._tenant:
                await self._record(letter)
        # Only now: what could not be recorded is looked at again. Twice is once: the command's id is the letter's.
        self._position = after
        return bool(letters)

    async def _record(self, letter: dict[str, Any]) -> None:
        sha256, size = await anyio.to_thread.run_sync(self._keep, letter["message"].encode("utf-8", "surrogateescape"))
        name = letter_id(letter["stream"], letter["consumer"], letter["sequence"], sha256)
        command = cmd.RecordDeadLetter(
            consumer=_text(letter["consumer"]),
            source=_text(letter["stream"]),
            subject=_text(letter["subject"]),
            sequence=letter["sequence"],
            deliveries=letter["deliveries"],
            reason=_text(letter["reason"]),
            trace=_text(letter["trace"]),
            given_up=datetime.fromisoformat(letter["time"]),
            sha256=sha256,
            size=size,
        )
        await self._command(name, command, f"{LETTER}{name}")

    async def _release(self, row: dict[str, Any]) -> None:
        """Put it back, then say so: dying in between puts it back twice under one id, which the bus or the consumer's
        own idempotence drops. A command counts as put back once it was taken: until then its queue may forget it."""
        name, message_id, problem = row["letter"], row["message_id"], ""
        try:
            raw = await anyio.to_thread.run_sync(self._fetch, row["sha256"])
            speaker = _speaker(row["subject"])
            sequence = await self._put_back(speaker, row["subject"], raw, message_id)
            if _is_command(row["subject"]) and not await self._bus.taken(sequence):
                return  # the next look puts it back again
        except BusUnavailable:
            raise  # it may be there or not: the next look says the same thing again
        except Exception as refused:  # whatever it is, a person has to see it at this letter, and the others go on
            problem = f"{type(refused).__name__}: {refused}"
            _log.warning("dead_letter_not_put_back", letter=name, reason=problem)
        await self._command(name, cmd.RecordRequeue(message_id=message_id, problem=problem), uuid7())

    async def _command(self, name: str, command: Command, id: str) -> None:
        envelope = CommandEnvelope(
            id=id,
            stream=StreamId(self._tenant, "system", name),
            time=datetime.now(UTC),
            actor=CONDUCTOR,
            sender=Sender.CONDUCTOR.value,
            correlation_id=name,
            causation_id="",
            command=command,
        )
        await self._conductor.handle_commands([envelope])


def _is_command(subject: str) -> bool:
    """Whether `subject` leads to the conductor's work queue."""
    return subject.split(".")[2:3] == ["cmd"]


def _speaker(subject: str) -> str:
    """The login that may publish on `subject`: a command's sender, else the conductor, whose events they are."""
    try:
        return command_sender(subject)
    except ValueError:
        return Sender.CONDUCTOR.value


def _text(value: str) -> str:
    """Text that can be stored: what a poison message made an error say may hold half characters."""
    return value.encode("utf-8", "replace").decode()
