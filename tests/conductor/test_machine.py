"""The rulebook under any sequence of commands, held against what a reader of the events alone would demand.

Set `VT_MACHINE_EXAMPLES` and `VT_MACHINE_STEPS` for a longer search, then with new random numbers each time (and
`-o faulthandler_timeout=0`, which otherwise ends it after five minutes).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conductor.fold import Outcome, fold, handle
from conductor.state import SessionState, Stage, Status, initial
from schemas import commands as cmd
from schemas import session as ev
from schemas.envelope import decode_command, decode_event, encode_command, encode_event
from schemas.messages import COMMANDS, Command, Event
from schemas.values import Actor, FailureClass, Measurement, RiskLevel, Snapshot, TickedItem, Usage
from tests.conductor.rig import (
    ALICE,
    DANA,
    ERIK,
    MACHINE,
    OLGA,
    ORIGIN,
    PIPELINE,
    SESSION,
    SYSTEM,
    TICKET,
    Rig,
    artifact,
    person,
)
from tests.schemas import strategies

PHASES = {p.name: p for p in PIPELINE.phases}
PEOPLE = (
    DANA,
    ERIK,
    ALICE,
    OLGA,
    person("low"),
    person("builder"),
    person("guarded", verified_as="os:grace"),
    person("guarded"),
    person("Dana"),
    person("stranger"),
    SYSTEM,
    Actor(name="dana", channel="bus", verified_as="login:operator"),
)
ROLES = [*(p.agent.value for p in PIPELINE.phases), "risk"]
LONG = "VT_MACHINE_EXAMPLES" in os.environ


def may_approve(actor: Actor, phase: str, risk: int) -> bool:
    """The policy of the rig in other words."""
    if actor.channel != "cli":
        return False
    if actor.name == "guarded":
        return actor.verified_as in ("os:grace", "os:gus")
    return (
        actor.name in ("dana", "erik")
        or (actor.name == "low" and risk == 0)
        or (actor.name == "builder" and phase == "build-it")
    )


class Reader:
    """Somebody who sees only the events, and complains when one should not have happened."""

    def __init__(self) -> None:
        self.sequence = 0
        self.ticked: dict[str, set[str]] = defaultdict(set)
        self.reports: dict[str, ev.WorkReported] = {}
        self.attempts: dict[str, list[int]] = defaultdict(list)
        self.leases: list[int] = []
        self.held: dict[tuple[str, int], bool] = {}
        self.committed: set[tuple[str, int]] = set()
        self.gates: dict[str, ev.GateOpened] = {}
        self.yes: dict[str, list[Actor]] = defaultdict(list)
        self.passed: set[tuple[str, int]] = set()
        self.decided: set[str] = set()
        self.completed: list[str] = []
        self.brought_back: set[str] = set()
        self.past: dict[int, tuple[dict[str, set[str]], dict[str, ev.WorkReported], list[str]]] = {}
        self.requested: set[str] = set()
        self.receipts: set[str] = set()
        self.risk = 0
        self.origin = False
        self.claimed = False
        self.asked: dict[str, ev.EffectRequested] = {}
        self.pushed: set[str] = set()
        self.named = False
        self.snapshots: list[Snapshot | None] = []

    def read(self, event: Event) -> None:
        self.sequence += 1
        seen = getattr(self, event.message_type.name, None)
        if seen:
            seen(event)
        ticked = {name: set(items) for name, items in self.ticked.items()}
        self.past[self.sequence] = ticked, dict(self.reports), list(self.completed)

    def tier(self) -> int:
        """The newest figure of the phases as they now stand, in the pipeline's order."""
        figures = [
            int(m.value)
            for name in PHASES
            if name in self.reports
            for m in self.reports[name].measurements
            if (m.scope, m.name) == ("risk", "tier")
        ]
        return max(self.risk, min(2, figures[-1] if figures else 0))

    def figures(self) -> dict[str, float]:
        return {
            f"{m.scope}.{m.name}": m.value
            for name in PHASES
            if name in self.reports
            for m in self.reports[name].measurements
        }

    def phase_started(self, event: ev.PhaseStarted) -> None:
        assert self.claimed or not self.origin, "work began on a ticket that may be somebody else's"
        assert ([event.ticket.snapshot] if self.named else []) == self.snapshots, "rows that nobody read, or others"
        before = self.attempts[event.phase]
        assert not before or event.attempt > before[-1], "an attempt's number was given twice"
        before.append(event.attempt)
        needed = list(PHASES)[: list(PHASES).index(event.phase)]
        assert needed == self.completed, "a phase started before those before it completed"

    def attempt_claimed(self, event: ev.AttemptClaimed) -> None:
        assert event.attempt == self.attempts[event.phase][-1]
        assert event.lease == self.sequence
        assert event.lease not in self.leases, "a lease was given twice"
        self.leases.append(event.lease)

    def work_reported(self, event: ev.WorkReported) -> None:
        assert event.attempt == self.attempts[event.phase][-1], "a report for another attempt was taken"
        self.ticked[event.phase] |= {t.item for t in event.ticked}
        self.reports[event.phase] = event
        self.brought_back.discard(event.phase)

    def retry_scheduled(self, event: ev.RetryScheduled) -> None:
        assert event.attempt == self.attempts[event.phase][-1] + 1

    def effect_requested(self, event: ev.EffectRequested) -> None:
        assert event.effect not in self.requested, "two effects of one name"
        self.requested.add(event.effect)
        assert self.origin or event.posted is None
        self.asked[event.effect] = event
        if event.kind in ("finish", "release"):
            self.claimed = False

    def effect_recorded(self, event: ev.EffectRecorded) -> None:
        assert event.effect in self.requested
        assert event.effect not in self.receipts, "a receipt counted twice"
        self.receipts.add(event.effect)
        if event.kind == "commit":
            assert event.commit
            self.committed.add((event.phase, event.attempt))
        elif event.kind == "claim":
            self.claimed = bool(event.posted and event.posted.claim)
        elif event.kind == "fetch":
            self.snapshots.append(event.snapshot)
        elif event.kind == "publish":
            self.pushed.add(self.asked[event.effect].target)
        elif event.kind == "withdraw":
            self.pushed.clear()

    def criteria_evaluated(self, event: ev.CriteriaEvaluated) -> None:
        figures, phase = self.figures(), PHASES[event.phase]
        enough = "metrics.rows >= 10.0" not in phase.criteria or figures.get("metrics.rows", 0.0) >= 10.0
        good = not phase.acceptance or figures.get("metrics.recall", 0.0) >= 0.9
        assert event.passed == (enough and good) == all(r.passed for r in event.results)
        self.held[(event.phase, event.attempt)] = event.passed

    def gate_opened(self, event: ev.GateOpened) -> None:
        assert event.gate not in self.gates
        assert event.commit in self.pushed or not self.origin, "a gate over what nobody can look at"
        self.gates[event.gate] = event

    def approval_given(self, event: ev.ApprovalGiven) -> None:
        gate = self.gates[event.gate]
        assert event.gate not in self.decided
        assert may_approve(event.by, gate.phase, self.tier()), f"{event.by} approved"
        self.yes[event.gate].append(event.by)

    def gate_rejected(self, event: ev.GateRejected) -> None:
        assert event.gate not in self.decided
        assert event.reason.strip()
        assert may_approve(event.by, event.phase, self.tier())
        self.decided.add(event.gate)

    def gate_superseded(self, event: ev.GateSuperseded) -> None:
        assert event.gate not in self.decided
        self.decided.add(event.gate)

    def gate_passed(self, event: ev.GatePassed) -> None:
        gate = self.gates[event.gate]
        assert event.gate not in self.decided
        self.decided.add(event.gate)
        if gate.kind == "human":
            people = {actor.name.casefold() for actor in self.yes[event.gate]}
            assert len(people) == len(self.yes[event.gate]) >= gate.quorum >= 1
            assert "alice" not in people
            assert gate.quorum == PHASES[event.phase].gate.quorum
        else:
            assert PHASES[event.phase].gate.human != "always"
        self.passed.add((event.phase, gate.attempt))

    def phase_completed(self, event: ev.PhaseCompleted) -> None:
        phase, key = PHASES[event.phase], (event.phase, event.attempt)
        assert {i.id for i in phase.checklist if i.required} <= self.ticked[event.phase]
        report = self.reports[event.phase]
        if event.phase not in self.brought_back:
            assert report.attempt == event.attempt, "a phase completed on the work of another attempt"
        assert set(phase.artifacts) <= {a.name for a in report.artifacts}
        figures = self.figures()
        if "metrics.rows >= 10.0" in phase.criteria:
            assert figures["metrics.rows"] >= 10.0
        if phase.acceptance:
            assert figures["metrics.recall"] >= 0.9
        assert self.held[key]
        assert (event.phase, report.attempt) in self.committed
        assert key in self.passed
        self.completed.append(event.phase)

    def session_rolled_back(self, event: ev.SessionRolledBack) -> None:
        assert event.to_sequence < self.sequence
        later = list(PHASES)[list(PHASES).index(event.phase) :]
        self.completed = [name for name in self.completed if name not in later]
        for name in later:
            self.reports.pop(name, None)
            self.ticked[name] = set()

    def session_restored(self, event: ev.SessionRestored) -> None:
        assert event.to_sequence < self.sequence
        ticked, reports, completed = self.past[event.to_sequence]
        self.ticked = defaultdict(set, {name: set(items) for name, items in ticked.items()})
        self.reports, self.completed = dict(reports), list(completed)
        self.brought_back = set(reports)

    def session_completed(self, event: ev.SessionCompleted) -> None:
        assert self.completed == list(PHASES)


class Session(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.reader = Reader()

    @property
    def state(self) -> SessionState:
        return self.rig.state

    def send(self, command: Command, sender: str, actor: Actor = MACHINE) -> Outcome:
        """Send it, and hold what it came to against what always holds."""
        before = self.state
        outcome = self.rig.send(command, sender, actor)
        names = [event.message_type.name for event in outcome.events]
        if outcome.refusal is not None:
            assert names == (["command_refused"] if before.version else [])
            assert outcome.refusal.code
            assert outcome.refusal.reason
        else:
            assert names
            assert sender in command.message_type.senders
        assert outcome.state.version == before.version + len(names)
        if before.status in (Status.COMPLETED, Status.ABORTED) and outcome.refusal is None:
            receipt = isinstance(command, cmd.RecordEffect | cmd.RecordEffectFailure) and before.effects
            assert receipt or before.status is Status.COMPLETED
            assert receipt or isinstance(command, cmd.RollbackSession | cmd.RestoreSession)
            assert not receipt or not {"phase_started", "gate_opened"} & set(names)
        for name in Usage.model_fields:
            assert getattr(outcome.state.usage, name) >= getattr(before.usage, name)
        if not {"session_rolled_back", "session_restored"} & set(names):
            for name, phase in before.phases.items():
                assert phase.ticked.items() <= outcome.state.phases[name].ticked.items(), "an item was unticked"
        for event in outcome.events:
            self.reader.read(event)
        return outcome

    # Those who do as they should

    @initialize(
        risk=st.sampled_from(RiskLevel),
        steps=st.integers(0, 16),
        origin=st.sampled_from([None, ORIGIN]),
        named=st.sampled_from([False, False, True]),
    )
    def begin(self, risk: RiskLevel, steps: int, origin: str | None, named: bool) -> None:
        """Somewhere on the way: what is interesting is not only at the beginning."""
        self.reader.risk, self.reader.origin, self.reader.named = risk.rank, origin is not None, named
        data = "source:clinic/visits" if named else TICKET.data
        self.rig.ticket = TICKET.model_copy(update={"risk": risk, "origin": origin, "data": data})
        for _ in range(steps):
            self.next_step({}, ())

    @rule(
        steps=st.integers(1, 3),
        figures=st.fixed_dictionaries(
            {},
            optional={
                "rows": st.sampled_from([20.0, 5.0]),
                "recall": st.sampled_from([0.95, 0.5]),
                "tier": st.sampled_from([0.0, 1.0, 2.0, 5.0]),
            },
        ),
        others=st.lists(st.sampled_from(PEOPLE), max_size=3),
        lack=st.sampled_from(["", "", "", "", "artifacts", "ticked"]),
    )
    def go_on(self, steps: int, figures: dict[str, float], others: list[Actor], lack: str) -> None:
        for _ in range(steps):
            self.next_step(figures, others, lack)

    def next_step(self, figures: dict[str, float], others: Sequence[Actor], lack: str = "") -> None:
        """What the parties would do now; `others` try to approve before those who may."""
        state, rig = self.state, self.rig
        if state.status is Status.NEW:
            self.send(rig.start_command(), "autopilot")
        elif state.effects:
            self.send(rig.receipt_command(), "autopilot")
        elif state.status is Status.WAITING:
            for actor in (*others, DANA, ERIK):
                if self.state.open_gate:
                    self.send(rig.decide_command("approve"), "operator", actor)
        elif state.status in (Status.BLOCKED, Status.ROLLED_BACK):
            command = cmd.RollbackSession(phase=state.phase) if state.unrestored else cmd.RetryPhase()
            self.send(command, "operator", OLGA)
        elif state.stage is Stage.RETRYING:
            self.retry_is_due()
        elif state.stage is Stage.WORKING and not state.lease:
            self.send(rig.claim_command(), state.definition.agent.value)
        elif state.stage is Stage.WORKING:
            measured = {"rows": 20.0, "recall": 0.95, "tier": 0.0} | figures
            scopes = {"rows": "metrics", "recall": "metrics", "tier": "risk"}
            found = tuple(Measurement(scope=scopes[n], name=n, value=v) for n, v in measured.items())
            report = rig.report_command(measurements=found, **({lack: ()} if lack else {}))
            self.send(report, state.definition.agent.value)

    # Those who do otherwise

    @precondition(lambda self: self.state.stage is Stage.WORKING)
    @rule(wrong=st.sampled_from([False] * 6 + [True]), role=st.sampled_from(ROLES))
    def claim(self, wrong: bool, role: str) -> None:
        owner = self.state.definition.agent.value
        outcome = self.send(self.rig.claim_command(), role if wrong else owner)
        assert (outcome.refusal is None) == (owner == (role if wrong else owner))

    @precondition(lambda self: self.state.lease > 0)
    @rule(
        spoil=st.sampled_from(["", "", "", "", "", "items", "artifacts", "lease", "attempt", "acceptance", "forged"]),
        rows=st.sampled_from([20.0, 20.0, 20.0, 5.0]),
        recall=st.sampled_from([0.95, 0.95, 0.95, 0.5, None]),
        tier=st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0, None]),
        tick=st.booleans(),
        usage=st.sampled_from([Usage(wall_seconds=5.0, usd=0.1), Usage(cpu_seconds=10.0), Usage(tokens=9, usd=1.0)]),
    )
    def report(
        self, spoil: str, rows: float, recall: float | None, tier: float | None, tick: bool, usage: Usage
    ) -> None:
        phase = self.state.definition
        figures = [("metrics", "rows", rows), ("metrics", "recall", recall), ("risk", "tier", tier)]
        changes: dict[str, Any] = {
            "measurements": tuple(Measurement(scope=s, name=n, value=v) for s, n, v in figures if v is not None),
            "usage": usage,
        }
        if tick:
            changes["ticked"] = tuple(TickedItem(item=i.id, evidence="now") for i in phase.checklist)
        if spoil == "items":
            changes["ticked"] = ()
        elif spoil == "artifacts":
            changes["artifacts"] = tuple(artifact(n) for n in phase.artifacts[1:])
        elif spoil == "forged":
            changes["artifacts"] = tuple(artifact(n) for n in (*phase.artifacts, "proof.json.dsse.json"))
        elif spoil == "lease":
            changes["lease"] = self.state.lease - 1
        elif spoil == "attempt":
            changes["attempt"] = self.state.attempt - 1
        elif spoil == "acceptance":
            changes["acceptance"] = ("true",)
        self.send(self.rig.report_command(**changes), phase.agent.value)

    @precondition(lambda self: self.state.lease > 0)
    @rule(failure=st.sampled_from(FailureClass))
    def fail(self, failure: FailureClass) -> None:
        self.send(self.rig.failure_command(failure.value), self.state.definition.agent.value)

    @precondition(lambda self: self.state.stage is Stage.WORKING)
    @rule()
    def expire(self) -> None:
        self.send(cmd.ExpireAttempt(phase=self.state.phase, attempt=self.state.attempt), "conductor", SYSTEM)

    @precondition(lambda self: self.state.stage is Stage.RETRYING)
    @rule()
    def retry_is_due(self) -> None:
        self.send(cmd.StartRetry(phase=self.state.phase, attempt=self.state.attempt), "conductor", SYSTEM)

    @precondition(lambda self: bool(self.state.effects))
    @rule(lie=st.sampled_from([{}] * 8 + [{"commit": "", "artifacts": ()}, {"effect": "other"}, {"kind": "restore"}]))
    def receipt(self, lie: dict[str, Any]) -> None:
        self.send(self.rig.receipt_command(**lie), "autopilot")

    @precondition(lambda self: bool(self.state.effects))
    @rule(really=st.sampled_from([False, False, True]))
    def effect_fails(self, really: bool) -> None:
        effect = self.state.effects[0]
        if really:
            self.send(cmd.RecordEffectFailure(effect=effect.id, kind=effect.kind, reason="disk full"), "autopilot")  # type: ignore[arg-type]

    @precondition(lambda self: self.state.status is Status.WAITING)
    @rule(actor=st.sampled_from(PEOPLE[:7]))
    def approve(self, actor: Actor) -> None:
        self.send(self.rig.decide_command("approve"), "operator", actor)

    @precondition(lambda self: bool(self.state.gates))
    @rule(
        actor=st.sampled_from(PEOPLE),
        decision=st.sampled_from(["approve", "approve", "approve", "reject"]),
        reason=st.sampled_from(["", "because"]),
        data=st.data(),
    )
    def decide(self, actor: Actor, decision: str, reason: str, data: st.DataObject) -> None:
        gate = data.draw(st.sampled_from(list(self.state.gates)))
        self.send(self.rig.decide_command(decision, reason, gate), "operator", actor)

    @precondition(lambda self: self.state.status in (Status.BLOCKED, Status.ROLLED_BACK))
    @rule(actor=st.sampled_from([OLGA, OLGA, DANA, person("stranger")]))
    def retry(self, actor: Actor) -> None:
        self.send(cmd.RetryPhase(), "operator", actor)

    @precondition(lambda self: self.reader.sequence > 20)
    @rule(phase=st.sampled_from([*PHASES, "nonsense"]), really=st.sampled_from([False] * 5 + [True]))
    def roll_back(self, phase: str, really: bool) -> None:
        if really:
            self.send(cmd.RollbackSession(phase=phase), "operator", OLGA)

    @precondition(lambda self: self.reader.sequence > 8)
    @rule(data=st.data(), really=st.sampled_from([False] * 5 + [True]))
    def restore(self, data: st.DataObject, really: bool) -> None:
        if really:
            known = sorted(self.state.rests) or [1]
            sequence = data.draw(st.sampled_from(known) | st.integers(-1, self.reader.sequence + 1))
            self.send(cmd.RestoreSession(sequence=sequence), "operator", OLGA)

    @precondition(lambda self: self.reader.sequence > 30)
    @rule(really=st.sampled_from([False] * 19 + [True]))
    def abort(self, really: bool) -> None:
        if really:
            self.send(cmd.AbortSession(reason="enough"), "operator", OLGA)

    # And whatever else may come over the bus

    @rule(
        data=st.data(), name=st.sampled_from(sorted(set(COMMANDS) - {"start_session"})), actor=st.sampled_from(PEOPLE)
    )
    def anything(self, data: st.DataObject, name: str, actor: Actor) -> None:
        command = data.draw(strategies.command_bodies(COMMANDS[name]))
        near = {
            "phase": self.state.phase or "plan-it",
            "attempt": self.state.attempt,
            "lease": self.state.lease,
            "effect": self.state.effects[0].id if self.state.effects else "none",
            "gate": next(iter(self.state.gates), "none"),
        }
        known = {n: v for n, v in near.items() if n in type(command).model_fields and data.draw(st.booleans())}
        sender = data.draw(st.sampled_from([*ROLES, "autopilot", "operator", "conductor", "gateway", "nobody"]))
        self.send(command.model_copy(update=known), sender, actor)

    @invariant()
    def what_is_waited_for_fits_the_status(self) -> None:
        state = self.state
        if state.status is Status.WAITING:
            assert state.open_gate is not None
        if state.stage is Stage.EFFECT:
            assert state.effects
        begins = {"claim", "fetch"} & {effect.kind for effect in state.effects}
        if state.status is Status.ACTIVE and not begins and not state.paused:
            assert state.stage in (Stage.WORKING, Stage.RETRYING, Stage.EFFECT), "it waits for nothing and nobody"
        assert len([g for g in state.gates.values() if g.status == "open"]) <= 1

    def teardown(self) -> None:
        """The record, as bytes, tells the same story from the beginning."""
        rig = self.rig
        assert [e.sequence for e in rig.log] == list(range(1, len(rig.log) + 1))
        events = [decode_event(encode_event(envelope)) for envelope in rig.log]
        assert fold(initial(SESSION), events) == rig.state
        state, number = initial(SESSION), 0
        for command in rig.commands:
            outcome = handle(state, decode_command(encode_command(command)))
            for event in outcome.events:
                assert events[number].event == event
                assert events[number].causation_id == command.id
                number += 1
            state = outcome.state
        assert number == len(events)
        assert state == rig.state


TestSession = Session.TestCase
TestSession.settings = settings(
    max_examples=int(os.environ.get("VT_MACHINE_EXAMPLES", "80")),
    stateful_step_count=int(os.environ.get("VT_MACHINE_STEPS", "40")),
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)
