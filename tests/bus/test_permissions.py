"""Who may do what: the lists, and what a real server refuses."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus.messages import matches
from bus.nats_bus import connect
from bus.permissions import ROLES, inbox_prefix, permissions
from bus.port import BusError, Delivery, Outcome, PermissionDenied
from bus.server import EmbeddedServer
from bus.streams import CONSUMERS, agent_consumer
from schemas.messages import COMMANDS as COMMAND_TYPES
from schemas.values import Role
from tests.bus.conftest import NatsHarness
from tests.bus.own_server import OwnServer
from tests.conformance.bus_kit import TRAINING, Log, command, events, eventually, stays_quiet

AGENTS = [str(role) for role in Role]


@pytest.fixture(params=["embedded", "own"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedServer | OwnServer]:
    """What is refused is refused by the embedded server and by one of one's own alike."""
    kind = EmbeddedServer if request.param == "embedded" else OwnServer
    async with kind(tmp_path / "nats", tenant="default") as server:
        yield server


LISTS = {role: permissions(role) for role in ROLES}


def may_publish(role: str, subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in LISTS[role].publish)


def may_subscribe(role: str, subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in LISTS[role].subscribe)


def test_the_roles_are_these() -> None:
    assert list(ROLES) == ["autopilot", "operator", "chatops", "conductor", "gateway", "observer", *AGENTS]
    with pytest.raises(ValueError, match="no such role: 'root'"):
        permissions("root")


def test_commands_go_out_only_under_the_senders_own_token() -> None:
    for role in ROLES:
        for other in ROLES:
            for name, kind in COMMAND_TYPES.items():
                allowed = role == other and role in kind.senders
                assert may_publish(role, f"vt.default.cmd.s.{name}.{other}") == allowed, (role, name, other)


def test_only_the_conductor_publishes_events_and_makes_things() -> None:
    subjects = [
        "vt.default.evt.s.gate_passed._",
        "$JS.API.STREAM.CREATE.VT_EVENTS",
        "$JS.API.STREAM.UPDATE.VT_EVENTS",
        "$JS.API.CONSUMER.CREATE.VT_EVENTS.agent-lead",
        "_INBOX.operator.x",
    ]
    for role in ROLES:
        assert {may_publish(role, subject) for subject in subjects} == {role == "conductor"}


def test_nobody_deletes_or_creates_by_other_ways() -> None:
    for role in ROLES:
        for action in ("STREAM.DELETE.VT_EVENTS", "STREAM.PURGE.VT_EVENTS", "STREAM.MSG.DELETE.VT_EVENTS"):
            assert not may_publish(role, f"$JS.API.{action}")
        for action in ("CONSUMER.DELETE.VT_EVENTS.agent-lead", "CONSUMER.DURABLE.CREATE.VT_EVENTS.agent-lead"):
            assert not may_publish(role, f"$JS.API.{action}")
        assert not may_publish(role, "$JS.API.CONSUMER.CREATE.VT_EVENTS")
        # To make the work queue anew with settings that the server does not change; it does so only while it is empty.
        assert may_publish(role, "$JS.API.STREAM.DELETE.VT_COMMANDS") == (role == "conductor")
        assert not may_publish(role, "live.vt.default.evt.s.x._")


def test_everybody_hears_his_own_answers_only() -> None:
    for role in ROLES:
        for other in ROLES:
            assert may_subscribe(role, f"{inbox_prefix(other)}.abc.1") == (role == other)
        assert not may_subscribe(role, "$JS.API.STREAM.INFO.VT_EVENTS")
        assert not may_subscribe(role, "vt.default.cmd.s.decide_gate.operator")
        assert not may_subscribe(role, "vt.default.dead.conductor")


def test_each_consumer_has_one_owner() -> None:
    for spec in CONSUMERS:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}"
        owners = [role for role in ROLES if may_publish(role, subject)]
        acks = [role for role in ROLES if may_publish(role, f"$JS.ACK.{spec.stream}.{spec.name}.1.1.1.1.0")]
        buries = [role for role in ROLES if may_publish(role, f"vt.default.dead.{spec.name}")]
        assert len(owners) == 1
        assert owners == acks == buries


def test_nobody_reads_with_a_reply_of_his_choice_what_others_of_less_trust_write() -> None:
    # Else the server would carry their bytes to any subject (see the module).
    for stream, trusted in (
        ("VT_COMMANDS", ["conductor"]),
        ("VT_DEAD", ["conductor", "operator"]),
        ("VT_TELEMETRY", ["conductor"]),
    ):
        subjects = [
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.CONSUMER.CREATE.{stream}.x",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.conductor",
        ]
        readers = {role for role in ROLES for subject in subjects if may_publish(role, subject)}
        assert readers <= set(trusted), stream


def test_telemetry_is_spoken_under_ones_own_name_and_heard_by_people() -> None:
    for role in ROLES:
        assert may_publish(role, f"vt.default.tel.s.{role}.progress") == (role != "observer")
        assert not may_publish(role, "vt.default.tel.s.somebody.progress")
        assert may_subscribe(role, "vt.default.tel.s.training.progress") == (
            role in ("autopilot", "operator", "chatops", "observer")
        )


def test_agents_ask_under_their_own_name_and_only_the_gateway_hears_and_answers() -> None:
    for role in ROLES:
        for other in ROLES:
            allowed = role == other and role in AGENTS
            assert may_publish(role, f"vt.default.ask.s.model.{other}") == allowed, (role, other)
            answers = role == "conductor" or (role == "gateway" and other in AGENTS)
            assert may_publish(role, f"{inbox_prefix(other)}.x") == answers, (role, other)
        assert may_subscribe(role, "vt.default.ask.s.model.training") == (role == "gateway")


def test_a_tenants_logins_stay_with_their_tenant() -> None:
    for role in ROLES:
        lists = permissions(role, "acme")
        for pattern in (*lists.publish, *lists.subscribe):
            assert not matches(pattern, "vt.other.evt.s.x._")
            assert not matches(pattern, "vt.other.tel.s.training.x")


REFUSED = {
    "training": [
        "vt.default.evt.s.gate_passed._",
        "vt.default.evt.S-Upper.phase_started.training",
        "vt.default.cmd.s.decide_gate.operator",
        "vt.default.cmd.s.decide_gate.training",
        "vt.default.cmd.s.report_work.risk",
        "vt.default.cmd.s.start_session.training",
        "vt.default.tel.s.risk.progress",
        "vt.default.dead.agent-risk",
        "live.vt.default.evt.s.x._",
        "_INBOX.risk.x",
        "vt.default.ask.s.model.risk",
        "vt.default.cmd.s.record_model_call.training",
        "vt.default.cmd.s.record_model_call.gateway",
        "$JS.API.CONSUMER.CREATE.VT_EVENTS.mine",
        "$JS.API.CONSUMER.CREATE.VT_EVENTS",
        "$JS.API.CONSUMER.DURABLE.CREATE.VT_EVENTS.mine",
        "$JS.API.CONSUMER.MSG.NEXT.VT_EVENTS.agent-risk",
        "$JS.ACK.VT_EVENTS.agent-risk.1.1.1.1.0",
        "$JS.API.DIRECT.GET.VT_EVENTS",
        "$JS.API.STREAM.MSG.GET.VT_EVENTS",
        "$JS.API.STREAM.INFO.VT_EVENTS",
        "$JS.API.STREAM.DELETE.VT_EVENTS",
    ],
    "gateway": [
        "vt.default.evt.s.model_called._",
        "vt.default.cmd.s.report_work.training",
        "vt.default.cmd.s.decide_gate.operator",
        "_INBOX.operator.x",
        "$JS.API.DIRECT.GET.VT_DEAD",
    ],
    "operator": [
        "vt.default.evt.s.gate_passed._",
        "vt.default.cmd.s.record_effect.autopilot",
        "$JS.API.CONSUMER.CREATE.VT_EVENTS.agent-risk",
    ],
    "autopilot": [
        "vt.default.cmd.s.decide_gate.operator",
        "vt.default.evt.s.gate_passed._",
        "$JS.API.DIRECT.GET.VT_DEAD",
    ],
    "observer": [
        "vt.default.evt.s.x._",
        "vt.default.cmd.s.decide_gate.operator",
        "vt.default.cmd.s.decide_gate.observer",
        "vt.default.tel.s.observer.x",
        "$JS.API.CONSUMER.CREATE.VT_EVENTS.agent-risk",
        "$JS.API.DIRECT.GET.VT_DEAD",
        "$JS.API.STREAM.PURGE.VT_EVENTS",
    ],
    "conductor": [
        "$JS.API.STREAM.DELETE.VT_EVENTS",
        "$JS.API.STREAM.PURGE.VT_EVENTS",
        "vt.default.cmd.s.decide_gate.operator",
    ],
}
SILENT = {
    "training": [
        "vt.*.ask.>",
        "vt.default.ask.*.model.training",
        "_INBOX.risk.>",
        "_INBOX.>",
        "vt.*.evt.>",
        "live.vt.*.evt.>",
        "vt.*.tel.>",
        "vt.*.dead.>",
    ],
    "observer": ["_INBOX.operator.>", "vt.*.cmd.>", ">"],
    "operator": ["_INBOX.conductor.>", "vt.*.cmd.>"],
}


@pytest.mark.parametrize("role", REFUSED)
async def test_the_server_refuses_to_publish(harness: NatsHarness, role: str) -> None:
    bus, conductor = await harness.bus(role), await harness.bus("conductor")
    for subject in REFUSED[role]:
        refusal = re.escape(f"publish to {subject.lower()} for the login '{role}'")
        with pytest.raises(PermissionDenied, match=refusal):
            await asyncio.wait_for(bus.connection.request(subject, b"{}"), 2.0)
    assert bus.connection.denied == len(REFUSED[role])
    for stream in ("VT_EVENTS", "VT_COMMANDS", "VT_DEAD"):
        assert (await conductor.connection.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == 0


@pytest.mark.parametrize("role", SILENT)
async def test_the_server_refuses_to_let_listen(harness: NatsHarness, role: str) -> None:
    bus, log = await harness.bus(role), Log()
    for subject in SILENT[role]:
        with pytest.raises(PermissionDenied, match="subscription"):
            async with bus.subscribe(subject, log.live):
                raise AssertionError(f"{role} may listen on {subject}")


async def test_a_refused_command_and_event_are_told_at_once(harness: NatsHarness) -> None:
    observer, agent = await harness.bus("observer"), await harness.bus("training")
    with pytest.raises(PermissionDenied):
        await asyncio.wait_for(agent.send(replace(command(), sender="operator")), 2.0)
    with pytest.raises(PermissionDenied):
        await asyncio.wait_for(observer.publish_events(events(1)), 2.0)
    with pytest.raises(PermissionDenied):
        await asyncio.wait_for(observer.publish_events(events(3)), 2.0)
    with pytest.raises(PermissionDenied):
        await asyncio.wait_for(agent.dead_letters(), 2.0)
    with pytest.raises(PermissionDenied):
        await asyncio.wait_for(agent.last_event(), 2.0)


async def test_an_agent_cannot_consume_what_is_for_another(harness: NatsHarness) -> None:
    agent = await harness.bus("training")
    with pytest.raises(PermissionDenied):
        async with agent.consume(agent_consumer("risk"), Log()):
            raise AssertionError("it may look")
    # Nor when it is allowed to look but not to pull: the context ends with the refusal.
    agent.connection.api = _let_pass  # type: ignore[method-assign, assignment]
    with pytest.raises(PermissionDenied, match=r"msg\.next"):
        async with agent.consume(agent_consumer("risk"), Log()):
            await asyncio.wait_for(asyncio.Event().wait(), 5.0)


async def _let_pass(action: str) -> dict[str, object]:
    return {}


async def test_a_follower_needs_leave_to_read(harness: NatsHarness) -> None:
    agent = await harness.bus("training")
    with pytest.raises(PermissionDenied):
        async with agent.follow(("vt.default.evt.>",), Log().note):
            raise AssertionError("it may follow")


async def test_refused_telemetry_reaches_nobody(harness: NatsHarness) -> None:
    observer, agent, log = await harness.bus("observer"), await harness.bus("training"), Log()
    async with observer.subscribe("vt.default.tel.>", log.live):
        await agent.tell("vt.default.tel.s.risk.progress", b"not mine")
        await agent.tell("vt.default.tel.s.training.progress", b"mine")
        await log.until(1)
    assert [each.raw for each in log.deliveries] == [b"mine"]
    assert await agent.connection.round_trip()  # its refusal is on another link than what it said
    assert agent.connection.denied == 1


async def test_a_receipt_goes_nowhere_but_to_the_senders_inbox(harness: NatsHarness) -> None:
    bus, agent = await harness.bus("conductor"), await harness.bus("training")
    targets = [
        "vt.default.evt.s.gate_passed._",
        "_INBOX.operator.x",
        "_INBOX.training",
        "_INBOX.training.*",
        "_INBOX.training.> x",
        "_INBOX.trainingx.y",
        "",
    ]
    heard = Log()
    subject = "vt.default.cmd.s.claim_attempt.training"
    async with agent.subscribe("_INBOX.training.>", heard.live):
        for target in targets:
            await bus.reply(Delivery(subject, b"", {"Vt-Reply-To": target}, 1, 1, _nothing), {"no": "receipt"})
        await bus.reply(Delivery(subject, b"", {"Vt-Reply-To": "_INBOX.training.ok"}, 1, 1, _nothing), {"yes": 1})
        await heard.until(1)
    assert [json.loads(each.raw) for each in heard.deliveries] == [{"yes": 1}]
    assert await bus.last_event() is None


async def _nothing() -> None:
    return None


async def test_answers_led_astray_by_a_reply_subject_are_not_taken_for_messages(harness: NatsHarness) -> None:
    """The server answers to any reply subject; what then lies in a stream is not handed to anybody."""
    bus, agent, operator = [await harness.bus(role) for role in ("conductor", "training", "operator")]
    followed, consumed = Log(), Log()
    own = "vt.default.cmd.s.claim_attempt.training"
    # An acknowledgement becomes an "event" for the Training agent, and a "gate decision by the operator".
    await agent.connection.publish(own, b"x", reply="vt.default.evt.s.phase_started.training")
    await agent.connection.publish(own, b"x", reply="vt.default.cmd.s.decide_gate.operator")

    async def conductor_handler(delivery: Delivery) -> Outcome:
        raise AssertionError(f"handed over: {delivery}")

    async with (
        bus.consume(CONSUMERS[0], conductor_handler),
        agent.consume(TRAINING, consumed),
        operator.follow(("vt.default.evt.>",), followed.note),
    ):
        await bus.publish_events(events(1))
        await followed.until(1)
        await consumed.until(1)
        await stays_quiet(followed, 0.2)
    assert followed.names == consumed.names == ["e1"]
    dead = await operator.dead_letters()
    assert {each["reason"] for each in dead} == {"not published through the bus: its headers are missing"}
    assert len(dead) >= 2
    # The relay is not misled about what the stream last holds either.
    await agent.connection.publish(own, b"x", reply="vt.default.evt.s.phase_started.training")
    assert await agent.connection.round_trip()
    found = await bus.last_event()
    assert found is not None
    assert found[1] == "e1"
    assert await operator.last_sequence() == found[0]


async def test_a_stored_event_cannot_be_made_a_command(harness: NatsHarness) -> None:
    bus, agent = await harness.bus("conductor"), await harness.bus("training")
    await bus.publish_events(events(1))
    pull = json.dumps({"batch": 1, "no_wait": True}).encode()
    subject = "$JS.API.CONSUMER.MSG.NEXT.VT_EVENTS.agent-training"
    await agent.connection.publish(subject, pull, reply="vt.default.cmd.s.decide_gate.operator")
    assert await agent.connection.round_trip()

    async def pulled() -> bool:
        info = await bus.connection.api("CONSUMER.INFO.VT_EVENTS.agent-training")
        return bool(info["num_ack_pending"])

    await eventually(pulled)
    assert (await bus.connection.api("STREAM.INFO.VT_COMMANDS"))["state"]["last_seq"] == 0


async def test_a_tenants_server_refuses_other_tenants(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with (
        EmbeddedServer(tmp_path_factory.mktemp("nats"), tenant="acme") as server,
        await connect(server.login("conductor")) as bus,
    ):
        with pytest.raises(PermissionDenied):
            await bus.publish_events(events(1))


async def test_a_seed_that_is_none_is_refused(server: EmbeddedServer) -> None:
    with pytest.raises(BusError, match="cannot connect"):
        await connect(replace(server.login("operator"), seed="SUnonsense"))
