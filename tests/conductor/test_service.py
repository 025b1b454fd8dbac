"""The shell: one verdict for each command, whatever crashes, conflicts or lies in between."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import anyio
import anyio.to_thread
import pytest

from bus.port import Ack, GiveUp, Retry
from conductor import service
from conductor.drives import DriveState
from conductor.letters import LetterState, letter_view
from conductor.replay import verify_decisions
from conductor.state import Stage, Status
from schemas import commands as cmd
from schemas.envelope import StreamId, decode_command, encode_command
from schemas.values import Actor
from store.port import Append, Appended, ArmedTimer, Handled, StoreCorrupt, StoreUnavailable
from store.sqlite import SqliteStore
from tests.conductor.rig import OLGA, SESSION, SYSTEM, TENANT, Rig, person
from tests.conductor.shell import STREAM, Clock, Flaky, Shell, delivery
from tests.golden.samples import sample


@pytest.fixture
def shell(store: SqliteStore) -> Shell:
    return Shell(store)


def abort(shell: Shell) -> cmd.AbortSession:
    return cmd.AbortSession(reason="no longer wanted")


def other(name: str) -> StreamId:
    return StreamId(TENANT, "session", name)


async def test_a_command_is_recorded_and_answered(shell: Shell) -> None:
    start = shell.start()
    assert await shell.handle(start) == [Ack()]
    assert shell.bus.sent == [
        (
            f"vt.default.cmd.{SESSION}.start_session.autopilot",
            {"accepted": True, "version": 2, "events": [["session_started", 1], ["phase_started", 2]]},
        )
    ]
    first, second = shell.store.read(STREAM)
    assert (first.causation_id, first.correlation_id, first.actor, first.time) == (
        start.id, SESSION, start.actor, start.time)  # fmt: skip
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.id != second.id
    assert shell.store.handled(start.id).raw == encode_command(start)


async def test_a_claim_s_verdict_names_the_lease(shell: Shell) -> None:
    await shell.handle(shell.start())
    assert await shell.verdict(shell.claim()) == {
        "accepted": True, "version": 3, "events": [["attempt_claimed", 3]], "lease": 3}  # fmt: skip


async def test_a_refusal_is_an_answer_and_not_a_failure(shell: Shell) -> None:
    await shell.handle(shell.start())
    verdict = await shell.verdict(shell.start())
    assert verdict == {
        "accepted": False, "version": 3, "events": [["command_refused", 3]], "code": "session_exists",
        "reason": f"session {SESSION} exists already"}  # fmt: skip
    assert shell.types() == ["session_started", "phase_started", "command_refused"]


async def test_a_command_for_nobody_leaves_no_event(shell: Shell) -> None:
    verdict = await shell.verdict(shell.envelope(abort(shell), "operator", OLGA))
    assert (verdict["accepted"], verdict["code"], verdict["version"]) == (False, "unknown_session", 0)
    assert shell.types() == []
    assert shell.store.streams(TENANT) == []
    assert (await shell.verdict(shell.start()))["accepted"]


async def test_views_follow_in_the_same_transaction(shell: Shell) -> None:
    await shell.handle(shell.start())
    assert shell.store.view(TENANT, "session", SESSION)["status"] == "active"
    await shell.handle(shell.envelope(abort(shell), "operator", OLGA))
    assert shell.store.view(TENANT, "session", SESSION)["status"] == "aborted"


async def test_a_gate_has_a_view_of_its_own(shell: Shell) -> None:
    rig = Rig().to("build-it")
    rig.work()
    await shell.conductor.handle_commands(rig.commands)
    gates = {view["gate"]: view["status"] for view in shell.store.views(TENANT, "gate")}
    assert gates == {f"{SESSION}.plan-it.1": "passed", f"{SESSION}.build-it.1": "open"}


# Batches


async def test_a_batch_of_many_sessions_is_one_transaction(store: SqliteStore) -> None:
    flaky = Flaky(store)
    shell = Shell(flaky)
    names = [f"s{n}-x" for n in range(20)]
    assert await shell.handle(*(shell.start(name) for name in names)) == [Ack()] * 20
    assert flaky.appended == 1
    assert [s.name for s in store.streams(TENANT)] == names


async def test_commands_of_one_session_are_handled_in_order(shell: Shell) -> None:
    await shell.handle(shell.start())
    first, second = shell.claim("one"), shell.claim("two")
    third = shell.failure(lease=4)
    assert await shell.handle(first, second, third) == [Ack()] * 3
    assert [v["version"] for _, v in shell.bus.sent[1:]] == [3, 4, 6]
    assert shell.types()[2:] == ["attempt_claimed", "attempt_claimed", "attempt_failed", "retry_scheduled"]


async def test_the_same_command_twice_in_one_batch_is_handled_once(shell: Shell) -> None:
    start = shell.start()
    assert await shell.handle(start, start, start) == [Ack()] * 3
    assert shell.types() == ["session_started", "phase_started"]
    verdicts = [v for _, v in shell.bus.sent]
    assert verdicts[0] == verdicts[1] == verdicts[2]


async def test_an_empty_batch_is_nothing(shell: Shell) -> None:
    assert await shell.handle() == []


async def test_whoever_waits_is_woken_by_a_commit(shell: Shell) -> None:
    waiting = shell.conductor.committed
    await shell.handle(shell.start())
    assert waiting.is_set()
    assert not shell.conductor.committed.is_set()


# Crashes and conflicts


async def test_a_redelivery_after_a_crash_gets_the_same_verdict(shell: Shell) -> None:
    start = shell.start()
    await shell.handle(start)
    claim = shell.claim()
    first = await shell.verdict(claim)
    after_crash = Shell(shell.store)
    assert await after_crash.verdict(claim) == first
    assert await after_crash.verdict(start) == shell.bus.sent[0][1]
    assert shell.types() == ["session_started", "phase_started", "attempt_claimed"]


async def test_a_restarted_conductor_goes_on_where_the_record_ends(shell: Shell) -> None:
    await shell.handle(shell.start())
    after_crash = Shell(shell.store)
    assert (await after_crash.verdict(after_crash.claim()))["lease"] == 3
    assert after_crash.state() == Shell(shell.store).state()


async def test_two_conductors_on_one_record_both_get_on(store: SqliteStore) -> None:
    one, two = Shell(store), Shell(store)
    await one.handle(one.start())
    assert two.state().version == 2
    for turn in range(10):
        shell = (one, two)[turn % 2]
        verdict = await shell.verdict(shell.claim(f"turn-{turn}"))
        assert verdict["lease"] == 3 + turn
    assert store.version(STREAM) == 12
    assert verify_decisions(store, STREAM).difference is None


async def test_who_comes_second_decides_again_on_what_the_first_wrote(store: SqliteStore) -> None:
    flaky = Flaky(store)
    one, two = Shell(flaky), Shell(store)
    await one.handle(one.start())
    quick = two.claim("quick")
    slow = one.claim("slow")
    flaky.before.append(lambda: two.conductor._handle([quick]))
    verdict = await one.verdict(slow)
    assert (verdict["lease"], flaky.appended) == (4, 3)
    assert one.state().current.holder == "slow"
    assert verify_decisions(store, STREAM).difference is None


async def test_nothing_is_built_on_a_decision_that_lost(store: SqliteStore) -> None:
    """The other conductor writes exactly as many events as the first command of the batch would have: the second
    command's version fits by chance, and must not be written as decided on a state that never was."""
    flaky = Flaky(store)
    one, two = Shell(flaky), Shell(store)
    await one.handle(one.start())
    quick = two.claim("quick")
    stop = one.envelope(abort(one), "operator", OLGA)
    late = one.claim("late")
    flaky.before.append(lambda: two.conductor._handle([quick]))
    assert await one.handle(stop, late) == [Ack(), Ack()]
    assert shell_types(store) == ["attempt_claimed", "session_aborted", "command_refused"]
    assert verify_decisions(store, STREAM).difference is None


def shell_types(store: SqliteStore) -> list[str]:
    return [e.type for e in store.read(STREAM)][2:]


async def test_a_command_the_other_conductor_handled_is_not_handled_again(store: SqliteStore) -> None:
    flaky = Flaky(store)
    one, two = Shell(flaky), Shell(store)
    await one.handle(one.start())
    claim = one.claim()
    answered: list[object] = []
    flaky.before.append(lambda: answered.extend(two.conductor._handle([claim])[0]))
    assert [await one.verdict(claim)] == answered
    assert store.version(STREAM) == 3
    assert one.state().lease == 3


async def test_an_unreachable_record_means_try_again_and_nothing_else(store: SqliteStore) -> None:
    flaky = Flaky(store)
    shell = Shell(flaky)
    await shell.handle(shell.start())
    claim, more = shell.claim(), shell.start("s2-x")
    flaky.away = True
    reason = "the disk is full: free some space"
    assert await shell.handle(claim, more) == [Retry(1.0, reason), Retry(1.0, reason)]
    assert isinstance(shell.conductor.trouble, StoreUnavailable)
    assert len(shell.bus.sent) == 1
    flaky.away = False
    assert await shell.handle(claim, more) == [Ack(), Ack()]
    assert shell.conductor.trouble is None
    assert [v["accepted"] for _, v in shell.bus.sent] == [True, True, True]
    assert shell.types() == ["session_started", "phase_started", "attempt_claimed"]


async def test_a_record_that_stays_away_makes_no_command_a_poison_message(store: SqliteStore) -> None:
    """The bus gives up what was delivered too often: after a few deliveries the commands wait with the conductor."""
    flaky = Flaky(store)
    shell = Shell(flaky)
    await shell.handle(shell.start())
    claim = shell.claim()
    flaky.away = True
    outcomes: list[object] = []

    async def handle() -> None:
        outcomes.extend(await shell.handle(claim, attempt=3))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(handle)
        while shell.conductor.trouble is None:  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.01)
        assert not outcomes
        flaky.away = False
    assert outcomes == [Ack()]
    assert shell.state().lease == 3


async def test_a_record_that_goes_away_while_writing(store: SqliteStore) -> None:
    flaky = Flaky(store)
    shell = Shell(flaky)
    await shell.handle(shell.start())

    def cut() -> None:
        raise StoreUnavailable("gone")

    claim = shell.claim()
    flaky.before.append(cut)
    assert await shell.handle(claim) == [Retry(1.0, "gone")]
    assert shell.state().lease == 0
    assert (await shell.verdict(claim))["lease"] == 3


async def test_one_unreadable_stream_does_not_stop_the_others(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(store)
    await shell.handle(shell.start(), shell.start("s2-x"))
    bad, good = shell.claim(), shell.claim(stream=other("s2-x"))
    monkeypatch.setattr(shell.conductor, "_cache", type(shell.conductor._cache)())
    whole = store.read

    def broken(stream: StreamId, *rest: int) -> object:
        if stream == STREAM:
            raise StoreCorrupt("event 2 was changed: restore the record from a backup")
        return whole(stream, *rest)

    monkeypatch.setattr(store, "read", broken)
    outcomes = await shell.handle(bad, good)
    assert outcomes == [Retry(1.0, "StoreCorrupt: event 2 was changed: restore the record from a backup"), Ack()]
    assert store.version(other("s2-x")) == 3
    with pytest.raises(StoreCorrupt):
        await shell.conductor.handle_commands([bad])
    monkeypatch.undo()
    assert (await shell.verdict(bad))["accepted"]


async def test_the_memory_of_streams_is_bounded(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CACHED_STREAMS", 2)
    for name in ("s1-x", "s2-x", "s3-x"):
        await shell.handle(shell.start(name))
    assert [s.name for s in shell.conductor._cache] == ["s2-x", "s3-x"]
    assert (await shell.verdict(shell.claim(stream=other("s1-x"))))["lease"] == 3


# What is no honest command


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "command is not JSON"),
        (b"\xff", "command is not JSON"),
        (b"[]", "command is not a JSON object"),
        (b"{}", "command header: id: Field required"),
    ],
)
async def test_bytes_that_are_no_command_are_given_up(shell: Shell, raw: bytes, why: str) -> None:
    good = shell.start()
    outcomes = await shell.conductor.handle_batch(shell.bus, [delivery(good, raw=raw), delivery(good)])  # type: ignore[arg-type]
    assert isinstance(outcomes[0], GiveUp)
    assert outcomes[0].reason.startswith(f"unreadable command: {why}")
    assert outcomes[1] == Ack()
    assert len(shell.bus.sent) == 1


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"type":"start_session"', '"type":"start_everything"', "unknown command type 'start_everything'"),
        ('"type":"start_session"', '"type":["start_session"]', "command header: type: "),
        ('"version":1', '"version":2', "has version 2, this program knows up to 1: update it"),
        ('"seed":7', '"seed":"seven"', "'start_session' version 1 does not fit its schema"),
        ('"kind":"session"', '"kind":"drive"', "start_session is not for a drive stream"),
        ('"tenant":"default"', '"tenant":"other"', "disagree"),
        (f'"stream":"{SESSION}"', '"stream":"s13-abcde"', "disagree"),
        ('"time":"2026-11-21T09:00:01.000000Z"', '"time":"2026-11-21T09:00:01"', "command header: time: "),
    ],
)
async def test_bytes_that_do_not_fit_are_given_up(shell: Shell, old: str, new: str, why: str) -> None:
    start = shell.start()
    text = encode_command(start).decode()
    assert text.count(old) >= 1
    (outcome,) = await shell.conductor.handle_batch(
        shell.bus,
        [delivery(start, raw=text.replace(old, new).encode())],  # type: ignore[arg-type]
    )
    assert isinstance(outcome, GiveUp)
    assert why in outcome.reason
    assert shell.types() == []


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("vt.default.evt.s12-abcde.start_session.autopilot", "not a command subject"),
        ("vt.default.cmd.s12-abcde.start_session", "not a command subject"),
        ("", "not a command subject"),
        ("vt.other.cmd.s12-abcde.start_session.autopilot", "disagree"),
        ("vt.default.cmd.s12-other.start_session.autopilot", "disagree"),
        ("vt.default.cmd.s12-abcde.abort_session.autopilot", "disagree"),
    ],
)
async def test_an_address_that_disagrees_with_the_bytes_is_given_up(shell: Shell, subject: str, why: str) -> None:
    start = shell.start()
    lie = delivery(start)
    (outcome,) = await shell.conductor.handle_batch(shell.bus, [lie._replace(subject=subject)])  # type: ignore[arg-type]
    assert isinstance(outcome, GiveUp)
    assert why in outcome.reason
    assert shell.types() == []


async def test_the_sender_is_who_the_server_says_and_not_what_the_bytes_claim(shell: Shell) -> None:
    await shell.handle(shell.start())
    claim = shell.claim()
    subject = f"vt.default.cmd.{SESSION}.claim_attempt.data"
    outcomes = await shell.conductor.handle_batch(shell.bus, [delivery(claim, subject=subject)])  # type: ignore[arg-type]
    assert outcomes == [Ack()]
    assert shell.bus.sent[-1][1]["code"] == "wrong_agent"
    assert decode_command(shell.store.handled(claim.id).raw).sender == "data"


async def test_a_sender_a_command_does_not_name_is_refused(shell: Shell) -> None:
    await shell.handle(shell.start())
    command = replace(shell.envelope(abort(shell), "operator", OLGA), sender="lead")
    verdict = await shell.verdict(command)
    assert (verdict["accepted"], verdict["code"]) == (False, "not_allowed")
    assert shell.state().status is Status.ACTIVE


async def test_nobody_takes_a_timer_s_name(shell: Shell) -> None:
    """Else an agent could have its own timeout answered before it fires."""
    await shell.handle(shell.start())
    (armed,) = shell.store.timers()
    stolen = replace(shell.claim(), id=decode_command(armed.command).id)
    (outcome,) = await shell.handle(stolen)
    assert isinstance(outcome, GiveUp)
    assert "is a timer's" in outcome.reason
    (outcome,) = await shell.handle(replace(stolen, id="dead.dl-0123456789"))
    assert isinstance(outcome, GiveUp)


# Drives


async def test_drives_are_handled_too(shell: Shell) -> None:
    stream = StreamId(TENANT, "drive", "d-1")
    start = cmd.StartDrive(backlog="b", repository="/r", policy_version="a" * 64, wip=1)
    selection = cmd.RecordSelection(order=(1,), passed_over={2: "held"})
    sent = [shell.envelope(c, "autopilot", stream=stream) for c in (selection, start, selection, start)]
    assert await shell.handle(*sent) == [Ack()] * 4
    assert [(v["accepted"], v["version"], v.get("code")) for _, v in shell.bus.sent] == [
        (False, 0, "drive_not_running"), (True, 1, None), (True, 2, None), (False, 2, "drive_exists")]  # fmt: skip
    expected = DriveState("d-1", 2, "running", "b", (1,))
    assert shell.conductor.load(stream) == expected
    assert Shell(shell.store).conductor.load(stream) == expected
    with pytest.raises(ValueError, match="only sessions are decided again"):
        verify_decisions(shell.store, stream)


async def test_dead_letters_are_handled_too(shell: Shell) -> None:
    stream = StreamId(TENANT, "system", "dl-0123456789")
    record = sample(cmd.RecordDeadLetter)
    await shell.conductor.handle_commands([shell.envelope(record, "conductor", SYSTEM, stream)])
    requeue = shell.envelope(cmd.RequeueDeadLetter(reason="updated"), "operator", OLGA, stream)
    assert (await shell.verdict(requeue))["accepted"]
    state = shell.conductor.load(stream)
    assert isinstance(state, LetterState)
    assert (state.status, state.version, state.message_id) == ("released", 2, "requeue.dl-0123456789.1")
    assert Shell(shell.store).conductor.load(stream) == state
    assert shell.store.view(TENANT, "letter", "dl-0123456789") == letter_view(state)
    discard = shell.envelope(cmd.DiscardDeadLetter(reason="old"), "operator", OLGA, stream)
    assert (await shell.verdict(discard))["code"] == "letter_closed"
    assert shell.store.version(stream) == 2


# Timers


async def test_a_retry_fires_when_it_is_due(shell: Shell) -> None:
    await shell.handle(shell.start())
    await shell.handle(shell.claim())
    await shell.handle(shell.failure())
    assert shell.state().stage is Stage.RETRYING
    assert await shell.conductor.fire_due_timers() == 2.0
    assert shell.state().stage is Stage.RETRYING
    shell.clock.tick(2.0)
    assert await shell.conductor.fire_due_timers() == 5.0  # the next alarm is a minute away; the pause is at most 5 s
    assert (shell.state().stage, shell.state().attempt) == (Stage.WORKING, 2)
    *_, last = shell.store.read(STREAM)
    assert (last.actor, last.time) == (SYSTEM, shell.clock.now)


async def test_a_phase_that_takes_too_long_is_given_up(shell: Shell) -> None:
    await shell.handle(shell.start())
    shell.clock.tick(59.999)
    assert await shell.conductor.fire_due_timers() == pytest.approx(0.001)
    assert shell.state().attempt == 1
    shell.clock.tick(0.001)
    await shell.conductor.fire_due_timers()
    assert shell.types()[2:] == ["attempt_failed", "retry_scheduled"]
    assert verify_decisions(shell.store, STREAM).difference is None


async def test_attempt_after_attempt_times_out_until_the_session_blocks(shell: Shell) -> None:
    await shell.handle(shell.start())
    for _ in range(5):
        shell.clock.tick(61.0)
        await shell.conductor.fire_due_timers()
    assert shell.state().status is Status.BLOCKED
    assert shell.store.timers() == []
    assert await shell.conductor.fire_due_timers() == 5.0
    ids = [decode_command(h.raw).id for h in shell.store.commands(STREAM)]
    assert len(set(ids)) == len(ids) == 6
    assert max(map(len, ids)) < 64


async def test_a_timer_that_is_late_fires_once_after_a_restart(shell: Shell) -> None:
    await shell.handle(shell.start())
    shell.clock.tick(3600.0)
    after_crash = Shell(shell.store, shell.clock)
    await after_crash.conductor.fire_due_timers()
    again = Shell(shell.store, shell.clock)
    await again.conductor.fire_due_timers()
    assert shell.types()[2:] == ["attempt_failed", "retry_scheduled"]
    failed = list(shell.store.read(STREAM))[2]
    assert failed.time == shell.clock.now  # late is recorded as late


async def test_two_conductors_fire_a_timer_once(store: SqliteStore) -> None:
    clock = Clock()
    flaky = Flaky(store)
    one, two = Shell(flaky, clock), Shell(store, clock)
    await one.handle(one.start())
    clock.tick(61.0)
    due = [replace(decode_command(t.command), time=clock.now) for t in store.timers(clock.now)]
    flaky.before.append(lambda: two.conductor._handle(due))
    await one.conductor.fire_due_timers()
    assert one.types()[2:] == ["attempt_failed", "retry_scheduled"]
    assert [t.key for t in store.timers()] == ["attempt.plan-it"]


@pytest.mark.parametrize("end", ["report", "abort"])
async def test_an_alarm_that_was_cleared_does_not_fire(shell: Shell, end: str) -> None:
    await shell.handle(shell.start())
    await shell.handle(shell.claim())
    if end == "abort":
        await shell.handle(shell.envelope(abort(shell), "operator", OLGA))
    else:
        rig = Rig()
        rig.state = shell.state()
        await shell.handle(shell.envelope(rig.report_command(), "lead"))
    before = shell.store.version(STREAM)
    shell.clock.tick(3600.0)
    assert shell.store.timers() == []
    assert await shell.conductor.fire_due_timers() == 5.0
    assert shell.store.version(STREAM) == before


async def test_an_alarm_that_comes_too_late_does_not_silence_the_next(shell: Shell) -> None:
    """It was due and read from the store; before it is handled, the attempt fails and a retry is armed instead."""
    await shell.handle(shell.start())
    await shell.handle(shell.claim())
    (armed,) = shell.store.timers()
    await shell.handle(shell.failure())
    late = replace(decode_command(armed.command), time=shell.clock.tick(61.0))
    (verdict,) = await shell.conductor.handle_commands([late])
    assert verdict["code"] == "stale_attempt"
    (waiting,) = shell.store.timers()
    assert isinstance(decode_command(waiting.command).command, cmd.StartRetry)
    await shell.conductor.fire_due_timers()
    assert (shell.state().stage, shell.state().attempt) == (Stage.WORKING, 2)


async def test_an_alarm_nobody_waits_for_is_removed_when_it_fires(shell: Shell) -> None:
    """However it came to be armed: it must not fire for ever."""
    await shell.handle(shell.start())
    (armed,) = shell.store.timers()
    await shell.handle(shell.envelope(abort(shell), "operator", OLGA))
    rearm(shell.store, armed)
    shell.clock.tick(61.0)
    await shell.conductor.fire_due_timers()
    assert shell.types()[-1] == "command_refused"
    assert shell.store.timers() == []


def rearm(store: SqliteStore, armed: ArmedTimer) -> None:
    from store.port import TimerSet

    version = store.version(armed.stream)
    timer = TimerSet(armed.key, armed.due, armed.command)
    assert isinstance(store.append(Append(armed.stream, version, (), timers=(timer,))), Appended)


async def test_timers_wait_for_the_record_and_go_on(store: SqliteStore) -> None:
    flaky = Flaky(store)
    shell = Shell(flaky)
    await shell.handle(shell.start())
    shell.clock.tick(61.0)
    flaky.away = True
    with pytest.raises(StoreUnavailable):
        await shell.conductor.fire_due_timers()
    flaky.away = False
    await shell.conductor.fire_due_timers()
    assert shell.types()[2:] == ["attempt_failed", "retry_scheduled"]


async def test_the_loop_fires_what_is_due_and_is_woken_by_commits(store: SqliteStore) -> None:
    flaky = Flaky(store)
    shell = Shell(flaky)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shell.conductor.run_timers)
        await shell.handle(shell.start())
        shell.clock.tick(61.0)
        with anyio.fail_after(30.0):
            committed = shell.conductor.committed
            await shell.handle(shell.start("s2-x"))  # any commit wakes it
            while "attempt_failed" not in shell.types():
                await committed.wait()
                committed = shell.conductor.committed
        tasks.cancel_scope.cancel()
    assert shell.types()[2:] == ["attempt_failed", "retry_scheduled"]


async def test_a_commit_that_arms_nothing_sooner_reads_no_timers(store: SqliteStore) -> None:
    """Thousands of armed timers must cost the commands of others nothing."""
    asked: list[str] = []

    class Watching(Flaky):
        def timers(self, due_before: datetime | None = None) -> list[ArmedTimer]:
            asked.append("due" if due_before else "all")
            return store.timers(due_before)

        def next_due(self) -> datetime | None:
            asked.append("next")
            looked.set()
            return store.next_due()

    shell = Shell(Watching(store))
    looked = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shell.conductor.run_timers)
        with anyio.fail_after(30.0):
            await looked.wait()
            for number in range(20):
                await shell.handle(shell.start(f"s{number}-x"))  # arms an alarm a minute from now
        tasks.cancel_scope.cancel()
    assert "all" not in asked
    assert asked.count("next") < 5


async def test_an_alarm_set_while_the_loop_looks_is_not_missed(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when the loop read the record, and is due before the loop looks again."""
    monkeypatch.setattr(service, "LOOK_SECONDS", 100_000.0)
    looking, armed, again = threading.Event(), threading.Event(), threading.Event()

    class Slow(Flaky):
        def next_due(self) -> datetime | None:
            found = store.next_due()
            (again if armed.is_set() else looking).set()
            armed.wait(30.0)
            return found

    shell = Shell(Slow(store))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shell.conductor.run_timers)
        assert await anyio.to_thread.run_sync(looking.wait, 30.0)
        await shell.handle(shell.start())  # arms an alarm a minute from now
        armed.set()
        assert await anyio.to_thread.run_sync(again.wait, 10.0)
        tasks.cancel_scope.cancel()


async def test_a_young_command_is_looked_up_once_and_an_old_one_before_it_is_decided(store: SqliteStore) -> None:
    asked: list[list[str]] = []

    class Watching(Flaky):
        def handled_among(self, ids: Sequence[str]) -> dict[str, Handled]:
            asked.append(list(ids))
            return store.handled_among(ids)

    shell = Shell(Watching(store))
    start = shell.start()
    first = await shell.verdict(start)
    assert asked == []
    assert await shell.verdict(start) == first  # the transaction knows it all the same
    shell.clock.tick(60.0)
    decided = shell.store.appended
    assert await shell.verdict(start) == first
    assert asked == [[start.id]]
    assert shell.store.appended == decided + 1  # with nothing in it
    assert shell.types() == ["session_started", "phase_started"]


async def test_the_loop_survives_a_record_that_is_away(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    flaky = Flaky(store)
    shell = Shell(flaky)
    flaky.away = True
    tried = anyio.Event()
    monkeypatch.setattr(service._log, "error", lambda *_, **__: tried.set(), raising=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shell.conductor.run_timers)
        with anyio.fail_after(30.0):
            await tried.wait()
        tasks.cancel_scope.cancel()


async def test_a_conductor_has_a_clock_of_its_own(store: SqliteStore) -> None:
    shell = Shell(store)
    shell.conductor = service.Conductor(store)
    await shell.handle(shell.start())
    assert await shell.conductor.fire_due_timers() <= 5.0


async def test_a_decided_command_without_inbox_entry_is_a_bug(shell: Shell) -> None:
    plan = shell.conductor._plan(shell.start())
    broken = replace(plan, append=replace(plan.append, handled=None))
    with pytest.raises(RuntimeError, match="no inbox entry"):
        shell.conductor._settle(broken, Appended(2, 1, 2))


# The whole thing


async def test_what_the_shell_writes_is_what_the_rules_decide(shell: Shell) -> None:
    rig = Rig().complete()
    await shell.conductor.handle_commands(rig.commands)
    assert [e.event for e in shell.store.read(STREAM)] == [e.event for e in rig.log]
    assert shell.state() == rig.state
    assert Shell(shell.store).state() == rig.state
    assert shell.store.verify().findings == ()
    assert shell.store.timers() == []


async def test_approvals_over_the_bus_count_for_the_person_they_name(shell: Shell) -> None:
    rig = Rig().to("build-it")
    rig.work()
    await shell.conductor.handle_commands(rig.commands)
    gate = cmd.DecideGate(gate=f"{SESSION}.build-it.1", decision="approve")
    for actor, code in (
        (person("alice"), "not_an_approver"),
        (Actor(name="dana", channel="bus", verified_as="login:operator"), "not_an_approver"),
        (person("dana"), None),
        (person("dana"), "not_an_approver"),
        (person("erik"), None),
    ):
        verdict = await shell.verdict(shell.envelope(gate, "operator", actor))
        assert verdict.get("code") == code
    assert shell.state().phase == "judge-it"


def test_handled_is_what_the_inbox_keeps(store: SqliteStore) -> None:
    assert store.handled("c-none") is None
    entry = Handled("c-x", b"raw", False, {"accepted": False})
    store.append(Append(STREAM, 0, (), handled=entry))
    assert store.handled("c-x") == entry
