"""Records sessions of the shipped pipelines `data-onboarding`, `retrain` and `release`.

    python -m tests.golden.make_data_histories

Like `make_history`: committed once, replayed for ever by `test_history.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from conductor.pipelines import load
from conductor.state import Status
from schemas import commands as cmd
from schemas.pipeline import PipelineDefinition
from schemas.ticket import Budget, Ticket
from schemas.values import FailureClass, Measurement, RiskLevel
from tests.golden.make_history import ALICE, BUS, DANA, ERIK, MALLORY, POLICY, Recorder

HERE = Path(__file__).parent

ONBOARDING = Ticket(
    id=12,
    title="Visits of the clinic by day",
    labels=("Task", "auto"),
    pipeline="data-onboarding",
    data="data/visits.csv",
    time="day",
    risk=RiskLevel.MEDIUM,
    budget=Budget(usd=5.0, minutes=30.0),
    requester="Alice",
)
RETRAIN = Ticket(
    id=12,
    title="Malignant tumours, with the rows of autumn",
    labels=("Task", "auto"),
    pipeline="retrain",
    data="data/autumn.csv",
    model="models/in-use.zip",
    acceptance=("metrics.roc_auc_lower >= 0.9",),
    risk=RiskLevel.MEDIUM,
    budget=Budget(usd=5.0, minutes=30.0),
    requester="Alice",
)
RELEASE = Ticket(
    id=12,
    title="Malignant tumours into service",
    labels=("Task", "auto"),
    pipeline="release",
    data="data/autumn.csv",
    model="models/in-use.zip",
    package="models/model-package.zip",
    risk=RiskLevel.MEDIUM,
    budget=Budget(usd=5.0, minutes=30.0),
    requester="Alice",
)


class OnboardingRecorder(Recorder):
    """The same parts, played on a data set. `gate` is the phase with a person's gate, `signs` the one that signs."""

    ticket: Ticket = ONBOARDING
    figures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "extraction": {"data.rows": 569.0},
        "risk-review": {"risk.tier": 1.0, "risk.veto": 0.0},
    }
    checked, gate, signs = "extraction", "risk-review", "onboarding"
    bad: ClassVar[Mapping[str, float]] = {"data__rows": 0.0}
    """What makes the phase `checked` fail its criteria."""

    def start(self, pipeline: PipelineDefinition) -> None:
        command = cmd.StartSession(
            ticket=self.ticket,
            ticket_digest="12" * 32,
            drive="d-golden",
            pipeline=pipeline,
            policy=POLICY,
            policy_version="34" * 32,
            repository="/srv/repository",
            base_commit="0" * 40,
            branch="phase/12",
            roots=("data",),
            seed=20261121,
        )
        self.say(command, "autopilot", BUS["autopilot"])

    def report(self, **figures: float) -> cmd.ReportWork:
        own = dict(self.figures.get(self.state.phase, {}))
        own |= {name.replace("__", "."): value for name, value in figures.items()}
        measurements = tuple(
            Measurement(scope=key.split(".")[0], name=key.split(".")[1], value=value) for key, value in own.items()
        )
        return super().report().model_copy(update={"measurements": measurements, "acceptance": (), "warnings": ()})


class RetrainRecorder(OnboardingRecorder):
    """Played on a model in use and newer rows."""

    ticket = RETRAIN
    figures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "preparation": {"data.rows": 569.0, "drift.score": 0.25},
        "validation": {
            "metrics.rows": 114.0,
            "metrics.roc_auc": 0.97,
            "metrics.roc_auc_lower": 0.93,
            "champion.gain": 0.04,
            "champion.gain_lower": 0.01,
        },
        "deployment": {"canary.breach": 0.0, "canary.requests": 114.0},
    }
    checked, gate, signs = "preparation", "deployment", "deployment"


class ReleaseRecorder(OnboardingRecorder):
    """Played on a delivered package that takes the place of the one in use."""

    ticket = RELEASE
    figures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "verification": {"release.verified": 1.0},
        "components": {
            "advisories.current": 1.0, "advisories.age_days": 0.5, "advisories.known": 0.0, "advisories.unchecked": 0.0,
        },
        "dev": {"release.dev_failed": 0.0},
        "staging": {"release.staging_failed": 0.0, "release.staging_p95_ms": 12.0, "release.way_back_seconds": 0.02},
        "production": {"release.production_failed": 0.0, "release.production_breach": 0.0},
    }  # fmt: skip
    checked, gate, signs = "components", "staging", "production"
    bad: ClassVar[Mapping[str, float]] = {"advisories__current": 0.0}


def record(kind: type[OnboardingRecorder], pipeline: PipelineDefinition) -> Recorder:
    """An agent that fails, too few rows, a signature that fails, every turn of a gate, and a rollback taken back."""
    tape = kind()
    tape.start(pipeline)
    tape.claim()
    tape.failure(FailureClass.AGENT, "the file server was away")
    tape.timer(cmd.StartRetry)
    tape.until(tape.checked)
    tape.phase(**tape.bad)
    assert tape.state.status is Status.BLOCKED
    tape.operator(cmd.RetryPhase(reason="the export was empty"), ERIK)
    tape.until(tape.gate)
    if tape.signs == tape.gate:
        fail_to_sign(tape)
    tape.phase()
    assert tape.state.status is Status.WAITING
    tape.operator(cmd.RollbackSession(phase=tape.gate, reason="the report is thin"), DANA)
    tape.broken("restore", "index.lock exists")
    tape.operator(cmd.RollbackSession(phase=tape.gate, reason="the lock is removed"), DANA)
    tape.effects()
    tape.operator(cmd.RetryPhase())
    tape.phase()
    gate = tape.state.version
    tape.decide(ALICE, "approve", accepted=False)  # her own ticket
    tape.decide(DANA, "reject", "who may see it?")
    tape.operator(cmd.RestoreSession(sequence=gate, reason="it is said on page 2"), DANA)
    tape.effects()
    assert tape.state.status is Status.WAITING
    tape.decide(DANA, "approve")
    if tape.signs != tape.gate:
        fail_to_sign(tape)
    tape.phase()
    end = tape.state.version
    assert tape.state.status is Status.COMPLETED
    tape.operator(cmd.RollbackSession(phase=tape.checked, reason="by mistake"))
    tape.effects()
    tape.operator(cmd.RestoreSession(sequence=end, reason="that was a mistake"))
    tape.effects()
    assert tape.state.status is Status.COMPLETED
    return tape


def fail_to_sign(tape: Recorder) -> None:
    """The phase does its work, and its signature fails."""
    tape.claim()
    tape.agent(tape.report())
    tape.broken("sign", "the signing key can be read by others")
    tape.operator(cmd.RetryPhase())


def record_aborted(kind: type[OnboardingRecorder], pipeline: PipelineDefinition) -> Recorder:
    """A commit that fails, and an end by a person."""
    tape = kind()
    tape.start(pipeline)
    tape.claim()
    tape.agent(tape.report())
    late = cmd.RecordEffect(effect=tape.state.effects[0].id, kind="commit", commit="f" * 40)
    tape.broken("commit", "the index is locked")
    tape.say(late, "autopilot", BUS["autopilot"], accepted=False)
    tape.operator(cmd.AbortSession(reason="another source is used"), MALLORY, accepted=False)
    tape.operator(cmd.AbortSession(reason="another source is used"))
    assert tape.state.status is Status.ABORTED
    return tape


STORIES: dict[Path, Callable[[PipelineDefinition], Recorder]] = {
    HERE / f"{kind.ticket.pipeline}{part}.history.jsonl": partial(story, kind)
    for kind in (OnboardingRecorder, RetrainRecorder, ReleaseRecorder)
    for part, story in (("", record), (".aborted", record_aborted))
}


def main() -> None:
    for path, story in STORIES.items():
        if path.exists():
            continue
        tape = story(load(path.name.split(".")[0]))
        path.write_bytes(b"".join(line + b"\n" for line in tape.lines))
        print(f"{path.name}: {tape.commands} commands, {tape.events} events")


if __name__ == "__main__":
    main()
