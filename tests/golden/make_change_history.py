"""Records sessions of the shipped `software-change` pipeline.

    python -m tests.golden.make_change_history

Like `make_history`: committed once, replayed for ever by `test_history.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conductor.pipelines import load
from conductor.state import Status
from schemas import commands as cmd
from schemas.pipeline import PipelineDefinition
from schemas.ticket import Budget, Checkout, Ticket
from schemas.values import FailureClass
from tests.golden.make_history import ALICE, BUS, DANA, ERIK, MALLORY, Recorder

HISTORY = Path(__file__).parent / "software-change.history.jsonl"
ABORTED = Path(__file__).parent / "software-change.aborted.history.jsonl"

TICKET = Ticket(
    id=12,
    title="The CSV loader drops the last row",
    labels=("Task", "auto", "now"),
    pipeline="software-change",
    change="patches/12.patch",
    acceptance_tests=("acceptance/last_row.py",),
    checkout=Checkout(repository="/srv/repository", commit="0" * 40),
    acceptance=("review.acceptance_passed >= 1.0",),
    budget=Budget(usd=5.0, minutes=30.0),
    requester="Alice",
    body="Only when the file has no newline at its end.",
)


class ChangeRecorder(Recorder):
    """The same parts, played on a change to code."""

    ticket = TICKET
    added = ()
    measured = {  # noqa: RUF012
        "build": {"tests.failed": 0.0, "tests.passed": 3.0, "tests.new": 1.0},
        "evaluate": {"review.blocking": 0.0, "review.acceptance_passed": 1.0},
    }


def record(pipeline: PipelineDefinition) -> Recorder:
    """A change that breaks a test, is rejected, approved, delivered, and taken back for a while."""
    tape = ChangeRecorder()
    tape.start(pipeline)
    tape.until("build")
    tape.claim()
    tape.failure(FailureClass.AGENT, "devsecops.change did not write test-report.json")
    tape.timer(cmd.StartRetry)
    tape.phase(tests__failed=1.0)
    assert tape.state.status is Status.BLOCKED
    tape.operator(cmd.RetryPhase(reason="that test depends on the time of day"), ERIK)
    tape.until("evaluate")
    tape.phase()
    assert tape.state.status is Status.WAITING
    tape.operator(cmd.RollbackSession(phase="evaluate", reason="the review is thin"), DANA)
    tape.broken("restore", "index.lock exists")
    tape.operator(cmd.RollbackSession(phase="evaluate", reason="the lock is removed"), DANA)
    tape.effects()
    tape.operator(cmd.RetryPhase())
    tape.phase()
    gate = tape.state.version
    tape.decide(ALICE, "approve", accepted=False)  # her own ticket
    tape.decide(DANA, "reject", "what about an empty line?")
    tape.operator(cmd.RestoreSession(sequence=gate, reason="it is told on line 3"), DANA)
    tape.effects()
    assert tape.state.status is Status.WAITING
    tape.decide(DANA, "approve")
    tape.claim()
    tape.agent(tape.report())
    tape.broken("sign", "the signing key can be read by others")
    tape.operator(cmd.RetryPhase())
    tape.phase()
    end = tape.state.version
    assert tape.state.status is Status.COMPLETED
    tape.operator(cmd.RollbackSession(phase="design", reason="by mistake"))
    tape.effects()
    tape.operator(cmd.RestoreSession(sequence=end, reason="that was a mistake"))
    tape.effects()
    assert tape.state.status is Status.COMPLETED
    return tape


def record_aborted(pipeline: PipelineDefinition) -> Recorder:
    """A patch that its commit cannot take, and an end by a person."""
    tape = ChangeRecorder()
    tape.start(pipeline)
    tape.until("build")
    tape.claim()
    tape.agent(tape.report())
    effect = tape.state.effects[0]
    assert (effect.kind, effect.target) == ("commit", "change.patch")
    tape.broken("commit", "the patch may not be applied: '.github/x' is protected")
    late = cmd.RecordEffect(effect=effect.id, kind="commit", commit="f" * 40)
    tape.say(late, "autopilot", BUS["autopilot"], accepted=False)
    tape.operator(cmd.AbortSession(reason="a strange patch"), MALLORY, accepted=False)
    tape.operator(cmd.AbortSession(reason="a strange patch"))
    assert tape.state.status is Status.ABORTED
    return tape


STORIES: dict[Path, Callable[[PipelineDefinition], Recorder]] = {HISTORY: record, ABORTED: record_aborted}


def main() -> None:
    for path, story in STORIES.items():
        if path.exists():
            continue
        tape = story(load("software-change"))
        path.write_bytes(b"".join(line + b"\n" for line in tape.lines))
        print(f"{path.name}: {tape.commands} commands, {tape.events} events")


if __name__ == "__main__":
    main()
