"""Questions and answers over a real server: who asks, who answers, and what happens when nobody does."""

from __future__ import annotations

import asyncio

import pytest

from bus.port import BusError, BusUnavailable, PermissionDenied
from tests.bus.conftest import NatsHarness
from tests.conformance.bus_kit import eventually

QUESTION = "vt.default.ask.S-one.model.training"
ALL = "vt.default.ask.*.model.*"


async def echo(subject: str, raw: bytes) -> bytes:
    return subject.encode() + b" " + raw


async def test_an_agent_asks_and_the_gateway_answers(harness: NatsHarness) -> None:
    gateway, agent = await harness.bus("gateway"), await harness.bus("training")
    async with gateway.answering(ALL, echo):
        assert await agent.ask(QUESTION, b"what?", 5.0) == QUESTION.encode() + b" what?"


async def test_questions_are_answered_side_by_side(harness: NatsHarness) -> None:
    gateway, agent = await harness.bus("gateway"), await harness.bus("training")
    both = asyncio.Barrier(2)

    async def meet(subject: str, raw: bytes) -> bytes:
        await both.wait()
        return raw

    async with gateway.answering(ALL, meet):
        assert await asyncio.gather(*(agent.ask(QUESTION, raw, 10.0) for raw in (b"1", b"2"))) == [b"1", b"2"]


async def test_without_a_gateway_one_hears_at_once(harness: NatsHarness) -> None:
    agent = await harness.bus("training")
    with pytest.raises(BusUnavailable, match="nobody answers on"):
        await agent.ask(QUESTION, b"", 60.0)


async def test_an_answer_that_does_not_come_is_waited_for_so_long(harness: NatsHarness) -> None:
    gateway, agent = await harness.bus("gateway"), await harness.bus("training")

    async def never(subject: str, raw: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with gateway.answering(ALL, never):
        with pytest.raises(BusUnavailable, match="did not answer"):
            await agent.ask(QUESTION, b"", 0.1)


async def test_a_question_in_anothers_name_is_refused(harness: NatsHarness) -> None:
    gateway, agent = await harness.bus("gateway"), await harness.bus("training")
    async with gateway.answering(ALL, echo):
        with pytest.raises(PermissionDenied):
            await agent.ask("vt.default.ask.S-one.model.risk", b"", 5.0)


async def test_no_agent_can_answer_in_the_gateways_place(harness: NatsHarness) -> None:
    agent, other = await harness.bus("training"), await harness.bus("risk")
    for subject in (ALL, QUESTION):
        with pytest.raises(PermissionDenied):
            async with other.answering(subject, echo):
                pass
        with pytest.raises(PermissionDenied):
            async with agent.answering(subject, echo):
                pass
    with pytest.raises(PermissionDenied):
        await other.connection.request(f"{agent.connection.new_inbox()}.0", b"{}")


async def test_an_answer_goes_to_the_askers_own_inbox_and_nowhere_else(harness: NatsHarness) -> None:
    gateway, agent, other = [await harness.bus(role) for role in ("gateway", "training", "risk")]
    asked: list[bytes] = []

    async def note(subject: str, raw: bytes) -> bytes:
        asked.append(raw)
        return b"for the asker"

    heard: list[bytes] = []
    with other.connection.replies(lambda message: heard.append(message.data)) as inbox:
        async with gateway.answering(ALL, note):
            await agent.connection.publish(QUESTION, b"stolen", reply=inbox)
            await agent.connection.publish(QUESTION, b"none")
            assert await agent.ask(QUESTION, b"mine", 5.0) == b"for the asker"
    assert (asked, heard) == ([b"mine"], [])


async def test_a_handler_that_fails_ends_the_answering(harness: NatsHarness) -> None:
    gateway, agent = await harness.bus("gateway"), await harness.bus("training")

    async def broken(subject: str, raw: bytes) -> bytes:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        async with gateway.answering(ALL, broken):
            with pytest.raises(BusError):
                await agent.ask(QUESTION, b"", 0.1)
            await eventually(lambda: False)
