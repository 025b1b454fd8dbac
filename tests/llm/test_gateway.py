"""From an agent's question to the record, over a real bus, with a real conductor and a real HTTP endpoint."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import pytest

from agents.llm import asking
from agents.llm.port import BadReply, BudgetReached, ModelError, ModelRefused, ModelUnavailable
from agents.llm.questions import Answer, Question, prompt_bytes
from schemas import commands as cmd
from schemas import model_messages as msg
from schemas.model_calls import Message, Prompt, TokenUsage, ToolSpec
from schemas.model_policy import ModelLimit
from schemas.session import CommandRefused
from schemas.values import FailureClass, Role
from tests.llm.rig import HELLO, MODELS, Floor, floor
from tests.openai_server.server import KEY, OpenAIServer
from tests.openai_server.steps import Asked, BreaksOff, Call, Fails, Hangs, Raw, Says, Step

TOOL = ToolSpec(name="look", description="Look.", parameters={"type": "object", "properties": {}})


P = ParamSpec("P")


def standing(test: Callable[Concatenate[Floor, P], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Give a test its `here`. No fixture: those are left in another task than they were entered in."""

    async def with_floor(tmp_path: Path, **given: Any) -> None:
        async with floor(tmp_path) as here:
            await test(here, **given)  # type: ignore[call-arg]

    first, *others = inspect.signature(test).parameters.values()
    place = first.replace(name="tmp_path", annotation=Path)
    with_floor.__signature__ = inspect.Signature([place, *others])  # type: ignore[attr-defined]
    with_floor.__name__ = test.__name__
    return with_floor


@standing
async def test_a_reply_is_recorded_priced_and_handed_over(here: Floor) -> None:
    await here.start()
    script = [Says("I look.", (Call("look", '{"at": 1}', "x"),), usage=(1000, 50, 400), model="served-2026")]
    with OpenAIServer(script) as endpoint:
        async with here.gateway(endpoint):
            reply = await (await here.model(await here.claim())).reply(HELLO, [TOOL])
        endpoint.assert_used_up()
    assert reply.message.tool_calls[0].arguments == '{"at": 1}'
    assert (reply.finish, reply.model, reply.replayed) == ("tool_calls", "served-2026", False)
    assert reply.usage == TokenUsage(input=1000, output=50, cached=400)
    assert reply.usd == pytest.approx((600 * 2.0 + 400 * 1.0 + 50 * 8.0) / 1e6)
    (requested,), (called,) = here.events(msg.ModelCallRequested), here.events(msg.ModelCalled)
    raw = prompt_bytes(Prompt(messages=HELLO, tools=(TOOL,)))
    assert called.prompt == requested.prompt == hashlib.sha256(raw).hexdigest()
    assert here.blobs.read(called.prompt) == raw
    assert b"I look." in here.blobs.read(called.reply)
    assert (requested.input_tokens, requested.output_tokens) == (len(raw), 100)
    assert (called.usd, called.provider, called.counted) == (reply.usd, "openai-compatible", "reported")
    state = here.state()
    assert (state.usage.tokens, state.usage.usd, dict(state.calls)) == (1050, reply.usd, {})
    here.verify()


@standing
async def test_an_agent_that_begins_again_pays_for_nothing_twice(here: Floor) -> None:
    await here.start()
    with OpenAIServer([Says("one"), Says("two"), Says("three")]) as endpoint:
        async with here.gateway(endpoint):
            first = await here.model(await here.claim())
            second = [*HELLO, Message(role="assistant", content="one"), Message(role="user", content="go on")]
            assert [(await first.reply(m)).message.content for m in (HELLO, second)] == ["one", "two"]
            again = await here.model(await here.claim())  # the first agent was killed; another one takes over
            replies = [await again.reply(HELLO), await again.reply(second)]
            assert [(r.message.content, r.replayed) for r in replies] == [("one", True), ("two", True)]
            assert (await again.reply(HELLO)).message.content == "three"
            with pytest.raises(ModelRefused, match="was taken over by"):
                await first.reply(HELLO)
        endpoint.assert_used_up()
    assert len(here.events(msg.ModelCalled)) == 3
    here.verify()


@standing
async def test_a_lost_attempt_is_gone_on_with_and_one_that_went_wrong_begins_anew(here: Floor) -> None:
    await here.start()
    with OpenAIServer([Says("one"), Says("other")]) as endpoint:
        async with here.gateway(endpoint):
            for failure, content, replayed in (
                (FailureClass.AGENT, "one", False),
                (FailureClass.TRANSIENT, "other", False),
                (None, "other", True),
            ):
                attempt = await here.claim()
                reply = await (await here.model(attempt)).reply(HELLO)
                assert (reply.message.content, reply.replayed) == (content, replayed)
                if failure is not None:
                    name, number = attempt.phase.phase, attempt.phase.attempt
                    report = cmd.ReportFailure(
                        phase=name, attempt=number, lease=attempt.lease, failure=failure, reason="it broke"
                    )
                    assert (await here.send(attempt.session, report, "lead"))["accepted"]
                    retry = cmd.StartRetry(phase=name, attempt=number + 1)
                    assert (await here.send(attempt.session, retry, "conductor"))["accepted"]
        endpoint.assert_used_up()
    here.verify()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that asks again soon after the gateway it asked is gone."""
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 1.0)


@pytest.mark.usefixtures("impatient")
@standing
async def test_a_gateway_that_dies_before_the_record_counts_the_call_and_the_next_makes_it(here: Floor) -> None:
    await here.start()
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(asked: Asked) -> Step:
        loop.call_soon_threadsafe(arrived.set)
        return Hangs() if len(endpoint.asked) == 1 else Says("at last", usage=(100, 10, 0))

    with OpenAIServer(script) as endpoint:
        model = await here.model(await here.claim())
        reply = asyncio.ensure_future(model.reply(HELLO))
        async with here.gateway(endpoint):
            await arrived.wait()
        assert not reply.done()  # the agent waits for a gateway to come back
        async with here.gateway(endpoint):
            assert (await reply).message.content == "at last"
    lost, made = here.events(msg.ModelCallRequested)
    assert made.replaces == lost.call
    state = here.state()
    assert list(state.calls) == [lost.call]
    assert state.models.tokens == 110
    here.verify()


@pytest.mark.usefixtures("impatient")
@standing
async def test_another_gateway_waits_until_the_first_ones_time_is_over(here: Floor) -> None:
    await here.start(models=MODELS.model_copy(update={"call": ModelLimit(seconds=1.5)}))
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(asked: Asked) -> Step:
        loop.call_soon_threadsafe(arrived.set)
        return Hangs() if len(endpoint.asked) == 1 else Says("at last")

    with OpenAIServer(script) as endpoint:
        reply = asyncio.ensure_future((await here.model(await here.claim())).reply(HELLO))
        async with here.gateway(endpoint):
            await arrived.wait()
        async with here.gateway(endpoint, name="gateway-two"):
            assert (await reply).message.content == "at last"
        assert len(endpoint.asked) == 2
    refusals = here.events(CommandRefused)
    assert {refusal.code for refusal in refusals} <= {"model_call_under_way"}


@standing
async def test_the_same_question_twice_at_once_is_one_call(here: Floor) -> None:
    await here.start()
    with OpenAIServer([Says("once")]) as endpoint:
        async with here.gateway(endpoint):
            attempt = await here.claim()
            models = [await here.model(attempt), await here.model(attempt)]
            replies = await asyncio.gather(*(model.reply(HELLO) for model in models))
        endpoint.assert_used_up()
    assert [reply.message.content for reply in replies] == ["once", "once"]
    assert len(here.events(msg.ModelCallRequested)) == 1


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"call": ModelLimit(tokens=150)}, "the call has reached its limit"),
        ({"attempt": ModelLimit(usd=0.0000001)}, "the attempt has reached its limit"),
        ({"ticket": ModelLimit(tokens=150)}, "the ticket has reached its limit"),
        ({"day": ModelLimit(usd=0.0000001)}, "the day has reached its limit"),
    ],
)
@standing
async def test_a_limit_is_reached_before_anything_is_paid(
    here: Floor, limits: dict[str, ModelLimit], what: str
) -> None:
    await here.start(models=MODELS.model_copy(update=limits))
    with OpenAIServer([]) as endpoint:
        async with here.gateway(endpoint):
            with pytest.raises(BudgetReached, match=what) as caught:
                await (await here.model(await here.claim())).reply(HELLO)
        endpoint.assert_used_up()
    assert caught.value.failure is FailureClass.LIMIT
    assert [refused.code for refused in here.events(CommandRefused)] == ["model_limit"]


@standing
async def test_the_day_counts_all_sessions_and_survives_a_restart(here: Floor) -> None:
    models = MODELS.model_copy(update={"day": ModelLimit(tokens=1000)})
    await here.start("s12-abcde", models)
    await here.start("s12-other", models)
    with OpenAIServer([Says("one", usage=(600, 100, 0))]) as endpoint:
        async with here.gateway(endpoint):
            await (await here.model(await here.claim("s12-abcde"))).reply(HELLO)
        async with here.gateway(endpoint):  # a new process knows what the old one spent
            with pytest.raises(BudgetReached, match="700 of 1000 tokens are used"):
                model = await here.model(await here.claim("s12-other"))
                await model.reply([Message(role="user", content="x" * 300)])
        endpoint.assert_used_up()


@standing
async def test_an_unpriced_model_is_not_asked(here: Floor) -> None:
    await here.start()
    with OpenAIServer([]) as endpoint:
        async with here.gateway(endpoint, model="dear-model"):
            with pytest.raises(ModelRefused, match="no price for model dear-model, it has scripted-model"):
                await (await here.model(await here.claim())).reply(HELLO)
    await here.start("s12-other", models=None)
    with OpenAIServer([]) as endpoint:
        async with here.gateway(endpoint):
            with pytest.raises(ModelRefused, match="lets no model be asked"):
                await (await here.model(await here.claim("s12-other"))).reply(HELLO)


@pytest.mark.parametrize(
    ("step", "error", "counted"),
    [
        (BreaksOff(), ModelUnavailable, "bound"),
        (Raw(b"data: {\n\n"), BadReply, "bound"),
        (Fails(400), ModelRefused, "reported"),
        (Fails(401), ModelRefused, "reported"),
        (Says("no count", usage=None), None, "bound"),
    ],
)
@standing
async def test_what_is_not_known_to_be_free_is_counted(
    here: Floor, step: Step, error: type[ModelError] | None, counted: str
) -> None:
    await here.start()
    with OpenAIServer([step]) as endpoint:
        async with here.gateway(endpoint):
            model = await here.model(await here.claim())
            if error is None:
                await model.reply(HELLO)
            else:
                with pytest.raises(error):
                    await model.reply(HELLO)
    (requested,) = here.events(msg.ModelCallRequested)
    (ended,) = here.events(msg.ModelCalled) + here.events(msg.ModelCallFailed)
    most = TokenUsage(input=requested.input_tokens, output=requested.output_tokens)
    assert ended.counted == counted
    assert ended.usage == (most if counted == "bound" else TokenUsage(input=0, output=0))
    assert ended.usd == (requested.usd if counted == "bound" else 0.0)
    assert here.state().usage.usd == ended.usd


@standing
async def test_after_a_failure_the_same_attempt_may_ask_again(here: Floor) -> None:
    await here.start()
    with OpenAIServer([BreaksOff(), Says("now")]) as endpoint:
        async with here.gateway(endpoint):
            model = await here.model(await here.claim())
            with pytest.raises(ModelUnavailable):
                await model.reply(HELLO)
            assert (await model.reply(HELLO)).message.content == "now"
        endpoint.assert_used_up()


@standing
async def test_nobody_asks_for_another_agents_attempt_or_session(here: Floor) -> None:
    await here.start()
    await here.start("s12-other")
    attempt = await here.claim()
    with OpenAIServer([]) as endpoint:
        async with here.gateway(endpoint):
            with pytest.raises(ModelRefused, match="plan-it belongs to lead, not to risk"):
                await (await here.model(attempt, Role.RISK)).reply(HELLO)
            elsewhere = type(attempt)("s12-other", attempt.phase, attempt.lease, attempt.directory)
            with pytest.raises(ModelRefused, match="was not claimed"):
                await (await here.model(elsewhere)).reply(HELLO)
            unknown = type(attempt)("s12-none", attempt.phase, attempt.lease, attempt.directory)
            with pytest.raises(ModelRefused, match="there is no session"):
                await (await here.model(unknown)).reply(HELLO)
        endpoint.assert_used_up()


@standing
async def test_questions_that_are_none_are_refused_and_harm_nobody(here: Floor) -> None:
    await here.start()
    attempt = await here.claim()
    bus, subject = await here.bus("lead"), "vt.default.ask.s12-abcde.model.lead"
    sealed, _ = here.blobs.put(b'{"messages": []}', sealed=True)
    other, _ = here.blobs.put(b"no prompt at all")
    with OpenAIServer([Says("still there")]) as endpoint:
        async with here.gateway(endpoint):
            for raw in (b"", b"{}", b"\xff", b'{"phase": "plan-it"}'):
                assert Answer.model_validate_json(await bus.ask(subject, raw, 5.0)).status == "refused"
            for digest, status in ((sealed, "unavailable"), (other, "refused"), ("0" * 64, "unavailable")):
                question = Question(phase="plan-it", attempt=1, lease=attempt.lease, number=1, prompt=digest)
                raw = question.model_dump_json().encode()
                assert Answer.model_validate_json(await bus.ask(subject, raw, 5.0)).status == status
            assert (await (await here.model(attempt)).reply(HELLO)).message.content == "still there"
        endpoint.assert_used_up()


@standing
async def test_without_a_gateway_the_attempt_hears_what_to_do(here: Floor) -> None:
    await here.start()
    model = await here.model(await here.claim(), away_seconds=0.0)
    with pytest.raises(ModelUnavailable, match="start `valuetrain gateway run`"):
        await model.reply(HELLO)


@standing
async def test_the_key_is_in_no_event_and_no_blob(here: Floor) -> None:
    await here.start()
    with OpenAIServer([Fails(500, {"retry-after": "0"}, message=f"key {KEY}")] * 4) as endpoint:
        async with here.gateway(endpoint):
            with pytest.raises(ModelUnavailable) as caught:
                await (await here.model(await here.claim())).reply(HELLO)
    assert KEY not in caught.value.reason
    for path in (*here.home.blobs.rglob("*"), *here.home.path.glob("record.db*")):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()
