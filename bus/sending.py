"""Sending a command and waiting for its receipt, across lost messages, lost answers and a server that was away."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import structlog

from bus.connection import Connection
from bus.messages import MSG_ID, REPLY_TO, stored_headers
from bus.permissions import inbox_prefix
from bus.port import BusUnavailable, Delivery, NoReceipt
from bus.publishing import store
from bus.wire import Message
from schemas.envelope import CommandEnvelope, encode_command
from schemas.subjects import command_sender, command_subject

log = structlog.get_logger(__name__)

STREAM = "VT_COMMANDS"
STORE_SECONDS = 2.0
RESEND_SECONDS = 2.0
PAUSE_SECONDS = 0.1


async def send(connection: Connection, command: CommandEnvelope, timeout: float) -> dict[str, Any]:
    """See `bus.port.Bus.send`. Raises NoReceipt (it is stored, nobody answered), BusUnavailable (not even that is
    certain), PermissionDenied."""
    receipt = connection.future()

    def receive(message: Message) -> None:
        if not receipt.done():
            receipt.set_result(message)

    with connection.replies(receive) as inbox:
        sending = _Sending(connection, command, inbox, receipt)
        connection.on_reconnect.add(sending.again)
        try:
            async with asyncio.timeout(timeout):
                message: Message = await sending.run()
        except TimeoutError:
            raise sending.in_vain(timeout) from None
        finally:
            connection.on_reconnect.discard(sending.again)
    answer: dict[str, Any] = json.loads(message.data)
    return answer


class _Sending:
    """One command on its way."""

    def __init__(
        self, connection: Connection, command: CommandEnvelope, inbox: str, receipt: asyncio.Future[Message]
    ) -> None:
        self._connection = connection
        self._command = command
        self._subject = command_subject(command)
        self._raw = encode_command(command)
        self._inbox = inbox
        self._receipt = receipt
        self._receipt.add_done_callback(lambda _: self._wake.set())
        self._wake = asyncio.Event()
        self._confirmed = False
        self._last_problem: BusUnavailable | None = None

    def again(self) -> None:
        """The link is back: the receipt, or the command, may have been lost with it."""
        self._wake.set()

    async def run(self) -> Message:
        """Store the command and wait; store it again with a fresh message id (the server would drop a second copy
        under the first one for two minutes) until the receipt comes. The inbox of the store drops what is double."""
        message_id, pause = self._command.id, RESEND_SECONDS
        uncertain = False
        while not self._receipt.done():
            self._wake.clear()
            try:
                duplicate = await self._store(message_id)
            except BusUnavailable as problem:
                self._last_problem, uncertain = problem, True
                await self._rest(PAUSE_SECONDS)
                continue  # with the same id: the server knows whether it has it
            self._confirmed = True
            # A duplicate not from this call was sent earlier, perhaps answered to an inbox that is gone: ask anew.
            if not duplicate or uncertain:
                await self._rest(pause)
                pause = min(pause * 2, 8.0)
            message_id, uncertain = f"{self._command.id}.{secrets.token_hex(4)}", False
        return self._receipt.result()

    async def _store(self, message_id: str) -> bool:
        headers = stored_headers(STREAM, message_id) | {REPLY_TO: self._inbox}
        stored = await store(self._connection, STREAM, self._subject, self._raw, headers, timeout=STORE_SECONDS)
        return stored.duplicate

    async def _rest(self, seconds: float) -> None:
        """Until the receipt is there, the link came back, or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def in_vain(self, timeout: float) -> NoReceipt | BusUnavailable:
        """What to tell the caller when the time is over."""
        name = f"{self._command.type} {self._command.id}"
        if self._confirmed:
            return NoReceipt(f"no receipt for {name} within {timeout:g} s: is a conductor running? Send it again")
        return BusUnavailable(f"{name} could not be stored within {timeout:g} s ({self._last_problem}); send it again")


async def reply(connection: Connection, delivery: Delivery, receipt: dict[str, Any]) -> None:
    """See `bus.port.Bus.reply`. Answers only to an inbox of the role that sent the command: the header is the sender's
    word, and must not make the conductor publish anywhere else."""
    inbox = delivery.headers.get(REPLY_TO, "")
    if not inbox.startswith(f"{inbox_prefix(command_sender(delivery.subject))}.") or set(inbox) & set(" \t*>"):
        log.warning("bus_receipt_not_sent", subject=delivery.subject, reply_to=inbox[:200])
        return
    try:
        await connection.publish(inbox, json.dumps(receipt).encode())
    except BusUnavailable as problem:
        log.info("bus_receipt_lost", message_id=delivery.headers.get(MSG_ID), problem=str(problem))
