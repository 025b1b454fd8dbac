"""Running handlers over a durable consumer's messages: outcomes, retries with backoff, dead letters."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from bus.background import beside
from bus.connection import Connection
from bus.dead_letters import bury
from bus.messages import Arrival, is_ours, line
from bus.port import Ack, BusError, ConsumerSpec, Delivery, GiveUp, Handler, Outcome, Retry
from bus.pulling import PullLoop

log = structlog.get_logger(__name__)

BatchHandler = Callable[[Sequence[Delivery]], Awaitable[Sequence[Outcome]]]
Restore = Callable[[], Awaitable[None]] | None


@asynccontextmanager
async def consume(
    connection: Connection, spec: ConsumerSpec, handler: Handler, restore: Restore = None
) -> AsyncIterator[None]:
    """See `bus.port.Bus.consume`. As many workers as handlers may run, so never more of them do."""

    async def work(pulling: PullLoop) -> None:
        judge = _Judge(connection, pulling)
        while True:
            arrival = await pulling.arrived.get()
            if await judge.admits(arrival):
                outcome, trace = await _run(handler, judge.delivery(arrival), spec)
                await judge.settle(arrival, outcome, trace)

    pulling = PullLoop(
        connection, spec, capacity=spec.max_in_flight, chunk=1, largest=spec.max_in_flight, restore=restore
    )
    async with pulling:
        workers = [work(pulling) for _ in range(spec.max_in_flight)]
        async with beside(connection.until_closed(), pulling.run(), pulling.keep_alive(), *workers):
            yield


@asynccontextmanager
async def consume_batches(
    connection: Connection, spec: ConsumerSpec, handler: BatchHandler, most: int, restore: Restore = None
) -> AsyncIterator[None]:
    """See `bus.port.Bus.consume_batches`. While one batch is handled the next is already on its way."""

    async def work(pulling: PullLoop) -> None:
        judge = _Judge(connection, pulling)
        while True:
            arrivals = [await pulling.arrived.get()]
            while len(arrivals) < most and not pulling.arrived.empty():
                arrivals.append(pulling.arrived.get_nowait())
            admitted = [arrival for arrival in arrivals if await judge.admits(arrival)]
            if admitted:
                results = await _run_batch(handler, [judge.delivery(arrival) for arrival in admitted], spec)
                for arrival, (outcome, trace) in zip(admitted, results, strict=True):
                    await judge.settle(arrival, outcome, trace)

    pulling = PullLoop(connection, spec, capacity=2 * most, chunk=most, largest=most, restore=restore)
    async with pulling, beside(connection.until_closed(), pulling.run(), pulling.keep_alive(), work(pulling)):
        yield


async def _run(handler: Handler, delivery: Delivery, spec: ConsumerSpec) -> tuple[Outcome, str]:
    """The handler's outcome; Retry and a trace when it raised."""
    try:
        outcome = await handler(delivery)
        if not isinstance(outcome, Ack | Retry | GiveUp):
            raise TypeError(f"the handler of {spec.name} returned {outcome!r}, not an Outcome")
        return outcome, ""
    except BaseException as problem:
        return _raised(problem, delivery, spec)


async def _run_batch(
    handler: BatchHandler, deliveries: Sequence[Delivery], spec: ConsumerSpec
) -> list[tuple[Outcome, str]]:
    """The handler's outcomes. When it raised, each message again alone: one that is poison spoils only itself."""
    try:
        outcomes = list(await handler(deliveries))
        if len(outcomes) != len(deliveries) or not all(isinstance(each, Ack | Retry | GiveUp) for each in outcomes):
            raise TypeError(f"the handler of {spec.name} returned {outcomes!r} for {len(deliveries)} messages")
        return [(outcome, "") for outcome in outcomes]
    except BaseException as problem:
        failure = _raised(problem, deliveries[0], spec)
    if len(deliveries) == 1:
        return [failure]
    results: list[tuple[Outcome, str]] = []
    for delivery in deliveries:
        results += await _run_batch(handler, [delivery], spec)
    return results


def _raised(problem: BaseException, delivery: Delivery, spec: ConsumerSpec) -> tuple[Outcome, str]:
    """What a handler's exception means. Raises it again when it is not about the message: we are being cancelled, or
    the process ends."""
    task = asyncio.current_task()
    if isinstance(problem, asyncio.CancelledError):
        # Something the handler awaited was cancelled, not the handler: that is its failure like any other.
        if task is None or task.cancelling():
            raise problem
    elif not isinstance(problem, Exception):
        raise problem
    reason = f"{type(problem).__name__}: {problem}"
    log.warning("bus_handler_failed", consumer=spec.name, subject=delivery.subject, reason=reason)
    return Retry(pause(spec, delivery.attempt), reason), "".join(traceback.format_exception(problem))


def pause(spec: ConsumerSpec, attempt: int) -> float:
    """Seconds before delivery `attempt + 1`. Here and not in the server's configuration: its backoff list would also
    replace `ack_wait`, and a nak ignores it."""
    return spec.backoff[min(attempt, len(spec.backoff)) - 1] if spec.backoff else 0.0


class _Judge:
    """Tells the server what became of a message, and buries what is given up."""

    def __init__(self, connection: Connection, pulling: PullLoop) -> None:
        self._connection = connection
        self._pulling = pulling
        self._spec = pulling.spec

    def delivery(self, arrival: Arrival) -> Delivery:
        """The message as the handler sees it."""
        progress = partial(self._pulling.in_progress, arrival)
        return Delivery(arrival.subject, arrival.raw, arrival.headers, arrival.sequence, arrival.attempt, progress)

    async def admits(self, arrival: Arrival) -> bool:
        """Whether the message may be handed to the handler; if not, it is buried."""
        if not is_ours(arrival.headers, self._spec.stream):
            await self._bury(arrival, "not published through the bus: its headers are missing", "")
            return False
        if arrival.attempt > self._spec.max_deliver:
            # It never came back with an outcome: whoever held it died or was cut off each time.
            reason = f"delivered {arrival.attempt - 1} times and never finished: its handler may not survive it"
            await self._bury(arrival, reason, "")
            return False
        return True

    async def settle(self, arrival: Arrival, outcome: Outcome, trace: str) -> None:
        """Ack, redelivery after a pause, or the dead letters."""
        match outcome:
            case Ack():
                await self._pulling.settle(arrival, b"+ACK")
            case GiveUp(reason):
                await self._bury(arrival, reason, trace)
            case Retry(_, reason) if arrival.attempt >= self._spec.max_deliver:
                await self._bury(arrival, f"{reason} (delivery {arrival.attempt}, the last)", trace)
            case Retry(delay, _):
                await self._nak(arrival, delay)

    async def _nak(self, arrival: Arrival, delay: float) -> None:
        body = b" " + json.dumps({"delay": int(delay * 1_000_000_000)}).encode() if delay > 0 else b""
        await self._pulling.settle(arrival, b"-NAK" + body)

    async def _bury(self, arrival: Arrival, reason: str, trace: str) -> None:
        try:
            await bury(self._connection, self._spec, arrival, reason, trace)
        except BusError as problem:
            # It stays with the server and comes again; the dead letter is written then.
            log.error("bus_dead_letter_failed", consumer=self._spec.name, subject=arrival.subject, problem=str(problem))
            await self._nak(arrival, max(pause(self._spec, arrival.attempt), 1.0))
            return
        log.error("bus_gave_up", consumer=self._spec.name, subject=arrival.subject, reason=reason)
        # nats-py's term() takes no reason; the server's advisory repeats this one.
        await self._pulling.settle(arrival, b"+TERM " + line(reason, 200).encode())
