"""Records a session whose rows come from a named source: fetched before anything else, and once.

python -m tests.golden.make_source_history
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conductor.pipelines import load
from conductor.state import Status
from schemas import commands as cmd
from schemas.pipeline import PipelineDefinition
from schemas.values import Snapshot
from tests.golden.make_history import BUS, DANA, MEASURED, TICKET, Recorder

DONE = Path(__file__).parent / "ml-delivery.source.history.jsonl"
NAMED = TICKET.model_copy(update={"data": "source:clinic/visits"})


def receipt(tape: Recorder, **changes: str) -> cmd.RecordEffect:
    """What the executor says of the rows."""
    names = {"source": "clinic", "item": "visits"} | changes
    snapshot = Snapshot(
        source=names["source"], item=names["item"], kind="sql", format="parquet", sha256="5e" * 32, size=134_806,
        rows=569, taken=tape.now, version="",
    )  # fmt: skip
    return cmd.RecordEffect(effect=tape.state.effects[0].id, kind="fetch", snapshot=snapshot)


def record_done(pipeline: PipelineDefinition) -> Recorder:
    """A database that is away, another one's rows, then the rows; back to the first phase, and to the end."""
    tape = Recorder()
    tape.measured = MEASURED | {"validation": MEASURED["validation"] | {"audit.findings": 0.0}}
    tape.start(pipeline, NAMED)
    tape.broken("fetch", "source clinic (postgresql://db.example/clinic) cannot be reached")
    tape.operator(cmd.RetryPhase(reason="it runs again"))
    tape.say(receipt(tape, item="patients"), "autopilot", BUS["autopilot"], accepted=False)
    tape.say(receipt(tape), "autopilot", BUS["autopilot"])
    tape.until("preparation")
    tape.operator(cmd.RollbackSession(phase="scope", reason="another target"))
    tape.effects()
    tape.operator(cmd.RetryPhase())
    while tape.state.status is not Status.COMPLETED:
        tape.phase()
        if tape.state.open_gate:
            tape.decide(DANA, "approve")
            tape.effects()
    return tape


STORIES: dict[Path, Callable[[PipelineDefinition], Recorder]] = {DONE: record_done}


def main() -> None:
    for path, story in STORIES.items():
        if path.exists():
            continue
        tape = story(load("ml-delivery").without_registry())
        path.write_bytes(b"".join(line + b"\n" for line in tape.lines))
        print(f"{path.name}: {tape.commands} commands, {tape.events} events")


if __name__ == "__main__":
    main()
