"""The model gateway: it alone holds the key. Agents ask it over the bus; it asks the conductor, then the endpoint.

Ask → read the prompt → may it be asked? (the conductor's word, recorded) → the endpoint → record → answer. Killed
before the record, the call counts at its upper bound and is made again; after it, the record answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import structlog
from pydantic import ValidationError

from agents.llm.ledger import KINDS, Ledger
from agents.llm.providers.port import Completion, Provider, ProviderError
from agents.llm.questions import Answer, Question, Recorded
from agents.llm.retrying import ask
from bus.port import Bus, BusError, NoReceipt
from schemas.envelope import CommandEnvelope, StreamId, UnreadableMessage, decode_event
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.model_calls import Prompt, TokenUsage
from schemas.model_messages import RecordModelCall, RecordModelFailure, RequestModelCall
from schemas.model_policy import ModelSpend
from schemas.subjects import ROOT, ask_subject
from schemas.values import Actor, FailureClass, Role, Sender
from workspace.blobs import BlobError, Blobs

_log = structlog.get_logger("gateway")
PATIENCE = 5.0
"""Seconds a question waits for its answer before it is told to ask again: so that a gateway that died is noticed."""

LOOK_AGAIN = 2.0
"""Seconds until the conductor is asked again about a call that another gateway may still be waiting for."""

KEPT_SECONDS = 60.0
"""How long an answer waits for its asker to ask again."""

MOST_PROMPT = 64 * 1024 * 1024
"""Bytes of a prompt's blob; a larger one is no conversation."""

_FREE = TokenUsage(input=0, output=0)
_STATUS_FAILURE = {
    "unavailable": FailureClass.TRANSIENT,
    "refused": FailureClass.POLICY,
    "bad_reply": FailureClass.AGENT,
}
_BY_CODE = {"model_limit": ("budget", FailureClass.LIMIT), "model_not_allowed": ("refused", FailureClass.POLICY)}


@dataclass(eq=False)
class _Call:
    """A question that is being answered; whoever repeats it joins."""

    answer: Answer | None = None
    done: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True)
class _Asker:
    session: str
    role: Role


class Gateway:
    """One endpoint and one model, for all agents of a tenant. `name` is stable over restarts: by it the conductor knows
    that a call which this gateway no longer waits for is lost; no two may run under one name at once."""

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        provider: Provider,
        model: str,
        *,
        tenant: str,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bus = bus
        self._blobs = blobs
        self._provider = provider
        self._model = model
        self._tenant = tenant
        self._name = name
        self._clock = clock
        self._ledger = Ledger()
        self._calls: dict[tuple[_Asker, Question], _Call] = {}
        self._asking = anyio.Lock()  # from reading the day's figure to having added to it
        self._position = 0
        self._moved = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._actor = Actor(name="gateway", channel="bus", verified_as=f"login:{Sender.GATEWAY.value}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer while the context is open; entering waits until the day's figure is complete. Calls that are under way
        when it closes are broken off."""
        newest = await self._bus.last_sequence()
        async with self._bus.follow((f"{ROOT}.{self._tenant}.evt.>",), self._heard):
            while self._position < newest:
                await self._moved.wait()
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                async with self._bus.answering(ask_subject(self._tenant, "*", "*"), self._answer):
                    yield
                tasks.cancel_scope.cancel()

    async def _heard(self, subject: str, raw: bytes, headers: dict[str, str], position: int) -> None:
        self._position = position
        self._moved.set()
        self._moved = anyio.Event()
        if subject.split(".")[4] not in KINDS:
            return
        try:
            envelope = decode_event(raw)
        except UnreadableMessage as problem:
            _log.error("event_not_understood", subject=subject, reason=str(problem))
            return
        self._ledger.add(envelope.event)

    async def _answer(self, subject: str, raw: bytes) -> bytes:
        """The bus handler: the answer, or after a while that it is being worked on."""
        tokens = subject.split(".")
        try:
            key = (_Asker(tokens[3], Role(tokens[5])), Question.model_validate_json(raw))
        except (ValidationError, ValueError, IndexError) as problem:
            return _refused(f"the question cannot be read: {problem}").model_dump_json().encode()
        call = self._calls.get(key)
        if call is None:
            if self._tasks is None:
                raise RuntimeError("the gateway is not running")
            call = self._calls[key] = _Call()
            self._tasks.start_soon(self._work, key, call)
        with anyio.move_on_after(PATIENCE):
            await call.done.wait()
        if call.answer is None:
            return Answer(status="working").model_dump_json().encode()
        self._forget(key, call)
        return call.answer.model_dump_json().encode()

    async def _work(self, key: tuple[_Asker, Question], call: _Call) -> None:
        asker, question = key
        try:
            call.answer = await self._settle(asker, question)
        except (BlobError, OSError) as problem:
            call.answer = _unavailable(f"the gateway's artifact store: {problem}")
        except Exception as problem:  # a fault of ours must not end the gateway for everybody
            _log.exception("model_call_broke", session=asker.session, phase=question.phase)
            call.answer = _unavailable(f"the model gateway failed: {type(problem).__name__}")
        call.done.set()
        await anyio.sleep(KEPT_SECONDS)  # whoever asked may be gone
        self._forget(key, call)

    def _forget(self, key: tuple[_Asker, Question], call: _Call) -> None:
        """Asked again after this, the record answers; what failed is tried anew."""
        if self._calls.get(key) is call:
            del self._calls[key]

    async def _settle(self, asker: _Asker, question: Question) -> Answer:
        raw = await anyio.to_thread.run_sync(self._prompt, question.prompt)
        try:
            prompt = Prompt.model_validate_json(raw)
        except ValidationError as problem:
            return _refused(f"blob {question.prompt[:12]}… is no prompt: {problem.error_count()} errors")
        verdict = await self._request(asker, question, len(raw))
        if not verdict["accepted"]:
            status, failure = _BY_CODE.get(verdict["code"], ("refused", FailureClass.AGENT))
            return Answer(status=status, failure=failure, reason=verdict["reason"])  # type: ignore[arg-type]
        if "recorded" in verdict:
            return _reply(verdict["recorded"], verdict, replayed=True)
        began = anyio.current_time()
        try:
            model = verdict["model"]  # a fork's own, or the one that was asked for
            reply = await ask(self._provider, prompt, model, verdict["output_tokens"], verdict["seconds"])
        except ProviderError as problem:
            return await self._failed(asker, verdict["call"], problem, anyio.current_time() - began)
        return await self._record(asker, verdict["call"], reply, anyio.current_time() - began)

    def _prompt(self, digest: str) -> bytes:
        path = self._blobs.path(digest)
        if path.stat().st_size > MOST_PROMPT:
            raise BlobError(f"the prompt {digest[:12]}… is larger than {MOST_PROMPT} bytes", "ask with less")
        return self._blobs.read(digest)

    async def _request(self, asker: _Asker, question: Question, size: int) -> dict[str, Any]:
        """The conductor's word. A prompt has at most as many tokens as bytes."""
        while True:
            async with self._asking:
                now = self._clock()
                request = RequestModelCall(
                    phase=question.phase,
                    attempt=question.attempt,
                    lease=question.lease,
                    agent=asker.role,
                    number=question.number,
                    prompt=question.prompt,
                    model=self._model,
                    input_tokens=size,
                    gateway=self._name,
                    today=self._ledger.on(now.date()),
                )
                verdict = await self._send(asker.session, request, now)
                if "call" in verdict:
                    most = ModelSpend.model_validate(verdict["most"])
                    self._ledger.requested(verdict["call"], now.date(), most)
            if verdict.get("code") != "model_call_under_way":
                return verdict
            await anyio.sleep(LOOK_AGAIN)

    async def _record(self, asker: _Asker, call: str, reply: Completion, seconds: float) -> Answer:
        """The reply counts, and may be used, once it is in the record."""
        blob = Recorded(
            message=reply.message,
            usage=reply.usage,
            model=reply.model,
            provider=self._provider.name,
            seconds=seconds,
            finish=reply.finish,
        )
        digest, _ = await anyio.to_thread.run_sync(self._blobs.put, blob.model_dump_json().encode())
        record = RecordModelCall(
            call=call,
            reply=digest,
            usage=reply.usage,
            seconds=seconds,
            model=reply.model,
            provider=self._provider.name,
            finish=reply.finish,
        )
        verdict = await self._send(asker.session, record, self._clock())
        if not verdict["accepted"]:
            return _refused(f"the reply came too late to be recorded: {verdict['reason']}", FailureClass.AGENT)
        self._count(call, verdict, seconds)
        return _reply(digest, verdict, replayed=False)

    async def _failed(self, asker: _Asker, call: str, problem: ProviderError, seconds: float) -> Answer:
        failure = _STATUS_FAILURE[problem.kind]
        usage = _FREE if problem.free else None
        record = RecordModelFailure(call=call, failure=failure, reason=problem.reason, usage=usage, seconds=seconds)
        verdict = await self._send(asker.session, record, self._clock())
        if verdict["accepted"]:
            self._count(call, verdict, seconds)
        return Answer(status=problem.kind, failure=failure, reason=problem.reason)

    def _count(self, call: str, verdict: dict[str, Any], seconds: float) -> None:
        tokens = TokenUsage.model_validate(verdict["usage"]).total
        self._ledger.recorded(call, ModelSpend(tokens=tokens, usd=verdict["usd"], seconds=seconds))

    async def _send(self, session: str, command: Command, now: datetime) -> dict[str, Any]:
        """Send until the receipt is there: what was paid for must come into the record."""
        envelope = CommandEnvelope(
            id=uuid7(),
            stream=StreamId(self._tenant, "session", session),
            time=now,
            actor=self._actor,
            sender=Sender.GATEWAY.value,
            correlation_id=session,
            causation_id="",
            command=command,
        )
        while True:
            try:
                return await self._bus.send(envelope)
            except NoReceipt as problem:
                _log.warning("no_receipt_yet", session=session, command=envelope.type, reason=str(problem))
            except BusError as problem:
                _log.warning("bus_unavailable", session=session, command=envelope.type, reason=str(problem))
                await anyio.sleep(1.0)


def _reply(digest: str, verdict: dict[str, Any], *, replayed: bool) -> Answer:
    usage = TokenUsage.model_validate(verdict["usage"])
    return Answer(status="reply", reply=digest, usage=usage, usd=verdict["usd"], replayed=replayed)


def _refused(reason: str, failure: FailureClass = FailureClass.POLICY) -> Answer:
    return Answer(status="refused", failure=failure, reason=reason[:1000])


def _unavailable(reason: str) -> Answer:
    return Answer(status="unavailable", failure=FailureClass.TRANSIENT, reason=reason)
