"""The effect executor: does outside the record what sessions asked for, and nothing else may.

Intent event → look whether it was done → do it → receipt command. It alone writes to git and to the model registry, and
holds the signing key. Every effect is repeatable: commits and versions carry its id and are found again, signatures are
deterministic.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import anyio
import anyio.to_thread
import structlog

from autopilot.at_registry import RegistryEffects, doubtful
from autopilot.board import SessionRow
from autopilot.feed import Feed
from autopilot.projection import folder_of
from autopilot.registry.port import Registry, RegistryError
from autopilot.signing import SignatureError, load_or_create_key, sign
from bus.port import Ack, Bus, ConsumerSpec, Delivery, GiveUp, NoReceipt, Outcome, Retry
from forge.errors import Ambiguous, ForgeError, RateLimited, Unavailable
from schemas.commands import RecordEffect, RecordEffectFailure, ReportEdits
from schemas.drive import SelectionRecorded
from schemas.envelope import CommandEnvelope, EventEnvelope, UnreadableMessage, decode_event
from schemas.ids import uuid7
from schemas.messages import Command, Event
from schemas.session import EffectRequested
from schemas.values import Actor, ArtifactRef, OriginKind, Sender
from workspace.blobs import BlobError, Blobs
from workspace.folder import detect_edits, render
from workspace.git import EFFECT, GitError, Repository, ticket_folder
from workspace.pushing import RemoteAway
from workspace.worktree import Worktree

if TYPE_CHECKING:
    from autopilot.at_origin import OriginEffects
    from autopilot.unreadable import Unreadable
    from forge.client import GitHub

NAMED_EDITS = 100
"""The most files edited by hand that a report names."""
_log = structlog.get_logger("effects")
LONGEST_PAUSE = 900.0
"""Seconds: a longer wait for a rate limit is cut into pieces, each of which is a delivery."""
ACTOR = Actor(name="autopilot", channel="bus", verified_as=f"login:{Sender.AUTOPILOT.value}")


def _message(effect: EffectRequested, row: SessionRow) -> str:
    """What a commit of the ticket's folder says of itself."""
    if row.forked is not None and effect.kind == "branch":
        point = row.forked
        where = f"Fork of session {point.session} after event {point.sequence}"
        return f"{where}\n\nTicket {row.ticket.id}: {row.ticket.title}\n\nThat event's hash is {point.hash}."
    return f"{effect.phase}: ticket {row.ticket.id}, {row.ticket.title}\n\n{row.phases[effect.phase].summary}"


def _nowhere(repository: str) -> GitHub:
    raise ForgeError(f"{repository} is at GitHub and this effect executor has no credentials for it: set github_token")


class EffectExecutor:
    """Carries out requested effects one at a time, each exactly once as far as the world can tell."""

    def __init__(
        self,
        bus: Bus,
        tenant: str,
        blobs: Blobs,
        worktrees: Path,
        key: Path,
        registry: Registry | None = None,
        connect: Callable[[str], GitHub] | None = None,
        patience: float = 60.0,
    ) -> None:
        """Without a `registry` the effects that need one fail with that reason. `connect` gives the connection to the
        GitHub repository `OWNER/REPO`, likewise. `patience`: seconds between tries while GitHub is away."""
        self._bus = bus
        self._feed = Feed(bus, tenant)
        self._blobs = blobs
        self._worktrees = worktrees
        self._key = key
        self._at_registry = RegistryEffects(registry, blobs)
        self._connect = connect or _nowhere
        self._patience = patience
        self._trees: dict[str, Worktree] = {}
        """Checkouts that were made sure of in this process: looking again costs ten calls of git each time."""

    @asynccontextmanager
    async def running(self, spec: ConsumerSpec) -> AsyncIterator[None]:
        """Carry out effects while the context is open."""
        async with self._feed.running(), self._bus.consume(spec, self.handle):
            for row in list(self._feed.board.sessions.values()):
                if row.status in ("completed", "aborted"):
                    await self._clear(row)  # ended while nobody was here, or a crash came between
            try:
                yield
            finally:
                if "_origin" in self.__dict__:
                    self._origin.close()

    async def handle(self, delivery: Delivery) -> Outcome:
        """One EffectRequested. Acknowledged only after the conductor's receipt."""
        try:
            envelope = decode_event(delivery.raw)
        except UnreadableMessage as problem:
            return GiveUp(str(problem))
        effect = envelope.event
        if isinstance(effect, SelectionRecorded):
            return await self._tell_unreadable(effect, envelope.stream.name, delivery)
        if not isinstance(effect, EffectRequested):
            return GiveUp(f"{envelope.type} is no effect")
        if effect.kind == "fetch":
            return Ack()  # `autopilot.fetching` has a consumer of its own, since it takes long
        row = await self.row(envelope)
        if row is None:
            return Retry(1.0, f"the events of {envelope.stream.name} before this effect have not been seen yet")
        if effect.effect not in row.pending_effects:
            return Ack()  # done, or superseded, before we were asked again
        if row.status == "rolled_back" and next(iter(row.pending_effects)) != effect.effect:
            return Retry(float(min(delivery.attempt, 60)), "another effect of the same rollback comes first")
        command: Command
        try:
            if edits := await anyio.to_thread.run_sync(self._edits, effect, row):
                # An id that follows from the effect: told again after a crash, it is recorded once.
                await self._bus.send(self._envelope(envelope, edits, f"edits.{effect.effect}"))
            unheard = doubtful(effect, row)
            command = await anyio.to_thread.run_sync(self._carry_out, effect, row, envelope.time, unheard)
        except NoReceipt as problem:
            return Retry(1.0, str(problem))
        except (RemoteAway, Ambiguous, RateLimited, Unavailable) as problem:
            return self._later(problem, effect.effect)
        except (ForgeError, GitError, BlobError, SignatureError, RegistryError, OSError) as problem:
            self._trees.pop(row.id, None)
            _log.warning("effect_failed", effect=effect.effect, reason=str(problem))
            command = RecordEffectFailure(effect=effect.effect, kind=effect.kind, reason=str(problem))
        try:
            verdict = await self.tell(envelope, command)
        except NoReceipt as problem:
            return Retry(1.0, str(problem))
        if not verdict["accepted"]:
            _log.info("effect_receipt_refused", effect=effect.effect, reason=verdict["reason"])
        elif any(name == "session_completed" for name, _ in verdict["events"]):
            with anyio.CancelScope(shield=True):
                await self._clear(row)
        return Ack()

    async def _tell_unreadable(self, event: SelectionRecorded, drive: str, delivery: Delivery) -> Outcome:
        """Comment on what could not be read; the backlog's name tells where that is."""
        if not event.unreadable:
            return Ack()
        backlog = self._feed.board.backlogs.get(drive)
        if backlog is None:
            return Retry(min(0.2 * delivery.attempt, 10.0), f"drive {drive} has not been seen yet")
        try:
            if backlog.startswith("github:"):
                await anyio.to_thread.run_sync(lambda: self._unreadable.tell(backlog, event))
        except (Ambiguous, RateLimited, Unavailable) as problem:
            return self._later(problem, f"unreadable tickets of {backlog}")
        except ForgeError as problem:
            _log.warning("unreadable_not_told", backlog=backlog, reason=str(problem))
            return GiveUp(str(problem))
        return Ack()

    @cached_property
    def _origin(self) -> OriginEffects:
        from autopilot.at_origin import OriginEffects  # PyGithub takes long to import

        return OriginEffects(self._connect, lambda: list(self._feed.board.sessions.values()))

    @cached_property
    def _unreadable(self) -> Unreadable:
        from autopilot.unreadable import Unreadable

        return Unreadable(self._origin.github)

    def _later(self, problem: Exception, what: str) -> Retry:
        """Nobody knows whether it was done, or it cannot be done now: look again soon, or when the server lets us."""
        seconds = {Ambiguous: 0.2, RemoteAway: self._patience, Unavailable: self._patience}.get(type(problem), 1.0)
        if isinstance(problem, RateLimited):
            seconds = min(problem.seconds, LONGEST_PAUSE)
        _log.warning("effect_waits", effect=what, seconds=round(seconds, 1), reason=str(problem))
        return Retry(seconds, str(problem))

    async def row(self, envelope: EventEnvelope[Event]) -> SessionRow | None:
        """The session's row, once the feed has read up to this event."""
        for _ in range(20):
            row = self._feed.board.sessions.get(envelope.stream.name)
            if row is not None and row.version >= envelope.sequence:
                return row
            await self._feed.change(0.5)
        return None

    def _edits(self, effect: EffectRequested, row: SessionRow) -> ReportEdits | None:
        """What somebody changed by hand in the ticket's folder since the session's last commit."""
        if effect.kind != "commit":
            return None
        tree = self._tree(row)
        if tree.find(effect.effect):  # done before: then it differs because of us
            return None
        since = row.commit or row.base_commit
        files = detect_edits(tree, row.ticket.id, since)
        return ReportEdits(files=tuple(files[:NAMED_EDITS]), commit=since) if files else None

    def _carry_out(
        self, effect: EffectRequested, row: SessionRow, when: datetime, unheard: tuple[str, ...]
    ) -> RecordEffect:
        if effect.kind == "sign":
            return RecordEffect(effect=effect.effect, kind="sign", artifacts=(self._sign(effect.artifacts[0], row),))
        if effect.kind in get_args(OriginKind):
            return RecordEffect(effect=effect.effect, kind=effect.kind, posted=self._origin.carry_out(effect, row))
        if effect.kind in ("register", "unregister"):
            return RecordEffect(
                effect=effect.effect, kind=effect.kind, registered=self._at_registry.carry_out(effect, row, unheard)
            )
        if effect.kind == "restore":
            self._at_registry.settle(effect, row, unheard)
        tree = self._tree(row)
        trailers = {EFFECT: effect.effect, "Value-Train-Session": row.id}
        if effect.kind == "restore":
            message = f"Roll back to {row.back}\n\nTicket {row.ticket.id}: {row.ticket.title}"
            commit = tree.restore(effect.target, message, when, trailers)
            tree.remove()
            return RecordEffect(effect=effect.effect, kind="restore", commit=commit)
        folder = ticket_folder(row.ticket.id)
        if effect.kind == "commit" and effect.target:
            self._change(tree, effect, row, when, folder)
        files = render(folder_of(row, when), self._blobs.read)
        message = _message(effect, row)
        commit = tree.commit(
            {f"{folder}/{path}": content for path, content in files.items()}, message, when, trailers, below=folder
        )
        return RecordEffect(effect=effect.effect, kind=effect.kind, commit=commit)

    def _change(self, tree: Worktree, effect: EffectRequested, row: SessionRow, when: datetime, folder: str) -> None:
        """Apply the phase's patch to the branch, in a commit of its own before the folder's. Raises GitError."""
        patch = next(artifact for artifact in effect.artifacts if artifact.name == effect.target)
        message = f"{row.ticket.title}\n\nTicket {row.ticket.id}, as {effect.target} of {effect.phase} has it."
        trailers = {EFFECT: f"{effect.effect}.change", "Value-Train-Session": row.id}
        tree.change(self._blobs.read(patch.sha256), folder, message, when, trailers)

    def _tree(self, row: SessionRow) -> Worktree:
        """The session's checkout. Raises GitError."""
        tree = self._trees.get(row.id)
        if tree is None or not tree.directory.exists():
            repository = Repository(Path(row.repository))
            start = row.forked.commit if row.forked else row.base_commit
            tree = Worktree.create(repository, self._worktrees / row.id, row.branch, row.base_commit, start)
            self._trees[row.id] = tree
        return tree

    def _sign(self, artifact: ArtifactRef, row: SessionRow) -> ArtifactRef:
        key = load_or_create_key(Path(row.signing_key) if row.signing_key else self._key)
        sha256, size = self._blobs.put(sign(self._blobs.read(artifact.sha256), key))
        return ArtifactRef(name=f"{artifact.name}.dsse.json", sha256=sha256, size=size, media_type="application/json")

    async def _clear(self, row: SessionRow) -> None:
        """Remove the checkout of an ended session, so that its branch can be checked out elsewhere."""
        self._trees.pop(row.id, None)
        directory = self._worktrees / row.id
        if not directory.exists():
            return
        tree = Worktree(Repository(Path(row.repository)), directory, row.branch, row.base_commit)
        try:
            await anyio.to_thread.run_sync(tree.remove)
        except GitError as problem:
            _log.warning("checkout_not_removed", session=row.id, reason=str(problem))

    async def tell(self, cause: EventEnvelope[Event], command: Command) -> dict[str, Any]:
        """Send a receipt; the conductor's verdict. Raises NoReceipt."""
        return await self._bus.send(self._envelope(cause, command))

    def _envelope(self, cause: EventEnvelope[Event], command: Command, id_: str = "") -> CommandEnvelope:
        return CommandEnvelope(
            id=id_ or uuid7(),
            stream=cause.stream,
            time=datetime.now(UTC),
            actor=ACTOR,
            sender=Sender.AUTOPILOT.value,
            correlation_id=cause.correlation_id,
            causation_id=cause.id,
            command=command,
        )
