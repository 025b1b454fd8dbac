"""Records sessions of tickets that came from a forge: claim, pushes, pull request, comments, and their undoing.

python -m tests.golden.make_origin_history
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conductor.pipelines import load
from conductor.state import Status
from schemas import commands as cmd
from schemas.pipeline import PipelineDefinition
from schemas.values import Posted
from tests.golden.make_history import BUS, DANA, ERIK, TICKET, Recorder

DONE = Path(__file__).parent / "ml-delivery.origin.history.jsonl"
ABORTED = Path(__file__).parent / "ml-delivery.origin.aborted.history.jsonl"
LOST = Path(__file__).parent / "ml-delivery.origin.lost.aborted.history.jsonl"
FOREIGN = TICKET.model_copy(update={"origin": "github:octo/train", "requester_id": 4712})


def record_done(pipeline: PipelineDefinition) -> Recorder:
    """Failures of a claim, a push and a comment; to the end, back from it, and forward again."""
    tape = Recorder()
    tape.start(pipeline, FOREIGN)
    tape.broken("claim", "the token may not write")
    tape.effects()
    tape.operator(cmd.RetryPhase(), ERIK)
    tape.effects(1)
    tape.broken("announce", "the issue is locked")
    tape.effects()
    tape.claim()
    tape.agent(tape.report())
    tape.effects(1)
    tape.broken("publish", "somebody pushed to the branch")
    tape.effects()
    tape.operator(cmd.RetryPhase(reason="their commits are elsewhere now"), ERIK)
    tape.effects()
    while tape.state.status is not Status.COMPLETED:
        if tape.state.open_gate:
            tape.decide(DANA, "approve")
            tape.effects()
        else:
            tape.phase()
    end = tape.state.version
    assert tape.state.at_origin.finished
    tape.operator(cmd.RollbackSession(phase="deployment", reason="the wrong base image"))
    assert [effect.kind for effect in tape.state.effects] == ["withdraw", "restore"]
    tape.broken("withdraw", "the forge refuses")
    tape.effects()
    tape.operator(cmd.RollbackSession(phase="deployment", reason="it does not any more"))
    tape.effects()
    tape.operator(cmd.RestoreSession(sequence=end, reason="the image was right"))
    tape.effects()
    assert (tape.state.status, tape.state.at_origin.round) == (Status.COMPLETED, 1)
    return tape


def record_aborted(pipeline: PipelineDefinition) -> Recorder:
    """A person ends it: the pull request and the ticket are given back."""
    tape = Recorder()
    tape.start(pipeline, FOREIGN)
    tape.effects()
    tape.until("preparation")
    tape.operator(cmd.AbortSession(reason="the data was withdrawn"), DANA)
    tape.effects()
    assert (tape.state.status, tape.state.at_origin.taken) == (Status.ABORTED, False)
    return tape


def record_lost(pipeline: PipelineDefinition) -> Recorder:
    """Another one was faster."""
    tape = Recorder()
    tape.start(pipeline, FOREIGN)
    (claim,) = tape.state.effects
    lost = Posted(taken_by="branch phase/claim_12 stands on c2c2c2c2c2c2 (Ticket 12 is taken by session s12-other)")
    tape.say(cmd.RecordEffect(effect=claim.id, kind="claim", posted=lost), "autopilot", BUS["autopilot"])
    tape.effects()
    assert tape.state.status is Status.ABORTED
    return tape


STORIES: dict[Path, Callable[[PipelineDefinition], Recorder]] = {
    DONE: record_done,
    ABORTED: record_aborted,
    LOST: record_lost,
}


def main() -> None:
    for path, story in STORIES.items():
        if path.exists():
            continue
        tape = story(load("ml-delivery").without_registry())
        path.write_bytes(b"".join(line + b"\n" for line in tape.lines))
        print(f"{path.name}: {tape.commands} commands, {tape.events} events")


if __name__ == "__main__":
    main()
