"""Durable timers on a real store with a clock of its own: once, late rather than never, over restarts and jumps."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conductor.process import alarms
from conductor.state import Stage
from schemas import commands as cmd
from schemas.pipeline import GateDefinition, PipelineDefinition, RetryPolicy
from schemas.values import Role
from store.sqlite import SqliteStore
from tests.conductor.rig import OLGA, SYSTEM
from tests.conductor.shell import STREAM, Shell
from tests.conductor.test_graph import Graph, phase

WATCHED = PipelineDefinition(
    name="watched",
    description="Everything that has a time.",
    phases=(
        phase(
            "plan-it",
            Role.LEAD,
            timeout_seconds=100.0,
            idle_seconds=30.0,
            retry=RetryPolicy(max_attempts=9, base_seconds=5.0, cap_seconds=20.0, jitter=0.5),
        ),
        phase("wait-it", Role.DATA, (), gate=GateDefinition(human="always", expires_seconds=50.0)),
    ),
)


def started(store: SqliteStore) -> Shell:
    shell = Shell(store)
    start = shell.envelope(Graph(WATCHED).start_command(), "autopilot")
    anyio.run(shell.handle, start)
    return shell


def claim(shell: Shell, name: str = "plan-it") -> dict[str, object]:
    attempt = shell.state().phases[name].attempt
    agent = WATCHED.phase(name).agent.value
    command = cmd.ClaimAttempt(phase=name, attempt=attempt, holder="h")
    verdict: dict[str, object] = anyio.run(shell.verdict, shell.envelope(command, agent))
    return verdict


def breathe(shell: Shell) -> bool:
    now = shell.state().phases["plan-it"]
    command = cmd.ExtendAttempt(phase="plan-it", attempt=now.attempt, lease=now.lease)
    return bool(anyio.run(shell.verdict, shell.envelope(command, "lead"))["accepted"])


def fire(shell: Shell) -> None:
    anyio.run(shell.conductor.fire_due_timers)


def test_who_claims_is_told_how_often_to_breathe_and_breathing_keeps_the_attempt(store: SqliteStore) -> None:
    shell = started(store)
    assert claim(shell)["idle_seconds"] == 30.0
    assert "idle_seconds" not in claim(shell, "wait-it")
    for _ in range(3):
        shell.clock.tick(20.0)
        fire(shell)
        assert breathe(shell)
    version = store.version(STREAM)
    shell.clock.tick(31.0)
    fire(shell)
    assert store.version(STREAM) == version + 2
    assert shell.types()[-2:] == ["attempt_failed", "retry_scheduled"]
    assert "gave no sign of life for 30 s" in shell.state().reason
    assert not breathe(shell)


def test_after_a_long_absence_the_silent_one_is_given_its_time_again(store: SqliteStore) -> None:
    """The system was down: it cannot know who would have been heard."""
    shell = started(store)
    claim(shell)
    shell.clock.tick(65.0)
    later = Shell(store, shell.clock)
    fire(later)
    assert later.state().phases["plan-it"].stage is Stage.WORKING
    shell.clock.tick(29.0)
    fire(later)
    assert later.state().phases["plan-it"].stage is Stage.WORKING
    shell.clock.tick(3.0)
    fire(later)
    assert later.state().phases["plan-it"].stage is Stage.RETRYING


def test_an_alarm_of_the_time_before_phases_had_their_own_is_forgotten_when_it_fires(store: SqliteStore) -> None:
    from dataclasses import replace

    from schemas.envelope import encode_command
    from store.port import Append, TimerSet

    shell = started(store)
    old = shell.envelope(cmd.ExpireAttempt(phase="plan-it", attempt=1), "conductor", SYSTEM)
    old = replace(old, id=f"timer.attempt.default.{STREAM.name}.1")
    armed = TimerSet("attempt", shell.clock.now, encode_command(old))
    store.append(Append(STREAM, store.version(STREAM), (), timers=(armed,)))
    fire(shell)
    assert "attempt" not in {t.key for t in store.timers()}
    assert shell.types()[-1] == "retry_scheduled"
    fire(shell)
    assert shell.types()[-1] == "retry_scheduled"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("clock"), st.floats(-60.0, 90.0)),
        st.tuples(st.sampled_from(["fire", "restart", "claim", "breathe", "report", "pause", "resume"]), st.just(0.0)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_what_is_armed_is_what_the_session_waits_for_whatever_the_clock_does(steps: list[tuple[str, float]]) -> None:
    """Restarts, jumps in both directions and pauses: no alarm is lost, none is left over, none fires twice."""
    with TemporaryDirectory() as folder:
        store = SqliteStore.open(Path(folder) / "record.db")
        try:
            shell = started(store)
            for what, seconds in steps:
                _step(shell, what, seconds)
                if what == "restart":
                    shell = Shell(store, shell.clock)
                keys = {timer.key for timer in store.timers() if not timer.key.startswith("idle.")}
                assert keys == set(alarms(shell.state()))
            for _ in range(4):
                shell.clock.tick(1e6)
                fire(shell)
            fired = [h.command_id for h in store.commands(STREAM) if h.command_id.startswith("timer.")]
            assert len(fired) == len(set(fired))
            assert all(timer.due > shell.clock.now for timer in store.timers())
        finally:
            store.close()


def _step(shell: Shell, what: str, seconds: float) -> None:
    plan = shell.state().phases["plan-it"]
    match what:
        case "clock":
            shell.clock.tick(seconds)
        case "fire":
            fire(shell)
        case "claim" if plan.stage is Stage.WORKING:
            claim(shell)
        case "breathe" if plan.lease:
            breathe(shell)
        case "report" if plan.stage is Stage.WORKING and plan.lease:
            command = cmd.ReportFailure(
                phase="plan-it", attempt=plan.attempt, lease=plan.lease, failure="transient", reason="x"  # type: ignore[arg-type]
            )  # fmt: skip
            anyio.run(shell.handle, shell.envelope(command, "lead"))
        case "pause":
            anyio.run(shell.handle, shell.envelope(cmd.PauseSession(), "operator", OLGA))
        case "resume":
            anyio.run(shell.handle, shell.envelope(cmd.ResumeSession(), "operator", OLGA))
