"""Records a session and two forks of it: one from before a phase, with another model, one from a gate that waited.

    python -m tests.golden.make_fork_history

Like `make_history`: committed once, replayed for ever by `test_fork_history.py`.
"""

from __future__ import annotations

from pathlib import Path

from conductor.state import Status
from schemas import commands as cmd
from schemas import model_messages as msg
from schemas.envelope import encode_command, encode_event
from schemas.forking import Guidance
from schemas.values import Actor
from tests.conductor.forked import PLANNED, PRICED, Fork, before
from tests.conductor.rig import DANA, ERIK, OLGA, TICKET, Rig, person

HISTORY = Path(__file__).parent / "forked.history.jsonl"
GATEWAY = Actor(name="gateway", channel="bus", verified_as="login:gateway")


def record() -> list[bytes]:
    """The story as canonical bytes: each command, then the events it caused; one session after the other."""
    source = Rig(TICKET.model_copy(update={"origin": "github:acme/models"}), PRICED, PLANNED)
    source.to("build-it")
    source.work()
    source.decide("approve", DANA)
    waiting = source.state.version
    source.decide("reject", ERIK, "the loader is still wrong")
    guidance = Guidance(model="large", instructions="Read rows with splitlines.")

    built = Fork(source, before(source, "build-it"), guidance=guidance)
    built.effects()
    built.claim()
    call = msg.RequestModelCall(
        phase="build-it",
        attempt=1,
        lease=built.state.lease,
        agent=built.state.definition.agent,
        number=1,
        prompt="1" * 64,
        model="small",
        input_tokens=1000,
        gateway="g-one",
    )
    built.accepted(call, "gateway", GATEWAY)
    built.through()
    built.through()
    assert built.state.status is Status.COMPLETED

    again = Fork(source, waiting, name="s12-klmno")
    again.effects()
    again.refused(cmd.DecideGate(gate="s12-abcde.build-it.1", decision="approve"), "operator", DANA)
    for approver in (DANA, ERIK):
        again.decide("approve", approver)
    again.refused(cmd.AbortSession(reason="no"), "operator", person("mallory"))
    again.accepted(cmd.RollbackSession(phase="judge-it"), "operator", OLGA)
    again.effects()
    return [line for rig in (source, built, again) for line in _lines(rig)]


def _lines(rig: Rig) -> list[bytes]:
    found: list[bytes] = []
    for command in rig.commands:
        found.append(encode_command(command))
        found += [encode_event(event) for event in rig.log if event.causation_id == command.id]
    return found


def main() -> None:
    if HISTORY.exists():
        raise SystemExit(f"{HISTORY.name} is there: what was recorded stays")
    HISTORY.write_bytes(b"".join(line + b"\n" for line in record()))


if __name__ == "__main__":
    main()
