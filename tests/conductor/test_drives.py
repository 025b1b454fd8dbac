"""A drive starts once, records selections while it runs, and ends once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from conductor.drives import DriveState, decide_drive, evolve_drive
from conductor.refusal import Refusal
from schemas import commands as cmd
from schemas import drive as ev
from schemas.envelope import CommandEnvelope, StreamId, decode_command, decode_event
from schemas.messages import Command, Event
from schemas.policy import Approver, Policy
from schemas.session import PhaseCompleted
from schemas.values import Actor
from tests.conductor.rig import MACHINE
from tests.golden.samples import MESSAGES

POLICY = Policy(approvers=(Approver(name="dana", os_users=("grace",)),), operators=("olga",))
START = cmd.StartDrive(
    backlog="backlog", repository="/r", policy_version="a" * 64, wip=2, max_tickets=3, policy=POLICY
)  # fmt: skip
SELECT = cmd.RecordSelection(order=(3, 1), passed_over={2: "blocked by 1"}, unreadable={"x.md": "no title"})
END = cmd.EndDrive(
    completed=("s3",), waiting=("s1",), blocked=(), seconds=1.5, cost_usd=0.25, reason="nothing is left to do"
)


def sent(command: Command, sender: str = "autopilot") -> CommandEnvelope:
    stream = StreamId("default", "drive", "d-1")
    return CommandEnvelope("c", stream, datetime.now(UTC), MACHINE, sender, "d-1", "", command)


def after(*commands: Command) -> DriveState:
    state = DriveState("d-1")
    for command in commands:
        events = decide_drive(state, sent(command))
        assert not isinstance(events, Refusal), events
        for event in events:
            state = evolve_drive(state, event, state.version + 1)
    return state


def test_from_start_to_end() -> None:
    state = after(START, SELECT, SELECT, END)
    assert state == DriveState("d-1", 4, "ended", "backlog", (3, 1), "nothing is left to do", policy=POLICY)


@pytest.mark.parametrize(
    ("command", "event"), [(START, ev.DriveStarted), (SELECT, ev.SelectionRecorded), (END, ev.DriveEnded)]
)
def test_each_command_is_recorded_field_by_field(command: Command, event: type[Event]) -> None:
    events = decide_drive(after() if command is START else after(START), sent(command))
    assert events == (event(**dict(command)),)


@pytest.mark.parametrize(
    ("state", "command", "code", "reason"),
    [
        ((), SELECT, "drive_not_running", "drive d-1 is new"),
        ((), END, "drive_not_running", "drive d-1 is new"),
        ((START,), START, "drive_exists", "drive d-1 exists already"),
        ((START, END), START, "drive_exists", "drive d-1 exists already"),
        ((START, END), SELECT, "drive_not_running", "drive d-1 is ended"),
        ((START, END), END, "drive_not_running", "drive d-1 is ended"),
        ((START,), cmd.RecordEffect(effect="e", kind="commit"), "not_allowed", "record_effect is not for drives"),
    ],
)
def test_what_is_refused(state: tuple[Command, ...], command: Command, code: str, reason: str) -> None:
    assert decide_drive(after(*state), sent(command)) == Refusal(code, reason)


@pytest.mark.parametrize("command", [START, SELECT, END])
@pytest.mark.parametrize("sender", ["operator", "lead", "conductor", ""])
def test_only_the_auto_pilot_drives(command: Command, sender: str) -> None:
    refusal = decide_drive(after(START), sent(command, sender))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "not_allowed"


def test_events_of_others_only_count() -> None:
    assert evolve_drive(after(START), PhaseCompleted(phase="plan-it", attempt=1), 2).version == 2


def test_a_drained_drive_and_an_open_breaker_say_so_once() -> None:
    state = after(START)
    drain = cmd.DrainDrive(reason="maintenance")
    person = Actor(name="olga", channel="cli", verified_as="os:olga")
    assert decide_drive(state, replace(sent(drain, "operator"), actor=person)) == (
        ev.DriveDraining(by=person, reason="maintenance"),
    )
    breaker = cmd.OpenBreaker(sessions=("s1", "s2"), reason="2 in a row")
    state = after(START, breaker)
    assert state.draining
    for command, sender in ((drain, "operator"), (breaker, "autopilot")):
        again = decide_drive(state, replace(sent(command, sender), actor=person))
        assert isinstance(again, Refusal)
        assert again.code == "already_draining"
    ended = decide_drive(after(START, END), sent(drain, "operator"))
    assert isinstance(ended, Refusal)
    assert ended.code == "drive_not_running"


def draining(state: DriveState, name: str, channel: str = "cli", user: str = "") -> str | None:
    """Why this person may not drain; None if they may."""
    actor = Actor(name=name, channel=channel, verified_as=f"os:{user or name}")
    decided = decide_drive(state, replace(sent(cmd.DrainDrive(), "operator"), actor=actor))
    if isinstance(decided, Refusal):
        assert decided.code == "not_an_operator"
        return decided.reason
    return None


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (("olga",), None),
        (("dana", "cli", "grace"), None),
        (("dana", "cli", "mallory"), "os:mallory may not speak as dana; the policy names grace"),
        (("mallory",), "the policy does not name mallory; it names dana, olga"),
        (("Olga",), "the policy does not name Olga; it names dana, olga"),
        (("olga", "bus"), "olga is a program; this is for people"),
        (("conductor", "system"), "conductor is a program; this is for people"),
    ],
)
def test_a_drive_is_drained_by_those_whom_its_policy_lets_operate(who: tuple[str, ...], reason: str | None) -> None:
    assert draining(after(START), *who) == reason


def test_nobody_drains_a_drive_that_was_recorded_before_it_kept_its_policy() -> None:
    old = [line for line in MESSAGES.read_bytes().splitlines() if b'"version":1' in line]
    (event,) = (decode_event(line).event for line in old if b'"type":"drive_started"' in line)
    (command,) = (decode_command(line).command for line in old if b'"type":"start_drive"' in line)
    assert isinstance(event, ev.DriveStarted)
    assert isinstance(command, cmd.StartDrive)
    for state in (evolve_drive(DriveState("d-1"), event, 1), after(command)):
        reason = draining(state, "olga")
        assert reason == (
            "the policy does not name olga; it names nobody; drive d-1 began without recording its policy: stop it "
            "instead"
        )
