"""Records a whole session of the shipped `ml-delivery` pipeline: refusals, retries, a gate, a rollback, the end.

    python -m tests.golden.make_history

Each line of `ml-delivery.history.jsonl` is a message's canonical bytes: a command, then the events it caused. The file
is committed once and replayed for ever (`test_history.py`); make it again only while nobody has such a record yet.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from conductor.fold import handle
from conductor.pipelines import load
from conductor.state import Stage, Status, initial
from schemas import commands as cmd
from schemas.envelope import CommandEnvelope, EventEnvelope, StreamId, encode_command, encode_event
from schemas.messages import Command
from schemas.pipeline import PipelineDefinition
from schemas.policy import Approver, Policy
from schemas.ticket import Budget, Ticket
from schemas.values import (
    Actor,
    ArtifactRef,
    FailureClass,
    Measurement,
    OriginKind,
    Posted,
    Registered,
    RiskLevel,
    Task,
    TickedItem,
    Usage,
)

HISTORY = Path(__file__).parent / "ml-delivery.history.jsonl"
RESTORED = Path(__file__).parent / "ml-delivery.restored.history.jsonl"
"""Recorded later, when rollback to an event came: back from the end, back to a gate, and the rollback taken back."""
ABORTED = Path(__file__).parent / "ml-delivery.aborted.history.jsonl"
"""Recorded later still: a commit and a signature that fail, a gate that is superseded, and a person who ends it all."""
EDITED = Path(__file__).parent / "ml-delivery.edited.history.jsonl"
"""Recorded when edits by hand became events."""
REGISTERED = Path(__file__).parent / "ml-delivery.registered.history.jsonl"
"""Recorded when packages became versions in the model registry."""
STREAM = StreamId("default", "session", "s12-golde")

BUS = {name: Actor(name=name, channel="bus", verified_as=f"login:{name}") for name in ("autopilot", "lead", "agent")}
SYSTEM = Actor(name="conductor", channel="system", verified_as="conductor")
DANA = Actor(name="dana", channel="cli", verified_as="os:dana")
ERIK = Actor(name="erik", channel="github", verified_as="4711")
ALICE = Actor(name="alice", channel="cli", verified_as="os:alice")
OLGA = Actor(name="olga", channel="console", verified_as="session:9")
MALLORY = Actor(name="mallory", channel="cli", verified_as="os:mallory")

TICKET = Ticket(
    id=12,
    title="Flag malignant tumours from cell measurements",
    labels=("Task", "auto", "now"),
    data="data/cells.csv",
    target="malignant",
    task=Task.CLASSIFICATION,
    metric="roc_auc",
    groups="patient_id",
    acceptance=("metrics.roc_auc_lower >= 0.95", "metrics.recall >= 0.90"),
    risk=RiskLevel.LOW,
    budget=Budget(usd=5.0, minutes=30.0),
    requester="Alice",
    created=datetime(2026, 11, 1, 9, tzinfo=UTC),
    body="Free text: why, for whom, what good looks like.",
)
POLICY = Policy(
    approvers=(
        Approver(name="dana", os_users=("dana",)),
        Approver(name="erik", phases=("risk-review",)),
        Approver(name="alice"),
        Approver(name="lowly", up_to_risk=RiskLevel.LOW),
    ),
    operators=("olga",),
    usd_per_cpu_hour=0.05,
)
MEASURED: dict[str, dict[str, float]] = {
    "readiness": {"readiness.score": 0.8},
    "extraction": {"data.rows": 569.0},
    "preparation": {"data.twin_fraction_after": 0.0, "data.quality": 0.98},
    "feature-engineering": {"leakage.suspects": 0.0},
    "training": {"training.trials": 12.0},
    "validation": {
        "metrics.rows": 114.0, "metrics.roc_auc": 0.991, "metrics.roc_auc_lower": 0.962, "metrics.recall": 0.93,
        "baseline.roc_auc": 0.5,
    },
    "risk-review": {"risk.tier": 1.0, "risk.veto": 0.0},
}  # fmt: skip


class Recorder:
    """Plays all parts and writes down every word."""

    ticket = TICKET
    policy = POLICY
    measured = MEASURED
    added: tuple[str, ...] = ("metrics.rows >= 50.0",)
    """Acceptance criteria that the scope adds to the ticket's."""

    def __init__(self) -> None:
        self.state = initial(STREAM.name)
        self.now = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
        self.lines: list[bytes] = []
        self.commands = self.events = self.commits = 0

    def say(self, command: Command, sender: str, actor: Actor, accepted: bool = True) -> None:
        self.now += timedelta(seconds=7, microseconds=125_000)
        self.commands += 1
        envelope = CommandEnvelope(f"c-{self.commands:04}", STREAM, self.now, actor, sender, STREAM.name, "", command)
        outcome = handle(self.state, envelope)
        assert (outcome.refusal is None) == accepted, (self.commands, command, outcome.refusal)
        self.lines.append(encode_command(envelope))
        for offset, event in enumerate(outcome.events, 1):
            self.events += 1
            recorded = EventEnvelope(
                id=f"e-{self.events:04}",
                stream=STREAM,
                sequence=self.state.version + offset,
                time=envelope.time,
                actor=actor,
                correlation_id=STREAM.name,
                causation_id=envelope.id,
                event=event,
            )
            self.lines.append(encode_event(recorded))
        self.state = outcome.state

    def start(self, pipeline: PipelineDefinition, ticket: Ticket | None = None) -> None:
        self.ticket = ticket or self.ticket
        command = cmd.StartSession(
            ticket=self.ticket,
            ticket_digest="12" * 32,
            drive="d-golden",
            pipeline=pipeline,
            policy=self.policy,
            policy_version="34" * 32,
            repository="/srv/repository",
            base_commit="0" * 40,
            branch="phase/12",
            roots=("data",),
            seed=20261121,
        )
        self.say(command, "autopilot", BUS["autopilot"])

    def agent(self, command: Command, accepted: bool = True, sender: str | None = None) -> None:
        self.say(command, sender or self.state.definition.agent.value, BUS["agent"], accepted)

    def operator(self, command: Command, actor: Actor = OLGA, accepted: bool = True) -> None:
        self.say(command, "operator", actor, accepted)

    def claim(self) -> None:
        self.agent(cmd.ClaimAttempt(phase=self.state.phase, attempt=self.state.attempt, holder="replica-1"))

    def report(self, **figures: float) -> cmd.ReportWork:
        phase = self.state.definition
        measured = self.measured.get(phase.name, {}) | {n.replace("__", "."): v for n, v in figures.items()}
        return cmd.ReportWork(
            phase=phase.name,
            attempt=self.state.attempt,
            lease=self.state.lease,
            summary=f"{phase.name} is done",
            artifacts=tuple(
                ArtifactRef(name=name, sha256=f"{index:02x}" * 32, size=1000 + index, sealed="labels" in name)
                for index, name in enumerate(phase.artifacts, len(phase.name))
            ),
            ticked=tuple(TickedItem(item=i.id, evidence=f"see {phase.artifacts[0]}") for i in phase.checklist),
            measurements=tuple(
                Measurement(scope=key.split(".")[0], name=key.split(".")[1], value=value)
                for key, value in measured.items()
            ),
            acceptance=(*self.ticket.acceptance, *self.added) if phase.name == "scope" else (),
            warnings=("only one hospital",) if phase.name == "data-sources" else (),
            usage=Usage(wall_seconds=12.5, cpu_seconds=20.25, peak_rss_bytes=250_000_000, tokens=0, usd=0.001),
        )

    def failure(self, kind: FailureClass, reason: str) -> None:
        state = self.state
        command = cmd.ReportFailure(
            phase=state.phase, attempt=state.attempt, lease=state.lease, failure=kind, reason=reason,
            detail="Traceback …", usage=Usage(wall_seconds=3.0, cpu_seconds=1.0),
        )  # fmt: skip
        self.agent(command)

    def effects(self, most: int = 100) -> None:
        for _ in range(most):
            if not self.state.effects:
                return
            effect = self.state.effects[0]
            self.commits += 1
            commit, signed = f"{self.commits:040x}", ()
            if effect.kind == "sign":
                commit = ""
                signed = (ArtifactRef(name=f"{effect.target}.dsse.json", sha256="ab" * 32, size=900),)
            registered = None
            if effect.kind in ("register", "unregister"):
                commit = ""
                new = Registered(
                    effect=effect.id, model=effect.target, version="7", alias="candidate", before="5", current="7"
                )
                registered = effect.registered or new
            posted = None
            if effect.kind in get_args(OriginKind):
                commit = ""
                posted = (
                    Posted(claim="c1" * 20)
                    if effect.kind == "claim"
                    else Posted(
                        pull=20 + self.state.at_origin.round,
                        comment=31,
                        url="https://github.example/octo/train/pull/20",
                    )
                )
            command = cmd.RecordEffect(
                effect=effect.id,
                kind=effect.kind,
                commit=commit,
                artifacts=signed,
                registered=registered,  # type: ignore[arg-type]
                posted=posted,
            )
            self.say(command, "autopilot", BUS["autopilot"])

    def broken(self, kind: Any, reason: str) -> None:
        """The effect that is wanted now, and of this kind, fails."""
        effect = self.state.effects[0]
        assert effect.kind == kind
        self.say(cmd.RecordEffectFailure(effect=effect.id, kind=kind, reason=reason), "autopilot", BUS["autopilot"])

    def phase(self, **figures: float) -> None:
        self.claim()
        self.agent(self.report(**figures))
        self.effects()

    def until(self, phase: str) -> None:
        while self.state.phase != phase:
            self.phase()

    def timer(self, kind: Callable[..., Command], accepted: bool = True) -> None:
        command = kind(phase=self.state.phase, attempt=self.state.attempt)
        self.say(command, "conductor", SYSTEM, accepted)

    def decide(self, actor: Actor, decision: Any, reason: str = "", accepted: bool = True) -> None:
        gate = next(g.id for g in reversed(list(self.state.gates.values())))
        self.operator(cmd.DecideGate(gate=gate, decision=decision, reason=reason), actor, accepted)


def record(pipeline: PipelineDefinition) -> Recorder:
    """The story, on a pipeline with the phases of `ml-delivery`."""
    tape = Recorder()
    tape.operator(cmd.AbortSession(reason="before it began"), accepted=False)
    tape.start(pipeline)
    tape.agent(tape.report(), accepted=False)  # not claimed
    tape.claim()
    tape.agent(tape.report(), accepted=False, sender="data")  # not the owner
    late = tape.report()
    tape.claim()
    tape.agent(late, accepted=False)  # a lease that was taken over
    tape.agent(tape.report().model_copy(update={"ticked": ()}))  # a required item is missing
    tape.timer(cmd.StartRetry)
    tape.phase()
    tape.until("extraction")
    tape.timer(cmd.ExpireAttempt)  # nobody came
    tape.timer(cmd.StartRetry)
    tape.claim()
    tape.failure(FailureClass.TRANSIENT, "the file server is away")
    tape.timer(cmd.StartRetry)
    tape.phase(data__rows=12.0)  # too few rows: blocked
    assert tape.state.status is Status.BLOCKED
    tape.agent(late, accepted=False)
    tape.operator(cmd.RetryPhase(reason="more rows were added"), ERIK)
    tape.phase()
    tape.until("training")
    tape.claim()
    tape.failure(FailureClass.AGENT, "the search found no model")
    tape.timer(cmd.StartRetry)
    tape.claim()
    tape.failure(FailureClass.AGENT, "the search found no model")
    tape.operator(cmd.RollbackSession(phase="feature-engineering", reason="other features"))
    tape.operator(cmd.RetryPhase(), accepted=False)  # the branch has not followed yet
    broken = cmd.RecordEffectFailure(effect=tape.state.effects[0].id, kind="restore", reason="index.lock exists")
    tape.say(broken, "autopilot", BUS["autopilot"])
    tape.operator(cmd.RetryPhase(), accepted=False)
    tape.operator(cmd.RollbackSession(phase="feature-engineering", reason="the lock is removed"))
    tape.effects()
    tape.operator(cmd.RetryPhase())
    tape.until("risk-review")
    tape.phase()
    assert tape.state.status is Status.WAITING
    tape.operator(cmd.RollbackSession(phase="risk-review", reason="the profile is thin"), DANA)
    tape.effects()
    tape.operator(cmd.RetryPhase())
    tape.phase()
    tape.decide(ALICE, "approve", accepted=False)  # her own ticket
    tape.decide(verified(DANA, "os:mallory"), "approve", accepted=False)
    tape.decide(DANA, "reject", accepted=False)  # without a reason
    tape.decide(DANA, "reject", "name the population it was trained on")
    tape.operator(cmd.RetryPhase())
    tape.phase()
    tape.decide(ERIK, "approve", "it is named now")
    assert tape.state.phase == "deployment"
    tape.phase()
    assert tape.state.status is Status.COMPLETED
    tape.operator(cmd.AbortSession(reason="too late"), accepted=False)
    tape.operator(cmd.RollbackSession(phase="deployment", reason="a new base image"))
    tape.effects()
    tape.operator(cmd.RetryPhase())
    tape.phase()
    assert (tape.state.status, tape.state.stage) == (Status.COMPLETED, Stage.IDLE)
    return tape


def record_restored(pipeline: PipelineDefinition) -> Recorder:
    """A second story, of rollbacks to events."""
    tape = Recorder()
    tape.start(pipeline)
    tape.until("risk-review")
    tape.phase()
    gate = tape.state.version
    tape.operator(cmd.RestoreSession(sequence=gate), accepted=False)  # that is where it stands
    tape.operator(cmd.RestoreSession(sequence=gate - 1), accepted=False)  # in the middle of a decision
    tape.operator(cmd.RestoreSession(sequence=gate + 50), accepted=False)
    tape.decide(DANA, "reject", "name the population it was trained on")
    tape.operator(cmd.RestoreSession(sequence=gate, reason="it is named on page 2"), DANA)
    tape.effects()
    assert tape.state.status is Status.WAITING
    tape.decide(ERIK, "approve")
    tape.phase()
    end = tape.state.version
    assert tape.state.status is Status.COMPLETED
    tape.operator(cmd.RollbackSession(phase="training", reason="by mistake"))
    tape.effects()
    tape.operator(cmd.RestoreSession(sequence=end, reason="that was a mistake"))
    broken = cmd.RecordEffectFailure(effect=tape.state.effects[0].id, kind="restore", reason="index.lock exists")
    tape.say(broken, "autopilot", BUS["autopilot"])
    tape.operator(cmd.RestoreSession(sequence=end))
    tape.effects()
    assert tape.state.status is Status.COMPLETED
    return tape


def record_aborted(pipeline: PipelineDefinition) -> Recorder:
    """A third story: effects that fail, and an end by a person."""
    tape = Recorder()
    tape.start(pipeline)
    tape.claim()
    tape.agent(tape.report())
    late = cmd.RecordEffect(effect=tape.state.effects[0].id, kind="commit", commit="f" * 40)
    tape.broken("commit", "the index is locked")
    tape.say(late, "autopilot", BUS["autopilot"], accepted=False)  # the attempt it belongs to is over
    tape.operator(cmd.RetryPhase(), MALLORY, accepted=False)
    tape.operator(cmd.RetryPhase(reason="the lock is gone"))
    tape.until("risk-review")
    tape.phase()
    tape.decide(DANA, "approve")
    assert tape.state.phase == "deployment"
    tape.claim()
    tape.agent(tape.report())
    tape.broken("sign", "the signing key can be read by others")
    tape.operator(cmd.RetryPhase())
    tape.claim()
    tape.agent(tape.report())
    tape.operator(cmd.RollbackSession(phase="risk-review", reason="who else may see it?"))  # while it is being signed
    tape.effects()
    tape.operator(cmd.RetryPhase())
    tape.phase()
    assert tape.state.status is Status.WAITING
    tape.operator(cmd.AbortSession(reason="nobody needs it any more"), MALLORY, accepted=False)
    tape.operator(cmd.AbortSession(reason="nobody needs it any more"))
    tape.decide(DANA, "approve", accepted=False)
    tape.operator(cmd.RetryPhase(), accepted=False)
    tape.operator(cmd.RollbackSession(phase="scope"), accepted=False)
    tape.operator(cmd.RestoreSession(sequence=3), accepted=False)
    assert tape.state.status is Status.ABORTED
    return tape


def record_edited(pipeline: PipelineDefinition) -> Recorder:
    """A fourth story: somebody edits the ticket's folder."""
    tape = Recorder()
    tape.start(pipeline)
    tape.claim()
    tape.agent(tape.report())
    edits = cmd.ReportEdits(files=("tickets/delivery_12/checklist.md", "tickets/delivery_12/mine.txt"), commit="b" * 40)
    tape.say(edits, "autopilot", BUS["autopilot"])
    tape.effects()
    tape.until("risk-review")
    tape.phase()
    tape.decide(DANA, "approve")
    tape.phase()
    assert tape.state.status is Status.COMPLETED
    tape.say(edits, "autopilot", BUS["autopilot"], accepted=False)
    return tape


def record_registered(pipeline: PipelineDefinition) -> Recorder:
    """A fifth story: a model goes into the registry after its gate; a rollback takes it back, another brings it."""
    tape = Recorder()
    tape.start(pipeline)
    tape.until("risk-review")
    tape.phase()
    tape.decide(DANA, "approve")
    assert tape.state.phase == "deployment"
    tape.claim()
    tape.agent(tape.report())
    while tape.state.effects[0].kind != "register":
        tape.effects(1)
    effect = tape.state.effects[0]
    for wrong in (None, Registered(effect=effect.id, model=effect.target, version="", alias="candidate")):
        receipt = cmd.RecordEffect(effect=effect.id, kind="register", registered=wrong)
        tape.say(receipt, "autopilot", BUS["autopilot"], accepted=False)
    tape.broken("register", "the model registry cannot be reached")
    tape.operator(cmd.RetryPhase(reason="it can be reached again"))
    tape.phase()
    end = tape.state.version
    assert tape.state.status is Status.COMPLETED
    tape.operator(cmd.RollbackSession(phase="deployment", reason="the wrong base image"))
    tape.broken("unregister", "the model registry cannot be reached")
    assert not tape.state.effects
    tape.operator(cmd.RetryPhase(), accepted=False)  # nothing was taken back
    tape.operator(cmd.RollbackSession(phase="deployment", reason="it can be reached again"))
    assert [effect.kind for effect in tape.state.effects] == ["unregister", "restore"]
    tape.effects()
    assert not tape.state.registered
    tape.operator(cmd.RestoreSession(sequence=end, reason="the image was right"))
    assert [effect.kind for effect in tape.state.effects] == ["restore", "register"]
    tape.effects()
    assert tape.state.status is Status.COMPLETED
    assert [r.version for r in tape.state.registered] == ["7"]
    return tape


def verified(actor: Actor, verified_as: str) -> Actor:
    return actor.model_copy(update={"verified_as": verified_as})


STORIES: dict[Path, Callable[[PipelineDefinition], Recorder]] = {
    HISTORY: record,
    RESTORED: record_restored,
    ABORTED: record_aborted,
    EDITED: record_edited,
    REGISTERED: record_registered,
}


def main() -> None:
    for path, story in STORIES.items():
        if path.exists():
            continue
        tape = story(load("ml-delivery"))
        path.write_bytes(b"".join(line + b"\n" for line in tape.lines))
        print(f"{path.name}: {tape.commands} commands, {tape.events} events")


if __name__ == "__main__":
    main()
