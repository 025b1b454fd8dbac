"""Declaring a message: what is wrong fails where it is written, not in production."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas import messages
from schemas.envelope import UnreadableMessage, lift
from schemas.messages import COMMANDS, EVENTS, Command, Event, SchemaError, wire_name
from schemas.values import Role, Sender


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test declares is forgotten again."""
    before = dict(EVENTS), dict(COMMANDS)
    yield
    for registry, old in zip((EVENTS, COMMANDS), before, strict=True):
        registry.clear()
        registry.update(old)


def test_one_class_statement_declares_everything() -> None:
    class TrainLeft(Event, stream="session"):
        """The train left."""

        agent: Role
        minute: int = 0

    kind = EVENTS["train_left"]
    assert kind is TrainLeft.message_type
    assert (kind.cls, kind.kind, kind.version, kind.stream) == (TrainLeft, "event", 1, "session")
    assert (kind.senders, kind.addressed, dict(kind.upcasters)) == ((), True, {})


def test_a_command_says_who_may_send_it() -> None:
    class LeaveStation(Command, stream="drive", senders=(Sender.OPERATOR, Role.RISK)):
        """Leave."""

    class LoadCoal(Command, stream="drive", senders=("agent", Sender.AUTOPILOT)):
        """Load."""

    assert LeaveStation.message_type.senders == ("operator", "risk")
    assert LoadCoal.message_type.senders == (*(r.value for r in Role), "autopilot")
    assert not LoadCoal.message_type.addressed
    assert COMMANDS["load_coal"].kind == "command"


def test_an_event_and_a_command_may_share_a_name() -> None:
    class Whistle(Event, stream="session"):
        """It whistled."""

    class Order(Command, stream="session", senders=(Sender.OPERATOR,), name="whistle"):
        """Whistle!"""

    assert EVENTS["whistle"].cls is Whistle
    assert COMMANDS["whistle"].cls is Order


def test_two_classes_cannot_have_one_name() -> None:
    with pytest.raises(SchemaError, match=r"event name 'phase_started' is declared twice, by schemas\.session\.Phase"):

        class Other(Event, stream="session", name="phase_started"):
            """Another one."""

    assert EVENTS["phase_started"].cls.__name__ == "PhaseStarted"


def test_a_class_says_what_it_means() -> None:
    with pytest.raises(SchemaError, match="event Silent has no docstring"):

        class Silent(Event, stream="session"):
            minute: int

    with pytest.raises(SchemaError, match="command Mute has no docstring"):

        class Mute(Command, stream="session", senders=(Sender.OPERATOR,)):
            pass

    assert not {"silent"} & set(EVENTS)
    assert "mute" not in COMMANDS


def upcast(body: dict[str, Any]) -> dict[str, Any]:
    return body


@pytest.mark.parametrize(
    ("version", "upcasters", "said"),
    [
        (2, None, r"is at version 2 and needs upcasters for versions \[1\], but has them for \[\]"),
        (3, {1: upcast}, r"needs upcasters for versions \[1, 2\], but has them for \[1\]"),
        (3, {2: upcast}, r"needs upcasters for versions \[1, 2\], but has them for \[2\]"),
        (2, {1: upcast, 2: upcast}, r"needs upcasters for versions \[1\], but has them for \[1, 2\]"),
        (1, {1: upcast}, r"needs upcasters for versions \[\], but has them for \[1\]"),
        (0, None, "is at version 0: versions count from 1"),
        (-1, None, "is at version -1: versions count from 1"),
    ],
)
def test_every_old_version_has_its_upcaster(version: int, upcasters: Any, said: str) -> None:
    with pytest.raises(SchemaError, match=said):

        class Gap(Event, stream="session", version=version, upcasters=upcasters):
            """There is a gap."""

    assert "gap" not in EVENTS


@pytest.mark.parametrize("name", ["Phase", "phase.started", "phase started", "*", "1st", "phase-started", "übung"])
def test_a_name_is_a_subject_token(name: str) -> None:
    with pytest.raises(SchemaError, match="is no subject token"):

        class Odd(Event, stream="session", name=name):
            """It is odd."""


@pytest.mark.parametrize(
    ("cls", "name"), [("PhaseStarted", "phase_started"), ("Done", "done"), ("GatePassedTwice", "gate_passed_twice")]
)
def test_wire_names(cls: str, name: str) -> None:
    assert wire_name(cls) == name


# Upcasting


def declare_three() -> type[Event]:
    class SpeedMeasured(
        Event,
        stream="session",
        version=3,
        upcasters={
            1: lambda body: {"kmh": body["mph"] * 1.609344},
            2: lambda body: body | {"by": "unknown"},
        },
    ):
        """The speed was measured."""

        kmh: float
        by: str

    return SpeedMeasured


@pytest.mark.parametrize(
    ("version", "body", "kmh", "by"),
    [
        (1, {"mph": 10}, 16.09344, "unknown"),
        (2, {"kmh": 5}, 5.0, "unknown"),
        (3, {"kmh": 5, "by": "radar"}, 5.0, "radar"),
    ],
)
def test_a_body_of_any_version_is_lifted_to_the_newest(version: int, body: Any, kmh: float, by: str) -> None:
    cls = declare_three()
    assert lift(EVENTS, "event", "speed_measured", version, body) == cls(kmh=kmh, by=by)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("version", "body"),
    [(1, {}), (1, {"mph": "fast"}), (1, {"mph": None}), (2, {"kmh": "fast"}), (3, {"kmh": 5}), (2, {"mph": 1})],
)
def test_a_body_an_upcaster_cannot_read_is_unreadable(version: int, body: Any) -> None:
    declare_three()
    with pytest.raises(UnreadableMessage, match=f"event 'speed_measured' version {version} does not fit its schema"):
        lift(EVENTS, "event", "speed_measured", version, body)


@pytest.mark.parametrize("version", [4, 0, -1])
def test_a_version_nobody_declared_is_unreadable(version: int) -> None:
    declare_three()
    with pytest.raises(UnreadableMessage, match=f"version {version}, this program knows up to 3: update it"):
        lift(EVENTS, "event", "speed_measured", version, {"kmh": 1, "by": "x"})


def test_messages_are_values() -> None:
    event = EVENTS["phase_completed"].cls.model_validate({"phase": "scope", "attempt": 1})
    assert event == EVENTS["phase_completed"].cls.model_validate({"phase": "scope", "attempt": 1})
    with pytest.raises(ValueError, match="frozen"):
        event.phase = "other"  # type: ignore[attr-defined]


def test_the_registry_is_complete_and_consistent() -> None:
    from schemas import registry

    assert registry.EVENTS is messages.EVENTS
    for kinds, kind in ((EVENTS, "event"), (COMMANDS, "command")):
        for name, message in kinds.items():
            assert (message.name, message.kind) == (name, kind)
            assert message.cls.message_type is message
            assert message.cls.__module__ in (
                "schemas.session",
                "schemas.drive",
                "schemas.system",
                "schemas.commands",
                "schemas.model_messages",
                "schemas.forking",
            )
    assert all(c.senders for c in COMMANDS.values()), "a command nobody may send"
    known = {*(r.value for r in Role), *(s.value for s in Sender)}
    assert {s for c in COMMANDS.values() for s in c.senders} <= known
