"""Named crash points: a function of the product is wrapped, in the child process only, so that the process kills itself
with SIGKILL when that place is passed for the n-th time. And named mutations, which break the product on purpose.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


class Fuse:
    """Counts passes; at the n-th it writes the marker file and ends the process, as a power cut would."""

    def __init__(self, name: str, passes: int, marker: Path) -> None:
        self.name = name
        self._left = passes
        self._marker = marker

    def due(self) -> bool:
        """Count a pass; whether it is the one."""
        self._left -= 1
        return self._left == 0

    def blow(self) -> NoReturn:
        """Say that it happened, and die."""
        handle = os.open(self._marker, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(handle, f"{self.name}\n".encode())
        os.fsync(handle)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")

    def burn(self) -> None:
        """Both, where there is nothing to do in between."""
        if self.due():
            self.blow()


def _around(
    owner: Any, name: str, fuse: Fuse, *, before: bool = False, when: Callable[..., bool] = lambda *_: True
) -> None:
    """Die before (or after) a call of `owner.name` whose arguments satisfy `when`, be it plain or async."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def plain(*arguments: Any, **named: Any) -> Any:
        counts = when(*arguments)
        if before and counts:
            fuse.burn()
        result = original(*arguments, **named)
        if not before and counts:
            fuse.burn()
        return result

    @functools.wraps(original)
    async def waiting(*arguments: Any, **named: Any) -> Any:
        counts = when(*arguments)
        if before and counts:
            fuse.burn()
        result = await original(*arguments, **named)
        if not before and counts:
            fuse.burn()
        return result

    setattr(owner, name, waiting if original.__code__.co_flags & 0x80 else plain)


def _stores() -> list[Any]:
    from store.postgres import PostgresStore
    from store.sqlite import SqliteStore

    return [SqliteStore, PostgresStore]


def _commits(store: Any, appends: Any) -> bool:
    return bool(appends)


def _is_rollback(store: Any, appends: Any) -> bool:
    return any(each.handled and b'"rollback_session"' in each.handled.raw for each in appends)


def before_commit(fuse: Fuse) -> None:
    """All rows are written, the transaction is open."""
    from store import postgres_append, sqlite_write

    _around(sqlite_write, "write", fuse)
    original = postgres_append.write

    def write(cursor: Any, *rest: Any) -> None:
        original(cursor, *rest)
        if fuse.due():
            if (pipeline := cursor.connection._pipeline) is not None:
                pipeline.sync()  # what the driver still holds goes to the server, which waits for the COMMIT
            fuse.blow()

    postgres_append.write = write


def mid_batch_store(fuse: Fuse) -> None:
    """Half of a batch's events are written, nothing else of it."""
    from store import postgres_append, sqlite_write

    def half(db: Any, batch: Any) -> None:
        if len(batch.events) > 1 and fuse.due():
            del batch.events[len(batch.events) // 2 :]
            sqlite_write.insert_events(db, batch)
            fuse.blow()
        original(db, batch)

    original = sqlite_write.write
    sqlite_write.write = half
    _around(postgres_append, "write", fuse, before=True, when=lambda cursor, batch, *_: len(batch.events) > 1)


def after_commit(fuse: Fuse) -> None:
    """Committed; neither a receipt nor an acknowledgement went out."""
    for store in _stores():
        _around(store, "append_batch", fuse, when=_commits)


def after_receipt(fuse: Fuse) -> None:
    """The sender has its receipt; the bus does not know that the command is done."""
    from bus.nats_bus import NatsBus

    _around(NatsBus, "reply", fuse)


def after_publish(fuse: Fuse) -> None:
    """The bus holds the events; the relay's cursor does not say so."""
    from bus.nats_bus import NatsBus

    _around(NatsBus, "publish_events", fuse)


def mid_batch_relay(fuse: Fuse) -> None:
    """Some events of a batch are with the server, those behind them are not; nor is an atomic one's commit."""
    from bus.connection import Connection

    original = Connection.publish

    async def publish(self: Any, subject: str, raw: bytes, **named: Any) -> None:
        await original(self, subject, raw, **named)
        if {"Nats-Batch-Id", "Nats-Expected-Last-Sequence"} & (named.get("headers") or {}).keys() and fuse.due():
            await self.client.flush()
            fuse.blow()

    Connection.publish = publish  # type: ignore[method-assign]


def before_rollback_commit(fuse: Fuse) -> None:
    """A rollback was decided and not written."""
    for store in _stores():
        _around(store, "append_batch", fuse, before=True, when=_is_rollback)


def after_rollback_commit(fuse: Fuse) -> None:
    """A rollback is in the record; nobody was told, and the branch does not follow yet."""
    for store in _stores():
        _around(store, "append_batch", fuse, when=_is_rollback)


def effect_before(fuse: Fuse) -> None:
    """A commit was asked for; nothing is in the repository."""
    from workspace.worktree import Worktree

    _around(Worktree, "commit", fuse, before=True)


def effect_mid(fuse: Fuse) -> None:
    """The commit's files are in the repository, the commit is not."""
    from workspace.worktree import Worktree

    _around(Worktree, "_append", fuse, before=True)


def effect_done(fuse: Fuse) -> None:
    """The commit is on the branch; no receipt went out."""
    from autopilot.effects import EffectExecutor

    _around(EffectExecutor, "_carry_out", fuse)


def effect_recorded(fuse: Fuse) -> None:
    """The receipt is in the record; the bus does not know that the effect is done."""
    from bus.nats_bus import NatsBus

    _around(NatsBus, "send", fuse)


def restore_before(fuse: Fuse) -> None:
    """A rollback wants the branch back; it is as it was."""
    from workspace.worktree import Worktree

    _around(Worktree, "restore", fuse, before=True)


def restore_done(fuse: Fuse) -> None:
    """The branch is back; no receipt went out."""
    from workspace.worktree import Worktree

    _around(Worktree, "restore", fuse)


def agent_claimed(fuse: Fuse) -> None:
    """The attempt is this agent's; no work was done."""
    from agents.loop import Agent

    _around(Agent, "_work", fuse, before=True)


def agent_worked(fuse: Fuse) -> None:
    """The artifacts are stored; no report went out."""
    from agents.loop import Agent

    _around(Agent, "_work", fuse)


def agent_reported(fuse: Fuse) -> None:
    """The report is in the record; the bus does not know that the attempt is done."""
    from bus.nats_bus import NatsBus
    from schemas.commands import ReportWork

    _around(NatsBus, "send", fuse, when=lambda bus, command, *_: isinstance(command.command, ReportWork))


POINTS: dict[str, Callable[[Fuse], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        before_commit, mid_batch_store, after_commit, after_receipt, after_publish, mid_batch_relay,
        before_rollback_commit, after_rollback_commit,
        effect_before, effect_mid, effect_done, effect_recorded, restore_before, restore_done,
        agent_claimed, agent_worked, agent_reported,
    )
}  # fmt: skip
"""By name, as the child's option `--crash NAME:N` takes them."""


# Mutations: each breaks one promise; the verdict has to notice.


def ack_before_commit() -> None:
    """The conductor answers and acknowledges, and writes a moment later."""
    import asyncio

    from bus.port import Ack
    from conductor.service import Conductor

    original = Conductor.handle_batch
    writing: set[asyncio.Task[Any]] = set()

    async def write_later(self: Any, deliveries: Any) -> None:
        await asyncio.sleep(0.05)
        await original(self, Mute(), deliveries)

    async def handle_batch(self: Any, bus: Any, deliveries: Any) -> Any:
        for delivery in deliveries:
            envelope = self._authentic(delivery)
            known = self._store.handled(envelope.id)
            await bus.reply(delivery, known.verdict if known else self._plan(envelope).append.handled.verdict)
        writing.add(asyncio.ensure_future(write_later(self, deliveries)))
        return [Ack()] * len(deliveries)

    Conductor.handle_batch = handle_batch  # type: ignore[method-assign]


class Mute:
    """A bus that answers nobody."""

    async def reply(self, delivery: Any, verdict: Any) -> None:
        """Nothing."""


def cursor_before_publish() -> None:
    """The relay moves its cursor, then publishes; and does not look, after a start, what the bus really has."""
    from store.relay import Relay

    original = Relay.__init__

    def begin(self: Any, store: Any, publish: Any, *rest: Any, **named: Any) -> None:
        async def move_and_publish(events: Any) -> None:
            last = events[-1].id
            store.move_cursor("relay", store.position_of(last), last)
            await publish(events)

        original(self, store, move_and_publish, *rest, **named)

    async def reconcile(self: Any) -> int:
        return 0

    Relay.__init__, Relay.reconcile = begin, reconcile  # type: ignore[method-assign]


def no_inbox() -> None:
    """Nobody remembers which commands were handled."""
    from store import batch, sqlite, sqlite_write

    batch.Batch._known = lambda self, id_: None  # type: ignore[method-assign]
    sqlite_write._INSERT_INBOX = tuple(
        each.replace("INSERT", "INSERT OR REPLACE") for each in sqlite_write._INSERT_INBOX
    )
    sqlite.SqliteStore.handled = lambda self, id_: None  # type: ignore[method-assign]
    sqlite.SqliteStore.handled_among = lambda self, ids: {}  # type: ignore[method-assign]


def no_message_id() -> None:
    """Events are published without the id by which the bus drops a second copy."""
    import secrets

    from bus import publishing
    from bus.messages import stored_headers

    publishing._headers = lambda event: dict(event.headers) | stored_headers("VT_EVENTS", secrets.token_hex(8))


def no_trailer() -> None:
    """An effect is carried out without looking whether it was done."""
    from workspace.worktree import Worktree

    Worktree.find = lambda self, effect: None  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (ack_before_commit, cursor_before_publish, no_inbox, no_message_id, no_trailer)
}
"""By name, as the child's option `--break NAME` takes them."""
