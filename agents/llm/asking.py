"""An agent's way to a language model: it asks the gateway over the bus and never sees a key."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.to_thread
import structlog
from pydantic import ValidationError

from agents.llm.port import BadReply, BudgetReached, ModelError, ModelRefused, ModelUnavailable
from agents.llm.questions import Answer, Question, Recorded, prompt_bytes
from agents.port import Attempt
from bus.port import Bus, BusError, BusUnavailable
from schemas.model_calls import Message, Prompt, Reply, ToolSpec
from schemas.subjects import ask_subject
from schemas.values import FailureClass, Role
from workspace.blobs import BlobError, Blobs

_log = structlog.get_logger("agent")
ANSWER_SECONDS = 15.0
"""How long to wait for one answer; a gateway that works says so within a third of it."""

AWAY_SECONDS = 60.0
"""How long a gateway may be away (started again, for instance) before the attempt is given up."""

PAUSE = 0.25


class GatewayModel:
    """The model of one attempt; see `agents.llm.port.Model`. Ask one thing after the other: replies are numbered, and
    an attempt that goes on after a crash gets those that are recorded without a new call."""

    def __init__(
        self, bus: Bus, blobs: Blobs, tenant: str, role: Role, attempt: Attempt, away_seconds: float = AWAY_SECONDS
    ) -> None:
        self._bus = bus
        self._blobs = blobs
        self._subject = ask_subject(tenant, attempt.session, role)
        self._attempt = attempt
        self._away_seconds = away_seconds
        self._answered = 0

    async def reply(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> Reply:
        """See the port."""
        raw = prompt_bytes(Prompt(messages=tuple(messages), tools=tuple(tools)))
        try:
            digest, _ = await anyio.to_thread.run_sync(self._blobs.put, raw)
        except (BlobError, OSError) as problem:
            raise ModelUnavailable(f"the prompt cannot be stored: {problem}") from problem
        question = Question(
            phase=self._attempt.phase.phase,
            attempt=self._attempt.phase.attempt,
            lease=self._attempt.lease,
            number=self._answered + 1,
            prompt=digest,
        )
        reply = await self._read(await self._ask(question))
        self._answered += 1
        return reply

    async def _ask(self, question: Question) -> Answer:
        """Ask until there is an answer. A gateway that is away for a while is asked again: the same question is the
        same call."""
        raw, heard = question.model_dump_json().encode(), anyio.current_time()
        while True:
            try:
                answer = Answer.model_validate_json(await self._bus.ask(self._subject, raw, ANSWER_SECONDS))
            except ValidationError as problem:
                raise ModelUnavailable(f"the model gateway's answer cannot be read: {problem}") from problem
            except BusUnavailable as problem:
                away = anyio.current_time() - heard
                if away >= self._away_seconds:
                    what = f"no model gateway has answered for {away:.0f} s: start `valuetrain gateway run`, or set"
                    raise ModelUnavailable(f"{what} model_base_url for `drive` and `up` ({problem})") from problem
                _log.info("gateway_away", session=self._attempt.session, reason=str(problem))
                await anyio.sleep(PAUSE)
            except BusError as problem:
                raise ModelUnavailable(f"the model gateway cannot be asked: {problem}") from problem
            else:
                if answer.status != "working":
                    return answer
                heard = anyio.current_time()

    async def _read(self, answer: Answer) -> Reply:
        if answer.status != "reply" or answer.reply is None or answer.usage is None:
            raise _error(answer)
        try:
            recorded = Recorded.model_validate_json(await anyio.to_thread.run_sync(self._blobs.read, answer.reply))
        except (BlobError, OSError, ValidationError) as problem:
            raise ModelUnavailable(f"the recorded reply cannot be read: {problem}") from problem
        return Reply(
            message=recorded.message,
            usage=answer.usage,
            usd=answer.usd,
            model=recorded.model,
            provider=recorded.provider,
            seconds=recorded.seconds,
            finish=recorded.finish,
            replayed=answer.replayed,
        )


def _error(answer: Answer) -> ModelError:
    match answer.status:
        case "budget":
            return BudgetReached(answer.reason)
        case "refused":
            return ModelRefused(answer.reason, answer.failure or FailureClass.POLICY)
        case "unavailable":
            return ModelUnavailable(answer.reason)
    return BadReply(answer.reason or "the model gateway gave no reply")
