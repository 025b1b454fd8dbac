"""The bus port: what carries messages. The store is the record; losing the bus loses no history.

One conformance suite (`tests/conformance/bus.py`) holds every implementation to what is said here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from schemas.envelope import CommandEnvelope


class BusError(Exception):
    """Base of the bus's errors; the message names the thing, the reason and what to do."""


class BusUnavailable(BusError):
    """The server cannot be reached or did not answer in time. Unreachable means closed: nothing may be assumed."""


class PermissionDenied(BusError):
    """The server refused the subject for this login."""


class TlsFailed(BusError):
    """The server's certificate is not trusted, the server does not offer TLS or wants a certificate of ours, or a file
    for TLS cannot be used. Nothing is ever sent in plain text instead."""


class NoReceipt(BusError):
    """A command was sent and no receipt came within the time given. It may or may not have been handled: send the same
    command (same id) again."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS, in PEM: whom to trust, and who we are.

    For a client: `ca` holds the certificates it trusts (None: those of the operating system); `certificate` and `key`
    are its own, for a server that asks for one. For a server: `certificate` and `key` are its own, and `ca` is what its
    clients on this machine trust.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach the server as one role: its URL and the seed of the role's nkey (a secret: never logged).

    With `tls`, or a URL that begins with `tls://`, the connection is encrypted and the server's certificate and host
    name are verified. `seed_file` is where the seed was read from: a reconnect reads it again, so that a running
    program goes on after its role's key was rotated; None for a login that was handed out.
    """

    url: str
    role: str
    seed: str
    tls: Tls | None = None
    seed_file: Path | None = None

    def __repr__(self) -> str:
        return f"Login(url={self.url!r}, role={self.role!r})"


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event to publish exactly as it is stored."""

    subject: str
    id: str
    raw: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Delivery(NamedTuple):
    """One message handed to a consumer's handler. `sequence` is its place in the JetStream stream."""

    subject: str
    raw: bytes
    headers: dict[str, str]
    sequence: int
    attempt: int
    """1 for the first delivery."""
    in_progress: Callable[[], Awaitable[None]]
    """Tells the server that work goes on, so that it does not deliver the message to somebody else."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Done: never deliver it again."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Deliver it again after `delay` seconds."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Never deliver it again: put it with this reason into the dead letters."""

    reason: str


Outcome = Ack | Retry | GiveUp
Handler = Callable[[Delivery], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable pull consumer. `max_in_flight` handlers run at once; replicas of one agent share one consumer."""

    stream: str
    name: str
    filters: tuple[str, ...]
    ack_wait: float = 10.0
    max_deliver: int = 8
    backoff: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)
    max_in_flight: int = 1


class Bus(Protocol):
    """One connection as one role."""

    async def publish_events(self, events: Sequence[OutgoingEvent]) -> list[int]:
        """Publish in order with `Nats-Msg-Id` = event id, and return each one's JetStream sequence once the server
        holds all of them. A duplicate the server still remembers returns the first one's sequence. Raises
        BusUnavailable (some may have been published) or PermissionDenied."""

    async def last_event(self) -> tuple[int, str] | None:
        """JetStream sequence and event id (`Nats-Msg-Id`) of the newest message of VT_EVENTS; None when it is empty."""

    async def last_sequence(self) -> int:
        """JetStream sequence of the newest message of VT_EVENTS, 0 when there is none: where a follower has caught up.
        For every role that may follow; `last_event` needs the conductor's login."""

    async def send(self, command: CommandEnvelope, timeout: float = 10.0) -> dict[str, Any]:
        """Put a command into VT_COMMANDS and wait for its receipt (the conductor's verdict, a JSON object).

        Publishing is retried with the same id until the server confirms; if no receipt came, the command is sent again
        (same id: the inbox answers) until `timeout` seconds are over, then NoReceipt."""

    async def reply(self, delivery: Delivery, receipt: dict[str, Any]) -> None:
        """Answer a command's sender; lost silently when nobody waits any more."""

    def consume(self, spec: ConsumerSpec, handler: Handler) -> AbstractAsyncContextManager[None]:
        """Run `handler` for each message while the context is open.

        The outcome decides; a handler that raises counts as Retry with the spec's backoff; a message delivered
        `max_deliver` times without success goes to VT_DEAD with subject, reason and trace, and so does GiveUp. While a
        handler runs, in-progress acks are sent by the bus itself every `ack_wait / 3` seconds. On leaving, running
        handlers are cancelled and unfinished messages are handed back at once for redelivery."""

    def consume_batches(
        self, spec: ConsumerSpec, handler: Callable[[Sequence[Delivery]], Awaitable[Sequence[Outcome]]], most: int = 256
    ) -> AbstractAsyncContextManager[None]:
        """Like `consume`, for a handler that takes whatever is waiting (1 to `most`) at once, one batch at a time."""

    def subscribe(
        self, subject: str, handler: Callable[[str, bytes, dict[str, str]], None]
    ) -> AbstractAsyncContextManager[None]:
        """Live messages on `subject` while the context is open (core NATS: none from before, none while cut off)."""

    def follow(
        self,
        filters: tuple[str, ...],
        handler: Callable[[str, bytes, dict[str, str], int], Awaitable[None]],
        start: int = 1,
    ) -> AbstractAsyncContextManager[None]:
        """Messages of VT_EVENTS from JetStream sequence `start` on (0: only new ones), in order, without gap or repeat
        over reconnects. Should the JetStream stream itself be lost and filled again, from its first message again."""

    async def tell(self, subject: str, raw: bytes) -> None:
        """Publish live telemetry; lost when nobody listens."""

    async def ask(self, subject: str, raw: bytes, timeout: float) -> bytes:
        """Ask whoever answers on `subject` and return the first answer (core NATS: nothing is stored or sent again).
        Raises BusUnavailable when nobody listens there, at once, or answered within `timeout` seconds (the question may
        have arrived), PermissionDenied, BusError for a question too large."""

    def answering(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[bytes]]
    ) -> AbstractAsyncContextManager[None]:
        """Answer questions on `subject` (its last token is the asker's role) with what `handler` gives for subject and
        body, while the context is open; questions are handled side by side. A handler that raises ends the context with
        its exception; running ones are cancelled at the end, and their askers hear nothing."""

    async def dead_letters(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest dead letters, newest first: consumer, subject, reason, deliveries, time, the message itself."""

    async def dead_letters_from(self, start: int) -> tuple[list[dict[str, Any]], int]:
        """Dead letters from JetStream sequence `start` of VT_DEAD on, oldest first, and where to go on; empty when
        there is no more. Some of them only, when they are many. A stream made anew is read from its beginning."""

    async def put_back(self, subject: str, raw: bytes, message_id: str) -> int:
        """Put a message that was given up on its subject again, under a new `message_id`, and return its JetStream
        sequence; the same id again changes nothing for two minutes. Its consumer gets it; those who follow do not see
        it twice. Only the login that may publish on `subject` can. A power cut may take a command from its queue until
        it was `taken`. Raises PermissionDenied, BusUnavailable (it may or may not be there), BusError."""

    async def taken(self, sequence: int) -> bool:
        """Whether the message of VT_COMMANDS with this JetStream sequence is settled: handled, or among the dead
        letters again. For the conductor. Raises BusUnavailable."""

    async def close(self) -> None:
        """Drain and close. Never raises on a dead link. Idempotent."""
