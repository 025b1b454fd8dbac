"""What does count: over polling, webhook and Slack, once each, answered once, and none of it lost by a crash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from slack_sdk import WebClient

from autopilot.answers import Answering
from bus.nats_bus import connect
from bus.streams import ANSWERS
from chatops.github import GitHubConversation
from chatops.hearing import Result
from chatops.listening import Listener
from chatops.position import BadPosition, Position
from chatops.slack_posts import Poster, SlackError
from forge.client import GitHub
from forge.credentials import Token
from schemas.subjects import ROOT
from schemas.values import Role
from tests.chatops.world import CHANNEL, COMMIT, World, world
from tests.github_server.faults import Fault

FIRST, SECOND = "s1-abcde.plan-it.1", "s1-abcde.judge-it.1"


def in_world(test: Callable[[World], Awaitable[None]]) -> Callable[[Path], Awaitable[None]]:
    """A test that gets a world of its own, entered and left in the same task, which a fixture does not promise."""

    async def run(tmp_path: Path) -> None:
        async with world(tmp_path) as on:
            await test(on)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def outcome(results: list[Result]) -> list[tuple[str, bool]]:
    return [(result.command, result.done) for result in results]


async def answered(on: World, count: int) -> None:
    """Let the effect executor answer until `count` comments have our reaction."""
    token = on.github.state.account("valuetrain[bot]").token
    github = GitHub("acme/wine", credentials=Token(token), base_url=on.github.url, delays=(0.01,))
    async with AsyncExitStack() as stack:
        stack.callback(github.close)
        bus = await stack.enter_async_context(await connect(on.running.server.login("autopilot"), name="effects"))
        done = anyio.Event()
        left = count

        def recorded(subject: str, raw: bytes, headers: dict[str, str]) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                done.set()

        live = f"live.{ROOT}.default.evt.*.answer_recorded.*"
        await stack.enter_async_context(bus.subscribe(live, recorded))
        await stack.enter_async_context(bus.consume(ANSWERS, Answering(bus, lambda repository: github).handle))
        with anyio.fail_after(60):
            await done.wait()


def reactions(on: World) -> dict[str, list[str]]:
    return {each.body: [content for _, _, content in each.reactions] for each in on.issue.comments if each.reactions}


def answers(on: World) -> list[str]:
    return [each.body for each in on.issue.comments if each.author.login == "valuetrain[bot]"]


@in_world
async def test_a_comment_counts_once_however_often_it_is_heard_and_is_answered_once(on: World) -> None:
    on.say("/approve later please")
    on.say("/status")
    said = on.say("Numbers checked.\n\n/approve")
    assert outcome(await on.listen()) == [("approve", False), ("status", True), ("approve", True)]
    again = Listener(on.ear, on.listener._talk, Position(on.home.path / "new.json", on.listener._position.until), 1.0)
    on.ear.heard.clear()
    await again.look()  # as after a crash that lost the position
    assert outcome(on.ear.heard) == [("approve", False), ("status", True), ("approve", False)], "the gate is closed now"
    (approval,) = (await on.state()).gates[FIRST].approvals
    assert (approval.by.name, approval.by.channel) == ("dana", "github")
    assert approval.by.verified_as == f"github:{said.author.id}"
    await answered(on, 3)
    assert reactions(on) == {"/approve later please": ["-1"], "/status": ["eyes"], said.body: ["+1"]}
    refused, status = answers(on)
    assert refused.startswith("<!-- valuetrain:answer:")
    assert "neither a gate nor a commit" in refused
    assert "Gate `s1-abcde.plan-it.1`: 0 of 1 approvals" in status
    assert on.github.log.unfit == []


@in_world
async def test_an_answer_whose_receipt_was_lost_is_not_given_twice(on: World) -> None:
    on.say("/reject")
    await on.listen()
    lost = on.github.fail(Fault("drop_after", path="/issues/1/comments$", verb="POST"))
    await answered(on, 1)
    assert lost.happened == 1
    assert len(answers(on)) == 1
    assert "a reason is missing" in answers(on)[0]


@in_world
async def test_strangers_are_answered_once_a_ticket(on: World) -> None:
    for _ in range(3):
        on.say("/approve", "mallory")
    assert outcome(await on.listen()) == [("", False)] * 3
    await answered(on, 1)
    (answer,) = answers(on)
    assert "you are not named in the policy" in answer


@in_world
async def test_a_webhook_only_hints_and_polling_finds_what_it_lost(on: World) -> None:
    first, second = on.say("/hold"), on.say("/unhold")
    assert await on.post(on.payload(first)) == 202
    on.ear.heard.clear()
    for hint in on.hints():
        await on.listener.take(hint)
    assert outcome(on.ear.heard) == [("hold", True)]
    assert (await on.gate()).held
    assert outcome(await on.listen()) == [("unhold", True)], "the first was heard already, the second nobody told of"
    assert not (await on.gate()).held
    assert await on.post(on.payload(second)) == 202
    on.ear.heard.clear()
    for hint in on.hints():
        await on.listener.take(hint)
    assert on.ear.heard == []


@in_world
async def test_the_listener_hears_on_a_webhook_and_survives_an_outage(on: World) -> None:
    on.github.fail(Fault("error", path="/issues/comments", times=3))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(on.listener.run)
        said = on.say("/hold")
        assert await on.post(on.payload(said)) == 202
        with anyio.fail_after(60):
            while not (await on.gate()).held:
                await on.running.conductor.committed.wait()
        tasks.cancel_scope.cancel()


@in_world
async def test_an_edited_comment_counts_as_it_was_first_and_never_again(on: World) -> None:
    said = on.say("/hold")
    assert outcome(await on.listen()) == [("hold", True)]
    said.body, said.updated = "/approve", said.updated + timedelta(seconds=2)
    assert outcome(await on.listen()) == [("", False)]
    assert (await on.gate()).held


@in_world
async def test_the_position_outlives_the_process(on: World) -> None:
    on.say("/hold")
    await on.listen()
    known = Position.load(on.home.path / "heard.json", datetime(2020, 1, 1, tzinfo=UTC))
    assert known.until == on.issue.comments[-1].updated
    assert known.knows(on.issue.comments[-1].id, on.issue.comments[-1].updated)
    (on.home.path / "heard.json").write_text("{", "utf-8")
    with pytest.raises(BadPosition, match="remove it"):
        Position.load(on.home.path / "heard.json", known.until)


@in_world
async def test_a_slack_thread_for_the_session_and_a_click_that_counts_once(on: World) -> None:
    thread, gate = on.slack.messages
    assert "Ticket 1" in thread["text"]
    assert gate["thread_ts"] == thread["ts"]
    assert [button["action_id"] for button in gate["blocks"][-1]["elements"]] == ["approve", "reject", "hold"]
    assert await on.press(on.click("reject", "U0DANA", FIRST)) == 200
    assert "a rejection needs a reason" in on.slack.whispers[0]["text"]
    click = on.click("approve", "U0DANA", FIRST, "numbers checked")
    assert [await on.press(click), await on.press(click)] == [200, 200]
    (approval,) = (await on.state()).gates[FIRST].approvals
    assert (approval.by.name, approval.by.verified_as) == ("dana", "slack:U0DANA")
    assert approval.reason == "numbers checked"
    assert len(on.slack.whispers) == 1, "the second press got the verdict of the first"
    await on.feed.caught_up()
    on.poster.bring_up_to_date(on.feed.board)
    assert len(on.slack.messages) == 2
    assert [block["type"] for block in gate["blocks"]] == ["section"]
    assert "passed, 1 of 1 approvals (dana)" in gate["blocks"][0]["text"]["text"]


@in_world
async def test_a_post_whose_answer_was_lost_is_found_and_not_repeated(on: World) -> None:
    path = on.home.path / "other.json"
    web = WebClient("xoxb-a-token", base_url=f"{on.slack.url}/api/")
    on.slack.messages.clear()
    for _ in range(2):  # the thread, then the gate: done, and the answer lost both times
        on.slack.drop_after = 1
        with pytest.raises(SlackError):
            Poster(web, CHANNEL, path).bring_up_to_date(on.feed.board)
    last = Poster(web, CHANNEL, path)
    last.bring_up_to_date(on.feed.board)
    assert len(on.slack.messages) == 2
    assert last.shown_as(FIRST) == on.slack.messages[1]["ts"]


@in_world
async def test_two_people_on_two_channels_and_an_admin(on: World) -> None:
    """Separation and quorum hold over channels: dana is one person on both."""
    on.say(f"/approve {FIRST} {COMMIT}")
    await on.listen()
    await on.work(Role.RISK, "judge-it", ())
    await on.feed.caught_up()
    on.poster.bring_up_to_date(on.feed.board)
    on.say("/approve")
    assert outcome(await on.listen()) == [("approve", True)]
    assert await on.press(on.click("approve", "U0DANA", SECOND)) == 200
    assert "has approved this gate already" in on.slack.whispers[-1]["text"]
    on.say("/approve cancel")
    assert outcome(await on.listen()) == [("approve", True)]
    assert (await on.gate()).approvals == ()
    on.say(f"/override {SECOND} the release waits\n\n/status", "adam")
    assert outcome(await on.listen()) == [("override", True), ("status", True)]
    state = await on.state()
    assert state.gates[SECOND].overridden
    assert state.status.value == "completed"
    on.say("/rollback judge-it it was the wrong data", "olga")
    assert outcome(await on.listen()) == [("rollback", True)]
    assert isinstance(on.listener._talk, GitHubConversation)
