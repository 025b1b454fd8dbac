"""Two tenants on one server: no login of one can read, list, consume or publish anything of the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus.connection import Connection
from bus.nats_bus import NatsBus, connect
from bus.permissions import ROLES, inbox_prefix
from bus.port import BusError, OutgoingEvent, PermissionDenied
from bus.streams import CONDUCTOR, CONSUMERS, STREAMS
from tests.bus.own_server import OwnServer
from tests.conformance.bus_kit import Log, command, conductor, stays_quiet

SECRET = b'{"of": "beta"}'


def event_of(tenant: str, number: int, raw: bytes = b"{}") -> OutgoingEvent:
    subject = f"vt.{tenant}.evt.s.phase_started.training"
    return OutgoingEvent(subject, f"{tenant}-{number}", raw)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    async with OwnServer(tmp_path / "nats", "acme", "beta") as server:
        yield server


@pytest.fixture
async def beta(server: OwnServer) -> AsyncIterator[NatsBus]:
    """Beta's conductor, with three events and a command in its streams."""
    async with await connect(server.given("beta").login("conductor")) as bus:
        await bus.publish_events([event_of("beta", number, SECRET) for number in (1, 2, 3)])
        yield bus


@pytest.fixture
async def acme(server: OwnServer) -> AsyncIterator[NatsBus]:
    """Acme's conductor, whose own streams are empty."""
    async with await connect(server.given("acme").login("conductor")) as bus:
        yield bus


async def told(connection: Connection, subject: str, body: bytes) -> bytes:
    """Everything the server answers to a request, or the kind of its refusal."""
    try:
        return (await asyncio.wait_for(connection.request(subject, body, timeout=1.0), 2.0)).data
    except PermissionDenied:
        return b"denied"
    except BusError as problem:
        return type(problem).__name__.encode()


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_gets_at_anothers_streams(server: OwnServer, acme: NatsBus, beta: NatsBus, role: str) -> None:
    before = {name: await beta.connection.api(f"STREAM.INFO.{name}") for name in STREAMS}
    answers: dict[str, bytes] = {}
    async with await connect(server.given("acme").login(role)) as bus:
        for stream in STREAMS:
            for action, body in (
                (f"STREAM.INFO.{stream}", {"subjects_filter": ">"}),
                (f"STREAM.MSG.GET.{stream}", {"seq": 1}),
                (f"DIRECT.GET.{stream}", {"seq": 1}),
                (f"DIRECT.GET.{stream}", {"last_by_subj": "vt.beta.evt.>"}),
                (f"DIRECT.GET.{stream}.vt.beta.evt.s.phase_started.training", {}),
                (f"CONSUMER.LIST.{stream}", {}),
                (f"STREAM.PURGE.{stream}", {}),
            ):
                answers[f"{action} {body}"] = await told(bus.connection, f"$JS.API.{action}", json.dumps(body).encode())
        for spec in CONSUMERS:
            for subject in (
                f"$JS.API.CONSUMER.INFO.{spec.stream}.{spec.name}",
                f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}",
            ):
                answers[subject] = await told(bus.connection, subject, b'{"batch": 1, "no_wait": true}')
        for subject in (
            "$JS.API.INFO",
            "$JS.API.STREAM.LIST",
            "$JS.API.STREAM.NAMES",
            "$SYS.REQ.ACCOUNT.beta.JSZ",
            "$SYS.REQ.SERVER.PING",
            "$JS.beta.API.STREAM.INFO.VT_EVENTS",
            "vt.beta.evt.s.gate_passed._",
            "vt.beta.cmd.s.decide_gate.operator",
            "vt.beta.dead.conductor",
            f"vt.beta.tel.s.{role}.progress",
            f"$JS.ACK.VT_EVENTS.agent-{role}.1.1.1.1.0",
        ):
            answers[subject] = await told(bus.connection, subject, b"{}")
    assert any(answer == b"denied" for answer in answers.values())
    # Whatever was answered tells of acme's own, empty streams.
    assert not [subject for subject, answer in answers.items() if b"beta" in answer or SECRET in answer]
    for answer in answers.values():
        if answer.startswith(b"{") and "state" in (found := json.loads(answer)):
            assert found["state"]["messages"] == 0
    for name, was in before.items():
        now = await beta.connection.api(f"STREAM.INFO.{name}")
        assert (now["state"], now["config"]) == (was["state"], was["config"])


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_hears_another_tenant(server: OwnServer, acme: NatsBus, beta: NatsBus, role: str) -> None:
    heard = Log()
    async with await connect(server.given("acme").login(role)) as bus:
        for subject in ("vt.beta.>", "live.vt.beta.>", "live.>", ">", "$JS.EVENT.>", f"{inbox_prefix(role)}.>"):
            try:
                await bus.connection.subscribe(subject, lambda m: heard.live(m.subject, m.data, m.headers or {}))
            except PermissionDenied:
                continue
        async with (
            await connect(server.given("beta").login("training")) as agent,
            await connect(server.given("beta").login(role)) as twin,
        ):
            await beta.publish_events([event_of("beta", 4, SECRET)])
            await agent.tell("vt.beta.tel.s.training.progress", SECRET)
            assert await twin.connection.round_trip()
            # An answer of beta's server to beta's login of the same role, on the same inbox prefix.
            async with asyncio.timeout(5):
                await told(twin.connection, "$JS.API.STREAM.INFO.VT_EVENTS", b"")
        await stays_quiet(heard, 0.1)
    assert heard.deliveries == []


async def test_a_reply_subject_leads_nothing_to_another_tenant(server: OwnServer, acme: NatsBus, beta: NatsBus) -> None:
    """The server answers to any reply subject a requester names, even one of the JetStream API, where an empty answer
    counts as a request (see `bus.permissions`): within his own account only."""
    pull = b'{"batch": 1, "no_wait": true}'
    async with await connect(server.given("acme").login("training")) as agent:
        for reply in (
            "vt.beta.evt.s.phase_started.training",
            "vt.beta.cmd.s.decide_gate.operator",
            "_INBOX.operator.x",
            *(f"$JS.API.STREAM.{action}.{stream}" for action in ("PURGE", "DELETE") for stream in STREAMS),
        ):
            await agent.connection.publish("vt.acme.cmd.s.claim_attempt.training", b"x", reply=reply)
            await agent.connection.publish("$JS.API.CONSUMER.MSG.NEXT.VT_EVENTS.agent-training", pull, reply=reply)
        assert await agent.connection.round_trip()
    # The server's API works through its requests in their order: what acme's agent led there is done after this one.
    await told(acme.connection, "$JS.API.STREAM.INFO.VT_COMMANDS", b"")
    for stream, held in (("VT_EVENTS", 3), ("VT_COMMANDS", 0)):
        assert (await beta.connection.api(f"STREAM.INFO.{stream}"))["state"]["messages"] == held


async def test_a_login_of_one_tenant_is_none_of_the_other(server: OwnServer) -> None:
    """The account goes with the key, not with anything the client says."""
    own, other = server.given("acme").login("conductor"), server.given("beta").login("conductor")
    assert own.seed != other.seed
    async with await connect(replace(other, seed=own.seed)) as bus:
        await bus.publish_events([event_of("acme", 1)])
        with pytest.raises(PermissionDenied):
            await bus.publish_events([event_of("beta", 1)])


async def test_both_work_side_by_side_with_positions_of_their_own(
    server: OwnServer, acme: NatsBus, beta: NatsBus
) -> None:
    assert await acme.last_sequence() == 0
    assert await acme.publish_events([event_of("acme", 1, b"acme-1")]) == [1]
    assert await acme.last_event() == (1, "acme-1")
    assert await beta.last_event() == (3, "beta-3")
    followed = Log()
    async with (
        await connect(server.given("acme").login("observer")) as observer,
        observer.follow(("vt.acme.evt.>",), followed.note),
    ):
        await followed.until(1)
        await beta.publish_events([event_of("beta", 5)])
        await acme.publish_events([event_of("acme", 2, b"acme-2")])
        await followed.until(2)
    assert followed.names == ["acme-1", "acme-2"]


async def test_a_command_reaches_its_own_conductor_only(server: OwnServer, acme: NatsBus, beta: NatsBus) -> None:
    elsewhere, seen = Log(), []
    sent = command()
    sent = replace(sent, stream=replace(sent.stream, tenant="acme"))
    async with (
        acme.consume(CONDUCTOR, conductor(acme, seen)),
        beta.consume(CONDUCTOR, elsewhere),
        await connect(server.given("acme").login("operator")) as operator,
    ):
        assert (await operator.send(sent))["command"] == sent.id
        await stays_quiet(elsewhere, 0.1)
    assert [each.id for each in seen] == [sent.id]
    assert elsewhere.deliveries == []
