"""Sending a command and waiting for its receipt, across lost messages, lost answers and a server that was away."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from typing import Any

import structlog
from pydantic_core import to_json

from bus.connection import HEADROOM, Connection
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
LATE_SECONDS = 0.5
"""A receipt that is not there by then is late, and the server is asked whether it has the command."""
RESEND_SECONDS = 2.0
PAUSE_SECONDS = 0.1
_UNFIT = re.compile(r"[ \t*>]").search


async def send(connection: Connection, command: CommandEnvelope, timeout: float) -> dict[str, Any]:
    """See `bus.port.Bus.send`. Raises NoReceipt (it is stored, nobody answered), BusUnavailable (not even that is
    certain), PermissionDenied."""
    sending = _Sending(connection, command)
    with connection.replies(sending.receive) as inbox, connection.failing(sending.receipt, sending.subject, link=False):
        connection.on_reconnect.add(sending.again)
        try:
            message = await sending.run(inbox, timeout)
        finally:
            connection.on_reconnect.discard(sending.again)
    answer: dict[str, Any] = json.loads(message.data)
    return answer


class _Sending:
    """One command on its way."""

    def __init__(self, connection: Connection, command: CommandEnvelope) -> None:
        self.subject = command_subject(command)
        self.receipt: asyncio.Future[Message] = connection.future()
        self._connection = connection
        self._command = command
        self._raw = encode_command(command)
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[None] | None = None
        self._confirmed = False
        self._reconnected = False
        self._last_problem: BusUnavailable | None = None
        self.receipt.add_done_callback(lambda _: self._wake())  # also when the server refuses the subject

    def receive(self, message: Message) -> None:
        """The receipt."""
        if not self.receipt.done():
            self.receipt.set_result(message)

    def again(self) -> None:
        """The link is back: the receipt, or the command, may have been lost with it."""
        self._reconnected = True
        self._wake()

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def run(self, inbox: str, timeout: float) -> Message:
        """Send the command and wait. Most receipts come before one would begin to doubt, so the server is not asked to
        confirm this first message: its confirmation would come just before the receipt, and say less."""
        until = self._loop.time() + timeout
        sure = False  # whether the server has it, as far as one can know without its word
        # The server drops a second copy under the same message id for two minutes. Each call has ids of its own: a copy
        # of an earlier call, perhaps answered to an inbox that is gone, must not swallow this one.
        message_id = self._fresh()
        headers = stored_headers(STREAM, message_id) | {REPLY_TO: inbox}
        try:
            await self._connection.publish(self.subject, self._raw, headers=headers, spare=HEADROOM)
            sure = True
            await self._rest(min(LATE_SECONDS, timeout / 2), until)
        except BusUnavailable as problem:
            self._last_problem = problem
            await self._rest(PAUSE_SECONDS, until)
        pause = RESEND_SECONDS
        while not self.receipt.done() and self._loop.time() < until:
            if sure and self._reconnected:
                message_id = self._fresh()
            sure = self._reconnected = False
            try:
                await self._store(message_id, inbox, until)
            except BusUnavailable as problem:
                self._last_problem = problem
                await self._rest(PAUSE_SECONDS, until)
                continue  # with the same id: the server knows whether it has it
            self._confirmed = sure = True
            await self._rest(pause, until)
            # Sent again under a new id: the conductor answers once more, the inbox of the store drops what is double.
            message_id, pause = self._fresh(), min(pause * 2, 8.0)
        if not self.receipt.done():
            raise self._in_vain(timeout)
        return self.receipt.result()

    def _fresh(self) -> str:
        return f"{self._command.id}.{secrets.token_hex(4)}"

    async def _store(self, message_id: str, inbox: str, until: float) -> None:
        headers = stored_headers(STREAM, message_id) | {REPLY_TO: inbox}
        seconds = max(min(STORE_SECONDS, until - self._loop.time()), 0.0)
        await store(self._connection, STREAM, self.subject, self._raw, headers, timeout=seconds)

    async def _rest(self, seconds: float, until: float) -> None:
        """Until the receipt is there, the link came back, or the time is over."""
        if self.receipt.done():
            return
        self._turn = self._loop.create_future()
        alarm = self._loop.call_at(min(self._loop.time() + seconds, until), self._wake)
        try:
            await self._turn
        finally:
            alarm.cancel()

    def _in_vain(self, timeout: float) -> NoReceipt | BusUnavailable:
        """What to tell the caller when the time is over."""
        name = f"{self._command.type} {self._command.id}"
        if self._confirmed:
            return NoReceipt(f"no receipt for {name} within {timeout:g} s: is a conductor running? Send it again")
        return BusUnavailable(f"{name} could not be stored within {timeout:g} s ({self._last_problem}); send it again")


async def reply(connection: Connection, delivery: Delivery, receipt: dict[str, Any]) -> None:
    """See `bus.port.Bus.reply`. Answers only to an inbox of the role that sent the command: the header is the sender's
    word, and must not make the conductor publish anywhere else."""
    inbox = delivery.headers.get(REPLY_TO, "")
    if not inbox.startswith(f"{inbox_prefix(command_sender(delivery.subject))}.") or _UNFIT(inbox):
        log.warning("bus_receipt_not_sent", subject=delivery.subject, reply_to=inbox[:200])
        return
    try:
        await connection.publish(inbox, to_json(receipt))
    except BusUnavailable as problem:
        log.info("bus_receipt_lost", message_id=delivery.headers.get(MSG_ID), problem=str(problem))
