"""Records whole sessions of the shipped `ml-engagement` pipeline, as `make_history` does for `ml-delivery`.

python -m tests.golden.make_engagement_history
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conductor.pipelines import load
from conductor.state import Status
from schemas import commands as cmd
from schemas.pipeline import PipelineDefinition
from schemas.values import FailureClass
from tests.golden.make_history import ALICE, BUS, DANA, ERIK, MALLORY, TICKET, Recorder

HISTORY = Path(__file__).parent / "ml-engagement.history.jsonl"
ABORTED = Path(__file__).parent / "ml-engagement.aborted.history.jsonl"
ENGAGEMENT = TICKET.model_copy(update={"pipeline": "ml-engagement"})


class Engagement(Recorder):
    """Approves what waits for a person on the way."""

    def until(self, phase: str) -> None:
        while self.state.phase != phase:
            self.phase()
            if self.state.status is Status.WAITING:
                self.decide(DANA, "approve")


def record(pipeline: PipelineDefinition) -> Recorder:
    """From an idea that was first turned down, over a weak readiness, a lost commit and two rollbacks, to its end."""
    tape = Engagement()
    tape.start(pipeline, ENGAGEMENT)
    tape.phase()
    assert tape.state.status is Status.WAITING
    tape.decide(ALICE, "approve", accepted=False)  # her own idea
    tape.decide(DANA, "reject", "who pays for it?")
    tape.operator(cmd.RetryPhase(reason="the sponsor is named now"))
    tape.phase()
    tape.decide(DANA, "approve")
    tape.until("readiness")
    tape.phase(readiness__score=0.4)  # nobody to ask about the data: blocked
    assert tape.state.status is Status.BLOCKED
    tape.operator(cmd.RetryPhase(reason="the data has an owner now"), DANA)
    tape.phase()
    tape.until("pre-kickoff")
    tape.claim()
    tape.failure(FailureClass.AGENT, "the plan had no dates")
    tape.timer(cmd.StartRetry)
    tape.phase()
    kickoff = tape.state.version
    assert tape.state.status is Status.WAITING
    tape.decide(DANA, "reject", "the deadline is before the plan's end")
    tape.operator(cmd.RestoreSession(sequence=kickoff, reason="the deadline was moved"), DANA)
    tape.effects()
    assert tape.state.status is Status.WAITING
    tape.decide(DANA, "approve")
    tape.until("training")
    tape.claim()
    tape.agent(tape.report())
    tape.broken("commit", "the index is locked")
    tape.operator(cmd.RetryPhase(reason="the lock is gone"))
    tape.until("deployment")
    tape.until("monitoring")
    tape.claim()
    tape.failure(FailureClass.TRANSIENT, "the port was taken")
    tape.timer(cmd.StartRetry)
    tape.until("improvement")
    tape.phase()
    assert tape.state.status is Status.WAITING
    before = tape.state.version
    tape.operator(cmd.RollbackSession(phase="evaluation", reason="true outcomes came in"))
    broken = cmd.RecordEffectFailure(effect=tape.state.effects[0].id, kind="restore", reason="index.lock exists")
    tape.say(broken, "autopilot", BUS["autopilot"])
    tape.operator(cmd.RestoreSession(sequence=before, reason="they were of another model"))
    tape.effects()
    assert tape.state.status is Status.WAITING
    tape.decide(ERIK, "approve", accepted=False)  # he decides risk reviews only
    tape.decide(DANA, "approve")
    tape.phase()
    assert tape.state.status is Status.COMPLETED
    return tape


def record_aborted(pipeline: PipelineDefinition) -> Recorder:
    """A signature that fails, a gate that is superseded, and an engagement nobody needs any more."""
    tape = Engagement()
    tape.start(pipeline, ENGAGEMENT)
    tape.until("deployment")
    tape.claim()
    tape.agent(tape.report())
    tape.broken("sign", "the signing key can be read by others")
    tape.operator(cmd.RetryPhase())
    tape.until("improvement")
    tape.phase()
    assert tape.state.status is Status.WAITING
    tape.operator(cmd.RollbackSession(phase="improvement", reason="costs are missing"))
    tape.effects()
    tape.operator(cmd.RetryPhase())
    tape.phase()
    assert tape.state.status is Status.WAITING
    tape.operator(cmd.AbortSession(reason="the letters are not sent any more"), MALLORY, accepted=False)
    tape.operator(cmd.AbortSession(reason="the letters are not sent any more"))
    tape.decide(DANA, "approve", accepted=False)
    assert tape.state.status is Status.ABORTED
    return tape


STORIES: dict[Path, Callable[[PipelineDefinition], Recorder]] = {HISTORY: record, ABORTED: record_aborted}


def main() -> None:
    for path, story in STORIES.items():
        if path.exists():
            continue
        tape = story(load("ml-engagement"))
        path.write_bytes(b"".join(line + b"\n" for line in tape.lines))
        print(f"{path.name}: {tape.commands} commands, {tape.events} events")


if __name__ == "__main__":
    main()
