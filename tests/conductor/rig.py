"""A session under test: a small pipeline, people, and a hand that sends commands to the pure core."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from conductor.fold import Outcome, handle
from conductor.refusal import Refusal
from conductor.state import SessionState, initial
from schemas import commands as cmd
from schemas import session as ev
from schemas.envelope import CommandEnvelope, EventEnvelope, StreamId
from schemas.messages import Command, Event
from schemas.pipeline import ChecklistItem, GateDefinition, PhaseDefinition, PipelineDefinition, RetryPolicy
from schemas.policy import Approver, Policy
from schemas.ticket import Budget, Ticket
from schemas.values import (
    Actor,
    ArtifactRef,
    Measurement,
    Mode,
    OriginKind,
    Posted,
    Registered,
    RiskLevel,
    Role,
    Snapshot,
    TickedItem,
    Usage,
)

TENANT = "default"
SESSION = "s12-abcde"
START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
MACHINE = Actor(name="autopilot", channel="bus", verified_as="login:autopilot")
SYSTEM = Actor(name="conductor", channel="system", verified_as="conductor")


def person(name: str, channel: str = "cli", verified_as: str | None = None) -> Actor:
    return Actor(name=name, channel=channel, verified_as=verified_as or f"os:{name}")


DANA, ERIK, ALICE, OLGA = person("dana"), person("erik"), person("alice"), person("olga")
ADAM = person("adam")

POLICY = Policy(
    approvers=(
        Approver(name="dana"),
        Approver(name="erik"),
        Approver(name="alice"),
        Approver(name="low", up_to_risk=RiskLevel.LOW),
        Approver(name="builder", phases=("build-it",)),
        Approver(name="guarded", os_users=("grace", "gus")),
    ),
    operators=("olga",),
    usd_per_cpu_hour=3.6,
    admins=("adam",),
)

TICKET = Ticket(
    id=12,
    title="Flag malignant tumours",
    data="data/cells.csv",
    target="malignant",
    acceptance=("metrics.recall >= 0.9",),
    requester="alice",
    budget=Budget(usd=5.0, minutes=10.0),
)

PIPELINE = PipelineDefinition(
    name="small",
    description="Three phases: one plain, one signed behind a gate, one measured against the ticket.",
    phases=(
        PhaseDefinition(
            name="plan-it",
            agent=Role.LEAD,
            mode=Mode.SCOPE,
            purpose="Plan.",
            skills=("lead.scope",),
            artifacts=("plan.json",),
            checklist=(
                ChecklistItem(id="planned", text="There is a plan"),
                ChecklistItem(id="liked", text="Somebody likes it", required=False),
            ),
            retry=RetryPolicy(max_attempts=3, base_seconds=2.0, cap_seconds=3.0),
            timeout_seconds=60.0,
        ),
        PhaseDefinition(
            name="build-it",
            agent=Role.TRAINING,
            mode=Mode.BUILD,
            purpose="Build.",
            skills=("training.train",),
            artifacts=("model.bin", "proof.json"),
            sign=("proof.json",),
            checklist=(ChecklistItem(id="built", text="It is built"),),
            criteria=("metrics.rows >= 10.0",),
            gate=GateDefinition(human="always", quorum=2),
        ),
        PhaseDefinition(
            name="judge-it",
            agent=Role.EVALUATION,
            mode=Mode.EVALUATE,
            purpose="Judge.",
            skills=("evaluation.measure",),
            artifacts=("report.md",),
            checklist=(ChecklistItem(id="judged", text="It is judged"),),
            acceptance=True,
            gate=GateDefinition(human="when", when='ticket.risk != "low" || risk.tier >= 1.0'),
        ),
    ),
)


def artifact(name: str, content: str = "0") -> ArtifactRef:
    return ArtifactRef(name=name, sha256=content * 64, size=1, media_type="text/plain")


ORIGIN = "github:octo/train"


class Rig:
    """One session. `send` carries a command out and keeps what it came to; time moves one second a command."""

    def __init__(
        self, ticket: Ticket = TICKET, policy: Policy = POLICY, pipeline: PipelineDefinition = PIPELINE
    ) -> None:
        self.ticket, self.policy, self.pipeline = ticket, policy, pipeline
        self.stream = StreamId(TENANT, "session", SESSION)
        self.state: SessionState = initial(SESSION)
        self.now = START
        self.commands: list[CommandEnvelope] = []
        self.log: list[EventEnvelope[Event]] = []
        self._commits = 0

    def envelope(self, command: Command, sender: str, actor: Actor) -> CommandEnvelope:
        return CommandEnvelope(
            id=f"c-{len(self.commands) + 1}",
            stream=self.stream,
            time=self.now,
            actor=actor,
            sender=sender,
            correlation_id=SESSION,
            causation_id="",
            command=command,
        )

    def send(self, command: Command, sender: str, actor: Actor = MACHINE) -> Outcome:
        envelope = self.envelope(command, sender, actor)
        outcome = handle(self.state, envelope)
        self.commands.append(envelope)
        for offset, event in enumerate(outcome.events, 1):
            self.log.append(
                EventEnvelope(
                    id=f"e-{self.state.version + offset}",
                    stream=self.stream,
                    sequence=self.state.version + offset,
                    time=envelope.time,
                    actor=actor,
                    correlation_id=SESSION,
                    causation_id=envelope.id,
                    event=event,
                )
            )
        self.state = outcome.state
        self.now += timedelta(seconds=1)
        return outcome

    def accepted(self, command: Command, sender: str, actor: Actor = MACHINE) -> list[str]:
        """Send what must be accepted; the wire names of its events."""
        outcome = self.send(command, sender, actor)
        assert outcome.refusal is None, outcome.refusal
        return [event.message_type.name for event in outcome.events]

    def refused(self, command: Command, sender: str, actor: Actor = MACHINE) -> Refusal:
        """Send what must be refused; the refusal. The record says so, and nothing else changed."""
        before = self.state
        outcome = self.send(command, sender, actor)
        assert outcome.refusal is not None, [e.message_type.name for e in outcome.events]
        if before.version:
            (event,) = outcome.events
            assert isinstance(event, ev.CommandRefused)
            assert (event.code, event.reason) == (outcome.refusal.code, outcome.refusal.reason)
            assert event.by == actor
        else:
            assert not outcome.events
        assert replace(self.state, version=before.version) == before
        return outcome.refusal

    # What each party would send now

    def start_command(self) -> cmd.StartSession:
        return cmd.StartSession(
            ticket=self.ticket,
            ticket_digest="a" * 64,
            drive="d-1",
            pipeline=self.pipeline,
            policy=self.policy,
            policy_version="b" * 64,
            repository="/repository",
            base_commit="base",
            branch="phase/12",
            roots=("data",),
            seed=7,
        )

    def claim_command(self) -> cmd.ClaimAttempt:
        return cmd.ClaimAttempt(phase=self.state.phase, attempt=self.state.attempt, holder="replica-1")

    def report_command(self, **changes: Any) -> cmd.ReportWork:
        """A good report of the current phase; `changes` spoil it."""
        phase = self.state.definition
        fields: dict[str, Any] = {
            "phase": phase.name,
            "attempt": self.state.attempt,
            "lease": self.state.lease,
            "summary": f"{phase.name} done",
            "artifacts": tuple(artifact(n) for n in phase.artifacts),
            "ticked": tuple(TickedItem(item=i.id, evidence="seen") for i in phase.checklist if i.required),
            "measurements": tuple(
                Measurement(scope=scope, name=name, value=value)
                for scope, name, value in (
                    ("metrics", "rows", 20.0),
                    ("metrics", "recall", 0.95),
                    ("risk", "tier", 0.0),
                )
            ),
            "usage": Usage(wall_seconds=6.0, cpu_seconds=1.0, peak_rss_bytes=100, tokens=5, usd=0.01),
        }
        return cmd.ReportWork(**(fields | changes))

    def failure_command(self, failure: str, **changes: Any) -> cmd.ReportFailure:
        fields: dict[str, Any] = {
            "phase": self.state.phase,
            "attempt": self.state.attempt,
            "lease": self.state.lease,
            "failure": failure,
            "reason": "it broke",
            "usage": Usage(wall_seconds=1.0),
        }
        return cmd.ReportFailure(**(fields | changes))

    def receipt_command(self, **changes: Any) -> cmd.RecordEffect:
        """The executor's receipt for the oldest pending effect."""
        effect = self.state.effects[0]
        self._commits += 1
        signed = (artifact(f"{effect.target}.dsse.json", "5"),) if effect.kind == "sign" else ()
        commit = f"commit-{self._commits}" if effect.kind in ("commit", "restore") else ""
        fields: dict[str, Any] = {"effect": effect.id, "kind": effect.kind, "commit": commit, "artifacts": signed}
        if effect.kind in ("register", "unregister"):
            new = Registered(effect=effect.id, model=effect.target, version=str(self._commits), alias="candidate")
            fields["registered"] = effect.registered or new
        if effect.kind == "fetch":
            source, _, item = effect.target.partition("/")
            fields["snapshot"] = Snapshot(
                source=source, item=item, kind="sql", format="parquet", sha256="9" * 64, size=9, rows=3, taken=self.now
            )
        if effect.kind in get_args(OriginKind):
            here = self.state.at_origin
            fields["posted"] = {
                "claim": Posted(claim="c" * 40),
                "publish": Posted(pull=7 + here.round, url=f"https://forge.example/pull/{7 + here.round}"),
                "announce": Posted(comment=31),
            }.get(effect.kind, Posted(pull=here.pull))
        return cmd.RecordEffect(**(fields | changes))

    # Shortcuts

    def start(self) -> Rig:
        self.accepted(self.start_command(), "autopilot")
        return self

    def claim(self) -> Rig:
        self.accepted(self.claim_command(), self.state.definition.agent.value)
        return self

    def report(self, **changes: Any) -> list[str]:
        if not self.state.lease:
            self.claim()
        return self.accepted(self.report_command(**changes), self.state.definition.agent.value)

    def fail(self, failure: str, **changes: Any) -> list[str]:
        if not self.state.lease:
            self.claim()
        return self.accepted(self.failure_command(failure, **changes), self.state.definition.agent.value)

    def effects(self) -> list[str]:
        """Carry out whatever is pending; the names of all events that followed."""
        names: list[str] = []
        while self.state.effects:
            names += self.accepted(self.receipt_command(), "autopilot")
        return names

    def decide(self, decision: str, actor: Actor, reason: str = "looked at it", gate: str | None = None) -> list[str]:
        return self.accepted(self.decide_command(decision, reason, gate), "operator", actor)

    def decide_command(self, decision: str, reason: str = "looked at it", gate: str | None = None) -> cmd.DecideGate:
        opened = self.state.open_gate
        return cmd.DecideGate(
            gate=gate or (opened.id if opened else "none"),
            decision=decision,  # type: ignore[arg-type]
            reason=reason,
        )

    def work(self, **changes: Any) -> list[str]:
        """One phase from claim to what follows its last effect."""
        return [*self.report(**changes), *self.effects()]

    def to(self, phase: str) -> Rig:
        """A session whose `phase` has just been handed to its agent."""
        self.start()
        if not self.state.phase:
            self.effects()  # the ticket is claimed first
        while self.state.phase != phase:
            self.through()
        return self

    def through(self) -> Rig:
        """The current phase to its end, gate included."""
        self.work()
        for approver in (DANA, ERIK):
            if self.state.open_gate:
                self.decide("approve", approver)
        self.effects()
        return self

    def complete(self) -> Rig:
        self.to("judge-it").through()
        assert self.state.status.value == "completed"
        return self
