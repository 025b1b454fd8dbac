"""Socket Mode: clicks over connections that we open, which Slack takes back, breaks, refuses and repeats itself on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from slack_sdk import WebClient

from bus.port import NoReceipt
from chatops.slack_socket import SlackAway, SlackRefuses, SlackSocket
from tests.chatops.slack_server import APP_TOKEN, TOKEN
from tests.chatops.world import World, world

GATE = "s1-abcde.plan-it.1"


def socket_of(on: World, token: str = APP_TOKEN) -> SlackSocket:
    return SlackSocket(WebClient(token, base_url=f"{on.slack.url}/api/"), on.clicks, (0.01,))


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[World]:
    """A world that listens to Slack over its own connection."""
    async with world(folder) as on, anyio.create_task_group() as tasks:
        tasks.start_soon(socket_of(on).run)
        assert await connected(on) == 1
        try:
            yield on
        finally:
            tasks.cancel_scope.cancel()


async def connected(on: World) -> int:
    return await anyio.to_thread.run_sync(partial(on.slack.connected.get, timeout=60))


async def deliver(on: World, name: str, payload: Any, kind: str = "interactive", link: Any = None) -> int:
    """Send an envelope, and wait for its acknowledgement; the number of the connection that it came on."""
    await anyio.to_thread.run_sync(on.slack.push, on.slack.envelope(name, payload, kind), link)
    return await acknowledged(on, name)


async def acknowledged(on: World, name: str) -> int:
    number, found = await anyio.to_thread.run_sync(partial(on.slack.acknowledged.get, timeout=60))
    assert found == name
    return number


async def told(on: World, count: int) -> list[str]:
    """What people were told; it comes after the acknowledgement."""
    while len(on.slack.whispers) < count:
        await anyio.to_thread.run_sync(partial(on.slack.whispered.get, timeout=60))
    return [str(each["text"]) for each in on.slack.whispers]


async def approvals(on: World) -> list[tuple[str, str]]:
    return [(each.by.name, each.by.verified_as) for each in (await on.state()).gates[GATE].approvals]


async def test_a_click_counts_once_however_often_it_comes(tmp_path: Path) -> None:
    async with listening(tmp_path) as on:
        await deliver(on, "e1", on.click("reject", "U0DANA", GATE))
        assert "a rejection needs a reason" in (await told(on, 1))[0]
        click = on.click("approve", "U0DANA", GATE, "numbers checked")
        for name in ("e2", "e2", "e3"):
            await deliver(on, name, click)
        assert await approvals(on) == [("dana", "slack:U0DANA")]
        assert (await on.state()).gates[GATE].status == "passed"
        await deliver(on, "e4", on.click("hold", "U0OLGA", GATE))
        assert len(await told(on, 2)) == 2, "who pressed what was good was told nothing"


async def test_what_does_not_count_is_acknowledged_and_changes_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path) as on:
        before = await on.gate()

        def dana(**changes: Any) -> dict[str, Any]:
            return on.click("approve", "U0DANA", GATE, **changes)

        silent: list[tuple[Any, str]] = [
            (dana(user={"id": "U0DANA", "team_id": "T2"}), "interactive"),
            (dana(team={"id": None}), "interactive"),
            (dana(container={"message_ts": "1700000000.999999"}), "interactive"),
            (dana(channel={"id": "C0000000000"}), "interactive"),
            (dana(user={"id": "dana", "team_id": "T1"}), "interactive"),
            (dana(type="view_submission"), "interactive"),
            (dana(), "events_api"),
            (dana(), "slash_commands"),
            (on.click("approve", "U0DANA", "s1-abcde.plan-it.9"), "interactive"),
            (on.click("override", "U0DANA", GATE), "interactive"),
            (json.dumps(dana()), "interactive"),
            ([], "interactive"),
            (None, "interactive"),
        ]
        for number, (payload, kind) in enumerate(silent):
            await deliver(on, f"e{number}", payload, kind)
        for frame in ("{", "[]", "[" * 100_000, '"e"', "{}", '{"envelope_id": 7, "type": "interactive"}'):
            await anyio.to_thread.run_sync(on.slack.push, frame)
        people = {"U0MALLORY": "does not name you", "U0ALICE": "requested the ticket", "U0CARL": "set the label"}
        for count, (user, why) in enumerate(people.items(), 1):
            await deliver(on, user, on.click("approve", user, GATE))
            assert why in (await told(on, count))[-1]
        assert await on.gate() == before
        assert on.slack.opened == 1, "none of it cost the connection"
        await deliver(on, "good", dana())
        assert await approvals(on) == [("dana", "slack:U0DANA")]


async def test_the_next_connection_is_there_before_the_old_one_ends(tmp_path: Path) -> None:
    async with listening(tmp_path) as on:
        (old,) = on.slack.links
        await anyio.to_thread.run_sync(on.slack.take_back)
        assert await connected(on) == 2
        held = on.click("hold", "U0DANA", GATE)
        assert await deliver(on, "e1", held, link=old) == 1, "what comes late on the old connection counts"
        assert await deliver(on, "e1", held) == 2, "and once, when it comes on both"
        assert (await on.gate()).held
        await anyio.to_thread.run_sync(on.slack.hang_up, old)
        await deliver(on, "e2", on.click("unhold", "U0DANA", GATE))
        assert not (await on.gate()).held
        await anyio.to_thread.run_sync(on.slack.hang_up, on.slack.links[-1])
        assert await connected(on) == 3, "one that is closed without a warning is replaced as well"
        assert on.slack.whispers == []


async def test_a_broken_connection_is_replaced_and_what_was_not_acknowledged_comes_again(tmp_path: Path) -> None:
    async with listening(tmp_path) as on:
        click = on.click("approve", "U0DANA", GATE)
        await anyio.to_thread.run_sync(on.slack.push, on.slack.envelope("e1", click))
        on.slack.drop()
        assert await connected(on) == 2
        await deliver(on, "e1", click) if on.slack.acknowledged.empty() else await acknowledged(on, "e1")
        with anyio.fail_after(60):
            while (await on.state()).gates[GATE].status != "passed":
                await on.running.conductor.committed.wait()
        assert await approvals(on) == [("dana", "slack:U0DANA")]


async def test_slack_is_waited_for(tmp_path: Path) -> None:
    async with world(tmp_path) as on, anyio.create_task_group() as tasks:
        on.slack.refusals += ["internal_error", "ratelimited", "link_disabled"]
        on.slack.mute = 1
        tasks.start_soon(socket_of(on).run)
        assert await connected(on) == 2
        assert on.slack.calls.count("apps.connections.open") == 5
        await deliver(on, "e1", on.click("approve", "U0DANA", GATE))
        assert await approvals(on) == [("dana", "slack:U0DANA")]
        tasks.cancel_scope.cancel()


async def test_what_no_waiting_puts_right_ends_it_and_no_token_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as on:
        for token, why in ((TOKEN, "not_allowed_token_type"), ("xapp-wrong", "invalid_auth")):
            with pytest.raises(SlackRefuses, match=why) as refused:
                await socket_of(on, token).connect()
            assert token not in str(refused.value)
        on.slack.refusals.append("ratelimited")
        with pytest.raises(SlackAway, match="ratelimited") as away:
            await socket_of(on).connect()
        assert away.value.wait == 1.0
        link = await (socket := socket_of(on)).connect()
        on.slack.refusals.append("token_revoked")
        on.slack.drop()
        with pytest.RaisesGroup(SlackRefuses):
            await socket.run(link)


async def test_a_click_without_a_verdict_is_told_and_can_be_pressed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(tmp_path) as on:
        send = on.bus.send
        answers = iter([False, True])

        async def late(*arguments: Any, **options: Any) -> Any:
            if not next(answers):
                raise NoReceipt("no receipt in time")
            return await send(*arguments, **options)

        monkeypatch.setattr(on.bus, "send", late)
        click = on.click("approve", "U0DANA", GATE)
        await deliver(on, "e1", click)
        assert "has not answered yet" in (await told(on, 1))[0]
        assert await approvals(on) == []
        await deliver(on, "e1", click)
        assert await approvals(on) == [("dana", "slack:U0DANA")]
