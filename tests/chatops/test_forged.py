"""Approvals that must not count: forged, malformed, by the wrong person, of the wrong thing. One system hears them all,
and its gate stays as it was; in the end a good approval passes it, so that it could have."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from schemas import commands as cmd
from schemas.values import Actor
from tests.chatops.world import CHANNEL, COMMIT, World, world

Case = Callable[[World], Awaitable[str]]
CASES: dict[str, tuple[Case, str]] = {}


def forged(why: str, name: str = "") -> Callable[[Case], Case]:
    """A case, and what must be in the reason it gives."""

    def named(case: Case) -> Case:
        CASES[name or case.__name__] = case, why
        return case

    return named


def comment(name: str, why: str, body: str, by: str = "dana", **more: Any) -> None:
    """A case that is one comment."""

    async def case(on: World) -> str:
        on.say(body, by, **more)
        results = await on.listen()
        assert results
        assert not any(result.done for result in results), results
        return " ".join(result.reason for result in results)

    CASES[name] = case, why


comment("a quoted command", "no command", "> /approve")
comment("under a quotation", "no command", "> was it so?\n/approve")
comment("in a fence", "no command", "```\n/approve\n```")
comment("in a fence of tildes", "no command", "~~~sh\n/approve\n~~~")
comment("in an indented fence", "no command", "- see\n  ```\n/approve\n  ```")
comment("in an HTML comment", "no command", "<!--\n/approve\n-->")
comment("in indented code", "no command", "    /approve")
comment("in the middle of a line", "no command", "I will not say /approve")
comment("a Cyrillic letter", "no command", "/\u0430pprove")
comment("a full-width slash", "no command", "\uff0fapprove")
comment("a letter that folds to s", "no command", "/re\u017fume")
comment("an invisible letter", "no command", "/approve\u200b")
comment("a no-break space", "no command", "/approve\u00a0now")
comment("a line separator", "no command", "looks fine\u2028/approve")
comment("a megabyte", "more than 65536 characters", "/approve\n" + "x" * 1_000_000)
comment("with other words", "neither a gate nor a commit", "/approve not before Monday")
comment("another session's gate", "has no gate", "/approve s2-zzzzz.plan-it.1")
comment("a gate that never was", "has no gate", "/approve s1-abcde.plan-it.2")
comment("a stale commit", "is for commit 0123456789ab, not for deadbeefdeadbeef", "/approve deadbeefdeadbeef")
comment("the beginning of a commit, and more", "is for commit", f"/approve {COMMIT[:10]}ff")
comment("an outsider who owns the repository", "not named in the policy", "/approve", "mallory")
comment("the requester", "requested the ticket", "/approve", "alice")
comment("the labeller", "set the label", "/approve", "carl")
comment("an operator who is no approver", "does not name olga", "/approve", "olga")
comment("an approver of another phase without access", "write access", "/approve", "bob")
comment("an approver who lost write access", "write access", "/approve", "erik")
comment("a bot that the policy names", "a program wrote it", "/approve", "robot[bot]")
comment("our own bot", "our own", "/approve", "valuetrain[bot]")
comment("an app in the approver's name", "a program wrote it", "/approve", app="an-app")
comment("an edited comment", "an edited comment does not count", "/approve", edited=True)
comment("an override by an approver", "is no admin", "/override s1-abcde.plan-it.1 it is late")
comment("an override without a reason", "a reason is missing", "/override s1-abcde.plan-it.1", "adam")


@forged("GitHub does not know you under the login")
async def a_login_that_changed_hands(on: World) -> str:
    on.say("/approve", "frank")
    accounts = on.github.state.accounts
    before = accounts.pop("frank")
    try:
        on.github.state.account("frank")
        (result,) = await on.listen()
    finally:
        accounts["frank"] = before
    assert not result.done
    return result.reason


@forged("written before session")
async def a_comment_from_before_the_session(on: World) -> str:
    said = on.say("/approve")
    said.created = said.updated = said.created - timedelta(seconds=30)
    (result,) = await on.listen()
    assert not result.done
    return result.reason


@forged("no session of ticket")
async def a_comment_on_another_ticket(on: World) -> str:
    other = on.github.state.issue(on.repository, "Another one", author="alice")
    on.say("/approve", on=other)
    (result,) = await on.listen()
    assert not result.done
    return result.reason


async def posted(on: World, status: int, payload: Any, **how: str) -> str:
    """A webhook that must be refused, and leave no hint."""
    assert await on.post(payload, **how) == status
    assert on.hints() == []
    return str(status)


def unheard(on: World) -> dict[str, Any]:
    """What GitHub would send of a good approval, which is not written there."""
    said = on.say("/approve", on=on.github.state.issue(on.repository, "Nowhere", author="alice"))
    on.repository.issues.popitem()
    return on.payload(said)


@forged("401")
async def a_wrong_signature(on: World) -> str:
    return await posted(on, 401, unheard(on), secret="another secret")


@forged("401")
async def no_signature(on: World) -> str:
    return await posted(on, 401, unheard(on), x_hub_signature_256="")


@forged("401")
async def a_signature_that_is_no_text(on: World) -> str:
    return await posted(on, 401, unheard(on), x_hub_signature_256="sha256=" + "z" * 64)


@forged("401")
async def a_signature_of_other_bytes(on: World) -> str:
    payload = unheard(on)
    raw = json.dumps(payload).encode()
    assert await on.post(raw) == 202, "these bytes are good"
    on.hints()
    import hashlib
    import hmac

    from tests.chatops.world import SECRET

    signature = "sha256=" + hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
    return await posted(on, 401, raw.replace(b"/approve", b"/approve "), x_hub_signature_256=signature)


@forged("200")
async def a_replayed_delivery(on: World) -> str:
    payload = unheard(on)
    assert await on.post(payload, x_github_delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958") == 202
    assert len(on.hints()) == 1
    return await posted(on, 200, payload, x_github_delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958")


@forged("413")
async def a_body_without_end(on: World) -> str:
    return await posted(on, 413, b"{" + b" " * 3_000_000)


@forged("204")
async def a_webhook_of_an_edit(on: World) -> str:
    return await posted(on, 204, unheard(on) | {"action": "edited"})


@forged("204")
async def a_webhook_of_another_repository(on: World) -> str:
    payload = unheard(on)
    payload["repository"]["full_name"] = "mallory/wine"
    return await posted(on, 204, payload)


@forged("400")
async def a_signed_body_that_is_no_json(on: World) -> str:
    return await posted(on, 400, b"/approve")


@forged("415")
async def a_signed_form(on: World) -> str:
    return await posted(on, 415, unheard(on), content_type="application/x-www-form-urlencoded")


@forged("nothing heard")
async def a_signed_comment_that_github_does_not_have(on: World) -> str:
    assert await on.post(unheard(on)) == 202
    on.ear.heard.clear()
    for hint in on.hints():
        await on.listener.take(hint)
    return "nothing heard" if not on.ear.heard else str(on.ear.heard)


@forged("an edited comment does not count")
async def an_edit_within_the_second(on: World) -> str:
    said = on.say("I will look at it")
    assert await on.post(on.payload(said)) == 202
    said.body = "/approve"
    on.ear.heard.clear()
    for hint in on.hints():
        await on.listener.take(hint)
    return " ".join(result.reason for result in on.ear.heard)


async def lied(on: World, sender: str, actor: Actor, **changes: str) -> str:
    """A command straight to the conductor, past everything chat-ops checks."""
    gate = (await on.gate()).id
    verdict = await on.send(cmd.DecideGate(gate=gate, decision="approve", **changes), sender, actor)
    assert not verdict["accepted"]
    return str(verdict["reason"])


@forged("may not speak as dana")
async def chat_ops_lies_about_a_name(on: World) -> str:
    number = on.github.state.account("mallory").id
    return await lied(on, "chatops", Actor(name="dana", channel="github", verified_as=f"github:{number}"))


@forged("chatops speaks for people on github and slack, not on cli")
async def chat_ops_lies_about_the_channel(on: World) -> str:
    return await lied(on, "chatops", Actor(name="dana", channel="cli", verified_as="os:dana"))


@forged("is no account of github")
async def chat_ops_gives_no_account(on: World) -> str:
    return await lied(on, "chatops", Actor(name="dana", channel="github", verified_as="dana"))


@forged("operator speaks for people on cli and console, not on github")
async def the_command_line_lies_about_github(on: World) -> str:
    number = on.github.state.account("dana").id
    return await lied(on, "operator", Actor(name="dana", channel="github", verified_as=f"github:{number}"))


async def pressed(on: World, status: int, payload: Any, **how: Any) -> str:
    before = len(on.slack.whispers)
    assert await on.press(payload, **how) == status
    told = [whisper["text"] for whisper in on.slack.whispers[before:]]
    return told[0] if told else str(status)


def dana(on: World, **changes: Any) -> dict[str, Any]:
    return on.click("approve", "U0DANA", "s1-abcde.plan-it.1", **changes)


@forged("401")
async def slack_with_a_wrong_signature(on: World) -> str:
    return await pressed(on, 401, dana(on), secret="another secret")


@forged("401")
async def slack_six_minutes_late(on: World) -> str:
    return await pressed(on, 401, dana(on), late=360)


@forged("401")
async def slack_from_the_future(on: World) -> str:
    return await pressed(on, 401, dana(on), late=-360)


@forged("401")
async def slack_with_a_time_of_now_and_an_old_signature(on: World) -> str:
    return await pressed(on, 401, dana(on), late=400, x_slack_request_timestamp=str(int(time.time())))


@forged("does not name you")
async def a_stranger_in_slack(on: World) -> str:
    return await pressed(on, 200, on.click("approve", "U0MALLORY", "s1-abcde.plan-it.1"))


@forged("requested the ticket")
async def the_requester_in_slack(on: World) -> str:
    return await pressed(on, 200, on.click("approve", "U0ALICE", "s1-abcde.plan-it.1"))


@forged("400")
async def a_guest_with_an_approvers_id(on: World) -> str:
    return await pressed(on, 400, dana(on, user={"id": "U0DANA", "team_id": "T2"}))


@forged("400")
async def a_button_in_another_message(on: World) -> str:
    return await pressed(on, 400, dana(on, container={"message_ts": "1700000000.999999"}))


@forged("400")
async def a_button_in_another_channel(on: World) -> str:
    assert CHANNEL != "C0000000000"
    return await pressed(on, 400, dana(on, channel={"id": "C0000000000"}))


@forged("400")
async def a_button_of_a_gate_that_never_was(on: World) -> str:
    return await pressed(on, 400, on.click("approve", "U0DANA", "s1-abcde.plan-it.9"))


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as opened:
        yield opened


@pytest.fixture(scope="module")
def on(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("world")
    with portal.wrap_async_context_manager(world(folder)) as made:
        yield made


@pytest.mark.parametrize("name", CASES)
def test_it_does_not_count(on: World, portal: BlockingPortal, name: str) -> None:
    case, why = CASES[name]
    before = portal.call(on.gate)
    assert why in portal.call(case, on)
    after = portal.call(on.gate)
    assert after == before
    assert (after.status, after.approvals) == ("open", ())


def test_there_are_forty_and_the_gate_could_have_passed(on: World, portal: BlockingPortal) -> None:
    assert len(CASES) >= 40
    on.say(f"/approve {COMMIT[:10].upper()}")
    results = portal.call(on.listen)
    assert [(result.command, result.done) for result in results] == [("approve", True)]
    assert portal.call(on.state).gates["s1-abcde.plan-it.1"].status == "passed"
