"""The rulebook under any sequence of commands, on a pipeline that forks, joins, skips, goes back and expires.

`test_machine.py` does the same for phases in a row; its `VT_MACHINE_EXAMPLES` and `VT_MACHINE_STEPS` count here, too.
The numbers of rules and of commands are printed at the end (`pytest -s`).
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from autopilot.board import Board
from conductor.fold import Outcome, fold, handle
from conductor.process import Alarm, alarms, timers
from conductor.state import PhaseState, Stage, Status, initial
from schemas import commands as cmd
from schemas import session as ev
from schemas.envelope import decode_command, decode_event, encode_command, encode_event
from schemas.messages import COMMANDS, EVENTS, Command, Event
from schemas.pipeline import GateDefinition, PipelineDefinition, RepeatRule
from schemas.policy import Approver, Policy
from schemas.values import Actor, FailureClass, Mode, Priority, Role, TickedItem, Usage
from tests.conductor.rig import DANA, ERIK, MACHINE, OLGA, SESSION, SYSTEM, person
from tests.conductor.test_graph import Graph, phase
from tests.schemas import strategies

EXPIRING = GateDefinition(human="always", quorum=2, expires_seconds=60.0)
PIPELINE = PipelineDefinition(
    name="everything",
    description="",
    phases=(
        phase("design-it", Role.LEAD, mode=Mode.DESIGN),
        phase("build-it", Role.TRAINING, criteria=("metrics.rows >= 10.0",)),
        phase("docs-it", Role.DATA, ("design-it",), gate=EXPIRING, idle_seconds=30.0),
        phase("extra-it", Role.FEATURE, ("design-it",), skip_when="metrics.rows >= 15.0"),
        phase(
            "judge-it",
            Role.EVALUATION,
            ("build-it", "extra-it"),
            mode=Mode.EVALUATE,
            criteria=("metrics.recall >= 0.9",),
            gate=GateDefinition(human="when", when="risk.tier >= 1.0"),
            repeat=(
                RepeatRule(to="design-it", when="metrics.drift > 0.5", iterations=1),
                RepeatRule(to="build-it", iterations=2),
            ),
        ),
        phase("ship-it", Role.DEVSECOPS, ("judge-it", "docs-it"), mode=Mode.DELIVER),
    ),
)
POLICY = Policy(
    approvers=(
        Approver(name="dana"),
        Approver(name="erik"),
        Approver(name="alice"),
        Approver(name="chief", phases=("ship-it",)),
        Approver(name="second", phases=("ship-it",)),
    ),
    operators=("olga",),
    escalate_to=("chief", "second"),
)
REGISTERING = PipelineDefinition(
    name=PIPELINE.name,
    description=PIPELINE.description,
    phases=(*PIPELINE.phases[:-1], PIPELINE.phases[-1].model_copy(update={"registers": "ship-it.json"})),
)
PHASES = {p.name: p for p in PIPELINE.phases}
PEOPLE = [DANA, ERIK, person("alice"), person("chief"), person("second"), OLGA, person("stranger"), SYSTEM,
          person("erik", verified_as="os:dana")]  # fmt: skip
LONG = "VT_MACHINE_EXAMPLES" in os.environ
NAMES = sorted(set(COMMANDS) - {"start_session"})
HOW = ["", "", "", "to", "event", "abort"]
COUNTED: Counter[str] = Counter()
FIGURES = st.fixed_dictionaries(
    {},
    optional={
        "rows": st.sampled_from([20.0, 12.0, 5.0]),
        "recall": st.sampled_from([0.95, 0.5]),
        "drift": st.sampled_from([0.1, 0.9]),
    },
)


class Reader:
    """Somebody who sees only the events, and complains when one should not have happened."""

    def __init__(self) -> None:
        self.over: set[str] = set()
        self.at_work: dict[str, int] = {}
        self.attempts: dict[str, int] = defaultdict(int)
        self.reports: dict[str, ev.WorkReported] = {}
        self.ticked: dict[str, set[str]] = defaultdict(set)
        self.committed: set[tuple[str, int]] = set()
        self.passed: set[tuple[str, int]] = set()
        self.gates: dict[str, ev.GateOpened] = {}
        self.decided: dict[str, str] = {}
        self.held: set[str] = set()
        self.escalated: set[str] = set()
        self.coming: set[str] = set()
        self.yes: dict[str, list[Actor]] = defaultdict(list)
        self.repeats: Counter[tuple[str, str]] = Counter()
        self.commits: dict[str, str] = {}
        self.effects: set[str] = set()
        self.paused = False
        self.gone_back = False
        """After a rollback what was over is told by the state: then only what comes later is held against the rules."""

    def read(self, event: Event) -> None:
        seen = getattr(self, event.message_type.name, None)
        if seen:
            seen(event)

    def phase_started(self, event: ev.PhaseStarted) -> None:
        assert event.attempt > self.attempts[event.phase], "an attempt's number was given twice"
        assert set(PIPELINE.before[event.phase]) <= self.over, "a phase started before those before it were over"
        assert event.phase not in self.over
        assert not self.paused, "a phase started in a paused session"
        self.attempts[event.phase] = self.at_work[event.phase] = event.attempt

    def phase_skipped(self, event: ev.PhaseSkipped) -> None:
        assert event.phase == "extra-it"
        assert event.condition.passed
        assert event.condition.measured["metrics.rows"] >= 15.0  # type: ignore[operator]
        self.over.add(event.phase)

    def work_reported(self, event: ev.WorkReported) -> None:
        assert self.at_work.pop(event.phase) == event.attempt, "a report for another attempt was taken"
        self.reports[event.phase] = event
        self.ticked[event.phase] |= {t.item for t in event.ticked}

    def attempt_failed(self, event: ev.AttemptFailed) -> None:
        assert self.at_work.pop(event.phase) == event.attempt

    def attempt_reassigned(self, event: ev.AttemptReassigned) -> None:
        assert self.at_work.pop(event.phase) == event.attempt

    def effect_requested(self, event: ev.EffectRequested) -> None:
        assert event.effect not in self.effects, "two effects of one name"
        self.effects.add(event.effect)
        if event.kind == "commit":
            assert not self.commits, "two commits at once"
            self.commits[event.effect] = event.phase

    def effect_recorded(self, event: ev.EffectRecorded) -> None:
        if event.kind == "commit":
            del self.commits[event.effect]
            self.committed.add((event.phase, event.attempt))

    def effect_failed(self, event: ev.EffectFailed) -> None:
        if event.kind == "commit":
            del self.commits[event.effect]

    def gate_opened(self, event: ev.GateOpened) -> None:
        assert event.gate not in self.gates
        self.gates[event.gate] = event
        if event.phase in self.coming:
            self.coming.discard(event.phase)
            self.escalated.add(event.gate)

    def gate_held(self, event: ev.GateHeld) -> None:
        assert event.gate not in self.decided
        self.held.add(event.gate)

    def gate_unheld(self, event: ev.GateUnheld) -> None:
        self.held.remove(event.gate)

    def approval_given(self, event: ev.ApprovalGiven) -> None:
        assert event.gate not in self.decided
        assert event.gate not in self.held, "a held gate was decided"
        allowed = ("chief", "second") if event.gate in self.escalated else ("dana", "erik")
        assert event.by.name in allowed, f"{event.by.name} approved"
        self.yes[event.gate].append(event.by)

    def gate_passed(self, event: ev.GatePassed) -> None:
        gate = self.gates[event.gate]
        self._decide(event.gate, "passed")
        if gate.kind == "human":
            people = self.yes[event.gate]
            assert len({a.name for a in people}) == len({a.verified_as for a in people}) == len(people) == gate.quorum
        else:
            assert PHASES[event.phase].gate.human != "always"
        self.passed.add((event.phase, gate.attempt))

    def gate_rejected(self, event: ev.GateRejected) -> None:
        assert event.gate not in self.held
        self._decide(event.gate, "rejected")

    def gate_superseded(self, event: ev.GateSuperseded) -> None:
        self._decide(event.gate, "superseded")

    def gate_expired(self, event: ev.GateExpired) -> None:
        assert event.gate not in self.held, "a held gate expired"
        assert not (event.escalated_to and event.gate in self.escalated), "a gate was escalated twice"
        self._decide(event.gate, "expired")
        if event.escalated_to:
            self.coming.add(event.phase)

    def _decide(self, gate: str, how: str) -> None:
        assert gate not in self.decided, f"{gate} is {self.decided[gate]} and now {how}"
        self.decided[gate] = how

    def phase_repeated(self, event: ev.PhaseRepeated) -> None:
        way = (event.phase, event.to)
        self.repeats[way] += 1
        (rule,) = (r for r in PHASES[event.phase].repeat if r.to == event.to)
        assert event.iteration <= event.iterations == rule.iterations, "it went back more often than it may"
        assert set(event.phases) == {event.to, *PIPELINE.descendants[event.to]}
        for name in event.phases:
            self.over.discard(name)
            self.at_work.pop(name, None)
            self.coming.discard(name)
        self.commits = {effect: phase for effect, phase in self.commits.items() if phase not in event.phases}

    def phase_completed(self, event: ev.PhaseCompleted) -> None:
        phase, key = PHASES[event.phase], (event.phase, event.attempt)
        report = self.reports[event.phase]
        assert {i.id for i in phase.checklist if i.required} <= self.ticked[event.phase]
        assert set(phase.artifacts) <= {a.name for a in report.artifacts}
        assert key in self.passed
        if not self.gone_back:
            assert report.attempt == event.attempt
            assert key in self.committed
        self.over.add(event.phase)

    def session_paused(self, event: ev.SessionPaused) -> None:
        self.paused = True

    def session_unpaused(self, event: ev.SessionUnpaused) -> None:
        self.paused = False

    def session_completed(self, event: ev.SessionCompleted) -> None:
        assert self.over == set(PHASES)


class GraphSession(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rig = Graph(REGISTERING)
        self.rig.policy = POLICY
        self.reader, self.board = Reader(), Board()
        self.armed: dict[str, Alarm] = {}

    @property
    def phases(self) -> dict[str, PhaseState]:
        return dict(self.rig.state.phases)

    def send(self, command: Command, sender: str, actor: Actor = MACHINE) -> Outcome:
        """Send it, and hold what it came to against what always holds."""
        before, logged = self.rig.state, len(self.rig.log)
        outcome = self.rig.send(command, sender, actor)
        COUNTED["steps"] += 1
        after, names = outcome.state, [event.message_type.name for event in outcome.events]
        COUNTED["refused" if outcome.refusal else "carried out"] += 1
        COUNTED.update(names)
        if outcome.refusal is not None:
            assert names == (["command_refused"] if before.version else [])
        else:
            assert names or isinstance(command, cmd.ExtendAttempt | cmd.ExpireIdle)
            assert before.status is not Status.ABORTED
        if before.status is Status.COMPLETED and outcome.refusal is None:
            assert isinstance(command, cmd.RollbackSession | cmd.RestoreSession)
        for name in Usage.model_fields:
            assert getattr(after.usage, name) >= getattr(before.usage, name)
        back = {"session_rolled_back", "session_restored"} & set(names)
        if not back:
            for name, was in before.phases.items():
                assert was.ticked.items() <= after.phases[name].ticked.items(), "an item was unticked"
        for event in outcome.events:
            self.reader.read(event)
            if isinstance(event, ev.SessionRolledBack | ev.SessionRestored):
                self._went_back()
        for envelope in self.rig.log[logged:]:
            self.board.apply(envelope)
        for change in timers(before, after):
            if isinstance(change, Alarm):
                self.armed[change.key] = change
            else:
                self.armed.pop(change.key, None)
        return outcome

    def _went_back(self) -> None:
        reader, state = self.reader, self.rig.state
        reader.over = {p.name for p in state.phases.values() if p.over}
        reader.at_work.clear()
        reader.commits.clear()
        reader.coming = {g.phase for g in state.returning.open_gates if g.escalated} if state.returning else set()
        reader.gone_back = True

    @initialize(steps=st.integers(0, 30), figures=FIGURES)
    def begin(self, steps: int, figures: dict[str, float]) -> None:
        self.send(self.rig.start_command(), "autopilot")
        for number in range(steps):
            self.go_on(number, figures)

    @rule(number=st.integers(0, 5), figures=FIGURES)
    def go_on(self, number: int, figures: dict[str, float]) -> None:
        """What the parties would do now; several may have something to do."""
        rig, state = self.rig, self.rig.state
        if state.effects:
            self.send(rig.receipt_command(), "autopilot")
        elif state.paused:
            self.send(cmd.ResumeSession(), "operator", OLGA)
        elif working := [p for p in state.active if p.stage in (Stage.WORKING, Stage.RETRYING)]:
            self._work(working[number % len(working)], {"rows": 20.0, "recall": 0.95, "drift": 0.1} | figures)
        elif state.open_gates:
            gate = state.open_gates[number % len(state.open_gates)]
            for actor in (DANA, ERIK, person("chief"), person("second")):
                self.send(cmd.DecideGate(gate=gate.id, decision="approve"), "operator", actor)
            self.send(cmd.UnholdGate(gate=gate.id), "operator", OLGA)
        elif state.status in (Status.BLOCKED, Status.ROLLED_BACK):
            back = cmd.RollbackSession(phase=state.phase)
            self.send(back if state.unrestored else cmd.RetryPhase(), "operator", OLGA)

    def _work(self, phase: PhaseState, figures: dict[str, float]) -> None:
        if phase.stage is Stage.RETRYING:
            self.send(cmd.StartRetry(phase=phase.name, attempt=phase.attempt + 1), "conductor", SYSTEM)
        elif not phase.lease:
            claim = cmd.ClaimAttempt(phase=phase.name, attempt=phase.attempt, holder=f"h-{phase.attempt}")
            self.send(claim, self.rig.agent(phase.name))
        else:
            self.send(self.rig.result(phase.name, **figures), self.rig.agent(phase.name))

    @precondition(lambda self: any(p.stage is Stage.WORKING for p in self.rig.state.active))
    @rule(number=st.integers(0, 5), failure=st.sampled_from(FailureClass))
    def fail(self, number: int, failure: FailureClass) -> None:
        working = [p for p in self.rig.state.active if p.stage is Stage.WORKING]
        now = working[number % len(working)]
        name = now.name
        if not now.lease:
            return self._work(now, {})
        fields = {"phase": name, "attempt": now.attempt, "lease": now.lease}
        self.send(cmd.ReportFailure(**fields, failure=failure, reason="x"), self.rig.agent(name))  # type: ignore[arg-type]

    @rule(number=st.integers(0, 5))
    def a_timer_fires(self, number: int) -> None:
        if armed := list(self.armed.values()):
            self.send(armed[number % len(armed)].command, "conductor", SYSTEM)

    @rule(name=st.sampled_from(sorted(PHASES)), late=st.sampled_from([0.0, 31.0]), data=st.data())
    def the_clock(self, name: str, late: float, data: st.DataObject) -> None:
        """What timers send, whether it is due or not."""
        now, due = self.phases[name], self.rig.now - timedelta(seconds=late)
        expire: list[Command] = [
            cmd.ExpireAttempt(phase=name, attempt=now.attempt),
            cmd.StartRetry(phase=name, attempt=now.attempt + 1),
            cmd.ExpireGate(gate=now.gate or "none"),
            cmd.ExpireIdle(phase=name, attempt=now.attempt, lease=now.lease, due=due),
        ]
        self.send(data.draw(st.sampled_from(expire)), "conductor", SYSTEM)

    @rule(name=st.sampled_from(sorted(PHASES)), spoil=st.sampled_from(["items", "lease", "attempt", "extra"]))
    def a_bad_report(self, name: str, spoil: str) -> None:
        good = self.rig.result(name)
        changes: dict[str, Any] = {
            "items": {"ticked": ()},
            "lease": {"lease": good.lease - 1},
            "attempt": {"attempt": good.attempt - 1},
            "extra": {"ticked": (TickedItem(item="zeal", evidence="e"),)},
        }[spoil]
        self.send(good.model_copy(update=changes), self.rig.agent(name))

    @rule(really=st.sampled_from([False, True]))
    def effect_fails(self, really: bool) -> None:
        if really and self.rig.state.effects:
            effect = self.rig.state.effects[-1]
            self.send(cmd.RecordEffectFailure(effect=effect.id, kind=effect.kind, reason="disk full"), "autopilot")  # type: ignore[arg-type]

    @precondition(lambda self: bool(self.rig.state.gates))
    @rule(actor=st.sampled_from(PEOPLE), data=st.data())
    def decide(self, actor: Actor, data: st.DataObject) -> None:
        if gates := [*(g.id for g in self.rig.state.open_gates), *list(self.rig.state.gates)[-1:]]:
            gate = data.draw(st.sampled_from(gates))
            decisions: list[Command] = [
                cmd.DecideGate(gate=gate, decision="approve"),
                cmd.DecideGate(gate=gate, decision="reject", reason="no"),
                cmd.SendBack(gate=gate, phase="build-it", reason="again"),
                cmd.HoldGate(gate=gate),
                cmd.UnholdGate(gate=gate),
            ]
            self.send(data.draw(st.sampled_from(decisions)), "operator", actor)

    @rule(actor=st.sampled_from([OLGA, OLGA, DANA, person("stranger")]), data=st.data())
    def control(self, actor: Actor, data: st.DataObject) -> None:
        at_work = [p.name for p in self.rig.state.active if p.stage is Stage.WORKING]
        name = data.draw(st.sampled_from(at_work or sorted(PHASES)))
        commands: list[Command] = [
            cmd.PauseSession(),
            cmd.ResumeSession(),
            cmd.ReassignAttempt(phase=name),
            cmd.ChangePriority(priority=data.draw(st.sampled_from(Priority))),
            cmd.RetryPhase(),
        ]
        self.send(data.draw(st.sampled_from(commands)), "operator", actor)

    @rule(name=st.sampled_from([*PHASES, "nonsense"]), how=st.sampled_from(HOW), data=st.data())
    def undo(self, name: str, how: str, data: st.DataObject) -> None:
        if how == "to":
            self.send(cmd.RollbackSession(phase=name), "operator", OLGA)
        elif how == "event":
            sequence = data.draw(st.sampled_from(sorted(self.rig.state.rests) or [1]))
            self.send(cmd.RestoreSession(sequence=sequence), "operator", OLGA)
        elif how == "abort" and len(self.rig.commands) > 60:
            self.send(cmd.AbortSession(reason="enough"), "operator", OLGA)

    @rule(data=st.data(), name=st.sampled_from(NAMES), actor=st.sampled_from(PEOPLE))
    def anything(self, data: st.DataObject, name: str, actor: Actor) -> None:
        command = data.draw(strategies.command_bodies(COMMANDS[name]))
        sender = data.draw(st.sampled_from([*(p.agent.value for p in PIPELINE.phases), "autopilot", "operator", "x"]))
        self.send(command, sender, actor)

    @invariant()
    def what_is_armed_is_what_is_waited_for(self) -> None:
        assert {k: a for k, a in self.armed.items() if not k.startswith("idle.")} == alarms(self.rig.state)

    @invariant()
    def it_waits_for_somebody(self) -> None:
        state = self.rig.state
        stages = {p.stage for p in state.active}
        assert stages <= {Stage.WORKING, Stage.RETRYING, Stage.EFFECT, Stage.REPORTED, Stage.GATE}
        if state.status is Status.WAITING:
            assert state.open_gates
            assert not any(p.busy for p in state.phases.values())
        if state.status is Status.ACTIVE and not state.paused:
            assert any(p.busy for p in state.phases.values()), "it waits for nothing and nobody"
        for reported in (p for p in state.active if p.stage is Stage.REPORTED):
            assert any(e.kind == "commit" and e.phase != reported.name for e in state.effects)

    @invariant()
    def the_board_sees_what_the_conductor_sees(self) -> None:
        state = self.rig.state
        if state.status is Status.NEW:
            return
        row = self.board.sessions[SESSION]
        assert row.status == state.status.value
        assert {n for n, p in row.phases.items() if p.status in ("completed", "skipped")} == {
            p.name for p in state.phases.values() if p.over
        }
        assert row.interventions == state.interventions
        assert list(row.pending_effects) == [e.id for e in state.effects]
        held = {g.id for g in state.gates.values() if g.held and g.status == "open"}
        assert {g.id for g in row.open_gates if g.held} == held

    def teardown(self) -> None:
        """The record, as bytes, tells the same story from the beginning."""
        COUNTED["examples"] += 1
        rig = self.rig
        events = [decode_event(encode_event(envelope)) for envelope in rig.log]
        assert fold(initial(SESSION), events) == rig.state
        state = initial(SESSION)
        for command in rig.commands:
            state = handle(state, decode_command(encode_command(command))).state
        assert state == rig.state


TestGraphSession = GraphSession.TestCase
TestGraphSession.settings = settings(
    max_examples=int(os.environ.get("VT_MACHINE_EXAMPLES", "60")),
    stateful_step_count=int(os.environ.get("VT_MACHINE_STEPS", "40")),
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)


def test_the_machine_went_everywhere() -> None:
    """Of a long search: every event of a session came about, so that every rule was asked."""
    rules = sum(hasattr(rule, "hypothesis_stateful_rule") for rule in vars(GraphSession).values())
    print(f"\n{rules} rules of the machine, {COUNTED['steps']} commands in {COUNTED['examples']} examples:")
    print(", ".join(f"{name} {times}" for name, times in sorted(COUNTED.items())))
    if LONG and COUNTED["examples"] >= 500:
        assert {name for name, kind in EVENTS.items() if kind.stream == "session"} - set(COUNTED) == set()
