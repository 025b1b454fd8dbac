"""Several conductors on one record: nobody acts on what another has changed meanwhile, and a timer fires once."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor.letters import LetterState
from schemas import commands as cmd
from schemas.envelope import StreamId
from store.sqlite import SqliteStore
from tests.conductor.rig import TENANT
from tests.conductor.shell import Clock, Shell

DRIVE = StreamId(TENANT, "drive", "d-one")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Shell, Shell]:
    """Two conductors with one clock, each with a store of its own on the same record."""
    clock = Clock()
    first = SqliteStore.open(tmp_path / "record.db")
    return Shell(first, clock), Shell(SqliteStore.open(tmp_path / "record.db"), clock)


async def test_a_refusal_on_what_is_outdated_is_decided_again(pair: tuple[Shell, Shell]) -> None:
    """The second conductor remembers a session whose attempt is taken; meanwhile it failed and another one began."""
    one, two = pair
    assert (await one.verdict(one.start()))["accepted"]
    assert (await two.verdict(two.claim("replica-1")))["accepted"]
    one.conductor._cache.clear()
    assert (await one.verdict(one.failure()))["accepted"]
    one.clock.tick(3600)
    await one.conductor.fire_due_timers()
    fresh = one.state()
    claim = cmd.ClaimAttempt(phase=fresh.phase, attempt=fresh.attempt, holder="replica-2")
    assert two.state().attempt != fresh.attempt, "what the second remembers is outdated"
    verdict = await two.verdict(two.envelope(claim, fresh.definition.agent.value))
    assert verdict["accepted"], verdict
    assert two.state().version == verdict["version"]
    assert "command_refused" not in one.types()


async def test_a_refusal_of_an_unknown_session_is_decided_again(pair: tuple[Shell, Shell]) -> None:
    """Refused as unknown, remembered as unknown, then started by the other conductor."""
    one, two = pair
    early = two.envelope(cmd.AbortSession(reason="too early"), "operator")
    assert not (await two.verdict(early))["accepted"]
    assert (await one.verdict(one.start()))["accepted"]
    later = await two.verdict(two.envelope(cmd.ClaimAttempt(phase=one.state().phase, attempt=1, holder="r"), "lead"))
    assert later["accepted"], later


async def test_a_small_stream_is_decided_again_too(pair: tuple[Shell, Shell]) -> None:
    """Drives record no refusal as an event: the version must be checked all the same."""
    one, two = pair
    end = cmd.EndDrive(completed=(), waiting=(), blocked=(), seconds=1.0, cost_usd=0.0, reason="done")
    start = cmd.StartDrive(backlog="b", repository="r", policy_version="a" * 64, wip=1)
    refused = await two.verdict(two.envelope(end, "autopilot", stream=DRIVE))
    assert refused["code"] == "drive_not_running"
    assert (await one.verdict(one.envelope(start, "autopilot", stream=DRIVE)))["accepted"]
    assert (await two.verdict(two.envelope(end, "autopilot", stream=DRIVE)))["accepted"]
    again = await one.verdict(one.envelope(end, "autopilot", stream=DRIVE))
    assert again["code"] == "drive_not_running"
    assert one.types(DRIVE) == ["drive_started", "drive_ended"]
    assert not isinstance(one.conductor.load(DRIVE), LetterState)


async def test_a_timer_fires_once_whoever_sees_it_due(pair: tuple[Shell, Shell]) -> None:
    one, two = pair
    await one.verdict(one.start())
    await one.verdict(one.claim())
    assert two.state().attempt == 1
    one.clock.tick(24 * 3600)
    due = two.store.timers(two.clock())
    assert due
    await one.conductor.fire_due_timers()
    after = one.types()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two.store, "timers", lambda *_: due)  # it looked before the first one had written
        await two.conductor.fire_due_timers()
    assert one.types() == after, "the inbox knows the timer's command"
    for shell in pair:
        assert all(timer.due > shell.clock() for timer in shell.store.timers()), "nothing stays due: no busy loop"


async def test_the_other_tenants_commands_are_given_up(tmp_path: Path) -> None:
    shell = Shell(SqliteStore.open(tmp_path / "record.db"))
    stream = StreamId("other", "session", "s1-x")
    (outcome,) = await shell.handle(shell.envelope(cmd.AbortSession(reason="x"), "operator", stream=stream))
    assert "tenant 'other'" in outcome.reason  # type: ignore[union-attr]
