"""Records a session whose phases fork, join, skip and go back, under every control there is.

    python -m tests.golden.make_graph_history

Like `make_history`: committed once, replayed for ever by `test_graph_history.py`.
"""

from __future__ import annotations

from pathlib import Path

from schemas import commands as cmd
from schemas.envelope import encode_command, encode_event
from schemas.values import Priority
from tests.conductor.rig import DANA, ERIK, SYSTEM, person
from tests.conductor.test_graph import Graph
from tests.conductor.test_graph_machine import PIPELINE, POLICY

HISTORY = Path(__file__).parent / "graph.history.jsonl"


def record() -> list[bytes]:
    """The story as canonical bytes: each command, then the events it caused."""
    rig = Graph(PIPELINE)
    rig.policy = POLICY
    rig.start()
    rig.done("design-it")
    rig.took("docs-it")
    sign = cmd.ExtendAttempt(phase="docs-it", attempt=1, lease=rig.state.phases["docs-it"].lease)
    rig.accepted(sign, "data")
    silent = cmd.ExpireIdle(phase="docs-it", attempt=1, lease=sign.lease, due=rig.now)
    rig.accepted(silent, "conductor", SYSTEM)
    rig.operate(cmd.PauseSession(reason="not now"))
    rig.refused(cmd.StartRetry(phase="docs-it", attempt=2), "conductor", SYSTEM)
    rig.operate(cmd.ResumeSession())
    rig.accepted(cmd.StartRetry(phase="docs-it", attempt=2), "conductor", SYSTEM)
    rig.operate(cmd.ReassignAttempt(phase="docs-it", reason="hangs"))
    rig.operate(cmd.ChangePriority(priority=Priority.NOW))
    rig.done("docs-it")
    gate = rig.state.phases["docs-it"].gate
    rig.operate(cmd.HoldGate(gate=gate))
    rig.refused(cmd.ExpireGate(gate=gate), "conductor", SYSTEM)
    rig.operate(cmd.UnholdGate(gate=gate))
    rig.accepted(cmd.ExpireGate(gate=gate), "conductor", SYSTEM)
    rig.failed("build-it")
    rig.done("extra-it")
    rig.operate(cmd.RetryPhase())
    rig.done("build-it", rows=20.0)
    rig.done("judge-it", recall=0.95, drift=0.9)
    rig.done("design-it", rows=20.0)
    rig.done("build-it", rows=20.0)
    rig.done("judge-it", recall=0.95, drift=0.1)
    gate = rig.state.phases["judge-it"].gate
    rig.accepted(cmd.SendBack(gate=gate, phase="build-it", reason="again"), "operator", DANA)
    rig.done("build-it", rows=20.0)
    rig.done("judge-it", recall=0.95, drift=0.1)
    for approver in (DANA, ERIK):
        if gate := rig.state.phases["judge-it"].gate:
            rig.decide("approve", approver, gate=gate)
    rig.done("docs-it")
    for approver in (DANA, ERIK, person("chief")):
        if gate := rig.state.phases["docs-it"].gate:
            rig.decide("approve", approver, gate=gate)
    rig.done("ship-it")
    assert rig.state.status.value == "completed"
    caused: dict[str, list[bytes]] = {}
    for envelope in rig.log:
        caused.setdefault(envelope.causation_id, []).append(encode_event(envelope))
    return [line for c in rig.commands for line in (encode_command(c), *caused.get(c.id, []))]


def main() -> None:
    if not HISTORY.exists():
        HISTORY.write_bytes(b"".join(line + b"\n" for line in record()))
        print(f"{HISTORY.name}: written")


if __name__ == "__main__":
    main()
