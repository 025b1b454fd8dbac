"""Questions and answers: an agent asks, the model gateway answers. Nothing is stored; who hears nothing asks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import structlog

from bus.answers import NoResponders
from bus.background import beside, end_tasks
from bus.connection import Connection
from bus.permissions import inbox_prefix
from bus.port import BusUnavailable
from bus.wire import Message

log = structlog.get_logger(__name__)

AnswerHandler = Callable[[str, bytes], Awaitable[bytes]]


async def ask(connection: Connection, subject: str, raw: bytes, timeout: float) -> bytes:
    """See `bus.port.Bus.ask`."""
    try:
        return bytes((await connection.request(subject, raw, timeout=timeout)).data)
    except NoResponders:
        raise BusUnavailable(f"nobody answers on {subject}") from None


@asynccontextmanager
async def answering(connection: Connection, subject: str, handler: AnswerHandler) -> AsyncIterator[None]:
    """See `bus.port.Bus.answering`."""
    running: set[asyncio.Task[None]] = set()
    failure = connection.future()

    async def serve(message: Message) -> None:
        answer = await handler(message.subject, message.data)
        try:
            await connection.publish(message.reply, answer)
        except BusUnavailable as problem:
            log.info("bus_answer_lost", subject=message.subject, problem=str(problem))

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None and not failure.done():
            failure.set_exception(problem)

    def receive(message: Message) -> None:
        # The server does not check that whoever asks may himself publish where he wants the answer: we do.
        inbox = f"{inbox_prefix(message.subject.rsplit('.', 1)[1])}."
        if not message.reply.startswith(inbox) or set(message.reply) & set(" \t*>"):
            log.warning("bus_question_not_answered", subject=message.subject, reply_to=message.reply[:200])
            return
        task = asyncio.ensure_future(serve(message))
        running.add(task)
        task.add_done_callback(ended)

    async def failed() -> None:
        await failure

    subscription = await connection.subscribe(subject, receive)
    try:
        async with beside(connection.until_closed(), failed()):
            yield
    finally:
        with anyio.CancelScope(shield=True):
            await connection.unsubscribe(subscription)
            await end_tasks(list(running))
